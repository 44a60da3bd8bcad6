from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import everything_of, images, seeded, weight_normed
from torch import Tensor, fx, nn

from cases import gaussian
from neighbours import S, T, answered, image, layer_of, layers
from oracles import dense_layer
from polyadic.errors import LayerError
from polyadic.layers import kernel_of
from polyadic.models import ZOO
from polyadic.schema import ConvSpec, keeps_constants
from polyadic.surgery import CP, Change, decompose_, fold_and_merge
from polyadic.surgery.fold import affine_of, scale_inputs, scale_outputs

NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
X = images(dtype=torch.float64)


def unsettled(model: nn.Module) -> nn.Module:
    """The model in float64 and evaluation mode; its batch norms have learnt something."""
    for number, norm in enumerate(model.modules()):
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            C = norm.num_features
            with torch.no_grad():
                if norm.running_mean is not None and norm.running_var is not None:
                    norm.running_mean.copy_(gaussian(C, seed=number))
                    norm.running_var.copy_(gaussian(C, seed=number + 1).square() + 0.3)
                if norm.affine:
                    norm.weight.copy_(gaussian(C, seed=number + 2))
                    norm.bias.copy_(gaussian(C, seed=number + 3))
    return model.double().eval()


def gap(model: nn.Module, other: nn.Module, x: Any) -> float:
    """The largest difference of the answers, relative to the largest number."""
    with torch.no_grad():
        expected, got = model(x), other(x)
    return float((expected - got).abs().max() / expected.abs().max())


def norms_in(model: nn.Module) -> int:
    """How many batch norms are left."""
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def folds(changes: tuple[Change, ...]) -> list[Change]:
    """Those that are about batch norms."""
    return [change for change in changes if change.what == "batch norm folded"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(spec=st.integers(0, 3).flatmap(lambda axes: layers(S, T, axes, 3)), before=st.booleans(), shifts=st.booleans())
@settings(max_examples=40)
def test_a_layer_with_a_norm_in_it_answers_as_both(spec: ConvSpec, before: bool, shifts: bool) -> None:
    layer = layer_of(spec, 1)
    norm = unsettled(NORMS[spec.axes](S if before else T))
    scale, shift = affine_of(norm)
    if before and not shifts:
        norm.get_parameter("bias").data += norm.get_buffer("running_mean") * scale - norm.get_parameter("bias")
        shift = torch.zeros_like(shift)
    assume(not before or not shifts or keeps_constants(spec))
    x = image(spec, size=6 if spec.axes == 3 else 9)
    expected = answered(nn.Sequential(*((norm, layer) if before else (layer, norm))), x)
    assume(expected is not None)
    assert expected is not None
    kernel, bias = kernel_of(layer.get_parameter("weight"), spec), layer.get_parameter("bias") if spec.bias else None
    K, b = (
        scale_inputs(kernel, bias, spec.groups, scale, shift) if before else scale_outputs(kernel, bias, scale, shift)
    )
    whole = dense_layer(ConvSpec(**{**vars(spec), "bias": True}), K, b)
    torch.testing.assert_close(whole(x), expected, rtol=1e-10, atol=1e-10)


PAIRS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "1d": (lambda: [nn.Conv1d(4, 6, 3, 2, 1), nn.BatchNorm1d(6)], (4, 9)),
    "3d": (lambda: [nn.Conv3d(2, 4, (1, 2, 3), bias=False), nn.BatchNorm3d(4)], (2, 4, 5, 6)),
    "grouped": (lambda: [nn.Conv2d(4, 6, 3, groups=2, padding=1), nn.BatchNorm2d(6)], (4, 5, 5)),
    "depthwise": (lambda: [nn.Conv2d(4, 8, 3, groups=4, padding="same"), nn.BatchNorm2d(8)], (4, 5, 5)),
    "transposed": (lambda: [nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm2d(6)], (4, 5, 5)),
    "Linear": (lambda: [nn.Linear(4, 6), nn.BatchNorm1d(6)], (4,)),
    "no affine": (lambda: [nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False, eps=0.1)], (4, 5, 5)),
    "two norms": (lambda: [nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.BatchNorm2d(6)], (4, 5, 5)),
    "before, valid": (lambda: [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2)], (4, 5, 5)),
    "before, circular": (lambda: [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, 1, 1, padding_mode="circular")], (4, 5, 5)),
    "before, Linear": (lambda: [nn.BatchNorm1d(4), nn.Linear(4, 6)], (4,)),
    "both sides": (lambda: [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)], (4, 5, 5)),
    "dropout between": (lambda: [nn.Conv2d(4, 6, 1), nn.Dropout2d(), nn.BatchNorm2d(6)], (4, 5, 5)),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs_of_every_kind_are_found_and_folded(case: str) -> None:
    build, shape = PAIRS[case]
    model = unsettled(seeded(lambda: nn.Sequential(*build(), nn.Tanh())))
    x = gaussian(3, *shape)
    found = fold_and_merge(model, x)
    assert norms_in(found.model) == 0
    assert all(change.done for change in folds(found.changes))
    assert gap(model, found.model, x) < 1e-10


class Odd(nn.Module):
    """A stem, and whatever ``ends`` does with it: (N, 3, H, W) to (N, 3, H, W)."""

    def __init__(self, ends: Callable[[Odd, Tensor], Tensor], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3, **options)
        self.order = [self.norm]
        self.ends = ends

    def forward(self, x: Tensor) -> Tensor:
        return self.ends(self, x)


class OwnNorm(nn.BatchNorm2d):
    """A batch norm with an activation in it that is no layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class NormAct(nn.BatchNorm2d):
    """A batch norm with layers behind it; ``twice`` runs the activation before it, too."""

    def __init__(self, channels: int, twice: bool = False) -> None:
        super().__init__(channels)
        self.drop = nn.Dropout2d()
        self.act = nn.SiLU()
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(super().forward(self.act(x) if self.twice else x)))
        return y


class Stubborn(nn.BatchNorm2d):
    """A batch norm that is always in training mode."""

    def train(self, mode: bool = True) -> Stubborn:
        return super().train(True)


def _read_twice(model: Odd, x: Tensor) -> Tensor:
    y: Tensor = model.conv(x)
    return model.norm(y) + y


LEFT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "an output that is used twice": (lambda: Odd(_read_twice), "'conv' puts out is read by 'norm', the operation add"),
    "a ReLU between": (lambda: Odd(lambda m, x: m.norm(F.relu(m.conv(x))) * 2), "it follows no plain layer directly"),
    "one of its inputs is another's": (
        lambda: Odd(lambda m, x: m.norm(m.conv(x)) + m.norm(x)),
        "it follows no plain layer directly; what 'norm' puts out",
    ),
    "batch statistics": (lambda: Odd(lambda m, x: m.norm(m.conv(x)), track_running_stats=False), "from each batch"),
    "in a plain list": (lambda: Odd(lambda m, x: m.order[0](m.conv(x))), "under another reference"),
    "asked for its weight": (lambda: Odd(lambda m, x: m.norm(m.conv(x)) * m.norm.weight.sum()), "more with it"),
    "never run": (lambda: Odd(lambda m, x: m.conv(x)), "did not run"),
    "own forward": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), OwnNorm(3)), "OwnNorm with a forward pass of its own"),
    "more than its children": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), NormAct(3, twice=True)), "a forward pass of"),
    "layers behind it": (lambda: nn.Sequential(NormAct(3), nn.Conv2d(3, 3, 1)), "it follows no plain layer directly"),
    "always in training": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Stubborn(3)), "stays in training mode"),
    "before zeros": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, 1, 1)), "'1' reads zeros beyond the"),
    "before a transposed one": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 3)), "'1' spreads"),
    "alone": (lambda: nn.Sequential(nn.BatchNorm2d(3)), "what '0' puts out is read by the model itself"),
    "the model itself": (lambda: nn.BatchNorm2d(3), "the model itself is this batch norm"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_cannot_be_folded_stays_with_the_reason(case: str) -> None:
    build, words = LEFT[case]
    model = unsettled(seeded(build))
    found = fold_and_merge(model, X)
    assert norms_in(found.model) == norms_in(model) == 1
    (change,) = folds(found.left)
    assert words in change.why
    assert torch.equal(found.model(X), model(X))


def test_a_norm_before_zeros_that_only_scales_is_folded() -> None:
    model = unsettled(seeded(lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())))
    model.get_submodule("0").get_parameter("bias").data.zero_()
    model.get_submodule("0").get_buffer("running_mean").zero_()
    found = fold_and_merge(model, X)
    assert norms_in(found.model) == 0
    assert gap(model, found.model, X) < 1e-10


def test_a_norm_over_tokens_is_left_behind_a_matrix_and_folded_over_features() -> None:
    model = unsettled(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()))
    assert norms_in(fold_and_merge(model, gaussian(2, 4)).model) == 0
    found = fold_and_merge(model, gaussian(2, 5, 4))
    assert norms_in(found.model) == 1
    assert "its channels are not the outputs of '0'" in found.left[0].why


def test_layers_behind_a_norm_stay_in_its_place() -> None:
    model = unsettled(seeded(lambda: nn.Sequential(nn.Conv2d(3, 3, 1), NormAct(3), nn.Conv2d(3, 2, 1))))
    found = fold_and_merge(model, X)
    assert norms_in(found.model) == 0
    assert [name for name, _ in found.model.get_submodule("1").named_children()] == ["drop", "act"]
    assert gap(model, found.model, X) < 1e-10


def test_a_norm_that_two_layers_share_goes_into_both() -> None:
    model = unsettled(seeded(lambda: Odd(lambda m, x: m.norm(m.conv(x)) * m.norm(m.other(x)))))
    found = fold_and_merge(model, X)
    assert folds(found.done)[0].layers == ("conv", "other", "norm")
    assert gap(model, found.model, X) < 1e-10


@pytest.mark.parametrize("kind", ["new", "old"])
def test_a_layer_under_weight_norm_becomes_a_plain_one(kind: str) -> None:
    model = unsettled(nn.Sequential(seeded(lambda: weight_normed(kind)), nn.BatchNorm2d(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fold_and_merge(model, X)
    assert norms_in(found.model) == 0
    assert gap(model, found.model, X) < 1e-10


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2), (torch.float32, 1e-6)])
def test_short_types_stay_and_lose_no_more_than_their_digits(dtype: torch.dtype, bound: float) -> None:
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    model = unsettled(seeded(lambda: nn.Sequential(*layers))).to(dtype)
    found = fold_and_merge(model, X.to(dtype))
    assert norms_in(found.model) == 0
    assert {parameter.dtype for parameter in found.model.parameters()} == {dtype}
    assert gap(model.double(), found.model.double(), X) < bound


def test_weights_that_would_overflow_are_left() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Tanh()).half().eval()
    model[0].weight.data.fill_(1.0)
    model[1].running_var.zero_()
    model[1].weight.data.fill_(3e4)
    found = fold_and_merge(model, X.half() * 1e-6)
    assert "leave the range of torch.float16" in found.left[0].why


def test_every_norm_of_a_residual_network_goes_dense_or_factorised() -> None:
    model = unsettled(seeded(lambda: ZOO["resnet20"].build(10)))
    x = gaussian(2, 3, 32, 32)
    found = fold_and_merge(model, x)
    assert norms_in(found.model) == 0
    assert gap(model, found.model, x) < 1e-10
    assert {change.layers for change in folds(found.done)} == set(_pairs_by_symbolic_trace(model))
    decompose_(model, {"layer1.*": CP(3)}, x)
    found = fold_and_merge(model, x)
    assert norms_in(found.model) == 0
    assert ("layer1.0.conv1.2", "layer1.0.bn1") in {change.layers for change in found.done}
    assert gap(model, found.model, x) < 1e-10


def _pairs_by_symbolic_trace(model: nn.Module) -> list[tuple[str, str]]:
    """Convolutions that a batch norm alone reads, from the graph of torch.fx."""
    modules, nodes = dict(model.named_modules()), fx.symbolic_trace(model).graph.nodes
    calls = [node for node in nodes if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d)]
    sources = [(call.args[0], call.target) for call in calls]
    return [(str(conv.target), str(norm)) for conv, norm in sources if len(conv.users) == 1]


def test_the_model_is_left_as_it_was_and_the_copy_keeps_its_names() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1)).double().train()
    model[0].requires_grad_(False)
    before = everything_of(model)
    found = fold_and_merge(model, (X,))
    assert everything_of(model) == before
    assert not found.model.training
    assert [name for name, _ in found.model.named_modules()] == [name for name, _ in model.named_modules()]
    assert not any(parameter.requires_grad for parameter in found.model.get_submodule("0").parameters())
    assert found.changes == (*found.done, *found.left)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_reader_that_cannot_be_watched_is_an_error() -> None:
    @torch.jit.script
    def hidden(x: Tensor) -> Tensor:
        return torch.tanh(x)

    model = unsettled(seeded(lambda: Odd(lambda m, x: m.norm(y := m.conv(x)) + 5 * hidden(y))))
    with pytest.raises(LayerError, match="cannot be watched"):
        fold_and_merge(model, X)
