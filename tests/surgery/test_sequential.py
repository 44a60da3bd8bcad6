from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import Twice, everything_of, images, net, seeded
from torch import Tensor, nn

from polyadic.decomposition import InputNorm, PatchMoments
from polyadic.errors import DecompositionError, LayerError
from polyadic.formats import FactoredKernel, format_named
from polyadic.models import ResNetCifar
from polyadic.schema import Choice, Plan
from polyadic.surgery import (
    SequentialOptions,
    find_layers,
    input_norms,
    layer_at,
    replace_in_sequence,
    replace_one_by_one,
)
from polyadic.surgery.forward_record import OperationCounter
from polyadic.surgery.lockstep import run_in_lockstep

Factorise = Callable[[Choice, Tensor, InputNorm | None], FactoredKernel]


def factorise_for(model: nn.Module) -> Factorise:
    """Without a cache."""
    return lambda choice, kernel, norm: format_named(choice.format).factorise(
        kernel, layer_at(model, choice.layer)[2], choice.rank, 0, norm
    )


def plan_of(*choices: tuple[str, str, tuple[int, ...]]) -> Plan:
    return Plan(tuple(Choice(*choice) for choice in choices))


NET_PLAN = plan_of(
    ("stem", "tucker2", (2, 4)), ("body.1", "tucker2", (3, 4)), ("point", "svd", (2,)), ("head", "svd", (3,))
)


def walked(model: nn.Module, plan: Plan, x: Tensor, **options: Any) -> nn.Module:
    sites = find_layers(model, x[:1])
    return replace_in_sequence(model, plan, factorise_for(model), x, sites, options=SequentialOptions(**options))[0]


def lost(model: nn.Module, dense: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - dense(x)).norm() / dense(x).norm())


def reached(model: nn.Module, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Input and output of a layer, by running the whole model."""
    found: list[tuple[Tensor, Tensor]] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda _, given, out: found.append((given[0], out)))
    with torch.no_grad():
        model(x)
    hook.remove()
    return found[0]


def blocks(depth: int = 8) -> nn.Module:
    """A small residual network in double precision with statistics of its own."""
    model = seeded(lambda: ResNetCifar(depth)).train()
    with torch.no_grad():
        for seed in range(3):
            model(small(8, seed))
    return model.double().eval()


def small(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("double", [False, True])
def test_at_full_rank_the_network_is_the_dense_one(double: bool) -> None:
    model, x = net(), images(6)
    model, x = (model.double(), x.double()) if double else (model, x)
    plan = plan_of(("stem", "tucker2", (3, 6)), ("body.1", "cp-epc", (48,)), ("point", "svd", (4,)))
    torch.testing.assert_close(walked(model, plan, x)(x), model(x), rtol=0, atol=1e-8 if double else 1e-3)


def test_the_last_stage_and_the_bias_are_the_least_squares_fit_to_the_dense_output() -> None:
    model, x = net().double(), images(8).double()
    plan = plan_of(("stem", "tucker2", (2, 3)), ("body.1", "tucker2", (3, 4)))
    network = walked(model, plan, x, refit_ridge=0.0)
    z, answer = reached(network, "body.1.2", x)
    _, t = reached(model, "body.1", x)
    columns = torch.cat([z.movedim(1, -1).reshape(-1, z.shape[1]), torch.ones(z[:, 0].numel(), 1)], 1)
    best = columns @ torch.linalg.pinv(columns) @ t.movedim(1, -1).reshape(-1, 8)
    torch.testing.assert_close(answer.movedim(1, -1).reshape(-1, 8), best, rtol=1e-6, atol=1e-8)


def test_the_mean_error_is_taken_up_by_the_bias_or_by_the_batch_norm_that_follows() -> None:
    model, x = net().double(), images(8).double()
    network = walked(model, NET_PLAN, x)
    for layer in ("norm", "body.1", "body.2", "point"):
        wanted, made = (reached(m, layer, x)[1].mean((0, 2, 3)) for m in (model, network))
        torch.testing.assert_close(made, wanted, rtol=1e-6, atol=1e-8)
    assert network.stem[-1].bias is None
    without = walked(model, NET_PLAN, x, refit=False)
    assert not torch.allclose(*(reached(m, "norm", x)[1].mean((0, 2, 3)) for m in (model, without)), atol=1e-3)


def test_layers_that_stay_dense_are_corrected_too_from_where_the_networks_part() -> None:
    model, x = net().double(), images(8).double()
    plan = plan_of(("body.1", "tucker2", (3, 4)))
    network = walked(model, plan, x, ridge=1e-9)
    assert torch.equal(network.stem.weight, model.stem.weight)
    (y, answer), (_, t) = reached(network, "point", x), reached(model, "point", x)
    columns = torch.cat([y.movedim(1, -1).reshape(-1, 8), torch.ones(y[:, 0].numel(), 1)], 1)
    best = columns @ torch.linalg.pinv(columns) @ t.movedim(1, -1).reshape(-1, 4)
    torch.testing.assert_close(answer.movedim(1, -1).reshape(-1, 4), best, rtol=1e-5, atol=1e-6)
    untouched = walked(model, plan, x, correct_dense=False)
    assert torch.equal(untouched.point.weight, model.point.weight)
    assert lost(network, model, x) < lost(untouched, model, x)


def test_without_refit_each_kernel_is_that_of_two_networks_run_one_after_the_other() -> None:
    model, x = net().double(), images(6).double()
    plan = plan_of(("stem", "tucker2", (2, 3)), ("body.1", "tucker2", (3, 4)))
    given: dict[str, Tensor] = {}

    def watching(choice: Choice, kernel: Tensor, norm: InputNorm | None) -> FactoredKernel:
        given[choice.layer] = kernel
        return factorise_for(model)(choice, kernel, norm)

    options = SequentialOptions(refit=False, ridge=0.2)
    network, _ = replace_in_sequence(model, plan, watching, x, find_layers(model, x[:1]), options=options)
    y, _ = reached(network, "body.1.0", x)
    _, t = reached(model, "body.1", x)
    rows = nn.functional.unfold(y, 3, padding=1, stride=2).transpose(1, 2).reshape(-1, 54)
    rows, targets = rows - rows.mean(0), t.movedim(1, -1).reshape(-1, 8)
    K = layer_at(model, "body.1")[1].detach().flatten(1)
    r = 0.2 * rows.square().mean() * len(rows)
    gram = rows.mT @ rows + r * torch.eye(54)
    expected = torch.linalg.solve(gram, rows.mT @ (targets - targets.mean(0)) + r * K.mT).mT
    torch.testing.assert_close(given["body.1"].flatten(1), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(given["stem"], layer_at(model, "stem")[1].detach(), rtol=1e-6, atol=1e-8)


def test_with_a_repair_the_sum_after_a_block_is_the_least_squares_fit_to_the_dense_sum() -> None:
    model, x = blocks(14), small(4).double()
    plan = plan_of(("layer1.0.conv2", "tucker2", (6, 6)), ("layer1.1.conv2", "tucker2", (6, 6)))
    errors = {}
    for repair in (True, False):
        network = walked(model, plan, x, repair=repair, refit_ridge=1e-12, ridge=1e-9)
        errors[repair] = float((reached(network, "layer1.1", x)[1] - reached(model, "layer1.1", x)[1]).norm())
    assert errors[True] < 0.97 * errors[False]


class Beside(nn.Module):
    """A convolution on the shortcut beside one with a batch norm: the second can make up for what the first loses."""

    def __init__(self) -> None:
        super().__init__()
        self.lossy, self.repairing, self.norm = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)
        with torch.no_grad():
            self.norm.weight.copy_(torch.tensor([4.0, -0.5, 1.0, 1e-3]))  # the last channel is all but switched off

    def forward(self, x: Tensor) -> Tensor:
        shortcut = 2.0 * self.lossy(x)  # known by the operation that makes it
        return shortcut + self.norm(self.repairing(x))


def test_a_repair_divides_by_the_scale_of_the_norm_and_leaves_channels_that_are_switched_off() -> None:
    model = seeded(Beside).double().eval()
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(1)).double()
    plan = plan_of(("lossy", "svd", (1,)), ("repairing", "svd", (4,)))
    network = walked(model, plan, x, ridge=1e-12, refit_ridge=0.0)
    scale = model.norm.weight / (model.norm.running_var + model.norm.eps).sqrt()
    apart = (reached(model, "lossy", x)[1] - reached(network, "lossy", x)[1]).abs().amax((0, 2, 3))
    assert apart.min() > 1e-2  # every channel of the shortcut has lost something
    answer, dense = (reached(one, "repairing", x)[1] for one in (network, model))
    left = 2.0 * (reached(model, "lossy", x)[1] - reached(network, "lossy", x)[1])
    repaired = dense[:, :3] + left[:, :3] / scale[:3].reshape(-1, 1, 1)
    torch.testing.assert_close(answer[:, :3], repaired, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(answer[:, 3], dense[:, 3], rtol=1e-5, atol=1e-7)


def test_it_loses_less_than_layers_compressed_apart_on_images_it_has_not_seen() -> None:
    model, x, unseen = blocks(), small(16).double(), small(16, seed=9).double()
    names = [f"layer{g}.{j}.conv{c}" for g in (1, 2, 3) for j in range(1) for c in (1, 2)]
    plan = plan_of(*((name, "tucker2", (8, 8)) for name in names))
    apart, _ = replace_one_by_one(model, plan, factorise_for(model))
    assert lost(walked(model, plan, x), model, unseen) < 0.8 * lost(apart, model, unseen)


@pytest.mark.parametrize("count", [1, 2])
def test_a_single_image_does_no_harm(count: int) -> None:
    model, unseen = net().double(), images(8, seed=3).double()
    apart, _ = replace_one_by_one(model, NET_PLAN, factorise_for(model))
    assert lost(walked(model, NET_PLAN, images(count).double()), model, unseen) < 1.2 * lost(apart, model, unseen)


def test_channels_that_never_vary_are_no_obstacle() -> None:
    model, x = net().double(), images(4).double()
    x[:, 1] = 0.5
    with torch.no_grad():
        model.body[2].weight[3] = 0.0
    assert all(bool(torch.isfinite(p).all()) for p in walked(model, NET_PLAN, x).parameters())


def test_the_reported_error_is_that_of_the_chain_towards_the_dense_output() -> None:
    model, x = net().double(), images(8).double()
    plan = plan_of(("body.1", "tucker2", (3, 4)))
    network, kernels = replace_in_sequence(model, plan, factorise_for(model), x, find_layers(model, x[:1]))
    t, made = (reached(m, "body.1", x)[1] for m in (model, network))
    expected = float((made - t).norm() / (t - t.mean((0, 2, 3), keepdim=True)).norm())
    assert kernels["body.1"].weighted_error == pytest.approx(expected, rel=1e-6)
    K = layer_at(model, "body.1")[1].detach()
    assert kernels["body.1"].relative_error == pytest.approx(
        float((kernels["body.1"].dense_kernel() - K).norm() / K.norm()), rel=1e-6
    )


def test_the_dense_network_is_left_as_it_was_and_the_copy_has_no_trace_of_the_walk() -> None:
    model, x = net(), images(4)
    before = everything_of(model)
    network = walked(model, NET_PLAN, x)
    assert everything_of(model) == before
    assert {type(module).__module__.split(".")[0] for module in network.modules()} <= {"torch", "nets"}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_the_same_images_give_the_same_bits() -> None:
    first, second = (walked(net(), NET_PLAN, images(4), positions=50).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_layer_that_runs_twice_is_fitted_when_it_first_runs() -> None:
    model = seeded(Twice).double()
    network = walked(model, plan_of(("conv", "tucker2", (2, 2))), images(4).double())
    assert lost(network, model, images(4).double()) < 1.0


@pytest.mark.parametrize(("largest", "modes"), [(54, {"channels", "taps"}), (53, {"channels"}), (5, set())])
def test_patches_that_are_too_large_leave_the_kernel_and_are_refitted_all_the_same(
    largest: int, modes: set[str]
) -> None:
    model, x = net().double(), images(8).double()
    plan, kernel = plan_of(("body.1", "tucker2", (3, 4))), layer_at(model, "body.1")[1].detach()
    seen: list[tuple[Tensor, InputNorm | None]] = []

    def watching(choice: Choice, given: Tensor, norm: InputNorm | None) -> FactoredKernel:
        seen.append((given, norm))
        return factorise_for(model)(choice, given, norm)

    options = SequentialOptions(largest_patch=largest)
    network, _ = replace_in_sequence(model, plan, watching, x, find_layers(model, x[:1]), options=options)
    ((given, norm),) = seen
    torch.testing.assert_close(given, kernel, rtol=1e-6, atol=1e-8)
    assert set(norm.roots() if norm is not None else {}) == modes
    t, made = (reached(m, "body.1", x)[1] for m in (model, network))
    torch.testing.assert_close(made.mean((0, 2, 3)), t.mean((0, 2, 3)))


def test_fewer_images_are_taken_where_they_would_not_fit() -> None:
    counts: list[int] = []
    model = net()
    model.stem.register_forward_hook(lambda _, given, __: counts.append(len(given[0])))
    walked(model, plan_of(("point", "svd", (2,))), images(16), memory=5 * 8 * 4 * 6 * 144)
    assert max(counts) == 2 * 5


def test_a_network_whose_samples_see_each_other_is_refused() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x - x.mean(0))  # type: ignore[no-any-return]

    with pytest.raises(LayerError, match="samples that do not see each other"):
        walked(seeded(Mixing), plan_of(("conv", "tucker2", (2, 2))), images(4))


def test_images_and_plans_that_do_not_fit_are_refused() -> None:
    model = net()
    with pytest.raises(DecompositionError, match="NaN or Inf among the inputs"):
        walked(model, NET_PLAN, images(4) * torch.nan)
    with pytest.raises(LayerError, match="out of bounds"):
        walked(model, plan_of(("point", "svd", (9,))), images(4))
    with pytest.raises(LayerError, match="a plan names layers among the sites; got tail, which are not"):
        walked(model, plan_of(("tail", "svd", (1,))), images(4))


@pytest.mark.parametrize(
    "wrong", [{"norm": "whole"}, {"inputs": "all"}, {"ridge": 0.0}, {"refit_ridge": -1.0}, {"positions": 0}]
)
def test_options_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LayerError, match="got"):
        SequentialOptions(**wrong)


def test_ridges_grow_as_positions_get_few_unless_they_are_given() -> None:
    free, given = SequentialOptions(), SequentialOptions(ridge=0.2, refit_ridge=0.0)
    assert free.ridge_for(10**6) == free.ridge_for(50_000) == pytest.approx(0.03)
    assert free.ridge_for(500) == pytest.approx(3.0)
    assert free.refit_ridge_for(500) == pytest.approx(0.1)
    assert (given.ridge_for(500), given.refit_ridge_for(500)) == (0.2, 0.0)


def test_norms_of_single_layers_are_those_of_the_patches_they_see() -> None:
    model, x = net().double(), images(8).double()
    norms = input_norms(model, ["stem", "body.1", "point"], x, SequentialOptions(ridge=0.2))
    y, t = reached(model, "body.1", x)
    rows = nn.functional.unfold(y, 3, padding=1, stride=2).transpose(1, 2).reshape(-1, 54)
    moments = PatchMoments.of([(rows, t.movedim(1, -1).reshape(-1, 8))])
    expected = InputNorm.of_patches(moments, 9, 0.2)
    assert norms.keys() == {"stem", "body.1", "point"}
    for name, root in expected.roots().items():
        torch.testing.assert_close(norms["body.1"].roots()[name], root)
    assert set(norms["point"].roots()) == {"channels"}


def test_both_halves_of_a_pass_are_the_networks_themselves() -> None:
    model, x = net().double(), images(3).double()
    other = copy.deepcopy(model.body[1])
    with torch.no_grad():
        other.weight.mul_(0.5)
    shift = torch.arange(8.0).double()
    outputs: list[Tensor] = []
    sites = [site for site in find_layers(model, x[:1]) if site.name == "body.1"]
    hook = model.register_forward_hook(lambda _, __, out: outputs.append(out))
    run_in_lockstep(model, sites, x, lambda *_: (other, shift), OperationCounter(lambda *_: None))
    hook.remove()
    dense = model(x)
    with torch.no_grad():
        other.bias.add_(shift)
    changed = copy.deepcopy(model)
    changed.body[1] = other
    torch.testing.assert_close(outputs[-1], torch.cat([dense, changed(x)]))


def test_a_layer_that_runs_twice_has_the_norm_of_its_first_inputs() -> None:
    layer = nn.Linear(4, 4)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    once, twice = (input_norms(nn.Sequential(*[layer] * runs), ["0"], x)["0"] for runs in (1, 2))
    assert torch.equal(once.channels.root, twice.channels.root)
