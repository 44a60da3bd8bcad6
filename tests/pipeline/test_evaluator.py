"""The scratch network: plans are tried in it, and it is afterwards as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from subjects import corner_data, corner_task, nearly_low_rank, setup_of
from torch import Tensor, nn

from polyadic.pipeline.candidates import candidates_of_plan
from polyadic.pipeline.evaluator import PlanEvaluator
from polyadic.pipeline.options import CompressOptions
from polyadic.schema import Choice, Plan
from polyadic.search import SearchSpace, Trial
from polyadic.surgery import rebuild, recalibrate

PLAN = Plan((Choice("stem", "tucker2", (2, 3)), Choice("mix", "svd", (2,)), Choice("head", "svd", (2,))))


def evaluator_of(data_aware: bool = True) -> PlanEvaluator:
    return setup_of(nearly_low_rank(), corner_task(), options=CompressOptions(data_aware=data_aware)).evaluator


def tried(evaluator: PlanEvaluator, plan: Plan, *trials: Trial) -> Trial:
    space = SearchSpace(candidates_of_plan(evaluator.dense, tuple(evaluator.layers.values()), plan))
    trial, details = evaluator.evaluate(plan, space, trials)
    assert details["cost"]["macs"] == space.cost(plan).macs
    return trial


def contents(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("broken", [False, True])
def test_layers_and_statistics_come_back(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = evaluator_of()
    network = evaluator._scratch
    before, modules = contents(network), [id(module) for module in network.modules()]
    assert any("running_mean" in name for name in before)
    if broken:

        def fails(*_: Any) -> None:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(evaluator, "_proxy", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            tried(evaluator, PLAN)
    else:
        trial = tried(evaluator, PLAN)
        assert trial.divergence is not None
        assert trial.divergence > 0
    assert [id(module) for module in network.modules()] == modules
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_loss_of_a_plan_is_the_divergence_of_the_network_with_chains_and_moved_statistics() -> None:
    evaluator, images = evaluator_of(), corner_data()
    trial = tried(evaluator, PLAN)
    dense = nearly_low_rank()
    network = rebuild(nearly_low_rank(), PLAN)
    for choice in PLAN.choices:
        chain, factored = network.get_submodule(choice.layer), evaluator.decompose(choice)
        for stage, weight in zip(chain, factored.weights, strict=True):
            stage.weight.data = weight
        if dense.get_submodule(choice.layer).bias is not None:
            chain[-1].bias.data = dense.get_submodule(choice.layer).bias.data
    network.eval()
    unlabelled = [images.normalise(images.train.images(torch.arange(96)))]
    before, other = contents(dense), nearly_low_rank()
    recalibrate(network, unlabelled)
    recalibrate(other, unlabelled)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.add_(before[name] - other.get_buffer(name))
        if name.endswith("running_var"):
            value.mul_(before[name] / other.get_buffer(name))
    x = images.normalise(images.held_out.images(torch.arange(60)))
    with torch.no_grad():
        p, q = (F.log_softmax(model(x).double(), dim=1) for model in (dense, network))
    divergence = float((p.exp() * (p - q)).sum(dim=1).mean())
    assert trial.divergence == pytest.approx(divergence, rel=1e-3)
    labels = images.held_out.labels
    assert trial.drop == pytest.approx(
        100 * float((p.argmax(1) == labels).double().mean() - (q.argmax(1) == labels).double().mean())
    )


def test_with_images_a_layer_is_decomposed_for_the_inputs_that_it_sees() -> None:
    """On the inputs of the layer the answers are nearer to the dense ones than those of the plain norm."""
    choice = Choice("mix", "svd", (2,))
    aware, plain = (evaluator_of(data_aware).decompose(choice) for data_aware in (True, False))
    assert plain.weighted_error is None
    images, net = corner_data(), nearly_low_rank()
    with torch.no_grad():
        x = torch.relu(net.norm(net.stem(images.normalise(images.train.images(torch.arange(96))))))
        y = F.conv2d(x, net.mix.weight)
    errors = [float((F.conv2d(x, kernel.dense_kernel()) - y).norm() / y.norm()) for kernel in (aware, plain)]
    assert errors[0] < errors[1]
    assert aware.relative_error > plain.relative_error
    assert aware.weighted_error is not None
    assert aware.weighted_error == pytest.approx(errors[0], rel=0.3)  # a ridge is added to the moments


def test_a_plan_that_is_hopeless_beside_the_best_is_not_looked_at_to_the_end() -> None:
    evaluator = evaluator_of()
    mild, harsh = (Plan((Choice("stem", "tucker2", (3, rank)), Choice("mix", "svd", (rank,)))) for rank in (9, 1))
    best = tried(evaluator, mild)
    assert best.divergence is not None
    seen: list[float] = []
    shares: list[float] = []
    proxy = evaluator._proxy

    def noted(model: nn.Module, least: float, share: float) -> Any:
        seen.append(least)
        shares.append(share)
        return proxy(model, least, share)

    evaluator.__dict__["_proxy"] = noted
    tried(evaluator, harsh, best)
    tried(evaluator, Plan(harsh.choices[:1]), best)
    assert seen == [best.divergence, math.inf]  # single layers are rows of a table: their losses have to be numbers
    assert shares == [1.0, 0.5]
