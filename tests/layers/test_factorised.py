"""Factorised layers from scratch and from dense ones: what runs is a sequence of plain torch layers."""

from __future__ import annotations

import copy
import doctest
import io
import itertools
import re
from typing import Any

import pytest
import torch
from torch import nn

from cases import gaussian
from polyadic import layers
from polyadic.errors import LayerError
from polyadic.layers import (
    CPConv1d,
    CPConv2d,
    CPConvTranspose2d,
    FactorisedLayer,
    SpatialCPConv2d,
    SpatialCPConv3d,
    SpatialSVDConv2d,
    SVDConv2d,
    SVDLinear,
    TTChainConv2d,
    Tucker2Conv2d,
    Tucker2ConvTranspose2d,
)
from polyadic.surgery import CP, decompose_

KINDS = {
    name: kind
    for name in layers.__all__
    if isinstance(kind := getattr(layers, name), type) and issubclass(kind, FactorisedLayer) and hasattr(kind, "fmt")
}
PLAIN = {
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
}  # fmt: skip
RANK = 3


def counterpart(kind: type[FactorisedLayer]) -> type[nn.Module]:
    """The class in torch.nn whose name ends that of ``kind``."""
    end = re.search("(Linear|ConvTranspose|Conv)(.d)?$", kind.__name__)
    assert end is not None
    found: type[nn.Module] = getattr(nn, end[0])
    return found


def arguments(kind: type[FactorisedLayer]) -> dict[str, Any]:
    """A layer with everything that torch lets one choose: groups, strides, dilation, bias."""
    if not kind.axes:
        return {"in_features": 8, "out_features": 6}
    one_tap = kind.__name__.startswith("SVD")
    chosen = {
        "in_channels": 8,
        "out_channels": 6,
        "kernel_size": 1 if one_tap else (3, 2, 3)[: kind.axes],
        "stride": (2, 1, 2)[: kind.axes],
        "padding": 0 if one_tap else 1,
        "dilation": (1, 2, 1)[: kind.axes],
        "groups": 2,
    }
    return {**chosen, "output_padding": (1, 0, 1)[: kind.axes]} if kind.transposed else chosen


def image(kind: type[FactorisedLayer], samples: int = 2) -> torch.Tensor:
    return gaussian(samples, 8, *(6, 5, 4)[: kind.axes], seed=3)


def made(kind: type[FactorisedLayer], seed: int = 0, **more: Any) -> FactorisedLayer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**arguments(kind), **{"rank": RANK, "dtype": torch.float64, **more})


def dense(kind: type[FactorisedLayer], **more: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return counterpart(kind)(**{**arguments(kind), **more}, dtype=torch.float64)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())


every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def test_there_are_layers_of_every_chain() -> None:
    assert {kind.fmt.name for kind in KINDS.values()} == {"svd", "cp-epc", "cp4-epc", "tucker2", "spatial-svd", "tt"}
    assert len(KINDS) == 28


@every_kind
def test_what_runs_is_torch_alone_and_maps_as_its_counterpart_does(kind: type[FactorisedLayer]) -> None:
    layer, x = made(kind), image(kind)
    assert {type(stage) for stage in layer} <= PLAIN
    assert type(layer).forward is nn.Sequential.forward
    assert layer(x).shape == dense(kind)(x).shape
    assert sum(p.numel() for p in layer.parameters()) == sum(stage.params for stage in layer.stages)


@every_kind
def test_the_dense_layer_gives_the_same_answers(kind: type[FactorisedLayer]) -> None:
    layer, x = made(kind), image(kind)
    twin = layer.to_dense()
    assert type(twin) is counterpart(kind)
    assert distance(layer(x), twin(x)) < 1e-10


@every_kind
def test_at_full_rank_a_dense_layer_is_met_exactly(kind: type[FactorisedLayer]) -> None:
    layer, x = dense(kind), image(kind)
    whole = kind.fmt.largest_rank(made(kind).dense)
    built = kind.from_dense(layer.eval(), whole)
    assert not built.training
    assert distance(built(x), layer(x)) < 1e-8
    assert distance(built.to_dense().weight, layer.weight) < 1e-8


@every_kind
def test_a_gradient_reaches_every_parameter(kind: type[FactorisedLayer]) -> None:
    layer = made(kind)
    layer(image(kind)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


@every_kind
def test_the_kernel_has_the_variance_that_is_promised(kind: type[FactorisedLayer]) -> None:
    """Mean square of the entries over independent draws, within five standard errors, which are a tenth at most."""
    layer, squares, gain = made(kind), [], 2**0.5
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        for _ in range(400):
            layer.reset_parameters(gain)
            squares.append(layer.kernel().square().mean())
    found = torch.stack(squares)
    promised = gain**2 / layer.kernel()[0].numel()
    error = float(found.std()) / len(found) ** 0.5
    assert error < 0.1 * promised
    assert abs(float(found.mean()) - promised) < 5 * error


def test_the_variance_is_that_of_torch_itself() -> None:
    args = {"in_channels": 8, "out_channels": 8, "kernel_size": 3}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        theirs = torch.stack([nn.Conv2d(**args).weight.square().mean() for _ in range(100)])
        ours = torch.stack([CPConv2d(**args, rank=20).kernel().square().mean() for _ in range(300)])
    assert float(ours.mean() / theirs.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", [SVDLinear, CPConv2d, SpatialCPConv3d, Tucker2ConvTranspose2d])
def test_every_stage_alone_keeps_the_variance_of_what_passes(kind: type[FactorisedLayer]) -> None:
    """Fan-in is what one output sums over, so that of a depthwise stage is its taps."""
    layer = made(kind)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        weights: list[list[torch.Tensor]] = [[] for _ in layer]
        for _ in range(400):
            layer.reset_parameters(gain=1.0)
            for kept, stage in zip(weights, layer, strict=True):
                kept.append(stage.weight.flatten().clone())
    for kept, stage in zip(weights, layer.stages, strict=True):
        values = torch.stack(kept)
        expected = 1 / (stage.weight_shape[1] * stage.taps)
        assert float(values.square().mean()) == pytest.approx(expected, rel=5 * (2 / values.numel()) ** 0.5)
        assert abs(float(values.mean())) < 5 * (expected / values.numel()) ** 0.5


def test_the_bias_is_drawn_as_torch_does() -> None:
    bias = torch.cat([made(Tucker2Conv2d, seed)[2].bias.detach() for seed in range(200)])
    bound = (4 * 6) ** -0.5  # S / groups times taps
    assert float(bias.abs().max()) <= bound
    assert float(bias.std()) == pytest.approx(bound / 3**0.5, rel=0.1)
    assert all(stage.bias is None for stage in list(made(Tucker2Conv2d))[:-1])
    assert all(stage.bias is None for stage in made(CPConv2d, bias=False))


@pytest.mark.parametrize(
    "kind", [SVDLinear, CPConv2d, SpatialCPConv2d, Tucker2Conv2d, SpatialSVDConv2d, TTChainConv2d, CPConvTranspose2d]
)
def test_it_learns_another_layer_of_its_kind(kind: type[FactorisedLayer]) -> None:
    teacher, student = made(kind, seed=1), made(kind, seed=2)
    x = image(kind, 64)
    y = teacher(x).detach()
    optimiser = torch.optim.Adam(student.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = (student(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]


@every_kind
def test_copies_pickles_and_state_dicts_give_the_same_layer(kind: type[FactorisedLayer]) -> None:
    layer, x = made(kind), image(kind)
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    other = made(kind, seed=9)
    other.load_state_dict(layer.state_dict())
    for twin in (copy.deepcopy(layer), torch.load(stream, weights_only=False), other):
        assert type(twin) is kind
        assert (twin.dense, twin.rank) == (layer.dense, layer.rank)
        assert torch.equal(twin(x), layer(x))
        assert torch.equal(twin.to_dense().weight, layer.to_dense().weight)
    last = len(layer) - 1
    assert set(layer.state_dict()) == {*(f"{k}.weight" for k in range(last + 1)), f"{last}.bias"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_it_is_scripted_traced_and_exported_as_a_sequence_is() -> None:
    layer, x = made(CPConv2d).eval(), image(CPConv2d)
    for captured in (torch.jit.script(layer), torch.jit.trace(layer, x), torch.export.export(layer, (x,)).module()):
        assert torch.equal(captured(x), layer(x))


def test_the_state_is_that_of_a_decomposed_layer() -> None:
    teacher = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1))
    decompose_(teacher, {"0": CP(4)}, torch.zeros(1, 4, 6, 6))
    student = nn.Sequential(CPConv2d(4, 5, 3, padding=1, rank=4))
    student.load_state_dict(teacher.state_dict())
    x = torch.ones(1, 4, 6, 6)
    assert torch.equal(student(x), teacher(x))


def test_a_part_of_the_chain_is_a_plain_sequence() -> None:
    layer, x = made(CPConv2d), image(CPConv2d)
    front, back = layer[:2], layer[2:]
    assert type(front) is type(back) is nn.Sequential
    assert front[0] is layer[0]
    assert torch.equal(back(front(x)), layer(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_and_mode_are_those_of_the_dense_layer(dtype: torch.dtype) -> None:
    layer = CPConv2d.from_dense(nn.Conv2d(4, 4, 3, dtype=dtype).train(), rank=2)
    assert layer.training
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert {p.dtype for p in CPConv2d(4, 4, 3, rank=2, dtype=dtype).parameters()} == {dtype}
    assert {p.device.type for p in CPConv2d(4, 4, 3, rank=2, device="meta").parameters()} == {"meta"}


def test_the_bias_and_a_same_padding_survive() -> None:
    given = nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect", dtype=torch.float64)
    layer, x = SpatialSVDConv2d.from_dense(given, 9), gaussian(1, 3, 5, 6)
    assert distance(layer(x), given(x)) < 1e-10
    assert layer.dense.padding == "same"
    assert layer.to_dense().padding_mode == "reflect"


def test_the_kernel_is_differentiable_and_keeps_out_of_autocast() -> None:
    layer = made(TTChainConv2d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kernel = layer.kernel()
    assert kernel.dtype is torch.float64
    kernel.square().sum().backward()
    assert all(bool(stage.weight.grad.any()) for stage in layer)


@pytest.mark.parametrize("kind", [CPConv2d, Tucker2Conv2d, TTChainConv2d, SpatialSVDConv2d, SpatialCPConv2d])
def test_a_ratio_is_kept_and_the_next_step_would_break_it(kind: type[FactorisedLayer]) -> None:
    layer = kind(16, 24, 3, ratio=4.0)
    weights = sum(stage.weight.numel() for stage in layer)
    assert weights <= 16 * 24 * 9 / 4
    largest = layer.fmt.largest_rank(layer.dense)
    step = max(rank / most for rank, most in zip(layer.rank, largest, strict=True))
    bigger = tuple(-int(-most * (step + 1 / max(largest)) // 1) for most in largest)
    assert sum(s.params for s in layer.fmt.stages(layer.dense, bigger)) - 24 > 16 * 24 * 9 / 4


def test_ratio_and_error_from_a_dense_layer() -> None:
    given = nn.Conv2d(8, 8, 3, dtype=torch.float64)
    small = Tucker2Conv2d.from_dense(given, ratio=3.0)
    assert sum(stage.weight.numel() for stage in small) * 3 <= given.weight.numel()
    near = SpatialSVDConv2d.from_dense(given, error=0.4)
    (R,) = near.rank
    worse = SpatialSVDConv2d.from_dense(given, R - 1)
    assert distance(near.kernel(), given.weight) <= 0.4 < distance(worse.kernel(), given.weight)


def test_one_number_serves_for_several_ranks_and_none_gets_more_than_it_can_use() -> None:
    assert Tucker2Conv2d(4, 16, 3, rank=6).rank == (4, 6)
    assert TTChainConv2d(4, 16, 3, rank=10).rank == (4, 10, 10)
    assert Tucker2Conv2d.from_dense(nn.Conv2d(4, 16, 3), 6).rank == (4, 6)


def test_every_group_has_a_chain_of_its_own() -> None:
    layer = made(Tucker2Conv2d, rank=(3, 2))
    x, far = image(Tucker2Conv2d), image(Tucker2Conv2d)
    far[:, 4:] += 1.0
    y, changed = layer(x), layer(far)
    assert torch.equal(y[:, :3], changed[:, :3])
    assert not torch.equal(y[:, 3:], changed[:, 3:])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CPConv2d(4, 4, 3), "given by number or ratio"),
        (lambda: CPConv2d(4, 4, 3, rank=2, ratio=2.0), "given by number or ratio"),
        (lambda: CPConv2d(4, 4, 3, rank=17), "rank 17 is out of bounds"),
        (lambda: CPConv2d(4, 4, 3, rank=0), "rank 0 is out of bounds"),
        (lambda: Tucker2Conv2d(4, 4, 3, rank=(2, 2, 2)), r"takes 2 rank\(s\)"),
        (lambda: CPConv2d(4, 4, 3, ratio=1000), "ask for less"),
        (lambda: CPConv2d(4, 4, 1, rank=2), "svd is optimal"),
        (lambda: SVDConv2d(4, 4, 3, rank=2), "svd factorises matrices"),
        (lambda: SpatialSVDConv2d(4, 4, (3, 1), rank=2), "a single axis"),
        (lambda: CPConv2d(4, 4, 3, groups=4, rank=1), "depthwise"),
        (lambda: CPConv2d(4, 6, 3, groups=4, rank=1), "divide into the groups"),
        (lambda: CPConv2d(4, 0, 3, rank=1), "divide into the groups"),
        (lambda: CPConv2d(4, 4, (3, 3, 3), rank=2), "over 2 axes"),
        (lambda: CPConv2d(4, 4, 3, stride=0, rank=2), "from 1 up"),
        (lambda: CPConv2d(4, 4, 3, padding=(0, -1), rank=2), "from 0 up"),
        (lambda: CPConv2d(4, 4, 3, padding="full", rank=2), "padding over 2 axes"),
        (lambda: CPConv1d(4, 4, 3, stride=1.5, rank=2), "stride over 1 axes"),  # type: ignore[arg-type]
        (lambda: CPConvTranspose2d(4, 4, 3, padding="same", rank=2), "padding over 2 axes"),  # type: ignore[arg-type]
        (lambda: CPConv2d.from_dense(nn.Conv1d(4, 4, 3), 2), r"CPConv2d.from_dense takes .*; got Conv1d"),
        (lambda: CPConv2d.from_dense(nn.ConvTranspose2d(4, 4, 3), 2), "got ConvTranspose2d"),
        (lambda: CPConv2d.from_dense(nn.ReLU(), 2), "got ReLU"),
        (lambda: CPConv2d.from_dense(nn.Conv2d(4, 4, 3)), "by number, ratio or error"),
    ],
)
def test_what_cannot_be_built_is_said(make: Any, words: str) -> None:
    with pytest.raises((LayerError, TypeError), match=words) as caught:
        make()
    assert caught.type is LayerError


def test_a_chain_whose_stages_were_replaced_has_no_kernel_to_speak_of() -> None:
    layer = made(CPConv2d)
    layer[1] = nn.Sequential(layer[1])
    with pytest.raises(LayerError, match="got 3, of which 1 were replaced"):
        layer.to_dense()
    with pytest.raises(LayerError, match="got 4, of which none were replaced"):
        made(CPConv2d).append(nn.Conv2d(6, 6, 1)).to_dense()  # type: ignore[operator]


def test_torch_and_the_layer_agree_on_every_argument() -> None:
    for stride, padding, mode in itertools.product((1, (2, 1)), (0, (1, 2), "valid"), ("zeros", "circular")):
        given = nn.Conv2d(3, 3, (3, 2), stride, padding, padding_mode=mode, dtype=torch.float64)
        layer = Tucker2Conv2d(3, 3, (3, 2), stride, padding, padding_mode=mode, rank=3, dtype=torch.float64)
        layer.load_state_dict(Tucker2Conv2d.from_dense(given, 3).state_dict())
        x = gaussian(1, 3, 6, 7)
        assert distance(layer(x), given(x)) < 1e-10


@pytest.mark.parametrize("name", [name for name in layers.__all__ if hasattr(getattr(layers, name), "from_dense")])
def test_the_example_of_every_layer_gives_what_it_says(name: str) -> None:
    kind = getattr(layers, name)
    examples = doctest.DocTestFinder(recurse=False).find(kind, name, globs={name: kind, "torch": torch})
    said: list[str] = []
    for example in examples:
        doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not said, "".join(said)
    assert name == "FactorisedLayer" or sum(len(example.examples) for example in examples) == 2
