"""The verbs by themselves, as somebody uses them who trains with a loop of their own."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from subjects import corner_data, corner_task, images, nearly_low_rank
from torch import nn

import polyadic
import polyadic.formats.cp
from polyadic.errors import DataError, LayerError, PolyadicError
from polyadic.schema import Choice, Plan

PLAN = Plan((Choice("stem", "tucker2", (2, 3)), Choice("mix", "svd", (3,)), Choice("head", "svd", (2,))))


def error_of(model: nn.Module, dense: nn.Module) -> float:
    data = corner_data()
    x = data.normalise(data.held_out.images(torch.arange(60)))
    with torch.no_grad():
        return float((model(x) - dense(x)).norm() / dense(x).norm())


def test_a_plan_is_applied_to_a_copy_out_of_plain_layers(net: nn.Module) -> None:
    before = copy.deepcopy(net.state_dict())
    applied = polyadic.apply_plan(net, PLAN)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert applied.plan == PLAN
    assert not applied.data_aware
    assert set(applied.kernels) == {"stem", "mix", "head"}
    for choice in PLAN.choices:
        chain = applied.model.get_submodule(choice.layer)
        assert isinstance(chain, nn.Sequential)
        assert all(type(stage) in (nn.Conv2d, nn.Linear) for stage in chain)
        assert applied.kernels[choice.layer].rank == choice.rank
    assert not applied.model.training


def test_a_plan_at_full_rank_changes_no_answer(net: nn.Module) -> None:
    full = Plan((Choice("stem", "tucker2", (3, 10)), Choice("mix", "svd", (10,)), Choice("head", "svd", (3,))))
    assert error_of(polyadic.apply_plan(net, full).model, net) < 1e-5
    assert error_of(polyadic.apply_plan(net, full, images(32)).model, net) < 1e-3


def test_with_inputs_the_answers_are_nearer_whether_they_come_in_one_batch_or_in_several(net: nn.Module) -> None:
    data = corner_data()
    x = data.normalise(data.train.images(torch.arange(96)))
    plain, aware = polyadic.apply_plan(net, PLAN), polyadic.apply_plan(net, PLAN, x)
    assert aware.data_aware
    assert error_of(aware.model, net) < error_of(plain.model, net)
    batches = polyadic.apply_plan(net, PLAN, (part for part in x.split(32)))
    for name, value in aware.model.state_dict().items():
        assert torch.equal(batches.model.state_dict()[name], value)


def test_a_plan_may_name_stages_of_the_chains_that_it_makes(net: nn.Module) -> None:
    twice = Plan((Choice("stem", "tucker2", (3, 6)), Choice("stem.2", "svd", (2,))))
    applied = polyadic.apply_plan(net, twice)
    assert isinstance(applied.model.get_submodule("stem.2"), nn.Sequential)
    assert set(applied.kernels) == {"stem", "stem.2"}
    assert applied.model(images()).shape == (16, 3)


@pytest.mark.parametrize(
    ("plan", "inputs", "words"),
    [
        (Plan((Choice("nowhere", "svd", (1,)),)), None, "it has no layer 'nowhere'"),
        (Plan((Choice("stem", "svd", (1,)),)), None, "layer 'stem'"),
        (Plan((Choice("mix", "svd", (11,)),)), None, "layer 'mix': svd rank 11 is out of bounds"),
        (PLAN, [], "inputs yield at least one batch; got none"),
        (PLAN, [3, "x"], "a batch is a tensor, .* got int"),
    ],
)
def test_what_cannot_be_applied_is_refused(net: nn.Module, plan: Plan, inputs: object, words: str) -> None:
    with pytest.raises((LayerError, DataError), match=words):
        polyadic.apply_plan(net, plan, inputs)  # type: ignore[arg-type]


def test_a_mistyped_name_is_refused_with_the_nearest_before_anything_is_decomposed(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polyadic.pipeline.apply, "replace_one_by_one", None)
    half_right = Plan((PLAN.choices[0], Choice("haed", "svd", (2,))))
    with pytest.raises(LayerError, match=r"it has no layer 'haed': did you mean 'head'\?"):
        polyadic.apply_plan(net, half_right)
    options = polyadic.CompressOptions(exclude=("stem", "haed"))
    wrong = r"every pattern of exclude matches a layer; 'haed' matches none: did you mean 'head'\?"
    with pytest.raises(LayerError, match=wrong):
        polyadic.find_plan(net, corner_task(), budget=["macs=50%"], options=options)
    with pytest.raises(LayerError, match=wrong):
        polyadic.estimate_cost(net, images(), budget=["macs=50%"], options=options)
    with pytest.raises(LayerError, match=wrong):
        polyadic.compress(net, corner_task(), plan=PLAN, options=options)
    with pytest.raises(LayerError, match="the plan replaces 'stem', which exclude leaves dense"):
        polyadic.compress(net, corner_task(), plan=PLAN, options=polyadic.CompressOptions(exclude=("stem",)))


def test_weights_that_are_no_numbers_are_refused_before_anything_is_decomposed(net: nn.Module) -> None:
    with torch.no_grad():
        net.get_submodule("stem").get_parameter("weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(PolyadicError, match=r"finite weights; 'stem\.weight' has 1 NaN"):
        polyadic.apply_plan(net, PLAN)


def test_the_verbs_in_a_row_find_apply_train_and_judge() -> None:
    net, task = nearly_low_rank(), corner_task(tuned=True)
    found = polyadic.find_plan(net, task, budget=["macs=60%"], formats=("tucker2", "svd"))
    applied = polyadic.apply_plan(net, found.plan, task.calibration_batches())
    assert sum(site.macs for site in polyadic.find_layers(applied.model, images(1))) == found.tried.cost.macs
    steps: list[polyadic.Progress] = []
    report = polyadic.finetune(applied.model, net, task, on_progress=steps.append)
    assert report is not None
    assert report.best.value >= report.start.value
    assert [(step.stage, step.done, step.total) for step in steps] == [("finetune", 1, 1)]
    assert not applied.model.training
    assert 0.0 <= polyadic.evaluate(applied.model, task) <= 1.0
    assert polyadic.evaluate(net, task) == task.final_scores((net,)).values[0]


def test_a_task_without_training_leaves_the_network_as_it_is() -> None:
    net, task = nearly_low_rank(), corner_task()
    applied = polyadic.apply_plan(net, PLAN)
    before = copy.deepcopy(applied.model.state_dict())
    assert polyadic.finetune(applied.model, net, task) is None
    assert all(torch.equal(applied.model.state_dict()[name], value) for name, value in before.items())


def test_from_compress_to_a_solver_the_way_is_short_and_enters_no_file_twice(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way that docs/architecture.md lists: a reader follows ``model`` down it."""
    ways: list[list[str]] = []
    solve = polyadic.formats.cp.stable_cp

    def watched(*args: Any, **kwargs: Any) -> Any:
        frame, files = sys._getframe(1), []
        while frame is not None and (not files or not files[-1].endswith("compress.py")):
            files.append(frame.f_code.co_filename.rpartition("polyadic/")[2])
            frame = frame.f_back
        ways.append(files[::-1])
        return solve(*args, **kwargs)

    monkeypatch.setattr(polyadic.formats.cp, "stable_cp", watched)
    options = polyadic.CompressOptions(candidates_per_layer=3)
    polyadic.compress(net, corner_task(), budget=["macs=60%"], formats=("cp-epc",), options=options)
    in_search = [way for way in ways if "pipeline/search.py" in way and "pipeline/evaluator.py" in way]
    assert in_search
    shortest = min(in_search, key=len)
    assert shortest[0] == "pipeline/compress.py"
    assert len(shortest) <= 8, "calls from compress to the solver"
    entered = [file for at, file in enumerate(shortest) if at == 0 or shortest[at - 1] != file]
    assert len(entered) == len(set(entered)), entered
