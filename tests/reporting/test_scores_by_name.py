"""A score that is no accuracy is a number by its own name, and nothing claims test images that never were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from summaries import summary
from torch import nn

import polyadic
from polyadic.reporting import headline_rows
from polyadic.reporting.headline import result_headline
from polyadic.reporting.model_card import model_card
from polyadic.schema import Plan, Summary
from polyadic.search import Uniform

PSNR: dict[str, Any] = {
    "score_name": "psnr",
    "score_is_fraction": False,
    "judged_on": None,
    "dense_score": 31.6,
    "compressed_score": 31.4,
    "score_before_finetuning": 30.0,
    "drop_interval": None,
    "provenance": {"score_function": "psnr"},
}


def test_the_card_of_a_score_function_speaks_of_the_score() -> None:
    card = model_card(summary(**PSNR), None)
    assert "31.6" in card
    assert "3160" not in card, "no percentage of decibels"
    for claim in ("test images", "test data", "held-out training images"):
        assert claim not in card
    assert "the function `psnr`, by which ranks were chosen too" in card


def test_the_table_and_the_first_card_of_the_page_hold_plain_numbers() -> None:
    rows = headline_rows(summary(**PSNR))
    assert any(row[0] == "psnr" and row[1:3] == ("31.6", "31.4") for row in rows), rows
    name, figure, more = result_headline(summary(**PSNR)).cards[0]
    assert (name, figure) == ("psnr", "31.4")
    assert "was 31.6; drop 0.2" in more
    assert "points" not in more


def test_an_accuracy_stays_a_percentage_of_test_images() -> None:
    card = model_card(summary(), None)
    assert "test images" in card
    assert any("%" in row[0] for row in headline_rows(summary()) if "accuracy" in row[0])


@pytest.mark.parametrize(
    ("provenance", "fraction", "judged_on"),
    [({"score_function": "psnr"}, False, None), ({"data": "digits"}, True, "test images")],
)
def test_files_that_do_not_say_what_their_score_is_are_read(
    provenance: dict[str, Any], fraction: bool, judged_on: str | None
) -> None:
    document = json.loads(json.dumps(summary(provenance=provenance).to_json()))
    del document["score_is_fraction"], document["judged_on"]
    again = Summary.from_json(document, Plan())
    assert (again.score_is_fraction, again.judged_on) == (fraction, judged_on)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    def psnr(network: nn.Module) -> float:
        weight = network.get_parameter("0.weight") if isinstance(network[0], nn.Linear) else None  # type: ignore[index]
        return 30.0 if weight is not None else 29.5

    model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4))
    options = polyadic.CompressOptions(search=Uniform())
    result = polyadic.compress(model, psnr, torch.zeros(1, 24), budget=["macs=70%"], formats=("svd",), options=options)
    assert result.summary.score_name == "psnr"
    assert not result.summary.score_is_fraction
    polyadic.save(result, tmp_path)
    document = json.loads((tmp_path / "result.json").read_text())
    assert (document["score_is_fraction"], document["judged_on"]) == (False, None)
    card = (tmp_path / "README.md").read_text()
    assert "29.5" in card
    assert "test images" not in card
