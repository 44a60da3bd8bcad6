"""Networks as one straight line of calls: joined convolutions, packed kernels, and what must not be joined."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyadic import fused
from polyadic.layers import onednn
from polyadic.layers.onednn import convolution, convolution_and_sum
from polyadic.models import load_model

LAST = torch.channels_last


def images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 4, 9, 8)), generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=LAST
    )


class Written(nn.Module):
    """Two convolutions of one image, put together as ``forward`` says."""

    def __init__(self, way: Callable[[Tensor, Tensor], Tensor], stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, stride=stride, groups=groups)
        self.second = nn.Conv2d(4, 4, 1, stride=stride, bias=False)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self.first(x), self.second(x))


def calls(model: nn.Module) -> Counter[str]:
    """What a straight line calls, by name; sums that overwrite are called so."""
    found: Counter[str] = Counter()
    for node in model.graph_of_line.nodes:  # type: ignore[union-attr]
        if node.target is convolution_and_sum:
            found["sum written over" if node.args[4] else "sum"] += 1
        elif node.op in ("call_function", "call_method", "call_module") and node.target is not operator.getitem:
            found[getattr(node.target, "__name__", str(node.target))] += 1
    assert found.pop("is_inference") == 1
    return found


def same(fast: nn.Module, plain: nn.Module, x: Tensor) -> None:
    """Both ways of running it answer alike, without gradients and with them, to the bit there; twice over."""
    plain = copy.deepcopy(plain).eval().to(memory_format=LAST)  # type: ignore[call-overload]
    for _ in range(2):
        before = x.clone()
        with torch.inference_mode():
            torch.testing.assert_close(fast(x), plain(x), rtol=1e-5, atol=1e-5)
        assert torch.equal(x, before), "the input is left as it was"
    assert torch.equal(fast(x), plain(x))


def line_of(model: nn.Module) -> nn.Module:
    return fused(model).to(memory_format=LAST)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("way", "found"),
    [
        (lambda a, b: F.relu(a + b), {"sum written over": 1, "convolution": 1}),
        (lambda a, b: torch.add(b, a).relu(), {"sum written over": 1, "convolution": 1}),
        (lambda a, b: F.relu(a) + b, {"sum written over": 1, "convolution": 1}),
        (lambda a, b: F.relu(a, inplace=True) * F.relu(b), {"convolution": 2, "mul": 1}),
        (lambda a, b: F.relu(a + b.sum()), {"convolution": 1, "sum": 2}),
        (lambda a, b: (a + b).tanh(), {"sum written over": 1, "convolution": 1, "tanh": 1}),
        (lambda a, b: F.relu(a + a), {"convolution": 2, "add": 1, "relu": 1}),
        (lambda a, b: torch.add(a, b, alpha=2), {"convolution": 2, "add": 1}),
        (lambda a, b: a + 1.0, {"convolution": 2, "add": 1}),
    ],
)
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 4)])
def test_sums_and_activations_are_joined_with_the_convolution_before_them(
    way: Callable[[Tensor, Tensor], Tensor], found: dict[str, int], stride: int, groups: int
) -> None:
    plain = Written(way, stride, groups)
    line = line_of(plain)
    seen = calls(line)
    assert {name: seen[name] for name in found} == found
    same(line, plain, images())


class Two(nn.Module):
    """Two pointwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)


class Later(Two):
    """Reads an image after the sum that could be written over it, and adds its own input."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        view = y.flatten(1)
        z = self.b(y) + y
        return z.flatten(1) * view + (self.b(x) + x).flatten(1)


def test_what_somebody_else_may_read_is_not_written_over() -> None:
    plain = Later()
    line = line_of(plain)
    assert calls(line)["sum"] == 2
    assert calls(line)["sum written over"] == 0
    same(line, plain, images())


class Growing(Two):
    """Adds to the image itself, which the next convolution reads."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y.add_(self.b(y))
        return self.b(y)


def test_a_sum_into_the_other_image_is_not_joined() -> None:
    plain = Growing()
    line = line_of(plain)
    assert calls(line) == {"convolution": 3, "add_": 1}
    same(line, plain, images())


def test_a_sum_that_broadcasts_is_the_plain_one() -> None:
    plain = Written(lambda a, b: F.relu(a + b.mean((2, 3), keepdim=True)))
    line = line_of(plain)
    assert calls(line)["sum"] == 1
    same(line, plain, images())


def test_relu6_cuts_off_above_too() -> None:
    plain = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU6(), nn.Dropout(), nn.Conv2d(8, 2, 1))
    line = line_of(plain)
    assert calls(line) == {"convolution": 2}
    same(line, plain, 40 * images())
    with torch.inference_mode():
        assert convolution(40 * images(), line.get_submodule("0"), (0.0, 6.0), True).max() == 6.0  # type: ignore[arg-type]


def test_one_layer_may_be_used_in_several_ways() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x))
            return self.a(F.relu(self.a(y) + x)) + F.relu6(self.a(y) + y)

    plain = Shared()
    line = line_of(plain)
    assert calls(line)["convolution"] == 1
    same(line, plain, 20 * images())


@pytest.mark.parametrize("faster", ["plain", "joined"])
def test_the_faster_form_is_run_and_both_answer_alike(faster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(run: Callable[..., Tensor], *given: Tensor) -> float:
        return 1.0 if run.__name__.startswith("joined") == (faster == "joined") else 2.0

    monkeypatch.setattr(onednn, "_seconds", seconds)
    for way in (lambda a, b: F.relu(a + b), lambda a, b: F.relu(a) * F.relu(b), lambda a, b: (a + b) * b):
        plain = Written(way)
        line = line_of(plain)
        same(line, plain, images())
        forms = [form for layer in line.modules() for form in layer.__dict__.get("_polyadic_form", {}).values()]
        names = {form.run.__name__ for form in forms} | {form.run_over.__name__ for form in forms}
        assert any(name.startswith("joined") for name in names) == (faster == "joined")


def test_a_kernel_is_packed_again_where_it_or_the_image_has_changed() -> None:
    plain = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
    line = line_of(plain)
    same(line, plain, images())
    same(line, plain, images(1, 4, 30, 20))
    with torch.no_grad():
        plain[0].weight.mul_(2.0)
    line.load_state_dict(plain.state_dict())
    same(line, plain, images())
    line.to(torch.float64)
    same(line, plain.double(), images().double())


@pytest.mark.parametrize("change", [lambda x: x.contiguous(), lambda x: x.double(), lambda x: x[:0]])
def test_where_there_is_no_better_form_the_plain_layers_run(change: Callable[[Tensor], Tensor]) -> None:
    x = change(images())
    plain = Written(lambda a, b: F.relu(a + b)).to(x.dtype).eval()
    with torch.inference_mode():
        assert torch.equal(fused(plain)(x), plain(x))


def test_under_autocast_the_plain_layers_run() -> None:
    plain = Written(lambda a, b: F.relu(a + b)).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        answer = fused(plain)(images())
        assert answer.dtype == torch.bfloat16
        assert torch.equal(answer, plain(images()))


def test_gradients_are_those_of_the_plain_layers() -> None:
    plain = Written(lambda a, b: F.relu(a + b)).eval()
    line = fused(plain)
    for model in (plain, line):
        model(images()).square().sum().backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(line.get_parameter(name).grad, parameter.grad)  # type: ignore[arg-type]


def test_the_state_keeps_its_names_and_lines_can_be_copied() -> None:
    plain = load_model("polyadic:resnet20").model.eval()
    line, x = line_of(plain), images(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(line(x), copy.deepcopy(line)(x))
    assert list(line.state_dict()) == list(plain.state_dict())
    same(line, plain, x)


def test_a_line_that_answers_otherwise_is_not_used() -> None:
    """A trace knows no aliases: ``y += 1`` is ``y = y + 1`` to it."""

    class Aliased(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2.0
            seen = y
            y += 1.0
            return seen

    plain, x = Aliased(), images()
    assert not torch.equal(fused(plain)(x), plain(x))
    assert not hasattr(fused(plain, x), "graph_of_line")
    assert torch.equal(fused(plain, x)(x), plain(x))
    assert hasattr(fused(nn.ReLU(), x), "graph_of_line")


def test_networks_that_somebody_watches_or_that_choose_their_way_are_no_line() -> None:
    watched, heard = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), []
    watched[1].register_forward_hook(lambda *seen: heard.append(seen))
    fused(watched)(images())
    assert len(heard) == 1

    class Chooses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    assert not hasattr(fused(Chooses()), "graph_of_line")
