from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import everything_of, images, net, seeded
from torch import Tensor, nn

from polyadic.models import ResNetCifar
from polyadic.surgery.following_ops import FollowingOps, find_following_ops


class Block(nn.Module):
    """A convolution, a batch norm and whatever ``ends`` does with them: (N, 3, H, W) to (N, 3, H, W)."""

    def __init__(self, ends: Callable[[Block, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.other = nn.Conv2d(3, 3, 1)
        self.kept = torch.zeros(0)
        self.ends = ends

    def forward(self, x: Tensor) -> Tensor:
        return self.ends(self, torch.relu(self.stem(x)))


def _in_place(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.norm(block.conv(x))
    y += x
    return torch.relu(y)


def _late(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.norm(block.conv(x))
    return y + torch.tanh(x)


def _read_twice(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.norm(block.conv(x))
    return (y + x) * y


def _conv_read_twice(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.conv(x)
    return block.norm(y) + y


def _norm_twice(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.norm(block.norm(block.conv(x)))
    return y


def _norm_and_layer(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.conv(x)
    return block.norm(y) + block.other(y)


def _layer_behind_the_norm(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.norm(block.conv(x))
    return (y + x) * block.other(y)


def _layer_without_a_norm(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.conv(x)
    return (y + x) * block.other(y)


def _layer_before_the_sum(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.norm(block.conv(x))
    z = block.other(y)
    y += x
    return y * z


def _layer_after_the_sum(block: Block, x: Tensor) -> Tensor:
    y: Tensor = block.norm(block.conv(x))
    y += x
    z: Tensor = block.other(y)
    return z


def _conv_is_kept(block: Block, x: Tensor) -> Tensor:
    block.kept = block.conv(x)
    y: Tensor = block.norm(block.kept)
    return y


def _norm_is_kept(block: Block, x: Tensor) -> Tensor:
    block.kept = block.norm(block.conv(x))
    return block.kept + x


ENDS: dict[str, tuple[Callable[[Block, Tensor], Tensor], str | None, int | None]] = {
    "sum": (lambda block, x: block.norm(block.conv(x)) + x, "norm", 0),
    "sum the other way": (lambda block, x: torch.add(x, block.norm(block.conv(x))), "norm", 0),
    "sum in place": (_in_place, "norm", 0),
    "no norm": (lambda block, x: block.conv(x) + x, None, 0),
    "nothing": (lambda block, x: torch.relu(block.norm(block.conv(x))), "norm", None),
    "shortcut that comes later": (_late, "norm", None),
    "sum and more": (_read_twice, "norm", None),
    "read past the norm": (_conv_read_twice, None, None),
    "norm used twice": (_norm_twice, None, None),
    "weighted sum": (lambda block, x: torch.add(block.norm(block.conv(x)), x, alpha=2), "norm", None),
    "broadcast sum": (lambda block, x: block.norm(block.conv(x)) + x.mean((2, 3), keepdim=True), "norm", None),
    "norm and a layer": (_norm_and_layer, None, None),
    "layer behind the norm": (_layer_behind_the_norm, "norm", None),
    "layer without a norm": (_layer_without_a_norm, None, None),
    "layer before the sum in place": (_layer_before_the_sum, "norm", None),
    "layer after the sum in place": (_layer_after_the_sum, "norm", 0),
    "kept before the norm": (_conv_is_kept, None, None),
    "kept before the sum": (_norm_is_kept, "norm", None),
    "plus itself": (lambda block, x: block.conv(x) + block.conv.weight.sum(), None, None),
}


@pytest.mark.parametrize("kind", ENDS)
def test_what_follows_a_layer_is_found(kind: str) -> None:
    ends, norm, partner = ENDS[kind]
    model = seeded(lambda: Block(ends)).eval()
    found, _ = find_following_ops(model, ["stem", "conv", "other"], images(1))
    assert (found["conv"].norm, found["conv"].partner) == (norm, partner)
    assert found["stem"] == FollowingOps(None, None, 0)


def test_a_residual_network_has_a_norm_after_every_layer_and_a_repairable_sum_in_every_plain_block() -> None:
    model = seeded(lambda: ResNetCifar(20)).eval()
    layers = [f"layer{g}.{j}.conv{c}" for g in (1, 2, 3) for j in range(3) for c in (1, 2)]
    found, largest = find_following_ops(model, layers, torch.zeros(1, 3, 32, 32))
    assert [found[layer].norm for layer in layers] == [layer.replace("conv", "bn") for layer in layers]
    repairable = {layer for layer in layers if found[layer].partner is not None}
    assert repairable == {layer for layer in layers if layer.endswith("conv2")} - {"layer2.0.conv2", "layer3.0.conv2"}
    assert largest == 16 * 32 * 32


def test_a_batch_norm_over_tokens_is_no_place_for_the_bias_of_a_matrix() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.BatchNorm1d(5)).eval()
    assert find_following_ops(model, ["0"], torch.ones(2, 4))[0]["0"].norm == "1"
    assert find_following_ops(model, ["0"], torch.ones(2, 5, 4))[0]["0"].norm is None


def test_layers_that_run_twice_or_never_are_left_out() -> None:
    conv = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    model.register_module("spare", nn.Identity())
    model.forward = lambda x: conv(torch.relu(conv(x)))  # type: ignore[method-assign]
    assert find_following_ops(model, ["0", "spare"], images(1))[0] == {}


def test_the_model_is_left_as_it_was() -> None:
    model = net()
    before = everything_of(model)
    find_following_ops(model, ["stem", "point"], images(1))
    assert everything_of(model) == before
