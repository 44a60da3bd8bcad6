"""Networks of many kinds at every level of what is known: weights, samples, a metric with a unit, labels and a loss."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import polyadic
from polyadic.layers import tensors_in
from polyadic.search import Uniform

COUNT = 24
LEVELS = ("weights", "samples", "metric", "labels")


class UNet(nn.Module):
    """(N, 3, 8, 8) to maps (N, 2, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.bottom = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU())
        self.up, self.out = nn.ConvTranspose2d(24, 12, 2, stride=2), nn.Conv2d(24, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down(x)
        maps: Tensor = self.out(torch.cat([fine, self.up(self.bottom(fine))], 1))
        return maps


class Detector(nn.Module):
    """(N, 3, 8, 8) to a list of maps at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU())
        self.coarse = nn.Sequential(nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.SiLU())
        self.heads = nn.ModuleList([nn.Conv2d(16, 7, 1), nn.Conv2d(16, 7, 3, padding=1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x)
        return [head(features) for head, features in zip(self.heads, (fine, self.coarse(fine)), strict=True)]


class Audio(nn.Module):
    """Waves (N, 1, 64) to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 16, 9, stride=2), nn.ReLU(), nn.Conv1d(16, 24, 5), nn.ReLU())
        self.memory, self.head = nn.GRU(24, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.memory(self.body(x).mT)[0][:, -1])
        return logits


class TwoInputs(nn.Module):
    """A picture and a vector to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.read = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(6, 16)
        self.head = nn.Linear(32, 4)

    def forward(self, picture: Tensor, vector: Tensor) -> Tensor:
        seen = F.relu(self.look(picture)).mean((2, 3))
        logits: Tensor = self.head(torch.cat([seen, F.relu(self.read(vector))], 1))
        return logits


class Encoder(nn.Module):
    """Torch's own transformer: tokens (N, 5, 16) to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x).mean(1))
        return logits


def of_timm(kind: str, **options: Any) -> nn.Module:
    """A network of timm with few and narrow layers."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install polyadic[zoo]")
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from zoo.libraries import torchvision_models

    torchvision_models()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm.models

        made: nn.Module = getattr(timm.models, kind)(**options)
    return made


def vit() -> nn.Module:
    return of_timm(
        "VisionTransformer", img_size=16, patch_size=8, embed_dim=24, depth=1, num_heads=3, num_classes=4, mlp_ratio=2
    )


def convnext() -> nn.Module:
    return of_timm("ConvNeXt", depths=(1, 1, 1, 1), dims=(12, 12, 24, 24), num_classes=4, patch_size=2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "U-Net": (UNet, ((3, 8, 8),)),
    "detector": (Detector, ((3, 8, 8),)),
    "audio": (Audio, ((1, 64),)),
    "two inputs": (TwoInputs, ((3, 8, 8), (6,))),
    "transformer of torch": (Encoder, ((5, 16),)),
    "ViT of timm": (vit, ((3, 16, 16),)),
    "ConvNeXt of timm": (convnext, ((3, 32, 32),)),
}


def outputs_of(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """All outputs of a sample in a row."""
    return torch.cat([output.flatten(1) for output in tensors_in(model(*inputs))], 1)


QUICK = {(name, LEVELS[at % len(LEVELS)]) for at, name in enumerate(NETWORKS)}  # each network once, each level
CASES = [
    pytest.param(name, level, marks=() if (name, level) in QUICK else pytest.mark.slow)
    for name in NETWORKS
    for level in LEVELS
]


@pytest.mark.parametrize(("name", "level"), CASES)
def test_every_network_goes_through_every_level(name: str, level: str) -> None:
    make, shapes = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = make().eval(), tuple(torch.randn(COUNT, *shape) for shape in shapes)
    with torch.no_grad():
        wanted = outputs_of(model, inputs)
    taught: list[int] = []

    def decibels(network: nn.Module) -> float:
        with torch.no_grad():
            return 20.0 - float(10 * ((outputs_of(network, inputs) - wanted).square().mean() + 1e-3).log10())

    def loss(outputs: Any, batch: Any) -> Tensor:
        taught.append(len(batch[-1]))
        rows = torch.cat([output.flatten(1) for output in tensors_in(outputs)], 1)
        return (rows - batch[-1]).square().mean()

    call: dict[str, Any] = {"budget": ["macs=80%"], "formats": ("tucker2", "svd")}
    call["options"] = polyadic.CompressOptions(search=Uniform(), alarm_at=1.0)
    metric = polyadic.Metric(decibels, name="PSNR", unit="dB")
    unlabelled = DataLoader(TensorDataset(*inputs), batch_size=8)
    labelled = DataLoader(TensorDataset(*inputs, wanted), batch_size=8)
    if level == "weights":
        data: Any = decibels
        call["example_input"] = inputs if len(inputs) > 1 else inputs[0]
    else:
        data = labelled if level == "labels" else unlabelled
        call |= {"metric": metric} if level != "samples" else {}
        call |= {"loss": loss} if level == "labels" else {}
    summary = polyadic.compress(model, data, **call).summary

    assert summary.compressed.macs <= 0.8 * summary.dense.macs
    assert summary.provenance["data_aware"] is (level != "weights")
    names = {"weights": "decibels", "samples": "R^2 of the dense outputs"}
    assert summary.score_name == names.get(level, "PSNR")
    assert summary.dense_score == pytest.approx(1.0 if level == "samples" else 50.0)
    assert bool(taught) == (level == "labels")
    assert summary.held_out["compressed"] >= summary.held_out["before_finetuning"]
