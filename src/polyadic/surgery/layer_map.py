"""Formats and ranks by layer pattern: ``{"layer3.*": CP(rank=64), "re:.*shortcut.*": None}``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, final

from torch import Tensor, nn

from polyadic.algebra import kernel_to_order3
from polyadic.decomposition import tucker2_bounded
from polyadic.errors import DecompositionError, LayerError
from polyadic.formats import TKDCPDFormat, TTMatrixFormat, format_named, rank_for
from polyadic.layers import Inputs
from polyadic.schema import Choice, ConvSpec, LayerSite, Plan, Rank
from polyadic.surgery.factor_cache import FactorCache
from polyadic.surgery.find_layers import find_layers
from polyadic.surgery.layer_names import nearest
from polyadic.surgery.projections import separate_for
from polyadic.surgery.replace import chain_for, layer_at, replace_layer
from polyadic.surgery.unwrap import unwrap_model

Ranks = int | Sequence[int]


@dataclass(frozen=True)
class LayerConfig(ABC):
    """A format with its rank, or with a rule that gives it for a kernel: one of number, ratio and error bound.

    Attributes:
        ratio: at least so many times fewer numbers than in the kernel.
        error: bound on ``||K - K^|| / ||K||``, from 0 to below 1; see :func:`polyadic.formats.rank_for`.
    """

    ratio: float | None = field(default=None, kw_only=True)
    error: float | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def format(self) -> str:
        """Name of the format."""

    @property
    @abstractmethod
    def number(self) -> Ranks | None:
        """The rank or ranks, if they are given by number."""

    def rank_for(self, kernel: Tensor, spec: ConvSpec, seed: int = 0) -> Rank:
        """The rank for a kernel (T x S/groups x window).

        Raises:
            LayerError: not exactly one of number, ratio and error, or one that the layer cannot meet.
            DecompositionError: a bound out of range.
        """
        fmt = format_named(self.format)
        return rank_for(fmt, kernel, spec, rank=self.number, ratio=self.ratio, error=self.error, seed=seed)


@dataclass(frozen=True)
class _OneRank(LayerConfig):
    """Formats of one rank R."""

    rank: int | None = None

    @property
    def number(self) -> int | None:
        """R."""
        return self.rank


@dataclass(frozen=True)
class _SeveralRanks(LayerConfig):
    """Formats of several ranks; one number serves for all, and none gets more than it can use."""

    ranks: Ranks | None = None

    @property
    def number(self) -> Ranks | None:
        """All ranks, or one number for all."""
        return self.ranks


@final
@dataclass(frozen=True)
class CP(_OneRank):
    """CP of order 3 of a rank, stable by default."""

    method: Literal["cp-epc", "cp-als", "cp-als-epc"] = "cp-epc"

    @property
    def format(self) -> str:
        """The method."""
        return self.method


@final
@dataclass(frozen=True)
class CP4(_OneRank):
    """Stable CP with a factor for every axis of the window."""

    format = "cp4-epc"


@final
@dataclass(frozen=True)
class SVD(_OneRank):
    """SVD of a 1 x 1 convolution or a Linear."""

    format = "svd"


@final
@dataclass(frozen=True)
class SpatialSVD(_OneRank):
    """A D x 1 and a 1 x D convolution with R channels between them."""

    format = "spatial-svd"


@final
@dataclass(frozen=True)
class TT(_SeveralRanks):
    """Tensor train of the kernel with ranks (r1, r2, r3): a chain of plain convolutions."""

    format = "tt"


@final
@dataclass(frozen=True)
class TTMatrix(_SeveralRanks):
    """Matrix tensor train with ranks ``r_0 ... r_{d-1}`` (without ``r_0`` for one tap) over digits of the channels.

    Attributes:
        row_modes: ``t_1 ... t_d`` with product T or more; found if absent.
        column_modes: ``s_1 ... s_d`` with product S or more; likewise.
    """

    row_modes: Sequence[int] | None = None
    column_modes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Refuse modes for one side alone."""
        if (self.row_modes is None) != (self.column_modes is None):
            raise LayerError(
                "a matrix tensor train takes modes for rows and columns, or for neither; "
                f"got {self.row_modes} and {self.column_modes}"
            )

    @property
    def format(self) -> str:
        """tt-matrix, with the modes if they are given."""
        if self.row_modes is None or self.column_modes is None:
            return "tt-matrix"
        return TTMatrixFormat(tuple(self.row_modes), tuple(self.column_modes)).name


@final
@dataclass(frozen=True)
class Tucker2(_SeveralRanks):
    """Tucker-2 with ranks (R1, R2), or the cheapest within a relative error (of every group)."""

    format = "tucker2"

    def rank_for(self, kernel: Tensor, spec: ConvSpec, seed: int = 0) -> Rank:
        """As asked; for an error bound the cheapest pair of all, not only of the candidates."""
        error = self.error
        if error is None or self.ranks is not None or self.ratio is not None:
            return super().rank_for(kernel, spec, seed)
        return _of_all_groups(kernel, spec, lambda K: tucker2_bounded(kernel_to_order3(K), error).factors.ranks)


@final
@dataclass(frozen=True)
class TKDCPD(_OneRank):
    """Tucker-2 with ranks (R1, R2) or within a relative error, then a stable CP of rank R of its core.

    With a rank alone (R1, R2) are those that save numbers at hardly any error; without a rank a ratio or an error
    bound decides all three.

    Attributes:
        ranks: (R1, R2), beside a rank.
        error: what Tucker-2 may take, beside a rank.
    """

    ranks: tuple[int, int] | None = None

    format = "tkd-cpd-epc"

    def rank_for(self, kernel: Tensor, spec: ConvSpec, seed: int = 0) -> Rank:
        """(R1, R2, R)."""
        rank = self.rank
        if rank is None and self.ranks is None:
            return super().rank_for(kernel, spec, seed)
        if rank is None or self.ratio is not None or (self.ranks is not None and self.error is not None):
            raise LayerError(
                "tkd-cpd-epc takes a rank, and beside it either ranks (R1, R2) of Tucker-2 or a relative error, not "
                f"both; or a ratio or an error alone; got {self}"
            )
        if self.ranks is not None:
            return (*self.ranks, rank)
        fmt = TKDCPDFormat()
        return (*_of_all_groups(kernel, spec, lambda K: fmt.tucker_ranks(K, rank, self.error)), rank)


LayerMap = Mapping[str, LayerConfig | None]


def decompose_(
    model: nn.Module, layers: LayerMap, example_input: Inputs, *, seed: int = 0, cache: FactorCache | None = None
) -> Plan:
    """Factorise layers of ``model`` in place as ``layers`` says; returns the plan that was carried out.

    A key is a layer's name, a pattern with ``*`` and ``?``, or ``re:`` and a regular expression that matches the whole
    name. Where several match, the last one counts; None leaves a layer alone. Layers that only a pattern matches and
    that the format refuses stay dense; a refused layer that is named outright is an error.

    A value is a format with a rank, a ratio or an error bound: ``CP(64)``, ``CP(ratio=4)``, ``CP(error=0.3)``. Ranks
    are those of each group of a layer. An error bound takes a decomposition for every step of a search among the
    ranks, but for ``Tucker2``. No rule asks whether the chain is smaller than the layer.

    Args:
        model: trained; changed in place.
        layers: names or patterns, and what is asked for them.
        example_input: a batch (N, ...), or arguments by position (a tuple) or by name (a dict), the first one such.
        seed: of the decompositions.
        cache: where factors are kept; nowhere if absent.

    Raises:
        LayerError: a key matches no layer, or a layer cannot be factorised as asked; the model is as it was.
        DecompositionError: NaN or Inf weights, a bound out of range.
    """
    model = unwrap_model(model)
    sites = find_layers(model, example_input)
    wanted = _matches(sites, layers)
    chains, choices = _chains(model, wanted, cache or FactorCache(None), seed)
    plan = Plan(tuple(choices))
    separate_for(model, plan)
    for site, chain in chains:  # only now: whatever fails above leaves the model as it was
        replace_layer(model, site, chain)
    return plan


def _chains(
    model: nn.Module, wanted: list[tuple[LayerSite, str, LayerConfig]], cache: FactorCache, seed: int
) -> tuple[list[tuple[LayerSite, nn.Sequential]], list[Choice]]:
    """What takes the place of each layer, and as which choice."""
    chains: list[tuple[LayerSite, nn.Sequential]] = []
    choices = []
    for site, key, config in wanted:
        fmt = format_named(config.format)
        reason = site.reason or (fmt.refuses(site.spec) if site.spec is not None else None)
        if reason is not None:
            if key == site.name:
                raise LayerError(f"layer {site.name!r} cannot be factorised as {fmt.name}: {reason}")
            continue
        layer, weight, spec = layer_at(model, site.name)
        try:
            rank = config.rank_for(weight.detach(), spec, seed)
            factored = cache.factorise(weight.detach(), spec, fmt, rank, seed)
        except (LayerError, DecompositionError) as error:
            raise type(error)(f"layer {site.name!r}: {error}") from error
        chains.append((site, chain_for(layer, factored)))
        choices.append(Choice(site.name, fmt.name, rank))
    return chains, choices


def _matches(sites: tuple[LayerSite, ...], layers: LayerMap) -> list[tuple[LayerSite, str, LayerConfig]]:
    used: set[str] = set()
    wanted = []
    for site in sites:
        hits = [key for key in layers if _matches_name(key, site.name)]
        used.update(hits)
        config = layers[hits[-1]] if hits else None
        if config is not None:
            wanted.append((site, hits[-1], config))
    unused = [key for key in layers if key not in used]
    if unused:
        advice = nearest(unused[0], [site.name for site in sites])
        raise LayerError(f"every key matches at least one layer; {unused} match none{advice}")
    return wanted


def _matches_name(key: str, name: str) -> bool:
    if key.startswith("re:"):
        try:
            return re.fullmatch(key[3:], name) is not None
        except re.error as error:
            raise LayerError(f"{key!r} is not a regular expression: {error}") from error
    return fnmatchcase(name, key)


def _of_all_groups(kernel: Tensor, spec: ConvSpec, ranks: Callable[[Tensor], Rank]) -> Rank:
    """Ranks that serve every group: the largest that any of them asks for."""
    return tuple(map(max, zip(*(ranks(group) for group in kernel.chunk(spec.groups)), strict=True)))
