"""MACs by the definition of each operation, written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyadic.layers import Inputs
from polyadic.surgery import count_operations, find_layers, network_cost
from polyadic.surgery.count_macs import count_macs

N, L, S, E, H = 2, 5, 7, 16, 4  # samples, queries, keys, width, heads


class Function(nn.Module):
    """A network that is one function."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Attention(nn.Module):
    """Queries, keys and values from one Linear, as in timm."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(E, 3 * E)
        self.proj = nn.Linear(E, E)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, H, E // H)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


def z(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


ATTENTION = N * (L * E * E + 2 * S * E * E + L * E * E + 2 * L * S * E)  # q, k and v, out, QK^T and AV
SELF = N * (4 * L * E * E + 2 * L * L * E)
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], int]] = {
    "linear": (F.linear, (z(3, 4), z(5, 4)), 3 * 4 * 5),
    "matmul": (torch.matmul, (z(2, 3, 4), z(2, 4, 5)), 2 * 3 * 4 * 5),
    "matmul of vectors": (torch.matmul, (z(4), z(4)), 4),
    "a matrix and a vector": (torch.mv, (z(3, 4), z(4)), 12),
    "bmm": (torch.bmm, (z(2, 3, 4), z(2, 4, 5)), 2 * 3 * 4 * 5),
    "addbmm": (torch.addbmm, (z(3, 5), z(2, 3, 4), z(2, 4, 5)), 2 * 3 * 4 * 5),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (z(2, 3, 4), z(2, 4, 5)), 2 * 3 * 4 * 5),
    "sdpa": (F.scaled_dot_product_attention, (z(N, H, L, E), z(N, H, S, E), z(N, H, S, E)), 2 * N * H * L * S * E),
    "sdpa, values of another width": (
        F.scaled_dot_product_attention,
        (z(N, H, L, E), z(N, H, S, E), z(N, H, S, 3)),
        N * H * L * S * (E + 3),
    ),
    "sdpa without heads": (F.scaled_dot_product_attention, (z(N, L, E), z(N, S, E), z(N, S, E)), 2 * N * L * S * E),
    "sdpa, fewer heads of keys": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (z(N, H, L, E), z(N, 2, S, E), z(N, 2, S, E)),
        2 * N * H * L * S * E,
    ),
    "bilinear": (F.bilinear, (z(2, 3), z(2, 4), z(5, 3, 4)), 2 * (5 * 3 * 4 + 5 * 3)),
    "conv2d, groups": (lambda x, w: F.conv2d(x, w, groups=2), (z(1, 4, 6, 6), z(8, 2, 3, 3)), 16 * 8 * 2 * 9),
    "conv_transpose2d, groups": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=2),
        (z(1, 4, 5, 5), z(4, 3, 3, 3)),
        25 * 4 * 3 * 9,
    ),
    "elementwise": (lambda x: (x * x).softmax(-1) + F.gelu(x), (z(3, 4),), 0),
    "interpolation": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (z(1, 2, 3, 3),), 0),
}
MODULES: dict[str, tuple[nn.Module, tuple[Tensor, ...], int]] = {
    "MultiheadAttention": (
        nn.MultiheadAttention(E, H, batch_first=True),
        (z(N, L, E), z(N, S, E), z(N, S, E)),
        ATTENTION,
    ),
    "TransformerEncoderLayer": (
        nn.TransformerEncoderLayer(E, H, 32, batch_first=True),
        (z(N, L, E),),
        SELF + N * L * 2 * 32 * E,
    ),
    "TransformerEncoder": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(E, H, 32, batch_first=True), 3),
        (z(N, L, E),),
        3 * (SELF + N * L * 2 * 32 * E),
    ),
    "LSTM": (nn.LSTM(8, 12, 2, bidirectional=True), (z(L, N, 8),), L * N * 2 * 48 * ((8 + 12) + (24 + 12))),
    "LSTM, projected": (nn.LSTM(8, 12, proj_size=4), (z(L, N, 8),), L * N * (48 * (8 + 4) + 12 * 4)),
    "GRU": (nn.GRU(8, 12, batch_first=True), (z(N, L, 8),), N * L * 36 * (8 + 12)),
    "RNN": (nn.RNN(8, 12), (z(L, N, 8),), L * N * 12 * (8 + 12)),
    "LSTMCell": (nn.LSTMCell(8, 12), (z(N, 8),), N * 48 * (8 + 12)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (z(1, 4, 5, 5),), 25 * 4 * 3 * 9),
    "Conv1d": (nn.Conv1d(4, 8, 3, stride=2, groups=4), (z(1, 4, 9),), 4 * 8 * 1 * 3),
}


@pytest.mark.filterwarnings("ignore:.*projections is not supported with oneDNN")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_count_what_they_multiply(name: str) -> None:
    function, inputs, macs = FUNCTIONS[name]
    assert count_macs(Function(function), inputs).macs == macs


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", MODULES)
def test_modules_count_what_they_multiply_in_either_mode(name: str, mode: str) -> None:
    module, inputs, macs = MODULES[name]
    assert count_macs(module.train(mode == "train"), inputs).macs == macs


@pytest.mark.parametrize("name", ["TransformerEncoderLayer", "Conv1d"])
def test_what_is_scripted_counts_as_what_is_not(name: str) -> None:
    module, inputs, macs = MODULES[name]
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        scripted = torch.jit.script(module.eval())
    assert count_macs(scripted, inputs).macs == macs


def test_the_fused_kernel_is_on_again_afterwards() -> None:
    module, inputs, _ = MODULES["TransformerEncoderLayer"]
    count_macs(module, inputs)
    find_layers(module, inputs)
    assert torch.backends.mha.get_fastpath_enabled()


def test_functions_are_named_after_the_module_that_called_them() -> None:
    model = nn.Sequential(Attention(), nn.ReLU(), nn.Linear(E, 3))
    count = count_operations(model, z(N, L, E))
    assert {operation.name: operation.macs for operation in count.operations} == {
        "0.qkv:linear": 3 * L * E * E,
        "0:scaled_dot_product_attention": 2 * L * L * E,
        "0.proj:linear": L * E * E,
        "2:linear": L * E * 3,
    }
    assert count.macs == network_cost(model, z(N, L, E)).macs


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.fft.rfft, "fft_r2c"),
        (lambda x: torch.cdist(x, x), "cdist_forward"),
        (torch.linalg.inv, "linalg_inv_ex"),
    ],
)
def test_what_has_no_formula_is_named(function: Callable[..., Tensor], name: str) -> None:
    count = count_macs(nn.Sequential(Function(function)), z(8, 8))
    assert [operation.name for operation in count.uncounted] == [f"0:{name}"]


def test_a_custom_kernel_is_named() -> None:
    @torch.library.custom_op("polyadic_tests::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return 2 * x

    count = count_macs(nn.Sequential(Function(lambda x: twice(x))), z(2, 3))
    assert [operation.name for operation in count.uncounted] == ["0:twice"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    "wrap",
    [
        torch.nn.utils.parametrizations.orthogonal,
        torch.nn.utils.parametrizations.spectral_norm,
        torch.nn.utils.spectral_norm,
        torch.nn.utils.weight_norm,
    ],
)
def test_computing_a_weight_costs_nothing(wrap: Callable[[nn.Module], nn.Module]) -> None:
    count = count_macs(nn.Sequential(wrap(nn.Linear(8, 6))), z(2, 8))
    assert {operation.name: operation.macs for operation in count.operations} == {"0:linear": 2 * 8 * 6}
    assert not count.uncounted


def test_inner_layers_of_an_encoder_are_candidates() -> None:
    encoder, inputs, _ = MODULES["TransformerEncoder"]
    given: Inputs = inputs
    sites = {site.name: site for site in find_layers(encoder.eval(), given)}
    assert sites["layers.1.linear1"].reason is sites["layers.1.linear2"].reason is None
    assert sites["layers.1.linear1"].macs == L * 32 * E
