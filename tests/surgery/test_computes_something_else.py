"""Layers whose class and weights look plain, and whose answer is another: they stay dense, and say why."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from nets import images, seeded
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.surgery import Tucker2, decompose_, find_layers, fold_and_merge, layer_at, replace_one_by_one


def site_of(model: nn.Module, name: str = "0", example: Tensor | None = None) -> LayerSite:
    found = find_layers(model, images() if example is None else example)
    return next(site for site in found if site.name == name)


def _wrapped_along_width(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1))
    return F.conv2d(x, weight, bias, self.stride, 0, self.dilation, self.groups)


def two_layers() -> nn.Sequential:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))

    return cast(nn.Sequential, seeded(build).eval())


@pytest.mark.parametrize("name", ["forward", "_conv_forward", "_call_impl", "train"])
def test_a_method_replaced_on_the_instance_keeps_the_layer_dense(name: str) -> None:
    model = two_layers()
    setattr(model[0], name, types.MethodType(lambda self, *given: None, model[0]))
    words = "its forward pass" if name == "forward" else f"its {name}"
    with pytest.raises(LayerError, match=f"layer '0' cannot be factorised: {words} was replaced by another function"):
        layer_at(model, "0")


def test_the_wrap_around_convolution_answers_as_before() -> None:
    model = two_layers()
    model[0]._conv_forward = types.MethodType(_wrapped_along_width, model[0])
    dense = model(images())
    assert "its _conv_forward was replaced" in str(site_of(model).reason)
    assert [choice.layer for choice in decompose_(model, {"*": Tucker2(64)}, images()).choices] == ["2"]
    torch.testing.assert_close(model(images()), dense, rtol=0, atol=1e-5)


def test_a_plan_without_inputs_refuses_it_too() -> None:
    model = two_layers()
    model[0]._conv_forward = types.MethodType(_wrapped_along_width, model[0])
    with pytest.raises(LayerError, match="layer '0' cannot be factorised: its _conv_forward was replaced"):
        replace_one_by_one(model, Plan((Choice("0", "tucker2", (2, 2)),)), lambda *_: pytest.fail("factorised"))


def test_a_norm_whose_method_was_replaced_is_not_folded() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    model[1]._call_impl = lambda x: 2 * nn.BatchNorm2d.forward(model[1], x)  # type: ignore[arg-type]
    folded = fold_and_merge(model, images())
    assert [change.done for change in folded.changes if change.what == "batch norm folded"] == [False]


def _zero_to_circular(conv: nn.Conv2d) -> None:
    conv.padding, conv.padding_mode = (2, 2), "circular"


MUTATED: dict[str, tuple[dict[str, Any], Callable[[nn.Conv2d], None], str]] = {
    "reflect": ({"padding": 1, "padding_mode": "reflect"}, lambda c: setattr(c, "padding", (0, 0)), "it pads by"),
    "mode": ({"padding": 1}, _zero_to_circular, "it pads by"),
    "same": (
        {"padding": "same", "padding_mode": "reflect"},
        lambda c: setattr(c, "dilation", (2, 2)),
        "it pads by [1, 1, 1, 1], as it was made, and its padding and dilation now say [2, 2, 2, 2]: make it anew",
    ),
    "stride of same": (
        {"padding": "same", "padding_mode": "reflect"},
        lambda c: setattr(c, "stride", (2, 2)),
        "the sizes of this Conv2d are not those of a plain layer",
    ),
    "constant": ({"padding": 1}, lambda c: setattr(c, "padding_mode", "constant"), "the sizes of this Conv2d are not"),
}


@pytest.mark.parametrize("kind", MUTATED)
def test_padding_that_torch_does_not_read_any_more_keeps_the_layer_dense(kind: str) -> None:
    arguments, change, words = MUTATED[kind]
    conv = nn.Conv2d(3, 8, 3, **arguments)
    change(conv)
    model = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    dense = model(images())
    assert words in str(site_of(model).reason)
    assert [choice.layer for choice in decompose_(model, {"*": Tucker2(64)}, images()).choices] == ["2"]
    torch.testing.assert_close(model(images()), dense, rtol=0, atol=1e-5)


GEOMETRY: list[tuple[type[nn.Module], str, object]] = [
    (nn.Conv2d, "stride", 2),
    (nn.Conv2d, "padding", 1),
    (nn.Conv2d, "padding", [1]),
    (nn.Conv2d, "dilation", 2),
    (nn.Conv2d, "stride", [2, 1]),
    (nn.ConvTranspose2d, "stride", 2),
    (nn.ConvTranspose2d, "output_padding", (0,)),
]


@pytest.mark.parametrize(("kind", "attribute", "value"), GEOMETRY)
def test_sizes_that_were_set_later_are_read_as_torch_reads_them(
    kind: type[nn.Module], attribute: str, value: object
) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 1), kind(8, 6, 3))).double().eval()  # type: ignore[call-arg]
    setattr(model.get_submodule("1"), attribute, value)
    x = images(dtype=torch.float64)
    dense = model(x)
    assert site_of(model, "1", x).reason is None
    decompose_(model, {"1": Tucker2(64)}, x)
    torch.testing.assert_close(model(x), dense, rtol=0, atol=1e-10)


def _mirrored(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    return torch.conv2d(x, weight.flip(-1), bias, *rest)


@pytest.mark.parametrize("example", [images(), torch.zeros(1, 3, 12, 12), torch.ones(1, 3, 12, 12)])
def test_what_cannot_be_read_is_found_by_running(example: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _mirrored(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", forward)  # of the class: no instance tells
    model = two_layers()
    assert "what it puts out is not what its weight and geometry say" in str(site_of(model, "0", example).reason)
    assert "what it puts out is not what its weight and geometry say" in str(site_of(model, "2", example).reason)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_rounding_is_no_difference(dtype: torch.dtype, scale: float) -> None:
    layers = [nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, padding=1), nn.Flatten(), nn.Linear(6400, 9)]
    model = seeded(lambda: nn.Sequential(*layers)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    assert [site.reason for site in find_layers(model, images(dtype=dtype))] == [None] * 3


def test_a_sum_that_cancels_is_no_difference() -> None:
    model = nn.Sequential(nn.Conv2d(3, 1, 3, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(1, 3, 3, 3))
    assert site_of(model, "0", 7.3 + 1e-7 * images()).reason is None


def test_a_weight_that_is_not_a_number_is_no_difference() -> None:
    model = two_layers()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    assert site_of(model).reason is None
