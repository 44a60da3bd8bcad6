from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import images, seeded
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cases import gaussian
from neighbours import answered, image, layer_of, pairs
from oracles import dense_layer
from polyadic.layers import kernel_of
from polyadic.schema import ConvSpec, chain_macs, chain_params, compose
from polyadic.surgery import decompose_, fold_and_merge
from polyadic.surgery.layer_map import CP, SVD, Tucker2
from polyadic.surgery.merge_neighbours import Cut, Product, cheapest_cut


def _product_of(layer: nn.Module, spec: ConvSpec) -> Product:
    bias = layer.get_parameter("bias") if spec.bias else None
    return Product(spec, kernel_of(layer.get_parameter("weight"), spec), bias)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(pair=st.one_of(pairs(3, 1), pairs(1, 3)))
@settings(max_examples=40)
def test_a_product_answers_as_the_two_layers_do(pair: tuple[ConvSpec, ConvSpec]) -> None:
    first, second = pair
    assume(not isinstance(compose(first, second), str))
    a, b = layer_of(first, 1), layer_of(second, 3)
    x = image(first)
    expected = answered(nn.Sequential(a, b), x)
    assume(expected is not None)
    assert expected is not None
    whole = _product_of(a, first).then(_product_of(b, second))
    got = dense_layer(whole.spec, whole.kernel, whole.bias)(x)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_no_product_of_what_is_not_one_layer() -> None:
    spec = ConvSpec(2, 2, (3,), (1,), (0,), (1,))
    part = Product(spec, gaussian(2, 2, 3), None)
    with pytest.raises(ValueError, match="only where that is exact"):
        part.then(part)


@given(data=st.data())
@settings(max_examples=30)
def test_a_cut_is_the_cheapest_of_all(data: st.DataObject) -> None:
    widths = data.draw(st.lists(st.integers(1, 12), min_size=3, max_size=6))
    window = data.draw(st.integers(0, len(widths) - 2))
    specs = []
    for k, (S, T) in enumerate(itertools.pairwise(widths)):
        bias = data.draw(st.booleans())
        plain = ConvSpec.pointwise(S, T, 1, bias)
        specs.append(ConvSpec(S, T, (3,), (2,), (1,), (1,), bias=bias) if k == window else plain)
    found = cheapest_cut(tuple(specs), ((8,),))
    assert _cost(specs, found) == min(_cost(specs, cut) for cut in _all_cuts(len(specs)))


def _all_cuts(n: int) -> list[Cut]:
    inner = itertools.chain.from_iterable(itertools.combinations(range(1, n), k) for k in range(n))
    return [tuple(itertools.pairwise((0, *marks, n))) for marks in inner]


def _cost(specs: list[ConvSpec], cut: Cut) -> tuple[float, float, int]:
    """MACs, parameters and layers; beyond all bounds where a part is no single layer."""
    chain = []
    for begin, end in cut:
        # a mixing with a bias cannot come before the padded window, whatever else is in the part
        window = next((k for k in range(begin, end) if specs[k].taps > 1), None)
        if window is not None and any(spec.bias for spec in specs[begin:window]):
            return float("inf"), float("inf"), 0
        S, T = specs[begin].in_channels, specs[end - 1].out_channels
        bias = any(spec.bias for spec in specs[begin:end])
        one = ConvSpec.pointwise(S, T, 1, bias)
        chain.append(one if window is None else ConvSpec(S, T, (3,), (2,), (1,), (1,), bias=bias))
    return chain_macs(tuple(chain), (8,)), chain_params(tuple(chain)), len(chain)


def _gap(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        expected, got = model(x), other(x)
    return float((expected - got).abs().max() / expected.abs().max())


def _macs(model: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return int(counter.get_total_flops()) // 2


def test_sides_of_neighbouring_chains_become_one_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 16, 3, padding=1, bias=False), nn.ReLU())
    model = seeded(lambda: model).double().eval()
    x = images(dtype=torch.float64)
    decompose_(model, {"0": CP(4), "1": Tucker2((5, 6))}, x)
    found = fold_and_merge(model, x)
    assert found.done[0].layers == ("0.2", "1.0")
    assert isinstance(found.model.get_submodule("1.0"), nn.Identity)
    assert _gap(model, found.model, x) < 1e-10
    assert _macs(found.model, x) < _macs(model, x)
    sample = images(1, dtype=torch.float64)
    saved = _macs(model, sample) - _macs(found.model, sample)
    before, after = (int(number.replace(",", "")) for number in found.done[0].why.split()[::3])
    assert before - after == saved


def test_a_chain_of_too_high_a_rank_becomes_the_layer_again() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())).double().eval()
    x = images(dtype=torch.float64)
    decompose_(model, {"0": Tucker2((3, 4))}, x)
    found = fold_and_merge(model, x)
    assert [change.layers for change in found.done] == [("0.0", "0.1", "0.2")]
    assert [type(layer) for layer in found.model.modules() if not list(layer.children())].count(nn.Conv2d) == 1
    assert _gap(model, found.model, x) < 1e-10


def test_linear_layers_merge_where_dropout_alone_is_between() -> None:
    layers = (nn.Linear(12, 9), nn.Dropout(0.5), nn.Linear(9, 10), nn.ReLU(), nn.Linear(10, 4), nn.Linear(4, 10))
    model = seeded(lambda: nn.Sequential(*layers)).double().eval()
    x = gaussian(3, 12)
    found = fold_and_merge(model, x)
    assert [change.layers for change in found.done] == [("0", "2")]
    assert [change.layers for change in found.left] == [("4", "5")]
    assert "fewer multiplications" in found.left[0].why
    assert _gap(model, found.model, x) < 1e-10


def test_a_bias_before_zeros_is_left_with_the_reason() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 30, 1), nn.Conv2d(30, 4, 3, padding=1))).eval()
    found = fold_and_merge(model, images())
    assert not found.done
    assert "pads with zeros" in found.left[0].why
    without = nn.Sequential(nn.Conv2d(3, 30, 1, bias=False), nn.Conv2d(30, 4, 3, padding=1)).double().eval()
    found = fold_and_merge(without, images(dtype=torch.float64))
    assert found.done
    assert _gap(without, found.model, images(dtype=torch.float64)) < 1e-10


def test_a_stride_moves_to_the_layer_before() -> None:
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 40, 1, stride=2), nn.ReLU())
    model = seeded(lambda: nn.Sequential(*layers)).double().eval()
    x = images(dtype=torch.float64)
    found = fold_and_merge(model, x)
    assert [change.what for change in found.done] == ["stride moved forward"]
    assert found.model.get_submodule("0").stride == (2, 2)
    assert _gap(model, found.model, x) < 1e-10
    assert _macs(found.model, x) < _macs(model, x)


class Loop(nn.Module):
    """Two layers in a loop: (N, 3, H, W) to (N, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 20, 1)
        self.narrow = nn.Conv2d(20, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.narrow(self.wide(x)))
        return x


def test_layers_that_always_run_one_after_the_other_merge_in_a_loop() -> None:
    model, x = seeded(Loop).double().eval(), images(dtype=torch.float64)
    found = fold_and_merge(model, x)
    assert [change.layers for change in found.done] == [("wide", "narrow")]
    assert _gap(model, found.model, x) < 1e-10


def test_an_svd_of_a_strided_layer_strides_first() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 1, stride=2), nn.ReLU())).eval()
    decompose_(model, {"0": SVD(1)}, images())
    assert [model.get_submodule(f"0.{k}").stride for k in (0, 1)] == [(2, 2), (1, 1)]
