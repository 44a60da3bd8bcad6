"""Put other layers in the place of a layer, for good or for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel
from polyadic.layers import filled_chain, filled_layer, kernel_of
from polyadic.schema import ConvSpec, LayerSite
from polyadic.surgery.fast_path import leave_fast_path
from polyadic.surgery.layer_names import nearest
from polyadic.surgery.plain_layers import bias_of, check_plain, geometry_of, kind_of, parameters_behind, weight_of
from polyadic.surgery.projections import module_at


def layer_at(model: nn.Module, name: str) -> tuple[nn.Module, Tensor, ConvSpec]:
    """The layer called ``name``, its kernel (T x S/groups x window) and its geometry.

    The kernel is the layer's own parameter where torch stores it so. That of a parametrised layer is the one that it
    computes in evaluation mode.

    Raises:
        LayerError: there is no such layer, it is no plain convolution or Linear, it has no such weight, or it does
            something else than its class, see :func:`polyadic.surgery.plain_layers.check_plain`.
    """
    module, spec = spec_at(model, name)
    try:
        check_plain(module)
        kernel, _ = kernel_of(weight_of(module), spec), bias_of(module)
    except LayerError as error:
        raise LayerError(f"layer {name!r} cannot be factorised: {error}") from error
    return module, kernel, spec


def spec_at(model: nn.Module, name: str) -> tuple[nn.Module, ConvSpec]:
    """The layer called ``name`` and its geometry; no weight is read.

    Raises:
        LayerError: there is no such layer, or it is no plain convolution or Linear.
    """
    try:
        module = module_at(model, name)
    except AttributeError as error:
        known = [other for other, module in model.named_modules() if other and geometry_of(module) is not None]
        raise LayerError(f"a plan names layers of the model; it has no layer {name!r}{nearest(name, known)}") from error
    spec = geometry_of(module)
    if spec is None:
        raise LayerError(f"layer {name!r} is a {kind_of(module)}, not a plain convolution or Linear")
    return module, spec


def chain_for(layer: nn.Module, factored: FactoredKernel) -> nn.Sequential:
    """The chain that takes the place of ``layer``, with its bias, dtype, device, mode and gradient flags.

    Raises:
        LayerError: a parametrisation of the layer fails.
    """
    weight, bias = weight_of(layer), bias_of(layer)
    chain = filled_chain(factored, bias, weight)
    return take_flags(chain.train(layer.training), layer)


M = TypeVar("M", bound=nn.Module)


def take_flags(chain: M, layer: nn.Module) -> M:
    """``chain`` with the gradient flags of ``layer``, which it replaces: weights have the weight's, a bias its own.

    A bias where the layer had none has the flag of the weight. Either may be a chain itself; of a tensor that is
    computed, or of several stages, one trainable parameter is enough.
    """
    weights, biases = _split_bias(layer)
    trained = any(parameter.requires_grad for parameter in parameters_behind(layer) or weights)
    bias_trained = any(parameter.requires_grad for parameter in biases) if biases else trained
    weights, biases = _split_bias(chain)
    for parameters, flag in ((weights, trained), (biases, bias_trained)):
        for parameter in parameters:
            parameter.requires_grad_(flag)
    return chain


def _split_bias(layer: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters behind the weight of a layer or chain, and those behind its bias."""
    last = layer[-1] if isinstance(layer, nn.Sequential) and len(layer) else layer
    biases = parameters_behind(last, "bias")
    of_bias = {id(parameter) for parameter in biases}
    return [parameter for parameter in layer.parameters() if id(parameter) not in of_bias], biases


def empty_like_weight(layer: nn.Module) -> Tensor:
    """An empty tensor in the dtype and on the device of the layer's weight; no weight is computed."""
    parameters = (*parameters_behind(layer), *layer.parameters())
    dtype, device = next(((p.dtype, p.device) for p in parameters if p.is_floating_point()), (None, None))
    return torch.empty(0, dtype=dtype, device=device)


def replace_layer(model: nn.Module, site: LayerSite, module: nn.Module) -> None:
    """Set ``module`` at every path at which the site's layer is registered; no fused kernel bypasses it there."""
    for name in (site.name, *site.aliases):
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module)
        leave_fast_path(model, name)


def site_at(model: nn.Module, name: str) -> LayerSite:
    """The module called ``name`` with every other path at which it is registered; its inputs are not known.

    Raises:
        AttributeError: there is no such module.
    """
    module = model.get_submodule(name)
    paths = (path for path, found in model.named_modules(remove_duplicate=False) if found is module)
    return LayerSite(name, kind_of(module), geometry_of(module), aliases=tuple(path for path in paths if path != name))


def replace_by_plain(model: nn.Module, site: LayerSite, spec: ConvSpec, kernel: Tensor, bias: Tensor | None) -> None:
    """Set the plain layer of ``spec`` with a kernel (T x S/groups x window) and a bias (T) in the site's place.

    It has the dtype, device, mode and gradient flags of the layer or chain that was there.
    """
    old = model.get_submodule(site.name)
    empty = empty_like_weight(old)
    layer = filled_layer(spec, kernel, bias, like=empty)
    replace_layer(model, site, take_flags(layer.train(old.training), old))


@contextmanager
def swap_layer(model: nn.Module, site: LayerSite, module: nn.Module) -> Iterator[None]:
    """``model`` with ``module`` in the place of the site's layer, which comes back at the end."""
    original = model.get_submodule(site.name)
    changed = [change for name in (site.name, *site.aliases) for change in leave_fast_path(model, name)]
    try:
        replace_layer(model, site, module)
        yield
    finally:
        replace_layer(model, site, original)
        for part, attribute, value in changed:
            setattr(part, attribute, value)
