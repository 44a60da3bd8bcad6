"""Put other layers in the place of a layer, for good or for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel
from polyadic.layers import filled_chain, spec_of
from polyadic.schema import ConvSpec, LayerSite


def layer_at(model: nn.Module, name: str) -> tuple[nn.Module, Tensor, ConvSpec]:
    """The layer called ``name``, its weight and its geometry.

    Raises:
        LayerError: there is no such layer, or it is no plain convolution or Linear.
    """
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise LayerError(f"a plan names layers of the model; it has no layer {name!r}") from error
    spec = spec_of(module)
    if spec is None:
        raise LayerError(f"layer {name!r} is a {type(module).__name__}, not a plain convolution or Linear")
    weight = module._parameters.get("weight")
    if weight is None:
        raise LayerError(f"the weight of layer {name!r} is computed by a parametrisation: remove that first")
    return module, weight, spec


def chain_for(layer: nn.Module, factored: FactoredKernel) -> nn.Sequential:
    """The chain that takes the place of ``layer``, with its bias, dtype, device, mode and gradient flag."""
    weight = layer.get_parameter("weight")
    bias = layer.get_parameter("bias") if getattr(layer, "bias", None) is not None else None
    chain = filled_chain(factored, bias, weight)
    return chain.train(layer.training).requires_grad_(weight.requires_grad)


def put(model: nn.Module, site: LayerSite, module: nn.Module) -> None:
    """Set ``module`` at every path at which the site's layer is registered."""
    for name in (site.name, *site.aliases):
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module)


@contextmanager
def swapped(model: nn.Module, site: LayerSite, module: nn.Module) -> Iterator[None]:
    """``model`` with ``module`` in the place of the site's layer, which comes back at the end."""
    original = model.get_submodule(site.name)
    try:
        put(model, site, module)
        yield
    finally:
        put(model, site, original)
