"""What a truncation study looks at: which layers, which cuts, which ranks; no network is run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.errors import PolyadicError
from polyadic.schema import LayerSite
from polyadic.studies.cuts import ALL_CUTS, Chain
from polyadic.studies.scoring import Scorer
from polyadic.studies.study import choose_layers, no_layer
from polyadic.training import Execution

Ranks = tuple[int, ...]

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

    def scorer(self, network: nn.Module, data: ImageData) -> Scorer:
        """What networks are scored by."""
        return Scorer(
            network,
            data,
            self.execution,
            images=self.images,
            batch_size=self.batch_size,
            calibration_images=self.calibration_images,
            test_images=self.test_images,
        )

    def decisive(self) -> str:
        """Everything that decides the rows of single layers and joint truncations, as text.

        What is tested or trained again may change from one run to the next and leave the rows as they are.
        """
        kept = (self.layers, self.images, self.calibration_images, self.draws, self.batch_size, self.seed)
        return repr((*kept, self.execution.precision, self.execution.torch_device.type, self.execution.channels_last))


@dataclass(frozen=True)
class Point:
    """One or several layers, truncated along one chain.

    Attributes:
        kind: "single" or "joint".
        group: the layer, or "all", "shallow" or "deep".
        chain: the cuts.
        share: of the largest ranks.
        ranks: of each layer.
    """

    kind: str
    group: str
    chain: Chain
    share: float
    ranks: Mapping[str, Ranks]

    @property
    def key(self) -> str:
        """What its row is known by."""
        return f"{self.kind}/{self.group}/{self.chain}/{self.share:g}"

    def truncate(self, kernels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The kernels of its layers, truncated."""
        return {name: self.chain.truncate(kernels[name], ranks) for name, ranks in self.ranks.items()}


def kernels_of(
    model: nn.Module, sites: Sequence[LayerSite], options: TruncationOptions
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Copies of the kernels (T x S/groups x D_h x D_w) to look at, in the order of the layers, and why others are not.

    Raises:
        LayerError: none of the layers that were asked for has a kernel of four indices.
    """
    chosen, skipped = choose_layers(sites, options.layers, lambda site: _why_not(model, site))
    if not chosen:
        raise no_layer("a truncation study needs a convolution over two axes", skipped)
    return {site.name: model.get_parameter(f"{site.name}.weight").detach().clone() for site in chosen}, skipped


def groups_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Layers that are truncated together: all, and the first and the second half of them."""
    half = len(names) // 2
    return {"all": tuple(names), "shallow": tuple(names[:half]), "deep": tuple(names[half:])} if half else {}


def points_of(kernels: Mapping[str, Tensor], options: TruncationOptions) -> list[Point]:
    """All points, single layers first; truncations that change nothing or repeat another are left out."""
    chains = [Chain.parse(text) for text in options.chains]
    shapes = {name: tuple(K.shape) for name, K in kernels.items()}
    points: list[Point] = []
    for name, shape in shapes.items():
        seen = set()
        for chain in chains:
            for share in options.shares:
                ranks = chain.ranks_at(share, shape)
                effect = _effect(chain, ranks, shape)
                if effect and effect not in seen:
                    seen.add(effect)
                    points.append(Point("single", name, chain, share, {name: ranks}))
    for group, names in groups_of(list(kernels)).items() if options.joint else ():
        points += _joint(group, {name: shapes[name] for name in names}, chains, options.shares)
    return points


def _joint(
    group: str, shapes: Mapping[str, tuple[int, ...]], chains: Sequence[Chain], shares: Sequence[float]
) -> list[Point]:
    points = []
    for chain in chains:
        seen: list[Mapping[str, Ranks]] = []
        for share in shares:
            ranks = {name: chain.ranks_at(share, shape) for name, shape in shapes.items()}
            if ranks not in seen and any(_effect(chain, ranks[name], shape) for name, shape in shapes.items()):
                seen.append(ranks)
                points.append(Point("joint", group, chain, share, ranks))
    return points


def _effect(chain: Chain, ranks: Ranks, shape: Sequence[int]) -> tuple[object, ...]:
    """The cuts that change a kernel of ``shape`` and their ranks; empty if none does."""
    pairs = zip(chain.cuts, ranks, strict=True)
    return tuple((cut.partition(shape), rank) for cut, rank in pairs if rank < cut.largest_rank(shape))


def _why_not(model: nn.Module, site: LayerSite) -> str | None:
    """Why the kernel of a layer is not looked at."""
    if site.reason is not None:
        return site.reason
    if site.spec is None or site.spec.axes != 2:
        return "its kernel does not have four indices"
    if site.spec.transposed:
        return "it is transposed"
    if "weight" not in model.get_submodule(site.name)._parameters:
        return "its weight is computed from other parameters"
    return None
