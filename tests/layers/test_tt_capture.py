"""Tensor-train layers in captured graphs, under autocast and in half precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from trains import SMALL, conv, image_of, layer_of

from cases import gaussian
from polyadic.layers import TTLayer
from polyadic.schema import ConvSpec, TTSpec, Way

WAYS: tuple[Way, ...] = ("cores", "dense", "auto")
SPECS = {
    "window": SMALL,
    "towards the window": TTSpec(conv(16, 2, 3, 3), (2, 1), (4, 4), (2, 2)),
    "strided": TTSpec(conv(4, 4, 1, stride=2), (2, 2), (2, 2), (2,)),
    "Linear": TTSpec(ConvSpec(5, 7, bias=True), (2, 4), (2, 3), (3,)),
    "transposed": TTSpec(
        ConvSpec(6, 4, (2, 2), (2, 2), (0, 0), (1, 1), bias=True, transposed=True, output_padding=(1, 0)),
        (2, 2), (3, 2), (2, 2),
    ),
}  # fmt: skip
every_way = pytest.mark.parametrize("way", WAYS)
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def batches(spec: TTSpec) -> list[torch.Tensor]:
    return [gaussian(samples, spec.in_channels, *(6,) * spec.axes, seed=samples) for samples in (2, 3, 7)]


@every_way
@every_spec
def test_compiled_it_answers_the_same_for_any_batch(spec: TTSpec, way: Way) -> None:
    torch.compiler.reset()
    layer = layer_of(spec, way)
    expected = [layer(x) for x in batches(spec)]
    layer.forget()
    compiled = torch.compile(layer, backend="eager", fullgraph=True, dynamic=True)
    for x, y in zip(batches(spec), expected, strict=True):
        torch.testing.assert_close(compiled(x), y, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), y.detach(), rtol=1e-9, atol=1e-9)


@every_way
@every_spec
def test_exported_it_answers_the_same_for_any_batch(spec: TTSpec, way: Way) -> None:
    layer = layer_of(spec, way).eval()
    dynamic = {"x": {0: torch.export.Dim("batch", min=2)}}
    program = torch.export.export(layer, (batches(spec)[1],), dynamic_shapes=dynamic).module()
    for x in batches(spec):
        torch.testing.assert_close(program(x), layer(x), rtol=1e-9, atol=1e-9)


def test_a_captured_graph_holds_the_cores_and_not_a_kernel() -> None:
    layer = layer_of(SMALL, "dense").eval()
    with torch.no_grad():
        layer(image_of(SMALL, (6, 6)))  # a kernel is kept now
    program = torch.export.export(layer, (image_of(SMALL, (6, 6)),))
    assert {*program.state_dict} == {"cores.0", "cores.1", "cores.2", "bias"}


def convolutions(layer: TTLayer, x: torch.Tensor) -> list[int]:
    """Groups of channels that the convolutions of the exported graph filter at once: 1 where the window goes alone."""
    program = torch.export.export(layer, (x,))
    return [
        node.args[1].meta["val"].shape[1]
        for node in program.graph.nodes
        if node.op == "call_function" and "conv" in str(node.target)
    ]


def test_auto_captures_what_was_last_found_faster_or_else_what_takes_fewer_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, x = layer_of(SMALL, "auto").requires_grad_(False), image_of(SMALL, (6, 6))
    by = {way: convolutions(layer_of(SMALL, way), x) for way in ("cores", "dense")}
    assert by["cores"] == [1]
    assert by["dense"] == [6]
    assert convolutions(layer, x) == by[SMALL.cheaper]
    other = {"cores": "dense", "dense": "cores"}[SMALL.cheaper]
    monkeypatch.setattr(TTLayer, "_measure_ways", lambda *_: other)
    layer(x)
    assert convolutions(layer, x) == by[other]


@every_way
@every_spec
def test_under_autocast_it_is_as_short_and_as_right_as_the_dense_layer(spec: TTSpec, way: Way) -> None:
    layer, x = layer_of(spec, way).float(), batches(spec)[0].float()
    exact = layer(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        assert y.dtype == layer.to_dense()(x).dtype == torch.bfloat16
    error = float((y.detach().float() - exact).norm() / exact.norm())
    assert error < 4 * torch.finfo(torch.bfloat16).eps
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_a_kernel_kept_under_autocast_is_whole() -> None:
    layer, x = layer_of(SMALL, "dense").float(), image_of(SMALL, (6, 6)).float()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


@every_way
@every_spec
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_it_runs_and_trains(spec: TTSpec, way: Way, dtype: torch.dtype) -> None:
    layer, x = layer_of(spec, way), batches(spec)[0]
    exact, layer = layer(x).detach(), layer.to(dtype)
    y = layer(x.to(dtype))
    assert y.dtype == dtype
    assert float((y.detach().double() - exact).norm() / exact.norm()) < 6 * torch.finfo(dtype).eps
    y.float().square().mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in layer.parameters())


def test_it_runs_inside_a_model_that_is_compiled_and_trained() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    model = nn.Sequential(layer_of(SMALL, "auto").float(), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    x = image_of(SMALL, (4, 4), samples=4).float()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        compiled(x).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit.trace:DeprecationWarning")
@every_way
@every_spec
def test_traced_it_answers_the_same_for_any_size(spec: TTSpec, way: Way) -> None:
    layer, (first, second, third) = layer_of(spec, way).eval(), batches(spec)
    traced = torch.jit.trace(layer, second)
    wider = torch.cat([first, first], -1) if spec.axes else first
    for x in (first, second, third, wider):
        torch.testing.assert_close(traced(x), layer(x), rtol=1e-9, atol=1e-9)
