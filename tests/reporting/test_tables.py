from __future__ import annotations

import pytest
from summaries import summary

from polyadic.reporting import (
    HEADLINE_COLUMNS,
    LAYER_COLUMNS,
    SITE_COLUMNS,
    fewer,
    function_rows,
    headline_rows,
    layer_rows,
    site_rows,
)
from polyadic.schema import ConvSpec, CountedOperation, LayerSite, MacCount


def test_the_headline_says_what_was_lost_and_what_was_won() -> None:
    rows = {row[0]: row[1:] for row in headline_rows(summary())}
    assert rows["top-1 accuracy, %"] == ("90.50", "90.00", "-0.50 points (95 %: -1.25 to +0.25)")
    assert rows["before fine-tuning, %"] == ("", "60.00", "")
    assert rows["MACs"] == ("24,000", "14,000", "1.71x fewer")
    assert rows["parameters"] == ("1,000", "500", "2.00x fewer")
    assert rows["bytes in memory"] == ("4,000", "2,000", "2.00x fewer")


def test_a_gain_has_a_plus_and_an_unknown_interval_no_brackets() -> None:
    assert headline_rows(summary(compressed_score=0.91, drop_interval=None))[0][3] == "+0.50 points"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (200, 100, "2.00x fewer"),
        (100, 200, "2.00x more"),
        (5, 5, "unchanged"),
        (0, 0, "unchanged"),
        (0, 5, "0 to 5"),
        (5, 0, "5 to 0"),
    ],
)
def test_ratios_in_words(before: int, after: int, words: str) -> None:
    assert fewer(before, after) == words


def test_every_layer_has_a_row_and_no_reason_is_lost() -> None:
    rows = layer_rows(summary())
    assert rows[0] == ("conv1", "cp-epc", "8", "0.123", "413", "9,000", "3,000")
    assert rows[1] == ("conv2", "tucker2", "3, 4", "0.500", "", "8,000", "4,000")
    assert rows[2][1] == "dense: every cheaper rank loses more than 1 points"
    assert rows[3][1] == "unsupported: a | in the reason"


def test_rows_are_as_long_as_their_headings() -> None:
    sites = (
        LayerSite("a", "Conv2d", ConvSpec(3, 4, (3, 3), (1, 1), (1, 1), (1, 1), bias=True), ((8, 8),)),
        LayerSite("b", "LSTM", None, reason="no"),
    )
    count = MacCount(
        tuple(CountedOperation(*each) for each in (("a", "conv2d", 6912), ("b", "lstm", 9), ("", "einsum", 5)))
    )
    rows = site_rows(sites, {"a": ["cp-epc", "tucker2"]}, {site.name: site.reason for site in sites}, count)
    assert rows == [
        ("a", "Conv2d", "4 x 3 x 3 x 3", "112", "6,912", "cp-epc, tucker2", ""),
        ("b", "LSTM", "", "0", "9", "", "no"),
    ]
    for columns, table in (
        (HEADLINE_COLUMNS, headline_rows(summary())),
        (LAYER_COLUMNS, layer_rows(summary())),
        (SITE_COLUMNS, rows),
        (SITE_COLUMNS, function_rows(count.operations[2:])),
    ):
        assert {len(row) for row in table} == {len(columns)}
