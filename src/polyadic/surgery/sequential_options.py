"""What layers are fitted to, how firmly, and how much of the images that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeGuard

import torch
from torch import Tensor

from polyadic.errors import LayerError
from polyadic.schema import ConvSpec, Stage

GRAM_OPERATIONS = 3e11  # multiply-accumulates that one covariance may take: some seconds on two cores

RIDGE, REFIT_RIDGE = 0.03, 0.001  # on held-out images of CIFAR-10, ResNet-56 (docs/algorithms/data-aware.md)
PLENTY = 50_000  # positions from which on the ridges need not grow


@dataclass(frozen=True)
class SequentialOptions:
    """What each layer is fitted to, and how firmly.

    Attributes:
        norm: of the decomposition: "patches" (channels and window), "channels", or "plain".
        inputs: whose inputs that norm is taken of, the "compressed" network's or the "dense" one's.
        correct: correct the kernel for the compressed inputs before it is decomposed.
        refit: fit the last stage and the bias of the chain to the dense output.
        repair: aim at the dense sum where the output is added to a shortcut.
        correct_dense: correct layers that stay dense too, but for those whose weight is parametrised.
        ridge: added to the covariance of the patches, in units of their mean variance. None: 0.03, and more in
            proportion where there are fewer than 50000 positions, so that ten images are enough.
        refit_ridge: the same for the features before the last stage. None: a thirtieth of that.
        positions: most output positions that moments are taken over.
        largest_patch: beyond this many numbers, patches are too large for a matrix of their covariance: the norm is
            that of the channels, and the kernel is not corrected (its last stage is still refitted).
        memory: most bytes that the tensors of one pass may take; fewer images are used where it would be more.
        seed: of the positions.
    """

    norm: Literal["patches", "channels", "plain"] = "patches"
    inputs: Literal["compressed", "dense"] = "compressed"
    correct: bool = True
    refit: bool = True
    repair: bool = True
    correct_dense: bool = True
    ridge: float | None = None
    refit_ridge: float | None = None
    positions: int = 65536
    largest_patch: int = 5000
    memory: float = 4e9
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse ridges, counts and names that are none."""
        if self.norm not in ("patches", "channels", "plain") or self.inputs not in ("compressed", "dense"):
            raise LayerError(f"norm and inputs are names listed in SequentialOptions; got {self.norm}, {self.inputs}")
        if not (self.ridge_for(1) > 0 and self.refit_ridge_for(1) >= 0):
            raise LayerError(f"ridges are above 0 (refit_ridge may be 0); got {self.ridge} and {self.refit_ridge}")
        if self.positions < 1:
            raise LayerError(f"moments take at least one position; got {self.positions}")

    def affordable(self, images: Tensor, largest: int) -> Tensor:
        """As many of ``images`` as fit into memory, where a pass holds ``largest`` numbers per image in one tensor.

        About four tensors of that size are alive at a time. Two-dimensional images come back channels last, in which
        convolutions on processors are fastest.
        """
        fitting = int(self.memory / (4 * images.element_size() * max(largest, 1)))
        kept = images[: max(fitting, 2)]
        return kept.contiguous(memory_format=torch.channels_last) if kept.ndim == 4 else kept

    def ridge_for(self, positions: int) -> float:
        """The ridge of moments over that many positions."""
        return self.ridge if self.ridge is not None else RIDGE * max(1.0, PLENTY / max(positions, 1))

    def refit_ridge_for(self, positions: int) -> float:
        """The ridge of the refit."""
        if self.refit_ridge is not None:
            return self.refit_ridge
        return REFIT_RIDGE * max(1.0, PLENTY / max(positions, 1))

    def positions_for(self, spec: ConvSpec) -> int:
        """How many positions the covariance of this layer's patches may take: n P^2 operations."""
        return max(min(self.positions, int(GRAM_OPERATIONS / (spec.in_channels * spec.taps) ** 2)), 1)

    def can_refit(self, stage: Stage) -> TypeGuard[ConvSpec]:
        """Whether the last ``stage`` of a chain is a plain layer with features few enough for their covariance."""
        if not isinstance(stage, ConvSpec) or stage.transposed:
            return False
        return stage.groups == 1 and stage.in_channels * stage.taps <= self.largest_patch
