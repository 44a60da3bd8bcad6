"""Formats and ranks by layer pattern: ``{"layer3.*": CP(rank=64), "re:.*shortcut.*": None}``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, final

from torch import Tensor, nn

from polyadic.algebra import kernel_to_order3
from polyadic.decomposition import tucker2_bounded
from polyadic.errors import DecompositionError, LayerError
from polyadic.formats import format_named
from polyadic.schema import Choice, ConvSpec, LayerSite, Plan, Rank
from polyadic.surgery.candidates import Inputs, find_sites
from polyadic.surgery.factorise import FactorCache
from polyadic.surgery.replace import chain_for, layer_at, put


class Request(ABC):
    """A format with its rank, or with a rule that gives it for a kernel."""

    @property
    @abstractmethod
    def format(self) -> str:
        """Name of the format."""

    @abstractmethod
    def rank_for(self, kernel: Tensor, spec: ConvSpec) -> Rank:
        """The rank for a kernel (T x S x window)."""


@final
@dataclass(frozen=True)
class CP(Request):
    """CP of a rank, stable by default."""

    rank: int
    method: Literal["cp-epc", "cp-als", "cp-als-epc"] = "cp-epc"

    @property
    def format(self) -> str:
        """The method."""
        return self.method

    def rank_for(self, kernel: Tensor, spec: ConvSpec) -> Rank:
        """R as asked."""
        return (self.rank,)


@final
@dataclass(frozen=True)
class Tucker2(Request):
    """Tucker-2 with ranks (R1, R2), or the cheapest within a relative error."""

    ranks: tuple[int, int] | None = None
    error: float | None = None

    @property
    def format(self) -> str:
        """tucker2."""
        return "tucker2"

    def rank_for(self, kernel: Tensor, spec: ConvSpec) -> Rank:
        """(R1, R2) as asked, or as the error asks."""
        return _tucker_ranks(self.ranks, self.error, kernel)


@final
@dataclass(frozen=True)
class TKDCPD(Request):
    """Tucker-2 with ranks (R1, R2) or within a relative error, then a stable CP of rank R of its core."""

    rank: int
    ranks: tuple[int, int] | None = None
    error: float | None = None

    @property
    def format(self) -> str:
        """tkd-cpd-epc."""
        return "tkd-cpd-epc"

    def rank_for(self, kernel: Tensor, spec: ConvSpec) -> Rank:
        """(R1, R2, R)."""
        return (*_tucker_ranks(self.ranks, self.error, kernel), self.rank)


@final
@dataclass(frozen=True)
class SVD(Request):
    """SVD of a 1 x 1 convolution or a Linear."""

    rank: int

    @property
    def format(self) -> str:
        """``svd``."""
        return "svd"

    def rank_for(self, kernel: Tensor, spec: ConvSpec) -> Rank:
        """R as asked."""
        return (self.rank,)


LayerMap = Mapping[str, Request | None]


def decompose_(
    model: nn.Module, layers: LayerMap, example_input: Inputs, *, seed: int = 0, cache: FactorCache | None = None
) -> Plan:
    """Factorise layers of ``model`` in place as ``layers`` says; returns the plan that was carried out.

    A key is a layer's name, a pattern with ``*`` and ``?``, or ``re:`` and a regular expression that matches the whole
    name. Where several match, the last one counts; None leaves a layer alone. Layers that only a pattern matches and
    that the format refuses stay dense; a refused layer that is named outright is an error.

    Raises:
        LayerError: a key matches no layer, or a named layer cannot be factorised as asked; the model is as it was.
        DecompositionError: NaN or Inf weights, a bound out of range.
    """
    sites = find_sites(model, example_input)
    wanted = _matches(sites, layers)
    cache = cache or FactorCache(None)
    chains: list[tuple[LayerSite, nn.Sequential]] = []
    choices = []
    for site, key, request in wanted:
        fmt = format_named(request.format)
        reason = site.reason or (fmt.refuses(site.spec) if site.spec is not None else None)
        if reason is not None:
            if key == site.name:
                raise LayerError(f"layer {site.name!r} cannot be factorised as {fmt.name}: {reason}")
            continue
        layer, weight, spec = layer_at(model, site.name)
        try:
            rank = request.rank_for(weight.detach(), spec)
            factored = cache.factorise(weight.detach(), spec, fmt, rank, seed)
        except (LayerError, DecompositionError) as error:
            raise type(error)(f"layer {site.name!r}: {error}") from error
        chains.append((site, chain_for(layer, factored)))
        choices.append(Choice(site.name, fmt.name, rank))
    for site, chain in chains:  # only now: whatever fails above leaves the model as it was
        put(model, site, chain)
    return Plan(tuple(choices))


def _matches(sites: tuple[LayerSite, ...], layers: LayerMap) -> list[tuple[LayerSite, str, Request]]:
    used: set[str] = set()
    wanted = []
    for site in sites:
        hits = [key for key in layers if _matches_name(key, site.name)]
        used.update(hits)
        request = layers[hits[-1]] if hits else None
        if request is not None:
            wanted.append((site, hits[-1], request))
    unused = [key for key in layers if key not in used]
    if unused:
        known = ", ".join(site.name for site in sites[:5])
        raise LayerError(f"every key matches at least one layer; {unused} match none (layers are {known}, ...)")
    return wanted


def _matches_name(key: str, name: str) -> bool:
    if key.startswith("re:"):
        try:
            return re.fullmatch(key[3:], name) is not None
        except re.error as error:
            raise LayerError(f"{key!r} is not a regular expression: {error}") from error
    return fnmatchcase(name, key)


def _tucker_ranks(ranks: tuple[int, int] | None, error: float | None, kernel: Tensor) -> tuple[int, int]:
    if (ranks is None) == (error is None):
        raise LayerError("a Tucker format takes either ranks (R1, R2) or a relative error; got both or neither")
    if ranks is not None:
        return ranks
    return tucker2_bounded(kernel_to_order3(kernel), float(error or 0.0)).factors.ranks
