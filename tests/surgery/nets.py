"""Small networks, one per way in which a layer can be part of a model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE = (3, 12, 12)


def images(count: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random images (N, 3, 12, 12)."""
    return torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module whose random weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


class Net(nn.Module):
    """Convolution, batch norm, a nested block, a stride, a classifier: (N, 3, 12, 12) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.point = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.point(self.body(self.norm(self.stem(x)))).flatten(1))
        return logits


def net(seed: int = 0) -> nn.Module:
    """A Net with batch-norm statistics that are not 0 and 1, in evaluation mode."""
    model = seeded(Net, seed)
    with torch.no_grad():
        for _ in range(3):
            model(images(8, seed))
    return model.eval()


class Twice(nn.Module):
    """One convolution on two sizes of image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.avg_pool2d(self.conv(x), 2))
        return y


class TwoNames(nn.Module):
    """One convolution under two names; the forward pass uses both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.inner = nn.ModuleDict({"again": self.first})

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner["again"](self.first(x))
        return y


class Functional(nn.Module):
    """A weight that is read outside the forward pass of its layer, in a way that ``read`` chooses."""

    def __init__(self, read: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.other(self.conv(x)) + self.read(self, x)
        return y


READINGS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "by a convolution": lambda model, x: F.conv2d(x, model.conv.weight, padding=1),
    "as a penalty": lambda model, x: x * model.conv.weight.square().sum(),
    "in a list": lambda model, x: F.conv2d(x, torch.cat([model.conv.weight, model.conv.weight])[:3], padding=1),
    "its type": lambda model, x: x.to(model.conv.weight.dtype),
    "its shape": lambda model, x: x[:, : model.conv.weight.shape[0]],
    "its geometry": lambda model, x: x[:, : model.conv.out_channels],
    "its class": lambda model, x: x if type(model.conv) is nn.Conv2d else x.missing,
}


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.c = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(self.b(self.a(x.mean((2, 3)))))
        return y


class Hidden(nn.Module):
    """A layer that is called through a plain list, where ``setattr`` does not reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Conv2d(3, 3, 3, padding=1)
        self.order = [self.conv]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.order:
            x = layer(x)
        y: Tensor = self.last(x)
        return y


class Own(nn.Conv2d):
    """A convolution with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def weight_normed(kind: str) -> nn.Module:
    """A convolution under "new" or "old" weight norm, and a plain one."""
    conv = nn.Conv2d(3, 3, 3)
    if kind == "new":
        torch.nn.utils.parametrizations.weight_norm(conv)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.nn.utils.weight_norm(conv)
    return nn.Sequential(conv, nn.Conv2d(3, 3, 3))


def everything_of(model: nn.Module) -> dict[str, Any]:
    """All that a caller could notice of a model: modules, flags, hooks, tensors."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modules": [(name, id(module)) for name, module in model.named_modules(remove_duplicate=False)],
        "modes": [module.training for module in model.modules()],
        "hooks": [dict(getattr(module, name)) for module in model.modules() for name in hooks],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "parameters": [(name, id(p), p.requires_grad, p.grad) for name, p in model.named_parameters()],
        "state": {name: copy.deepcopy(value).tolist() for name, value in model.state_dict().items()},
    }
