"""Random small networks, each drawn from its seed, for ``differential.py``.

Drawn are branches, residual sums (in place too), concatenation, layers in 1D, 2D and 3D that are grouped, dilated,
strided or transposed, all padding modes, norms of all kinds, one or two inputs, modules that run again (at another
size too, or under a second name), tied tensors, functional calls with a module's weight, and layers that were changed
after they were made.
"""

from __future__ import annotations

import random
import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 8  # of the images
SECOND = (2, 4)  # channels and size of a second input

Step = tuple[str, str, tuple[int, ...]]  # what is done, the module that does it, and the numbers of what it reads

KINDS = [
    *(["conv"] * 5), "spread", "norm", "act", "sum", "cat", "pool", "again", "two sizes", "tokens", "tied", "line",
    "volume", "read only", "second name",
]  # fmt: skip


class RandomNetwork(nn.Module):
    """A network drawn from a seed: (N, 3, 8, 8), and (N, 2, 4, 4) if it has a second input, to a dict of tensors.

    Attributes:
        second: whether it takes a second input.
        steps: what it does, in order.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self.steps: list[Step] = []
        self.rng = random.Random(seed)
        self.second = self.rng.random() < 0.25
        self.shapes = [(3, SIZE), SECOND if self.second else (3, SIZE)]  # channels and size of each tensor so far
        self._use_the_second()
        for _ in range(self.rng.randint(4, 9)):
            self._draw()
        self._head()
        del self.rng

    def forward(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Carry out the steps."""
        tensors = [x, x.flip(-1) if y is None else y]
        for what, name, reads in self.steps:
            tensors.append(self._carry_out(what, name, [tensors[number] for number in reads]))
        return {"answer": tensors[-1], "features": tensors[-2]}

    def inputs(self, samples: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Random inputs, as many as the network takes."""
        x = torch.randn(samples, 3, SIZE, SIZE, dtype=dtype)
        return (x, torch.randn(samples, SECOND[0], SECOND[1], SECOND[1], dtype=dtype)) if self.second else (x,)

    def _carry_out(self, what: str, name: str, given: list[Tensor]) -> Tensor:
        x = given[0]
        if what == "add":
            return x + given[1]
        if what == "add in place":
            x = x.clone()
            x += given[1]
            return x
        if what == "concatenate":
            return torch.cat(given, 1)
        if what == "pool":
            return F.avg_pool2d(x, 2)
        if what == "enlarge":
            return x.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return self._run(what, self.layers[name], x)

    def _run(self, what: str, layer: Any, x: Tensor) -> Tensor:
        if what == "functional":
            return F.conv2d(x, layer.weight, layer.bias, padding=1)
        if what == "functional, transposed":
            return F.conv_transpose2d(x, layer.weight, layer.bias, padding=1)
        if what == "functional, linear":
            return F.linear(x.flatten(2).mT, layer.weight, layer.bias).mT.unflatten(2, x.shape[2:])
        if what == "one by one":
            return torch.stack([layer(each) for each in x])
        if what == "two sizes":
            return layer(x) + layer(F.avg_pool2d(x, 2)).repeat_interleave(2, -1).repeat_interleave(2, -2)
        if what == "head":
            return layer(x.mean((2, 3)))
        if what == "tokens":
            return layer(x.flatten(2).mT).mT.unflatten(2, x.shape[2:])
        if what == "line":
            return layer(x.flatten(2)).unflatten(2, x.shape[2:])
        if what == "volume":
            return layer(x.unflatten(2, (2, x.shape[2] // 2))).flatten(2, 3)
        return layer(x)

    def _step(self, what: str, layer: nn.Module | str, reads: tuple[int, ...], shape: tuple[int, int]) -> None:
        name = layer if isinstance(layer, str) else f"m{len(self.layers)}"
        if isinstance(layer, nn.Module):
            self.layers[name] = layer
        self.steps.append((what, name, reads))
        self.shapes.append(shape)

    def _use_the_second(self) -> None:
        """A layer on the second input, enlarged to the size of the first and of its channels, and their sum."""
        if self.second:
            self._step("run", nn.Conv2d(SECOND[0], 3, 3, padding=1), (1,), (3, SECOND[1]))
            self._step("enlarge", "", (2,), (3, SIZE))
            self._step("add", "", (0, 3), (3, SIZE))

    def _draw(self) -> None:
        at = self.rng.randrange(len(self.shapes)) if self.rng.random() < 0.3 else len(self.shapes) - 1
        channels, size = self.shapes[at]
        same = [n for n, shape in enumerate(self.shapes) if shape == (channels, size) and n != at]
        kind, fitting = self.rng.choice(KINDS), self._fitting(channels)
        if kind == "spread" and size <= SIZE:
            layer, size = self._spreading(channels, size)
            self._step("run", layer, (at,), (layer.out_channels, size))
        elif kind == "norm":
            self._step(*self._norm(channels), (at,), (channels, size))
        elif kind == "act":
            acts = [nn.ReLU(), nn.GELU(), nn.Tanh(), nn.Dropout(0.5)]
            self._step("run", self.rng.choice(acts), (at,), (channels, size))
        elif kind == "sum" and same:
            self._step(self.rng.choice(["add", "add in place"]), "", (at, self.rng.choice(same)), (channels, size))
        elif kind == "cat" and same:
            self._step("concatenate", "", (at, self.rng.choice(same)), (2 * channels, size))
        elif kind == "pool" and size >= 4:
            self._step("pool", "", (at,), (channels, size // 2))
        elif kind == "again" and fitting:
            what = self.rng.choice(["run", "functional", "one by one"])
            self._step(what, self.rng.choice(fitting), (at,), (channels, size))
        elif kind == "two sizes" and size >= 4:
            layer = self.rng.choice(fitting) if fitting else nn.Conv2d(channels, channels, 3, padding=1)
            self._step("two sizes", layer, (at,), (channels, size))
        elif kind in ("tokens", "line", "volume"):
            layer, outputs = self._of_other_axes(kind, channels)
            self._step(kind, layer, (at,), (outputs, size))
        elif kind == "tied" and fitting:
            twin, first = nn.Conv2d(channels, channels, 3, padding=1), self.layers[self.rng.choice(fitting)]
            name = self.rng.choice(["weight", "bias"])
            setattr(twin, name, getattr(first, name))
            self._step("run", twin, (at,), (channels, size))
        elif kind == "read only":
            what, layer, outputs = self._only_read(channels)
            self._step(what, layer, (at,), (outputs, size))
        elif kind == "second name" and fitting:
            self._step("run", self.layers[self.rng.choice(fitting)], (at,), (channels, size))
        else:
            layer, size = self._gathering(channels, size)
            self._step("run", layer, (at,), (layer.out_channels, size))

    def _fitting(self, channels: int) -> list[str]:
        """Layers that may run, or be read, once more: of this many channels, before and after, that keep the size."""
        plain = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
        return [
            name
            for name, layer in self.layers.items()
            if type(layer) is nn.Conv2d
            and (layer.in_channels, layer.out_channels) == (channels, channels)
            and layer.bias is not None
            and layer.padding_mode == "zeros"
            and all(getattr(layer, attribute) == value for attribute, value in plain.items())
        ]

    def _norm(self, channels: int) -> tuple[str, nn.Module]:
        """A norm over channels or samples, its scale, shift and statistics drawn; and how it runs."""
        groups = self.rng.choice([g for g in (1, 2, 3, channels) if channels % g == 0])
        what, norm = self.rng.choice([
            ("run", nn.BatchNorm2d(channels)), ("run", nn.GroupNorm(groups, channels)),
            ("run", nn.InstanceNorm2d(channels, affine=True)),
            ("run", nn.InstanceNorm2d(channels, track_running_stats=True)), ("tokens", nn.LayerNorm(channels)),
        ])  # fmt: skip
        for tensor in (*norm.parameters(), *norm.buffers()):
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 1.5)
        return what, norm

    def _gathering(self, channels: int, size: int) -> tuple[nn.Conv2d, int]:
        rng = self.rng
        kernel = rng.choice([(3, 3), (3, 3), (1, 1), (1, 3), (5, 3)])
        groups = rng.choice([1, 1, 1, *self._groups(channels), channels])
        dilation = rng.choice([1, 1, 1, 2]) if size > 4 else 1
        padding: Any = tuple(dilation * (window - 1) // 2 for window in kernel)
        stride = rng.choice([1, 1, 1, 2]) if size >= 4 else 1
        if stride == 1 and rng.random() < 0.2:
            padding = "same"
        mode = rng.choice(["zeros"] * 4 + ["reflect", "replicate", "circular"]) if size > 4 else "zeros"
        layer = nn.Conv2d(
            channels, rng.choice([1, 2, channels // groups]) * groups, kernel, stride, padding, dilation, groups,
            bias=rng.random() < 0.7, padding_mode=mode,
        )  # fmt: skip
        if padding != "same" and mode == "zeros" and rng.random() < 0.15:
            layer.stride = stride  # type: ignore[assignment]
        elif rng.random() < 0.1:
            layer._conv_forward = types.MethodType(_doubled, layer)  # type: ignore[method-assign]
        return layer, -(-size // stride)

    def _spreading(self, channels: int, size: int) -> tuple[nn.ConvTranspose2d, int]:
        groups = self.rng.choice([1, 1, *self._groups(channels), channels])
        T = groups * self.rng.choice([1, 2])
        way = self.rng.randrange(4)
        if way == 0:
            return nn.ConvTranspose2d(channels, T, 2, 2, groups=groups), 2 * size
        if way == 1:
            return nn.ConvTranspose2d(channels, T, 3, 2, 1, 1, groups=groups), 2 * size
        if way == 2:
            return nn.ConvTranspose2d(channels, T, (4, 3), 2, 1, (0, 1), groups=groups, bias=False), 2 * size
        return nn.ConvTranspose2d(channels, T, (3, 5), 1, (2, 4), 0, groups, dilation=2), size

    def _of_other_axes(self, kind: str, channels: int) -> tuple[nn.Module, int]:
        """A layer in other than two dimensions that keeps the size, and how many channels it makes."""
        if kind == "tokens":
            outputs = self.rng.choice([3, 4, 6])
            return nn.Linear(channels, outputs, bias=self.rng.random() < 0.7), outputs
        groups = self.rng.choice([1, 1, *self._groups(channels), channels])
        outputs, transposed = groups * self.rng.choice([1, 2]), self.rng.random() < 0.3
        if kind == "line":
            line = nn.ConvTranspose1d if transposed else nn.Conv1d
            return line(channels, outputs, 3, padding=1, groups=groups), outputs
        volume = nn.ConvTranspose3d if transposed else nn.Conv3d
        window = self.rng.choice([(3, 3, 3), (1, 3, 3)])
        return volume(channels, outputs, window, padding=tuple(w // 2 for w in window), groups=groups), outputs

    def _only_read(self, channels: int) -> tuple[str, nn.Module, int]:
        """A layer that never runs, and the function that takes its weight."""
        outputs = self.rng.choice([2, 3])
        what = self.rng.choice(["functional", "functional, transposed", "functional, linear"])
        if what == "functional":
            return what, nn.Conv2d(channels, outputs, 3, padding=1), outputs
        if what == "functional, transposed":
            return what, nn.ConvTranspose2d(channels, outputs, 3, padding=1), outputs
        return what, nn.Linear(channels, outputs), outputs

    def _groups(self, channels: int) -> list[int]:
        return [groups for groups in (2, 3) if channels % groups == 0]

    def _head(self) -> None:
        channels, _ = self.shapes[-1]
        self._step("head", nn.Linear(channels, 5), (len(self.shapes) - 1,), (5, 1))


def _doubled(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return 2 * nn.Conv2d._conv_forward(self, x, weight, bias)
