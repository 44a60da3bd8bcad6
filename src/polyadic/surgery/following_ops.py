"""What comes right after a layer: a batch norm that can take up a bias, an addition that can be repaired.

In a residual block ``relu(x + norm(conv(y)))`` the layer's output meets ``x``, which exists before the layer runs; a
compressed layer can therefore aim at the dense *sum*, and take up what the compressed network has already lost on the
shortcut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from polyadic.layers import Inputs
from polyadic.surgery.forward_record import ForwardRecord, Run, record_forward

BatchNorms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


@dataclass(frozen=True)
class FollowingOps:
    """What follows one layer.

    Attributes:
        norm: name of the batch norm that alone reads the layer's output, channel by channel; None if there is none.
        partner: number of the operation whose result is added to what the layer (and its norm) put out; None if
            nothing is, or if it is computed only after the layer.
        begins: number of the operation at which the layer begins.
    """

    norm: str | None
    partner: int | None
    begins: int


def find_following_ops(model: nn.Module, layers: Iterable[str], example: Inputs) -> tuple[dict[str, FollowingOps], int]:
    """What follows each of ``layers`` that runs once on ``example``, and how many numbers the largest tensor has."""
    layers = list(layers)
    norms = [
        name
        for name, module in model.named_modules()
        if isinstance(module, BatchNorms) and module.running_mean is not None
    ]
    record = record_forward(model, example, layers, transparent=norms)
    readers, following = _Readers(record, norms), {}
    for name in layers:
        runs = record.runs.get(name, ())
        if len(runs) == 1:
            over_tokens = runs[0].axes > 2 and isinstance(model.get_submodule(name), nn.Linear)
            following[name] = readers.after(runs[0], takes_norm=not over_tokens)
    return following, record.largest


class _Readers:
    """By the number of a tensor: the operations outside of layers that read it and that made it, and the norms."""

    def __init__(self, record: ForwardRecord, norms: Iterable[str]) -> None:
        self.readings: dict[int, list[tuple[int, int | None, int | None]]] = defaultdict(list)  # result, other summand
        self.made: dict[int | None, list[int]] = defaultdict(list)
        self.norms: dict[int, list[tuple[str, Run, bool]]] = defaultdict(list)  # and whether the norm runs but once
        for number, operation in enumerate(record.numbered):
            is_sum = operation.is_pair and operation.name in _ADDITIONS
            for n, tensor in enumerate(operation.reads):
                self.readings[tensor].append((number, operation.result, operation.reads[1 - n] if is_sum else None))
            self.made[operation.result].append(number)
        for name in norms:
            runs = record.runs.get(name, ())
            for run in runs:
                if run.reads:
                    self.norms[run.reads[0]].append((name, run, len(runs) == 1))

    def after(self, run: Run, takes_norm: bool) -> FollowingOps:
        """What follows one run of a layer."""
        output, norm, last = run.result, None, run
        if output is None:
            return FollowingOps(None, None, run.begins)
        norms = self.norms[output] if takes_norm else []
        if len(norms) == 1 and len(self.readings[output]) == 1 and not run.layers and not run.is_kept:
            name, norm_run, once = norms[0]
            if once and norm_run.result is not None:
                norm, output, last = name, norm_run.result, norm_run
        partner, readings = None, self.readings[output]
        if readings:
            added, total, other = readings[0]
            alone = len(readings) == 1 and not last.layers and not last.is_kept
            if total == output:  # added in place: later readers see the sum
                alone = all(at > added for at in last.read_at)
            if alone and other is not None and other != output:
                made = [number for number in self.made[other] if number < added]
                partner = made[-1] if made and made[-1] < run.begins else None
        return FollowingOps(norm, partner, run.begins)
