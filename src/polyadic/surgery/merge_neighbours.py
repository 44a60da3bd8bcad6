"""Merge neighbours of a chain of linear layers into their product, and move strides forward, where that is cheaper.

Layers with nothing between them are one linear map. Two of them are one layer if one of the two mixes the channels of
single positions (a 1 x 1 convolution without padding); its weight is the product over the channels between them,

    K[t, s, x] = sum_m K2[t, m, x2] K1[m, s, x1],    b = b2 + sum_(m, x2) K2[t, m, x2] b1[m],

with x1 or x2 a single tap. Which neighbours to merge is the question of how to cut a row of layers into intervals: the
cheapest cut is found by dynamic programming over the ends of the intervals, for all layers of the row at once, since
three layers may be worth one where no two of them are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from polyadic.layers import Inputs
from polyadic.schema import ConvSpec, LayerSite, chain_macs, chain_params, compose, stride_early
from polyadic.surgery.fold import Change
from polyadic.surgery.forward_record import ForwardRecord, record_forward
from polyadic.surgery.plain_layers import bias_of
from polyadic.surgery.replace import layer_at, replace_by_plain, replace_layer

MERGED, EARLIER = "layers merged", "stride moved forward"

Row = tuple[LayerSite, ...]
Cut = tuple[tuple[int, int], ...]


def merge_neighbours(model: nn.Module, example_input: Inputs, layers: Mapping[str, LayerSite]) -> tuple[Change, ...]:
    """Merge neighbours where their product takes fewer multiplications, in place; then stride as early as is exact.

    The product stands in the place of the first of its layers, an ``nn.Identity`` in that of the others.

    Args:
        model: runs on the example.
        example_input: a batch (N, ...), or arguments by position (a tuple) or by name (a dict), the first one such.
        layers: the plain layers of the model by name; those with a reason are left alone.

    Returns:
        What was merged or moved, and one change for every row of two layers or more that stays as it is.
    """
    free = {name: site for name, site in layers.items() if site.reason is None}
    record = record_forward(model, example_input, layers)
    return tuple(change for row in _rows(record, free) for change in _merge_row(model, row))


@dataclass(frozen=True)
class Product:
    """A row of layers as one: geometry, kernel (T x S/groups x window) and bias (T), in float64."""

    spec: ConvSpec
    kernel: Tensor
    bias: Tensor | None

    def then(self, other: Product) -> Product:
        """The product of both, which :func:`polyadic.schema.compose` has not refused.

        Raises:
            ValueError: there is no such layer.
        """
        spec = compose(self.spec, other.spec)
        if isinstance(spec, str):
            raise ValueError(f"two layers are one only where that is exact; here {spec}")
        K1 = _ungroup(self.kernel, self.spec.groups, spec.groups)
        K2 = _ungroup(other.kernel, other.spec.groups, spec.groups)
        K = torch.einsum("gmsw,gtmv->gtswv", K1, K2).reshape(spec.weight_shape)
        bias = other.bias
        if self.bias is not None:
            moved = torch.einsum("gtmv,gm->gt", K2, self.bias.reshape(spec.groups, -1)).flatten()
            bias = moved if bias is None else moved + bias
        return Product(spec, K, bias)


def cheapest_cut(specs: tuple[ConvSpec, ...], sizes: tuple[tuple[int, ...], ...]) -> Cut:
    """The intervals ``(begin, end)`` of a row of layers to merge so that multiplications, then parameters are fewest.

    Args:
        specs: the layers, in order.
        sizes: input sizes of the first one, one for each of its runs.
    """
    n = len(specs)
    inputs = [sizes]
    for spec in specs:
        inputs.append(tuple(spec.output_size(size) for size in inputs[-1]))
    whole = _wholes(specs)
    best: list[tuple[int, int, int, Cut]] = [(0, 0, 0, ())]  # of the first k layers: MACs, parameters, layers, cut
    for end in range(1, n + 1):
        best.append(
            min(
                (
                    macs + _macs((whole[begin, end][0],), inputs[begin]),
                    params + chain_params((whole[begin, end][0],)),
                    count + 1,
                    (*cut, (begin, end)),
                )
                for begin, (macs, params, count, cut) in enumerate(best)
                if (begin, end) in whole
            )
        )
    return best[n][3]


def _wholes(specs: tuple[ConvSpec, ...]) -> dict[tuple[int, int], tuple[ConvSpec, int]]:
    """Every interval (begin, end) of a row that can be one layer: that layer, and where its two parts meet."""
    n = len(specs)
    found = {(k, k + 1): (spec, k) for k, spec in enumerate(specs)}
    for length in range(2, n + 1):
        for begin in range(n - length + 1):
            for middle in range(begin + 1, begin + length):
                first, second = found.get((begin, middle)), found.get((middle, begin + length))
                if first and second and not isinstance(whole := compose(first[0], second[0]), str):
                    found[begin, begin + length] = (whole, middle)
                    break
    return found


def _product(parts: Sequence[Product]) -> Product:
    """All parts as one, in an order in which each step is exact."""
    if len(parts) == 1:
        return parts[0]
    _, middle = _wholes(tuple(part.spec for part in parts))[0, len(parts)]
    return _product(parts[:middle]).then(_product(parts[middle:]))


def _ungroup(kernel: Tensor, groups: int, kept: int) -> Tensor:
    """A kernel of ``groups`` as kept x T/kept x S/kept x taps, with the zeros between the groups that it merges."""
    inner, T, S = groups // kept, kernel.shape[0] // groups, kernel.shape[1]
    blocks = kernel.reshape(kept, inner, T, S, -1)
    full = kernel.new_zeros(kept, inner, T, inner, S, blocks.shape[-1])
    for group in range(inner):
        full[:, group, :, group] = blocks[:, group]
    return full.reshape(kept, inner * T, inner * S, -1)


def _rows(record: ForwardRecord, layers: Mapping[str, LayerSite]) -> list[Row]:
    """Longest rows of layers each of which alone reads the one before it, and nothing else."""
    following: dict[str, str] = {}
    for name in layers:
        reader = record.only_reader(name)[0] if name in record.runs else None
        if reader is None or reader not in layers:
            continue
        if record.sources(reader) == (name,) and len(record.dtypes(name, reader)) == 1:
            following[name] = reader
    rows = []
    for name in layers:
        if name in following and name not in following.values():
            row = [name]
            while row[-1] in following:
                row.append(following[row[-1]])
            rows.append(tuple(layers[each] for each in row))
    return rows


def _merge_row(model: nn.Module, row: Row) -> list[Change]:
    """Carry out the cheapest cut of one row."""
    parts = [_product_at(model, site) for site in row]
    specs, names = tuple(part.spec for part in parts), tuple(site.name for site in row)
    cut = cheapest_cut(specs, row[0].input_sizes)
    products = [_product(parts[begin:end]) for begin, end in cut]
    merged = tuple(product.spec for product in products)
    early = _stride_early(merged)
    done, sizes = [], row[0].input_sizes
    for (begin, end), product, spec in zip(cut, products, early, strict=True):
        if end - begin > 1:
            gain = _gain(specs[begin:end], (product.spec,), sizes)
            done.append(Change(names[begin:end], MERGED, gain, True))
        if end - begin > 1 or spec != product.spec:
            replace_by_plain(model, row[begin], spec, product.kernel, product.bias)
        for site in row[begin + 1 : end]:
            replace_layer(model, site, nn.Identity().eval())
        sizes = tuple(product.spec.output_size(size) for size in sizes)
    if early != merged:
        kept = tuple(names[begin] for begin, _ in cut)
        done.append(Change(kept, EARLIER, _gain(merged, early, row[0].input_sizes), True))
    return done or [Change(names, MERGED, _why_not(specs), False)]


def _product_at(model: nn.Module, site: LayerSite) -> Product:
    layer, kernel, spec = layer_at(model, site.name)
    bias = bias_of(layer)
    return Product(spec, kernel.detach().double(), None if bias is None else bias.detach().double())


def _stride_early(specs: tuple[ConvSpec, ...]) -> tuple[ConvSpec, ...]:
    return tuple(stage for stage in stride_early(specs) if isinstance(stage, ConvSpec))  # plain layers stay plain


def _macs(chain: tuple[ConvSpec, ...], sizes: tuple[tuple[int, ...], ...]) -> int:
    """Multiply-accumulates of a chain over all its runs on one sample."""
    return sum(chain_macs(chain, size) for size in sizes)


def _gain(before: tuple[ConvSpec, ...], after: tuple[ConvSpec, ...], sizes: tuple[tuple[int, ...], ...]) -> str:
    return f"{_macs(before, sizes):,} MACs become {_macs(after, sizes):,}"


def _why_not(specs: tuple[ConvSpec, ...]) -> str:
    """Why a row stays as it is: what keeps its neighbours apart, and that products would cost more."""
    found = [compose(first, second) for first, second in pairwise(specs)]
    refusals = dict.fromkeys(reason for reason in found if isinstance(reason, str))
    dearer = ["no product of neighbours takes fewer multiplications"] if len(refusals) < len(found) else []
    return "; ".join([*dearer, *refusals])
