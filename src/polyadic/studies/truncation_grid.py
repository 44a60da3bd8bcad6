"""The points of a truncation study: which layers, which cuts, which ranks; no network is run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.schema import LayerSite
from polyadic.studies.cuts import Chain
from polyadic.studies.truncation_options import TruncationOptions

Ranks = tuple[int, ...]


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


def kernels_of(
    model: nn.Module, sites: Sequence[LayerSite], options: TruncationOptions
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Copies of the kernels (T x S/groups x D_h x D_w) to look at, in the order of the layers, and why others are not.

    Raises:
        LayerError: none of the layers that were asked for has a kernel of four indices.
    """
    kernels, skipped = {}, {}
    for site in sites:
        if not options.wants(site.name):
            continue
        reason = _reason(model, site)
        if reason is None:
            kernels[site.name] = model.get_parameter(f"{site.name}.weight").detach().clone()
        else:
            skipped[site.name] = reason
    if not kernels:
        names = ", ".join(f"{name} ({reason})" for name, reason in skipped.items()) or "no layer of that name"
        raise LayerError(f"a truncation study needs a convolution over two axes; got {names}: name other layers")
    return kernels, skipped


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


def _reason(model: nn.Module, site: LayerSite) -> str | None:
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
