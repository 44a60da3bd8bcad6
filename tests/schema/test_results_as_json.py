"""Results, trials and estimates: what was written is read, what is damaged is named with its place."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from polyadic.errors import StorageError
from polyadic.schema import (
    Choice,
    Cost,
    CostEstimate,
    JsonObject,
    LatencyResult,
    LayerEstimate,
    LayerOutcome,
    Plan,
    SearchResult,
    Summary,
    Trial,
    TriedPlan,
    pareto_front,
)

PLAN = Plan((Choice("conv1", "cp-epc", (8,)), Choice("conv2", "tucker2", (3, 4))))
TRIED = TriedPlan(PLAN, Cost(500, 14_000, 2000, 1.5), 2.5, 0.125)
SPEED = LatencyResult(PLAN, 2.0, 1.25, 1.5, 0.01, 2, ("conv3",))
ESTIMATES = (
    LayerEstimate("conv1", 9000, 3000, "cp-epc", 8, latency_before=1.0, latency_after=0.5, latency_measured=True),
    LayerEstimate("conv2", 8000, 4000, "tucker2", [3, 4]),
    LayerEstimate("conv3", 7000, 7000, reason="the search left it so"),
    LayerEstimate("odd", 0, 0, reason="no format serves it", supported=False),
)


def search_result(**changes: Any) -> SearchResult:
    known: dict[str, Any] = {
        "tried": TRIED,
        "dense": Cost(1000, 24_000, 4000, 2.0),
        "dense_score": 0.9,
        "search": "frontier",
        "stop": "nothing left to try",
        "trials": 7,
        "front": (TriedPlan(Plan(), Cost(1, 2, 3), 0.0, None), TRIED),
        "seconds": {"search": 1.5},
        "max_drop": 0.5,
        "layers": ESTIMATES,
        "provenance": {"seed": 0, "latency": {"where": "onnxruntime", **SPEED.to_json()}},
        "speed": SPEED,
    }
    return SearchResult(**{**known, **changes})


def summary() -> Summary:
    return Summary(
        dense=Cost(1000, 24_000, 4000, 2.0),
        compressed=Cost(500, 14_000, 2000, 1.5),
        dense_score=0.9,
        compressed_score=0.89,
        score_before_finetuning=0.5,
        score_name="top-1 accuracy",
        max_drop=1.0,
        drop_interval=(-0.25, 1.25),
        held_out={"dense": 0.91},
        plan=PLAN,
        layers=(
            LayerOutcome(
                "conv1", "factorised", "exact", 9000, 3000, "cp-epc", 8, 0.25, 0.5, 412.5, 3.5, 1.0, 0.5, True
            ),
            LayerOutcome("conv3", "dense", "excluded", 7000, 7000),
        ),
        seconds={"search": 1.5},
        provenance={"seed": 0},
        warnings=("be careful",),
    )


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


def test_what_was_written_is_read() -> None:
    assert Summary.from_json(through_json(summary().to_json()), PLAN) == summary()
    assert SearchResult.from_json(through_json(search_result().to_json())) == search_result()
    assert TriedPlan.from_json(through_json(TRIED.to_json())) == TRIED
    assert LatencyResult.from_json(through_json(SPEED.to_json()), PLAN) == SPEED
    for speed in (SPEED, None):
        estimate = CostEstimate(PLAN, Cost(1000, 24_000, 4000), Cost(500, 14_000, 2000), ESTIMATES, speed)
        assert CostEstimate.from_json(through_json(estimate.to_json())) == estimate


@pytest.mark.parametrize("divergence", [None, 0.125])
def test_a_trial_survives_the_log(divergence: float | None) -> None:
    trial = Trial(PLAN, 2.5, final=False, joint=True, divergence=divergence)
    line = through_json({"trial": 3, **trial.to_json(), "macs": 4000})
    assert Trial.from_json(line) == trial
    assert line.get("loss") == divergence


def test_what_is_not_finite_is_null_on_disk_and_nan_again() -> None:
    written = search_result(tried=TriedPlan(PLAN, Cost(1, 2, 3), math.nan, math.inf), dense_score=math.nan).to_json()
    assert (written["plan"]["drop"], written["plan"]["loss"], written["dense"]["held_out"]) == (None, None, None)
    read = SearchResult.from_json(through_json(written))
    assert math.isnan(read.tried.drop)
    assert math.isnan(read.dense_score)
    assert read.tried.divergence is None


def test_the_loss_of_a_trial_is_its_divergence_or_its_drop_and_infinite_where_it_is_no_number() -> None:
    assert Trial(PLAN, 2.5, divergence=0.125).loss == 0.125
    assert Trial(PLAN, 2.5).loss == 2.5
    assert Trial(PLAN, math.nan).loss == math.inf


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"plan": None}, r"plan \(a JSON object is needed, not NoneType\)"),
        ({"plan": {"macs": 1}}, r"plan\.layers \(Field required\)"),
        ({"plan": {"layers": [{"layer": "conv1"}]}}, r"plan\.layers \(a plan is a list .* at 0\.format"),
        ({"front": [{"layers": [], "macs": 1, "params": 1}]}, r"front\.0\.bytes \(Field required\)"),
        ({"layers": [{"name": 3}]}, r"layers\.0\.name"),
        ({"trials": "many"}, "trials "),
        ({"dense": 5}, "dense "),
    ],
)
def test_damage_is_named_with_its_place(change: dict[str, Any], place: str) -> None:
    document = through_json({**search_result().to_json(), **change})
    with pytest.raises(StorageError, match=rf"search\.json is damaged at {place}"):
        SearchResult.from_json(document, "search.json")


def test_keys_of_later_releases_are_ignored() -> None:
    document = through_json({**search_result().to_json(), "colour": "blue"})
    document["plan"]["colour"] = "blue"
    assert SearchResult.from_json(document) == search_result()


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(StorageError, match=r"a trial is damaged at the top \(a JSON object is needed, not list\)"):
        JsonObject([], "a trial")


def test_the_front_holds_what_no_other_beats_cheapest_first() -> None:
    found = [(3, 1.0), (1, 5.0), (2, 5.0), (2, 2.0), (1, 6.0), (4, math.inf), (0, math.nan)]
    assert pareto_front(found, lambda one: one[0], lambda one: one[1]) == ((1, 5.0), (2, 2.0), (3, 1.0))
    assert pareto_front([], lambda one: one, lambda one: one) == ()
