"""Fold batch norms into the convolution or fully connected layer before or after them, in evaluation mode.

A batch norm with running statistics is ``y = scale x + shift`` per channel, with ``scale = gamma / sqrt(var + eps)``
and ``shift = beta - scale mean`` (Ioffe and Szegedy 2015, end of section 3.1). After a layer it goes into the outputs,

    K'[t] = scale[t] K[t],    b' = scale b + shift;

before a layer into the inputs,

    K'[t, s] = K[t, s] scale[s],    b' = b + sum_(s, taps) K[t, s] shift[s],

which is exact unless the layer reads zeros beyond its border: those would have to be ``-shift / scale``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from polyadic.layers import Inputs
from polyadic.schema import ConvSpec, LayerSite, keeps_constants
from polyadic.surgery.forward_record import ForwardRecord, record_forward
from polyadic.surgery.model_checks import check_replacement
from polyadic.surgery.plain_layers import (
    bias_of,
    copy_model,
    foreign_hooks,
    kind_of,
    overridden_names,
    replaced_methods,
)
from polyadic.surgery.replace import empty_like_weight, layer_at, replace_by_plain, replace_layer

Norms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm

WHAT = "batch norm folded"


@dataclass(frozen=True)
class Change:
    """One thing that was done, or that was considered and left.

    Attributes:
        layers: names of the layers that it is about, in the order in which they run.
        what: what was done or considered, such as "batch norm folded".
        why: what is gained by it, or in a sentence why it was not done.
        done: whether it was done.
    """

    layers: tuple[str, ...]
    what: str
    why: str
    done: bool


def fold_norms(model: nn.Module, example_input: Inputs, layers: Mapping[str, LayerSite]) -> tuple[Change, ...]:
    """Fold every batch norm of ``model`` that can be, in place; an ``nn.Identity`` takes its place.

    Args:
        model: is left to be used in evaluation mode alone.
        example_input: a batch (N, ...), or arguments by position (a tuple) or by name (a dict), the first one such.
        layers: the plain layers of the model by name; those with a reason are left alone.

    Returns:
        One change for each batch norm, done or with the reason why not.
    """
    norms = _norm_sites(model, example_input)
    outcome: dict[str, Change] = {}
    left = [name for name, site in norms.items() if site.reason is None]
    while left:  # a norm that reads another norm gets its turn when that one is gone
        record = record_forward(model, example_input, [*layers, *left])
        for name in left:
            outcome[name] = _fold_one(model, record, norms[name], layers)
        remaining = [name for name in left if not outcome[name].done]
        if remaining == left:
            break
        left = remaining
    refused = {name: Change((name,), WHAT, site.reason, False) for name, site in norms.items() if site.reason}
    return tuple({**refused, **outcome}[name] for name in norms)


def affine_of(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """``scale`` and ``shift`` (C, float64) of a batch norm that has running statistics."""
    mean, var = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    gamma, beta = norm._parameters.get("weight"), norm._parameters.get("bias")
    scale = (var + float(getattr(norm, "eps", 0.0))).rsqrt()
    scale = scale if gamma is None else gamma.detach().double() * scale
    shift = -mean * scale
    return scale, shift if beta is None else shift + beta.detach().double()


def scale_outputs(kernel: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel (T x S/groups x window) and bias (T) of the layer whose outputs are ``scale y + shift``; float64."""
    K = kernel.double()
    return K * scale.reshape(-1, *([1] * (K.ndim - 1))), shift if bias is None else scale * bias.double() + shift


def scale_inputs(
    kernel: Tensor, bias: Tensor | None, groups: int, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the layer that reads ``x`` as the given one reads ``scale x + shift``; float64.

    Shapes: kernel (T x S/groups x window), bias (T), scale and shift (S). The shift is right wherever every tap reads
    an input.
    """
    T, S = kernel.shape[0] // groups, kernel.shape[1]
    K = kernel.double().reshape(groups, T, S, -1)
    per_input = (groups, 1, -1, 1)
    added = (K * shift.reshape(per_input)).sum((2, 3)).flatten()
    return (K * scale.reshape(per_input)).reshape(kernel.shape), added if bias is None else added + bias.double()


def _norm_sites(model: nn.Module, example_input: Inputs) -> dict[str, LayerSite]:
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Norms):
            names.setdefault(module, []).append(name)
    runs = record_forward(model, example_input, [paths[0] for paths in names.values()]).runs
    sites = tuple(
        LayerSite(paths[0], kind_of(norm), None, (), _norm_reason(norm, paths[0], paths[0] in runs), tuple(paths[1:]))
        for norm, paths in names.items()
    )
    counts = {name: len(found) for name, found in runs.items()}
    return {site.name: site for site in check_replacement(model, example_input, sites, counts)}


def _norm_reason(norm: nn.Module, name: str, ran: bool) -> str | None:
    """Why this batch norm cannot be folded into anything; None if it may."""
    if name == "":
        return "the model itself is this batch norm"
    if norm.training:
        return "it stays in training mode when the model is put into evaluation mode"
    if norm._buffers.get("running_mean") is None or norm._buffers.get("running_var") is None:
        return "it takes its statistics from each batch (track_running_stats=False)"
    if not ran:
        return "it did not run in the traced forward pass"
    if foreign_hooks(norm):
        return "it carries hooks that would be lost"
    return None if _rest(norm) is not None else f"it is a {kind_of(norm)} with a forward pass of its own"


def _rest(norm: nn.Module) -> nn.Module | None:
    """What is left of a norm when its scale and shift are elsewhere; None if its answer is more than that.

    An ``nn.Identity``, or, of a subclass that runs its children one after the other behind the norm (as timm's
    ``BatchNormAct2d`` runs an activation), these. Whether it does is seen on a random input.
    """
    if not overridden_names(norm) and not replaced_methods(norm):
        return nn.Identity().eval()
    rest, twin = nn.Sequential(OrderedDict(norm.named_children())).eval(), copy_model(norm).double()
    scale, shift = affine_of(twin)
    axes = 3 if isinstance(norm, nn.BatchNorm3d) else 1 if isinstance(norm, nn.BatchNorm1d) else 2
    x = torch.randn(4, len(scale), *[5] * axes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, per_channel = 3 * x.to(scale.device), (-1, *[1] * axes)
    try:
        with torch.no_grad():
            expected = twin(x)
            got = copy_model(rest).double()(scale.reshape(per_channel) * x + shift.reshape(per_channel))
    except Exception:  # whatever a stranger's forward raises
        return None
    same = isinstance(expected, Tensor) and expected.shape == got.shape and torch.allclose(expected, got, 1e-9, 1e-9)
    return rest if same else None


class _StaysError(Exception):
    """Why a batch norm cannot go into the layers on one side of it."""


_Place = tuple[LayerSite, ConvSpec, Tensor, Tensor]  # a layer that takes the norm up; its new kernel and bias (T)


def _fold_one(model: nn.Module, record: ForwardRecord, site: LayerSite, layers: Mapping[str, LayerSite]) -> Change:
    """Fold one batch norm into what comes before it, or else into what comes after it."""
    module = model.get_submodule(site.name)
    affine, rest, reasons = affine_of(module), _rest(module), []
    # layers behind the norm keep it apart from what follows
    for side in (_before, _after) if isinstance(rest, nn.Identity) else (_before,):
        try:
            places = side(model, record, site.name, layers, *affine)
        except _StaysError as reason:
            reasons.append(str(reason))
            continue
        for place in places:
            replace_by_plain(model, *place)
        replace_layer(model, site, nn.Identity() if rest is None else rest)
        into = tuple(place.name for place, *_ in places)
        names = (*into, site.name) if side is _before else (site.name, *into)
        return Change(names, WHAT, "one layer and one pass over its numbers less", True)
    return Change((site.name,), WHAT, "; ".join(dict.fromkeys(reasons)), False)


def _before(
    model: nn.Module, record: ForwardRecord, norm: str, layers: Mapping[str, LayerSite], scale: Tensor, shift: Tensor
) -> list[_Place]:
    """The layers that the norm follows, with the norm in their outputs."""
    places = []
    for name in record.sources(norm):
        if name is None or name not in layers:
            raise _StaysError(f"it follows {repr(name) if name else 'no plain layer directly'}")
        reader, why = record.only_reader(name)
        if reader != norm:
            raise _StaysError(why)
        layer, kernel, spec = _plain_layer(model, record, layers[name], norm)
        if any(run.axes != spec.axes + 2 for run in record.runs[name]):
            raise _StaysError(f"its channels are not the outputs of {name!r}")
        places.append(_place(layers[name], layer, spec, *scale_outputs(kernel, bias_of(layer), scale, shift)))
    return places


def _after(
    model: nn.Module, record: ForwardRecord, norm: str, layers: Mapping[str, LayerSite], scale: Tensor, shift: Tensor
) -> list[_Place]:
    """The layer that follows the norm, with the norm in its inputs."""
    name, why = record.only_reader(norm)
    if name is None or name not in layers:
        raise _StaysError(why or f"{name!r} reads it")
    if record.sources(name) != (norm,):
        raise _StaysError(f"{name!r} reads other tensors too")
    layer, kernel, spec = _plain_layer(model, record, layers[name], norm)
    if any(run.axes != spec.axes + 2 for run in record.runs[norm]):
        raise _StaysError(f"its channels are not the inputs of {name!r}")
    if bool(shift.any()) and not keeps_constants(spec):
        way = "spreads its inputs unevenly, so" if spec.transposed else "reads zeros beyond the border, where"
        raise _StaysError(f"{name!r} {way} the shift of the norm would be wrong there")
    return [_place(layers[name], layer, spec, *scale_inputs(kernel, bias_of(layer), spec.groups, scale, shift))]


def _plain_layer(
    model: nn.Module, record: ForwardRecord, site: LayerSite, norm: str
) -> tuple[nn.Module, Tensor, ConvSpec]:
    """The layer, its kernel and geometry, if it may take the norm up at all."""
    if site.reason is not None:
        raise _StaysError(f"{site.name!r} has to stay as it is: {site.reason}")
    kinds = record.dtypes(site.name, norm)
    if len(kinds) > 1:
        words = ", ".join(sorted(map(str, kinds)))
        raise _StaysError(f"{site.name!r} and the norm put out numbers of two types ({words})")
    return layer_at(model, site.name)


def _place(site: LayerSite, layer: nn.Module, spec: ConvSpec, kernel: Tensor, bias: Tensor) -> _Place:
    """A layer with new numbers, if all of them are finite in its dtype."""
    dtype = empty_like_weight(layer).dtype
    if not all(bool(torch.isfinite(tensor.to(dtype)).all()) for tensor in (kernel, bias)):
        raise _StaysError(f"the weights of {site.name!r} would leave the range of {dtype}")
    return site, replace(spec, bias=True), kernel, bias
