"""What a truncation study looks at, and how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from polyadic.errors import PolyadicError
from polyadic.studies.cuts import ALL_CUTS, Chain
from polyadic.training import Execution

CHAINS = (*map(str, ALL_CUTS), "o|ihw+i|ohw", "o|ihw+oi|hw+w|oih")
"""The seven cuts, the two of Tucker-2, and the three of the tensor train o, i, h, w."""

SHARES = (0.0625, 0.125, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class TruncationOptions:
    """The grid and what is measured at each of its points.

    Defaults are sized for ResNet-20 in under an hour on two cores; docs/studies/truncation.md counts the passes.

    Attributes:
        chains: cuts, or chains of cuts joined by +, as :meth:`polyadic.studies.Chain.parse` reads them.
        shares: kept ranks, as shares of the largest rank of each cut.
        layers: names or patterns with * of the layers to look at; empty for all that have a kernel of four indices.
        joint: whether several layers are truncated together as well: all, the first half and the second half.
        images: held-out training images for each accuracy.
        calibration_images: training images for batch-norm statistics.
        test_images: test images for the joint and re-trained networks, read at the end; None for all, 0 for none.
        draws: random perturbations for each row; their accuracies are averaged.
        retrain_epochs: epochs of re-training; 0 for none.
        retrain: which joint truncations of all layers are trained again, as (chain, share).
        retrain_steps: batches per epoch; None for all training images.
        retrain_batch_size: images per step of it.
        learning_rate: of the re-training, at the top of its cosine.
        execution: where and how passes run.
        batch_size: images per pass.
        seed: of everything random.
        work: folder in which rows are kept as they are measured; None keeps nothing.
        resume: whether to go on from rows that are there.
    """

    chains: tuple[str, ...] = CHAINS
    shares: tuple[float, ...] = SHARES
    layers: tuple[str, ...] = ()
    joint: bool = True
    images: int = 1000
    calibration_images: int = 500
    test_images: int | None = 2000
    draws: int = 1
    retrain_epochs: int = 0
    retrain: tuple[tuple[str, float], ...] = (("o|ihw+i|ohw", 0.25), ("oh|iw", 0.25), ("o|ihw+oi|hw+w|oih", 0.25))
    retrain_steps: int | None = None
    retrain_batch_size: int = 128
    learning_rate: float = 1e-2
    execution: Execution = field(default_factory=Execution.for_training)
    batch_size: int = 250
    seed: int = 0
    work: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse an empty grid, shares and counts that are none."""
        if not self.chains or not self.shares:
            raise PolyadicError("a truncation study needs at least one cut and one share of the ranks; got none")
        for share in (*self.shares, *(share for _, share in self.retrain)):
            if not 0 < share <= 1:
                raise PolyadicError(f"kept ranks are shares above 0 and up to 1; got {share}")
        for name in ("images", "calibration_images", "draws", "batch_size"):
            if getattr(self, name) < 1:
                raise PolyadicError(f"{name} of a truncation study is at least 1; got {getattr(self, name)}")
        if self.retrain_epochs < 0 or (self.test_images or 0) < 0:
            raise PolyadicError(
                f"retrain_epochs and test_images are 0 or more; got {self.retrain_epochs} and {self.test_images}"
            )
        for text in (*self.chains, *(chain for chain, _ in self.retrain)):
            Chain.parse(text)

    def wants(self, layer: str) -> bool:
        """Whether ``layer`` is one of those to look at."""
        return not self.layers or any(fnmatchcase(layer, pattern) for pattern in self.layers)

    def decisive(self) -> str:
        """Everything that decides the rows of single layers and joint truncations, as text.

        What is tested or trained again may change from one run to the next and leave the rows as they are.
        """
        kept = (self.layers, self.images, self.calibration_images, self.draws, self.batch_size, self.seed)
        return repr((*kept, self.execution.precision, self.execution.torch_device.type, self.execution.channels_last))
