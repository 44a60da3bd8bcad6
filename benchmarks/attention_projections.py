"""Queries, keys and values as one matrix or as three: which loses less at the same MACs.

    python benchmarks/attention_projections.py NPZ_TRAIN NPZ_TEST [patch] [epochs] [seeds]

A small vision transformer of width 64 and four blocks is trained here on images (``x`` N x H x W x C, ``y``), once
per seed. Its projections of queries, keys and values, and they alone, are compressed by SVD to the same MACs in two
spellings of the same network: one Linear of 64 to 3 x 64 in each block, or three of 64 to 64. Ranks are searched on 512
unlabelled training images, in the default way, and applied to the same images; nothing is trained afterwards. The
accuracy is that of test images, which chose nothing.
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from record import record, rows_in
from torch import Tensor, nn
from torch.utils.data import DataLoader

import polyadic
from polyadic.surgery import network_cost

WIDTH, DEPTH, HEADS = 64, 4, 4
SHARES = (0.75, 0.5, 0.35, 0.25)
"""Of the MACs of the projections of queries, keys and values."""


class Attention(nn.Module):
    """Self-attention (N, L, E) to (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv: nn.Module = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Softmax(Q K^T) V, by heads."""
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        result: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))
        return result


class Three(nn.Module):
    """Queries, keys and values from a Linear each, side by side."""

    def __init__(self, qkv: nn.Linear) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        for layer, weight, bias in zip((self.q, self.k, self.v), qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
            layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, E) to (N, L, 3 E)."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], -1)


class Block(nn.Module):
    """Attention and two Linear layers, each behind a norm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, E) to (N, L, E)."""
        x = x + self.attn(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class ViT(nn.Module):
    """Images (N, C, H, W) to logits (N, 10)."""

    def __init__(self, channels: int, side: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, WIDTH, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, WIDTH))
        self.blocks = nn.Sequential(*[Block() for _ in range(DEPTH)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        tokens = self.blocks(self.patches(x).flatten(2).mT + self.places)
        logits: Tensor = self.head(self.norm(tokens).mean(1))
        return logits


def spelled_in_three(model: nn.Module) -> nn.Module:
    """The same network with three Linear layers for each ``qkv``."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, Attention) and isinstance(module.qkv, nn.Linear):
            module.qkv = Three(module.qkv)
    return model


def images(path: Path) -> tuple[Tensor, Tensor]:
    """Normalised images (N, C, H, W) and labels."""
    stored = np.load(path)
    x = torch.from_numpy(stored["x"]).float().div_(255)
    x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x[:, None]
    return (x - 0.5) / 0.25, torch.from_numpy(stored["y"]).long()


def trained(x: Tensor, labels: Tensor, patch: int, epochs: int, seed: int) -> nn.Module:
    """AdamW under a rate that rises once and falls."""
    torch.manual_seed(seed)
    model = ViT(x.shape[1], x.shape[2], patch)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    steps = epochs * -(-len(x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), labels[index]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of the images that are put into their class."""
    with torch.no_grad():
        found = [model.eval()(part).argmax(1) for part in x.split(1000)]
    return float((torch.cat(found) == labels).float().mean())


def compared(model: nn.Module, share: float, samples: Tensor, judged: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Accuracy and MACs of both spellings, with the projections at ``share`` of their MACs."""
    loader, example = DataLoader(samples, batch_size=128), samples[:1]
    row: dict[str, Any] = {"share": share}
    for name, spelled in (("one", copy.deepcopy(model)), ("three", spelled_in_three(model))):
        sites = [site for site in polyadic.find_layers(spelled, example) if ".qkv" in site.name]
        whole, own = network_cost(spelled, example).macs, sum(site.macs for site in sites)
        others = [site.name for site in polyadic.find_layers(spelled, example) if ".qkv" not in site.name]
        options = polyadic.CompressOptions(exclude=tuple(others))
        budget, start = [f"macs={whole - round((1 - share) * own)}"], time.monotonic()
        found = polyadic.find_plan(spelled, loader, budget=budget, formats=("svd",), options=options)
        network = polyadic.apply_plan(spelled, found.plan, inputs=loader).model
        row[name] = {
            "accuracy": accuracy(network, *judged),
            "macs": network_cost(network, example).macs,
            "ranks": {choice.layer: choice.rank for choice in found.plan.choices},
            "seconds": round(time.monotonic() - start, 1),
        }
    return row


def main(train: Path, test: Path, patch: int, epochs: int, seeds: int) -> None:
    """Train, compress both spellings at every share, record."""
    torch.set_num_threads(1)
    (x, labels), judged = images(train), images(test)
    results = Path(__file__).parent / "results" / "attention_projections.json"
    for seed in range(seeds):
        start = time.monotonic()
        model = trained(x, labels, patch, epochs, seed)
        row = {"dense": accuracy(model, *judged), "macs": network_cost(model, x[:1]).macs, "epochs": epochs}
        row["seconds"] = round(time.monotonic() - start, 1)
        samples = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:512]]
        row["shares"] = [compared(model, share, samples, judged) for share in SHARES]
        rows = {**rows_in(results), f"{train.stem}, patch {patch}, seed {seed}": row}
        print(record("attention_projections", {"rows": rows}), row)


if __name__ == "__main__":
    train_file, test_file, *numbers = sys.argv[1:]
    main(Path(train_file), Path(test_file), *(int(n) for n in (*numbers, *(7, 5, 1)[len(numbers) :])))
