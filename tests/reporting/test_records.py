from __future__ import annotations

import math
from pathlib import Path

import pytest
from folders import EPOCHS, PROVENANCE, alone, folder, whole
from hypothesis import given
from hypothesis import strategies as st
from summaries import summary

from polyadic.reporting import Folder, epoch_records, layer_records, network_records, read_result, trial_records
from polyadic.schema import Choice, Cost, Plan, Trial, TrialRecord


def test_rows_are_tidy(tmp_path: Path) -> None:
    read = read_result(folder(tmp_path))
    for rows in (
        network_records(read.result),
        layer_records(read.result),
        trial_records(read),
        epoch_records(read.result),
    ):
        assert rows
        assert {tuple(row) for row in rows} == {tuple(rows[0])}


def test_layers_keep_their_numbers_and_reasons() -> None:
    rows = layer_records(summary())
    assert [row["layer"] for row in rows] == ["conv1", "conv2", "conv3", "odd|name"]
    assert (rows[0]["rank"], rows[1]["rank"], rows[2]["rank"]) == (8, [3, 4], None)
    assert (rows[0]["sensitivity"], rows[3]["why"]) == (412.7, "a | in the reason")


def test_the_network_has_the_macs_of_what_was_replaced_and_of_what_was_not(tmp_path: Path) -> None:
    # 24,000 in all; conv1 has 9,000 of them and conv2 8,000
    rows = trial_records(read_result(folder(tmp_path)))
    assert [row["macs"] for row in rows] == [16_000, 18_000, 11_000, 13_000, 14_000]
    assert [row["scope"] for row in rows] == ["layer", "layer", "network", "network", "network"]
    assert [row["front"] for row in rows] == [False, False, True, False, True]
    assert [row["chosen"] for row in rows] == [False, False, False, False, True]


def test_a_cost_in_the_log_is_taken_at_its_word(tmp_path: Path) -> None:
    trials = [whole(1, 4000, 1.0, cost={"params": 1, "macs": 777, "bytes": 2}), whole(2, 5, 1.0)]
    trials[1]["plan"][0]["layer"] = "unheard of"
    assert [row["macs"] for row in trial_records(read_result(folder(tmp_path, trials=trials)))] == [777, None]


def test_divergence_ranks_plans_only_where_all_have_it(tmp_path: Path) -> None:
    cheap, dear = whole(1, 4000, 2.0, (1, 1), loss=0.5), whole(2, 6000, 2.0, (2, 2), loss=0.25)
    both = trial_records(read_result(folder(tmp_path / "both", trials=[cheap, dear])))
    assert [row["front"] for row in both] == [True, True]
    del dear["loss"]
    one = trial_records(read_result(folder(tmp_path / "one", trials=[cheap, dear])))
    assert [row["front"] for row in one] == [True, False]


def test_where_one_layer_is_all_there_is_it_is_the_network(tmp_path: Path) -> None:
    trial = {**alone(1, 1000, 4.0, 2), "joint": True}
    assert trial_records(read_result(folder(tmp_path, trials=[trial])))[0]["scope"] == "network"


def test_of_two_trials_of_one_plan_the_last_counts(tmp_path: Path) -> None:
    rows = trial_records(read_result(folder(tmp_path, trials=[whole(1, 4000, 1.0), whole(2, 4000, 2.0)])))
    assert [row["front"] for row in rows] == [False, True]


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0, 2.0, math.nan])), min_size=1, max_size=12))
def test_the_front_holds_what_no_other_plan_beats(tried: list[tuple[int, float]]) -> None:
    trials = tuple(
        TrialRecord(
            number=at,
            trial=Trial(Plan((Choice("conv1", "svd", (at,)), Choice("conv2", "svd", (1,)))), drop, joint=True),
            cost=Cost(0, macs, 0),
        )
        for at, (macs, drop) in enumerate(tried)
    )
    on_it = {row["trial"] for row in trial_records(Folder(Path(), summary(), None, trials)) if row["front"]}
    numbers = [(macs, drop) for macs, drop in tried if not math.isnan(drop)]
    expected = set()
    for macs, drop in numbers:
        beaten = any(m <= macs and d <= drop and (m, d) != (macs, drop) for m, d in numbers)
        if not beaten:
            expected.add((macs, drop))
    assert {tried[at] for at in on_it} == expected
    assert len(on_it) == len(expected)


def test_epochs_are_those_of_the_fine_tuning() -> None:
    assert epoch_records(summary(provenance=PROVENANCE)) == EPOCHS


@pytest.mark.parametrize("damaged", [None, "none", 5, [1, 2]])
def test_without_epochs_there_are_no_rows(damaged: object) -> None:
    assert epoch_records(summary(provenance={"finetuning": damaged})) == []
