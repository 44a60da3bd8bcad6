"""Ways to run the three stages of a CP chain in PyTorch on a processor, against the plain layers.

    python benchmarks/cp_block.py

Blocks are those of ResNet-20/56 (16 to 64 channels) and ResNet-18 (64 to 512), at the rank that takes a third of the
dense layer's multiply-accumulates, between two ReLUs, with random weights: a 1 x 1 stage S to R, a depthwise one with
the window, a 1 x 1 stage R to T. All forms of a block take turns on one thread, by the processor's own time. They are

- ``nchw``, ``nhwc``: the plain layers as ``nn.Sequential``, in either layout of images;
- ``linear``: both 1 x 1 stages as a product with the NHWC view, which copies nothing;
- ``matmul nchw``: both 1 x 1 stages as a product with the matrix of channels by positions, in NCHW;
- ``shifts``: ``linear``, and the window as one multiplication and addition for each of its taps.

A ratio is the median over rounds of the time of ``nhwc`` over that of the form, so above 1 the form is faster. Single
1 x 1 stages of many sizes, as convolution and as product, tell what a product saves; ResNet-20 and ResNet-56 at a third
of their multiply-accumulates, batch norms folded and every chain in one form, what is left of it in a network. The
results in ``results/cp_block.json`` hold one form more, the straight line that version 0.1 had (``polyadic.fused``).
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from record import record
from torch import Tensor, nn
from torch.nn import functional as F

from polyadic import fold_and_merge
from polyadic.engines import draw_weights, time_interleaved
from polyadic.models import load_model
from polyadic.pipeline import estimate_cost
from polyadic.surgery import copy_model, rebuild

SHAPES = {
    "resnet20/56": ((16, 32), (32, 16), (64, 8)),  # channels, side of the images
    "resnet18": ((64, 56), (128, 28), (256, 14), (512, 7)),
}
BATCHES = (1, 8, 32)
STAGES = tuple((channels, rows) for channels in (16, 32, 64, 128, 256) for rows in (2, 8, 32, 98, 256, 1024))
NETWORKS = ("polyadic:resnet20", "polyadic:resnet56")
MEASURE = "nhwc"
Form = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A block under given conditions."""

    family: str
    channels: int
    side: int
    batch: int

    @property
    def rank(self) -> int:
        """That of a third of the multiply-accumulates: R (2 channels + 9) = 9 channels^2 / 3."""
        return round(3 * self.channels**2 / (2 * self.channels + 9))


def main() -> None:
    """Measure all blocks and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=0.15, help="of further rounds, for each form")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began, rows = time.process_time(), []
    for batch in BATCHES:
        for family, shapes in SHAPES.items():
            for channels, side in shapes:
                rows.append(measured(Case(family, channels, side, batch), given.rounds, given.seconds))
                print(rows[-1], flush=True)
    means = {
        f"{family}, batch {batch}": means_of([row for row in rows if (row["family"], row["batch"]) == (family, batch)])
        for family in SHAPES
        for batch in BATCHES
    }
    networks = [network_measured(name, batch, given) for name in NETWORKS for batch in BATCHES]
    stages = [stage_measured(channels, height, given.rounds) for channels, height in STAGES]
    figures = {
        "ratios": f"time of {MEASURE} over time of the form",
        "geometric_means": means,
        "rows": rows,
        "networks": networks,
        "stages": sorted((row for row in stages if row), key=lambda row: row["macs"]),
    }
    print(means, networks)
    print(record("cp_block", {**figures, "cpu_seconds": round(time.process_time() - began, 1)}))


@torch.inference_mode()
def measured(case: Case, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds and ratios of one block in all forms."""
    torch.manual_seed(0)
    C, R = case.channels, case.rank
    chain = nn.Sequential(
        nn.Conv2d(C, R, 1, bias=False), nn.Conv2d(R, R, 3, padding=1, groups=R, bias=False), nn.Conv2d(R, C, 1)
    )
    images = torch.randn(case.batch, C, case.side, case.side)
    last = images.contiguous(memory_format=torch.channels_last)
    nhwc = nn.Sequential(*chain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forms = {
        "nchw": (_plain(chain), images),
        MEASURE: (_plain(nhwc), last),
        **_rewritten(chain, images, last),
    }
    wanted = chain.double()(F.relu(images.double())).relu().float()
    chain.float()
    for name, (run, example) in forms.items():
        found = run(example)
        error = float((found - wanted).abs().max() / wanted.abs().max())
        assert error < 1e-5, (name, error)
    passes = {name: (lambda run=run, example=example: run(example)) for name, (run, example) in forms.items()}
    times = time_interleaved(passes, rounds=rounds, seconds=seconds, clock=time.process_time)
    return {
        "family": case.family,
        "channels": C,
        "rank": R,
        "side": case.side,
        "batch": case.batch,
        "ms": {name: round(timing.median, 4) for name, timing in times.items()},
        "ratio": {name: round(timing.times_faster_than(times[MEASURE]).median, 3) for name, timing in times.items()},
    }


def network_measured(name: str, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a network of CP chains with random weights, every chain in one form."""
    images = torch.randn(batch, 3, 32, 32)
    dense = load_model(name).model.eval()
    found = estimate_cost(dense, images[:1], budget=["macs=3x"], formats=("cp-epc",))
    network = draw_weights(rebuild(copy_model(dense), found.plan)).eval()
    last = {"memory_format": torch.channels_last}
    plain = fold_and_merge(network, images[:1]).model.to(**last)
    whole = fold_and_merge(draw_weights(dense), images[:1]).model.to(**last)
    forms = {MEASURE: plain, "linear": _with_products(plain), "dense": whole}
    images = images.to(**last)
    with torch.inference_mode():
        passes = {form: (lambda model=model: model(images)) for form, model in forms.items()}
        times = time_interleaved(passes, rounds=2 * given.rounds, seconds=2 * given.seconds, clock=time.process_time)
    ratios = {form: timing.times_faster_than(times[MEASURE]) for form, timing in times.items()}
    return {
        "network": name,
        "batch": batch,
        "layers": len(found.plan.choices),
        "ms": {form: round(timing.median, 3) for form, timing in times.items()},
        "ratio": {form: round(ratio.median, 3) for form, ratio in ratios.items()},
        "quartiles": {form: [round(ratio.low, 3), round(ratio.high, 3)] for form, ratio in ratios.items()},
    }


class _WithProducts(nn.Sequential):
    """A CP chain in one call, with products in the place of its outer stages."""

    def hold(self) -> None:
        """Look everything up once."""
        first, window, last = self
        more = (window.stride, window.padding, window.dilation, window.groups)
        stages = (
            (first.weight.flatten(1), first.bias),
            (window.weight, window.bias, *more),
            (last.weight.flatten(1), last.bias),
        )
        object.__setattr__(self, "held", stages)

    def forward(self, x: Tensor) -> Tensor:
        """All stages."""
        first, window, last = self.held
        z = F.linear(x.permute(0, 2, 3, 1), *first).permute(0, 3, 1, 2)
        return F.linear(torch.conv2d(z, *window).permute(0, 2, 3, 1), *last).permute(0, 3, 1, 2)


def _with_products(network: nn.Module) -> nn.Module:
    """A copy with all chains so; those whose outer stages have strides stay as they are."""
    network = copy.deepcopy(network)
    for module in network.modules():
        stages = [*module.children()] if type(module) is nn.Sequential else []
        is_chain = len(stages) == 3 and all(type(stage) is nn.Conv2d for stage in stages)
        if is_chain and all(stage.kernel_size == stage.stride == (1, 1) for stage in (stages[0], stages[2])):
            module.__class__ = _WithProducts
            module.hold()
    return network


@torch.inference_mode()
def stage_measured(channels: int, height: int, rounds: int) -> dict[str, Any]:
    """Microseconds of one 1 x 1 stage on an image of ``height`` x 32; nothing where it is very large."""
    macs = channels**2 * height * 32
    if macs > 4e8:
        return {}
    layer = nn.Conv2d(channels, channels, 1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, channels, height, 32).contiguous(memory_format=torch.channels_last)
    passes: dict[str, Callable[[], object]] = {
        "convolution": lambda: layer(x),
        "product": lambda: F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1)).permute(0, 3, 1, 2),
    }
    times = time_interleaved(passes, rounds=rounds, seconds=0.05, clock=time.process_time)
    return {
        "channels": channels,
        "positions": height * 32,
        "macs": macs,
        "us": {name: round(1000 * timing.median, 1) for name, timing in times.items()},
        "ratio": round(times["product"].times_faster_than(times["convolution"]).median, 3),
    }


def _plain(chain: nn.Module) -> Form:
    return lambda x: F.relu(chain(F.relu(x)))


def _rewritten(chain: nn.Sequential, images: Tensor, last: Tensor) -> dict[str, tuple[Form, Tensor]]:
    first, window, third = (chain.get_submodule(str(at)) for at in range(3))
    A, B, D, bias = (t.detach().clone() for t in (first.weight, third.weight, window.weight, third.bias))  # type: ignore
    A, B = A.flatten(1), B.flatten(1)
    R = len(A)
    D_last = D.contiguous(memory_format=torch.channels_last)
    taps = D.reshape(R, 9).t().contiguous()

    def linear(x: Tensor) -> Tensor:
        z = F.linear(F.relu(x).permute(0, 2, 3, 1), A)
        z = F.conv2d(z.permute(0, 3, 1, 2), D_last, padding=1, groups=R)
        return F.relu(F.linear(z.permute(0, 2, 3, 1), B, bias).permute(0, 3, 1, 2))

    def matmul(x: Tensor) -> Tensor:
        N, _, H, W = x.shape
        z = torch.matmul(A, F.relu(x).flatten(2)).reshape(N, R, H, W)
        z = F.conv2d(z, D, padding=1, groups=R)
        y = torch.matmul(B, z.flatten(2)).reshape(N, -1, H, W)
        return F.relu(y + bias[:, None, None])

    def shifts(x: Tensor) -> Tensor:
        H, W = x.shape[2:]
        z = F.pad(F.linear(F.relu(x).permute(0, 2, 3, 1), A), (0, 0, 1, 1, 1, 1))
        total = z[:, :H, :W] * taps[0]
        for at in range(1, 9):
            i, j = divmod(at, 3)
            total.addcmul_(z[:, i : i + H, j : j + W], taps[at])
        return F.relu(F.linear(total, B, bias).permute(0, 3, 1, 2))

    return {"linear": (linear, last), "matmul nchw": (matmul, images), "shifts": (shifts, last)}


def means_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means of the ratios, by form."""
    forms = rows[0]["ratio"]
    return {form: round(math.exp(statistics.fmean(math.log(row["ratio"][form]) for row in rows)), 3) for form in forms}


if __name__ == "__main__":
    main()
