"""A network, images and scores for the tests of the pipeline: all of it takes milliseconds."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.data.images import ArrayImages
from polyadic.pipeline import CompressOptions
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.setup import Judge, SearchSetup, as_task, example_for, prepare_search
from polyadic.pipeline.target import Target
from polyadic.pipeline.timed_candidates import measure_cost
from polyadic.training import Augmentation, Execution, FinetuneOptions, ImageTask, Metric

TUNING = FinetuneOptions(epochs=1, batch_size=32, learning_rate=1e-3, augmentation=Augmentation.none())


class Net(nn.Module):
    """Three convolutions and a classifier: (N, 3, 8, 8) to (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(10)
        self.mix = nn.Conv2d(10, 10, 1)
        self.deep = nn.Sequential(nn.ReLU(), nn.Conv2d(10, 10, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(160, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.deep(self.mix(torch.relu(self.norm(self.stem(x))))).flatten(1))
        return logits


def nearly_low_rank() -> nn.Module:
    """A Net whose kernels have rank 3, and a little of everything else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            U, s, V = torch.linalg.svd(module.weight.detach().flatten(1), full_matrices=False)
            s[3:] *= 0.03
            module.weight.data = ((U * s) @ V).reshape(module.weight.shape)
    return model


def images(count: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def faithful(dense: nn.Module) -> Metric:
    """A score: one less the relative distance of the outputs from those of ``dense``."""
    x = images()
    y = copy.deepcopy(dense).eval()(x).detach()
    return Metric(lambda model: 1.0 - float((model(x).detach() - y).norm() / y.norm()), unit="%")


def corners(count: int, seed: int) -> ArrayImages:
    """Images of which channel k has a bright patch for class k."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 160, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[label, label : label + 4, 2:6] += 60
    return ArrayImages(pixels, labels)


def corner_data() -> ImageData:
    parts = {"train": corners(96, 1), "held_out": corners(60, 2), "test": corners(60, 3)}
    return ImageData(name="corners", classes=3, mean=(0.35,) * 3, std=(0.2,) * 3, digests={}, **parts)


def corner_task(tuned: bool = False) -> ImageTask:
    """Classification of the corners, in float32. Nothing is trained unless asked for."""
    tuning = TUNING if tuned else None
    return ImageTask(corner_data(), layer=tuning, network=tuning, training=Execution.for_evaluation())


def setup_of(
    start: Round | nn.Module,
    judge: Judge,
    example: Tensor | None = None,
    *,
    budget: Sequence[str] = ("macs=60%",),
    formats: Sequence[str] = ("tucker2", "svd"),
    options: CompressOptions | None = None,
) -> SearchSetup:
    """A network taken in, by itself or as what a round begins with."""
    start = start if isinstance(start, Round) else Round.first(start)
    options, task = options or CompressOptions(), as_task(judge, start.origin)
    batch = example_for(start.origin, task, example)
    cost = measure_cost(start.origin, batch, options)
    target = Target.of(None, budget, formats, None, options, cost)
    return prepare_search(start, task, batch, target, cost, options, lambda _: None)
