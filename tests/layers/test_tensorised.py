"""TTLinear, TTConv and TTConvTranspose: made like their torch counterparts, from scratch or from a trained layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cases import gaussian
from polyadic import layers
from polyadic.errors import DecompositionError, LayerError
from polyadic.layers import TTConv1d, TTConv2d, TTConvTranspose1d, TTConvTranspose2d, TTLayer, TTLinear, spec_of

CONVOLUTIONS = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
GEOMETRY: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1, "dilation": 2, "bias": False},
]
DENSE: dict[str, nn.Module] = {
    "Linear": nn.Linear(6, 8),
    "Conv1d": nn.Conv1d(6, 8, 3, padding="same", padding_mode="circular"),
    "Conv2d": nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), padding_mode="reflect"),
    "Conv3d": nn.Conv3d(4, 5, (2, 1, 2), bias=False),
    "ConvTranspose1d": nn.ConvTranspose1d(6, 8, 3, stride=2, padding=1, output_padding=1),
    "ConvTranspose2d": nn.ConvTranspose2d(8, 6, (2, 3), stride=(2, 1), dilation=(1, 2), output_padding=(1, 1)),
    "ConvTranspose3d": nn.ConvTranspose3d(4, 4, 2, bias=False),
}
every_kind = pytest.mark.parametrize("name", DENSE)


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)


def tensorised(name: str) -> type[Any]:
    kind: type[Any] = getattr(layers, f"TT{name}")
    return kind


def image(layer: nn.Module) -> torch.Tensor:
    spec = spec_of(layer)
    assert spec is not None
    return gaussian(2, spec.in_channels, *(7,) * spec.axes)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("geometry", GEOMETRY, ids=["defaults", "geometry"])
def test_arguments_mean_what_they_mean_in_torch(name: str, geometry: dict[str, Any]) -> None:
    ours, theirs = tensorised(name)(6, 8, 3, **geometry), getattr(nn, name)(6, 8, 3, **geometry)
    assert ours.spec.dense == spec_of(theirs) == spec_of(ours.to_dense())
    assert ours(image(theirs).float()).shape == theirs(image(theirs).float()).shape


def test_arguments_by_position_stand_where_torch_has_them() -> None:
    conv, spread = (6, 8, (3, 2), 2, 1, 1), (6, 8, (3, 2), 2, 1, 1, True, 2)
    assert TTConv2d(*conv).spec.dense == spec_of(nn.Conv2d(*conv))
    # torch has groups between output padding and bias
    assert TTConvTranspose2d(*spread).spec.dense == spec_of(nn.ConvTranspose2d(6, 8, (3, 2), 2, 1, 1, 1, True, 2))
    assert TTLinear(6, 8, False).spec.dense == spec_of(nn.Linear(6, 8, False))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_may_be_a_word(padding: str) -> None:
    assert TTConv1d(6, 8, 3, padding=padding).spec.dense == spec_of(nn.Conv1d(6, 8, 3, padding=padding))


def test_one_rank_serves_all_bonds_and_none_gets_more_than_it_can_use() -> None:
    spec = TTConv2d(64, 64, 3, ranks=100).spec
    assert spec.ranks == (9, 100, 16)  # 9 taps before the first bond, 16 pairs of digits after the last
    assert TTLinear(16, 16, ranks=3, row_modes=(2, 2, 4), column_modes=(4, 2, 2)).spec.ranks == (3, 3)
    assert TTConv2d(16, 16, 3, ranks=(2, 3), row_modes=(4, 4), column_modes=(2, 8)).spec.ranks == (2, 3)


def test_type_and_device_are_those_asked_for() -> None:
    layer = TTLinear(16, 16, dtype=torch.float64, device="meta")
    assert {(p.dtype, p.device.type) for p in layer.parameters()} == {(torch.float64, "meta")}


@every_kind
def test_at_full_rank_it_is_the_layer_that_it_came_from_and_gives_it_back(name: str) -> None:
    dense = DENSE[name].double()
    made = tensorised(name).from_dense(dense, ranks=10**6)
    assert type(made) is tensorised(name)
    x = image(dense)
    torch.testing.assert_close(made(x), dense(x), rtol=1e-10, atol=1e-10)
    back = made.to_dense()
    assert type(back) is type(dense)
    assert spec_of(back) == spec_of(dense)
    for key, value in dense.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value, rtol=1e-10, atol=1e-10)
    again = tensorised(name).from_dense(back, ranks=10**6)
    torch.testing.assert_close(again(x), dense(x), rtol=1e-10, atol=1e-10)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_type_mode_and_bias_are_those_of_the_dense_layer(name: str, dtype: torch.dtype) -> None:
    for mode in (True, False):
        dense = DENSE[name].to(dtype).train(mode)
        made = tensorised(name).from_dense(dense, ranks=2)
        assert made.training == made.to_dense().training == mode
        assert {p.dtype for p in made.parameters()} == {dtype}
        assert (made.bias is None) == (dense.bias is None)
        if made.bias is not None:
            assert torch.equal(made.bias, dense.bias)
            assert made.bias.data_ptr() != dense.bias.data_ptr()
    DENSE[name].double().train()


@pytest.mark.parametrize("ratio", [1.5, 3.0, 8.0])
def test_by_ratio_the_cores_hold_so_many_times_fewer_numbers(ratio: float) -> None:
    dense = nn.Conv2d(16, 16, 3).double()
    made = TTConv2d.from_dense(dense, ratio=ratio)
    cores = sum(G.numel() for G in made.cores)
    assert dense.weight.numel() / (1.5 * ratio) < cores <= dense.weight.numel() / ratio


@pytest.mark.parametrize("error", [0.1, 0.5, 0.8])
def test_by_error_the_kernel_is_that_near(error: float) -> None:
    dense = nn.Linear(16, 12).double()
    made = TTLinear.from_dense(dense, error=error)
    found = float((made.kernel() - dense.weight).norm().detach() / dense.weight.norm().detach())
    assert 0.2 * error < found <= error  # ranks are whole numbers


def test_a_kernel_that_is_a_train_is_found_exactly_at_its_ranks() -> None:
    modes = {"row_modes": (2, 4), "column_modes": (4, 2)}
    source = TTConv2d(8, 8, 3, ranks=(2, 3), dtype=torch.float64, **modes)
    found = TTConv2d.from_dense(source.to_dense(), ranks=(2, 3), **modes)
    torch.testing.assert_close(found.kernel(), source.kernel(), rtol=1e-9, atol=1e-9)
    assert found.spec == source.spec


def test_modes_and_way_are_passed_on() -> None:
    made = TTLinear.from_dense(nn.Linear(6, 8), ranks=2, row_modes=(4, 3), column_modes=(2, 3), way="cores")
    assert (made.spec.row_modes, made.spec.column_modes, made.spec.way) == ((4, 3), (2, 3), "cores")


def test_what_is_made_is_not_tied_to_the_dense_layer() -> None:
    dense = nn.Linear(8, 8).requires_grad_(False)
    made = TTLinear.from_dense(dense, ranks=4)
    before = made.kernel().detach().clone()
    dense.weight.zero_()
    assert torch.equal(made.kernel(), before)
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in made.parameters())


def test_a_parametrised_layer_gives_the_weight_that_it_computes() -> None:
    dense = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8).double())
    made = TTLinear.from_dense(dense, ranks=64)
    torch.testing.assert_close(made.kernel(), dense.weight, rtol=1e-10, atol=1e-10)


class Subclass(nn.Linear):
    """It may compute anything."""


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "another layer": (lambda: TTLinear.from_dense(nn.Conv2d(8, 8, 3), 2), LayerError, "counterpart; got Conv2d"),
    "other axes": (lambda: TTConv2d.from_dense(nn.Conv1d(8, 8, 3), 2), LayerError, "counterpart; got Conv1d"),
    "not transposed": (
        lambda: TTConvTranspose1d.from_dense(nn.Conv1d(8, 8, 3), 2), LayerError, "counterpart; got Conv1d"),
    "a subclass": (lambda: TTLinear.from_dense(Subclass(8, 8), 2), LayerError, "counterpart; got Subclass"),
    "no layer": (lambda: TTLinear.from_dense(nn.ReLU(), 2), LayerError, "counterpart; got ReLU"),
    "groups": (lambda: TTConv2d.from_dense(nn.Conv2d(8, 8, 3, groups=2), 2), LayerError, "groups = 2 keep them apart"),
    "nothing asked": (lambda: TTLinear.from_dense(nn.Linear(8, 8)), LayerError, "by number, ratio or error"),
    "two asked": (
        lambda: TTLinear.from_dense(nn.Linear(8, 8), 2, ratio=2.0), LayerError, "by number, ratio or error"),
    "rank 0": (lambda: TTLinear(8, 8, ranks=0), LayerError, "at least 1; got 0"),
    "too many ranks": (lambda: TTLinear(8, 8, ranks=(2, 2, 2)), LayerError, r"takes 1 rank\(s\)"),
    "a rank too large": (lambda: TTLinear(8, 8, ranks=(99,)), LayerError, "ranks lie between 1 and"),
    "few channels": (lambda: TTLinear(3, 8), LayerError, "too few to be counted in several digits"),
    "rows alone": (lambda: TTLinear(8, 8, row_modes=(2, 4)), LayerError, "modes for rows and columns, or for neither"),
    "modes too small": (
        lambda: TTLinear(8, 8, row_modes=(2, 3), column_modes=(2, 4)), LayerError, "multiply to T = 8 or more"),
    "sizes": (lambda: TTConv2d(8, 8, (3, 3, 3)), LayerError, r"kernel_size over 2 axes .*2 of them; got \(3, 3, 3\)"),
    "no window": (lambda: TTConv2d(8, 8, 0), LayerError, "kernel_size over 2 axes is a whole number from 1 up"),
    "no stride": (lambda: TTConv2d(8, 8, 3, stride=0), LayerError, "stride over 2 axes is a whole number from 1 up"),
    "padding": (lambda: TTConv2d(8, 8, 3, padding=-1), LayerError, "padding over 2 axes is a whole number from 0 up"),
    "a word": (lambda: TTConv2d(8, 8, 3, padding="full"), LayerError, "padding over 2 axes .* got 'full'"),
    "a padding mode": (lambda: TTConv2d(8, 8, 3, padding_mode="mirror"), ValueError, "one of zeros.*got 'mirror'"),
    "same and strided": (lambda: TTConv2d(8, 8, 3, 2, "same"), ValueError, "'same' is for stride 1"),
    "NaN": (lambda: TTLinear.from_dense(nan(), 2), DecompositionError, "NaN or Inf"),
    "an error of 1": (lambda: TTLinear.from_dense(nn.Linear(8, 8), error=1.0), LayerError, "got 1.0"),
}  # fmt: skip


def nan() -> nn.Linear:
    layer = nn.Linear(8, 8)
    nn.init.constant_(layer.weight, torch.nan)
    return layer


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_made_is_refused_with_the_law(wrong: str) -> None:
    make, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        make()


def test_every_kind_is_a_tensor_train_layer() -> None:
    assert all(issubclass(tensorised(name), TTLayer) for name in DENSE)
