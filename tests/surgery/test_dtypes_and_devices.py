"""Any floating-point type and any device: chains are where, and what, their layers were."""

from __future__ import annotations

import copy

import pytest
import torch
from nets import images, net
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from polyadic.errors import LayerError, PolyadicError
from polyadic.formats import FORMATS, format_named
from polyadic.schema import Choice, Plan
from polyadic.surgery import (
    CP,
    SVD,
    Tucker2,
    chain_for,
    check_finite,
    decompose_,
    find_layers,
    layer_at,
    network_cost,
    rebuild,
    replace_in_sequence,
)

FULL = {"stem": CP(18), "body.1": Tucker2((6, 8)), "point": SVD(4), "head": SVD(5)}
PLAN = Plan((Choice("body.1", "tucker2", (3, 4)), Choice("point", "svd", (2,)), Choice("head", "svd", (3,))))

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
ROUNDINGS = 16  # weights and outputs of eleven stages are rounded, some up and some down

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
every_device = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")),
    ],
)


def moved(dtype: torch.dtype, device: str, normed: bool = False) -> tuple[nn.Module, Tensor]:
    model = net()
    if normed:
        weight_norm(model.body[1])
    return model.to(device, dtype), images(4).to(device, dtype)


def kinds_of(model: nn.Module) -> set[tuple[torch.dtype, str]]:
    tensors = (tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point())
    return {(tensor.dtype, tensor.device.type) for tensor in tensors}


@every_dtype
@every_device
@pytest.mark.parametrize("normed", [False, True])
def test_chains_are_of_the_layers_type_and_on_their_device(dtype: torch.dtype, device: str, normed: bool) -> None:
    model, x = moved(dtype, device, normed)
    reference = copy.deepcopy(model).double()(x.double())
    assert [site.reason for site in find_layers(model, x)] == [None] * 4
    plan = decompose_(model, FULL, x)
    assert len(plan.choices) == 4
    assert kinds_of(model) == {(dtype, device)}
    error = (model(x).double() - reference).norm() / reference.norm()
    assert error.item() < ROUNDINGS * torch.finfo(dtype).eps
    other = rebuild(moved(dtype, device, normed)[0], plan)
    assert kinds_of(other) == {(dtype, device)}
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@every_device
def test_every_format_rounds_to_half_precision_at_the_end(name: str, dtype: torch.dtype, device: str) -> None:
    model, x = moved(dtype, device)
    fmt, served = FORMATS[name], 0
    for layer_name in ("stem", "head"):
        layer, kernel, spec = layer_at(model, layer_name)
        if fmt.refuses(spec) is None:
            rank = tuple(min(2, most) for most in fmt.largest_rank(spec))
            made, exact = (fmt.factorise(K.detach(), spec, rank) for K in (kernel, kernel.double()))
            for weight, target in zip(made.weights, exact.weights, strict=True):
                assert (weight.dtype, weight.device.type) == (dtype, device)
                assert (weight - target).norm() <= 2 * torch.finfo(dtype).eps * target.norm()
            chain = chain_for(layer, made)
            y = (x if spec.axes else x.flatten(1)[:, : spec.in_channels]).contiguous()
            assert kinds_of(chain) == {(dtype, device)}
            reference = copy.deepcopy(chain).double()(y.double())
            torch.testing.assert_close(chain(y).double(), reference, rtol=0, atol=ROUNDINGS * torch.finfo(dtype).eps)
            served += 1
    assert served


@every_dtype
@every_device
def test_a_walk_through_the_network_runs_in_any_type(dtype: torch.dtype, device: str) -> None:
    model, x = moved(dtype, device)

    def factorised(choice: Choice, kernel: Tensor, norm: object) -> object:
        spec = layer_at(model, choice.layer)[2]
        return format_named(choice.format).factorise(kernel, spec, choice.rank, 0, norm)  # type: ignore[arg-type]

    network, kernels = replace_in_sequence(model, PLAN, factorised, x, find_layers(model, x))  # type: ignore[arg-type]
    assert kinds_of(network) == {(dtype, device)}
    assert network_cost(network, x).macs < network_cost(model, x).macs
    assert bool(network(x).isfinite().all())
    assert set(kernels) == {"body.1", "point", "head"}


def test_layers_of_different_types_keep_each_its_own() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3).to(torch.bfloat16)
            self.head = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x.bfloat16()).mean((2, 3)).float())  # type: ignore[no-any-return]

    model = Mixed()
    decompose_(model, {"body": Tucker2((2, 2)), "head": SVD(2)}, images())
    assert kinds_of(model.body) == {(torch.bfloat16, "cpu")}
    assert kinds_of(model.head) == {(torch.float32, "cpu")}
    assert model(images()).dtype is torch.float32


def test_complex_layers_stay() -> None:
    model = nn.Sequential(nn.Linear(3, 3, dtype=torch.complex64))
    (site,) = find_layers(model, torch.zeros(2, 3, dtype=torch.complex64))
    assert site.reason == "a Linear without floating-point weights has nothing to decompose"


def test_a_model_without_numbers_is_refused_and_still_rebuilt() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(LayerError, match=r"^'0.weight' is on the meta device and holds no numbers: load"):
        find_layers(model, images())
    with pytest.raises(LayerError, match="meta device"):
        decompose_(model, {"*": CP(2)}, images())
    with pytest.raises(PolyadicError, match="meta device"):
        check_finite(model)
    rebuild(model, Plan((Choice("0", "tucker2", (2, 2)),)))
    filled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decompose_(filled, {"0": Tucker2((2, 2))}, images())
    model.load_state_dict(filled.state_dict(), assign=True)
    assert torch.equal(model.eval()(images()), filled.eval()(images()))


def test_a_buffer_on_the_meta_device_is_named_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[1].running_mean = torch.empty(4, device="meta")
    with pytest.raises(LayerError, match=r"^'1.running_mean' is on the meta device"):
        find_layers(model, images())
