"""A small world for the commands: a network in a file of its own, images that it learnt, and a way to call."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import Result
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from polyadic.cli import app
from polyadic.data import load_data
from polyadic.models import load_model
from polyadic.training import Augmentation, FinetuneOptions, train_on_images

NETWORK = '''"""A network of the tests."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 16, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(16)
        self.head = nn.Linear(16 * 16, 3)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.head(x.flatten(1))


def build():
    torch.manual_seed(0)
    return Net()


def wider():
    return Net(17)
'''

LONG: dict[str, object] = {"max_drop": 5, "finetune_epochs": 3}
"""Options of the run that is interrupted here and there."""


@dataclass(frozen=True)
class World:
    """Where everything lies, as it is written on a command line."""

    folder: Path
    model: str
    weights: Path
    data: str

    def compress(self, out: Path, *more: object, **options: object) -> Result:
        """``polyadic compress`` of the network with quick defaults; ``options`` replace or (None) leave out."""
        return run(*self.compress_line(out, *more, **options))

    def compress_line(self, out: Path, *more: object, **options: object) -> list[str]:
        """The words of that command."""
        known: dict[str, object] = {
            "weights": self.weights,
            "data": self.data,
            "max_drop": 5,
            "formats": "cp-als,svd",
            "finetune_epochs": 1,
            "out": out,
        }
        words = ["compress", self.model]
        for key, value in {**known, **options}.items():
            words += [] if value is None else [f"--{key.replace('_', '-')}", str(value)]
        return [*words, *(str(word) for word in more)]


def run(*words: object) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def last_json(result: Result) -> dict[str, Any]:
    """The one JSON object that ``--json`` prints, on the only line of stdout."""
    lines = result.stdout.splitlines()
    assert len(lines) == 1, result.stdout
    document = json.loads(lines[0], parse_constant=_refuse)
    assert isinstance(document, dict)
    return document


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def assert_refused(result: Result, words: str, status: int = 1) -> None:
    """The command ended with one sentence on stderr that matches ``words``, and said nothing else."""
    assert result.exit_code == status, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(said) == 1, result.stderr
    assert re.search(words, said[0]), said[0]
    assert result.stdout == ""


def images(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """``count`` noisy 8 x 8 colour images (N, H, W, C); class k has a bright patch in channel k."""
    random = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = random.integers(0, 150, (count, 8, 8, 3))
    for image, label in zip(x, y, strict=True):
        image[label : label + 4, 2:6, label] += 40
    return x.astype(np.uint8), y


def build_world(folder: Path) -> World:
    """Write network, images and weights to ``folder``; the weights are trained for a second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(NETWORK)
    for role, count, seed in (("train", 300, 0), ("test", 120, 1)):
        x, y = images(count, seed)
        np.savez(folder / f"patches_{role}.npz", x=x, y=y)
    data, model = f"npz:{folder}/patches", f"{folder}/net.py:build"
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = load_model(model).model
    options = FinetuneOptions(
        epochs=3, batch_size=32, learning_rate=0.02, schedule="cosine", augmentation=Augmentation.none()
    )
    train_on_images(network, load_data(data), options)
    weights = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
    return World(folder, model, weights, data)
