"""Small networks of several kinds, ready to be exported."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from polyadic.models import load_model
from polyadic.surgery import CP, SVD, TT, SpatialSVD, TTMatrix, Tucker2, decompose_


class TwoOutputs(nn.Module):
    """A map and class scores, by name: (N, 3, 9, 9) to (N, 4, 19, 19) and (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2)
        self.up_norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.norm(self.stem(x)))
        return {"map": self.up_norm(self.up(x)), "relu": torch.relu(self.head(x.mean((2, 3))))}


class Sound(nn.Module):
    """Two convolutions along time: (N, 2, 50) to (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 16, 9, stride=2, padding=4)
        self.norm = nn.BatchNorm1d(16)
        self.second = nn.Conv1d(16, 16, 5, dilation=2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        scores: Tensor = self.head(x.mean(2))
        return scores


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Random weights and batch-norm statistics, the same every time."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = build().eval()
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.5, 0.5)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def resnet20() -> nn.Module:
    """A ResNet-20 whose layers are in six formats, tensor-train layers in both ways among them."""
    model = seeded(lambda: load_model("polyadic:resnet20").model)
    layers = {
        "layer1.0.conv1": CP(6),
        "layer1.1.conv1": Tucker2((8, 8)),
        "layer2.0.conv1": SpatialSVD(10),
        "layer2.1.conv1": TTMatrix(6),
        "layer3.0.conv1": TT(8),
        "layer3.1.conv2": TTMatrix(8),
        "linear": SVD(5),
    }
    decompose_(model, layers, torch.zeros(1, 3, 32, 32))
    for name, way in (("layer2.1.conv1", "cores"), ("layer3.1.conv2", "dense")):
        model.get_submodule(name)[0].run_in(way)
    return model


def two_outputs() -> nn.Module:
    """A TwoOutputs with a chain and a tensor-train layer in front of batch norms."""
    model = seeded(TwoOutputs)
    decompose_(model, {"stem": TTMatrix(4, (2, 4), (2, 2)), "up": Tucker2((4, 3))}, torch.zeros(1, 3, 9, 9))
    return model


def sound() -> nn.Module:
    """A Sound with a CP and a tensor-train layer."""
    model = seeded(Sound)
    decompose_(model, {"first": CP(8), "second": TTMatrix(6)}, torch.zeros(1, 2, 50))
    return model


def normal(*shape: int) -> Tensor:
    """Normal numbers, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))
