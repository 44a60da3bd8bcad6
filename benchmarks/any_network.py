"""What samples, a metric and labels are worth: a U-Net that segments squares in noise, compressed at every level.

    python benchmarks/any_network.py [threads]

The network is trained here (8 epochs on 192 images) and compressed to half and to a quarter of its MACs with uniform
ranks: from its weights and a score alone; from 192 unlabelled images, untrained and taught by the dense network; with a
metric; with labels and a loss. The IoU is that of 400 other images, which chose nothing.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from record import record
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import polyadic
from polyadic.search import Uniform
from polyadic.training import DistillOptions, SampleTask

BUDGETS = ("macs=50%", "macs=25%")


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Two levels and a bottom: (N, 3, 32, 32) to (N, 2, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.bottom = block(3, 16), block(16, 32), block(32, 64)
        self.up2, self.join2 = nn.ConvTranspose2d(64, 32, 2, 2), block(64, 32)
        self.up1, self.join1 = nn.ConvTranspose2d(32, 16, 2, 2), block(32, 16)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of background and square."""
        fine = self.fine(x)
        coarse = self.coarse(F.max_pool2d(fine, 2))
        bottom = self.bottom(F.max_pool2d(coarse, 2))
        joined = self.join2(torch.cat([self.up2(bottom), coarse], 1))
        logits: Tensor = self.out(self.join1(torch.cat([self.up1(joined), fine], 1)))
        return logits


def squares(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images with a bright square in noise, and which pixels are in it."""
    labels = torch.zeros(count, 32, 32, dtype=torch.long)
    for image in labels:
        (a, b), side = torch.randint(4, 20, (2,), generator=generator), torch.randint(5, 11, (), generator=generator)
        image[a : a + side, b : b + side] = 1
    return labels[:, None] + 0.4 * torch.randn(count, 3, 32, 32, generator=generator), labels


def iou(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Intersection over union of the squares."""
    model.eval()
    with torch.no_grad():
        found = model(x).argmax(1) == 1
    return float((found & (labels == 1)).sum() / (found | (labels == 1)).sum().clamp(min=1))


def trained(x: Tensor, labels: Tensor) -> nn.Module:
    """Eight epochs of Adam."""
    torch.manual_seed(0)
    model = UNet()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(8):
        model.train()
        for index in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), labels[index]).backward()
            optimizer.step()
    return model.eval()


def main(threads: int) -> None:
    """Compress at every level and record."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x, labels = squares(192, generator)
    chosen, judged = squares(96, generator), squares(400, generator)
    model = trained(x, labels)

    def metric(network: nn.Module) -> float:
        return iou(network, *chosen)

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(outputs, batch[1])

    unlabelled = DataLoader(x, batch_size=16)
    labelled = DataLoader(TensorDataset(x, labels), batch_size=16)
    untaught = SampleTask(model, unlabelled, tuning=DistillOptions(epochs=0))
    levels: dict[str, tuple[Any, dict[str, Any]]] = {
        "weights and a score": (metric, {"example_input": x[:1]}),
        "unlabelled samples, untrained": (untaught, {}),
        "unlabelled samples": (unlabelled, {}),
        "samples and a metric": (unlabelled, {"metric": metric}),
        "labels and a loss": (labelled, {"validation": [chosen[0]], "metric": metric, "loss": loss}),
    }
    rows = []
    for budget in BUDGETS:
        for level, (data, more) in levels.items():
            began = time.monotonic()
            result = polyadic.compress(
                model,
                data,
                budget=[budget],
                formats=("tucker2", "svd"),
                options=polyadic.CompressOptions(search=Uniform()),
                **more,
            )
            summary = result.summary
            rows.append(
                {
                    "budget": budget,
                    "level": level,
                    "iou": iou(result.model, *judged),
                    "mac_reduction": summary.mac_reduction,
                    "data_aware": summary.provenance["data_aware"],
                    "answers_lost": summary.provenance["answers_lost"],
                    "warnings": list(summary.warnings),
                    "seconds": time.monotonic() - began,
                }
            )
            print(f"{budget} {level}: IoU {rows[-1]['iou']:.3f}, {rows[-1]['seconds']:.0f} s", flush=True)
    images = {"samples": 192, "chosen": 96, "judged": 400}
    print(record("any_network", {"dense_iou": iou(model, *judged), "images": images, "rows": rows}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
