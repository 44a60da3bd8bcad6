"""Networks that are no classifiers, and what they are judged by, in a file of a user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CODE = '''"""A small denoiser, and a network of two inputs."""

import torch
from torch import nn

import polyadic
from polyadic.training import DistillOptions


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, padding=1)
        self.last = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, x):
        return x - self.last(torch.relu(self.second(torch.relu(self.first(x)))))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Linear(24, 24)
        self.right = nn.Linear(8, 24)

    def forward(self, a, b):
        return self.left(a) + self.right(b)


def build():
    torch.manual_seed(0)
    return Denoiser()


def two():
    torch.manual_seed(0)
    return Two()


CLEAN = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def psnr(model):
    """One number for each image."""
    return -10 * torch.log10((model(CLEAN) - CLEAN).square().flatten(1).mean(1))


def batches():
    for part in CLEAN.repeat(4, 1, 1, 1).split(4):
        yield part


def pairs():
    return [(part, part) for part in batches()]


def task(model):
    metric = polyadic.Metric(psnr, name="PSNR", unit="dB")
    return polyadic.SampleTask(model, batches, metric=metric, tuning=DistillOptions(epochs=1))


def loss(outputs, batch):
    return (outputs - batch[1]).square().mean()


def first(model, batch):
    return model(batch[0])


number = 3
dead = {"x": 1}


def fails():
    raise KeyError("nothing")


def wants(model, more):
    return None
'''


def build_toy(folder: Path) -> Path:
    """Write the code and samples to ``folder``: toy.py, inputs.npy, inputs.npz, both.npz, photos."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.py").write_text(CODE)
    x = normal(24, 1, 8, 8)
    np.save(folder / "inputs.npy", x.double().numpy())
    np.savez(folder / "inputs.npz", noisy=x.numpy())
    np.savez(folder / "both.npz", a=normal(24, 24).numpy(), b=normal(24, 8).numpy())
    return folder


def normal(*shape: int) -> Tensor:
    """Normal numbers, the same each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
