"""The geometry of a layer, seen through parametrisations and through subclasses that change nothing of it."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from polyadic.layers import spec_of
from polyadic.schema import ConvSpec

# What a subclass may define anew without another forward pass, another state or other weights.
_INERT = {
    *("__init__", "__doc__", "__module__", "__dict__", "__weakref__", "__annotations__", "__annotate__"),
    *("__annotations_cache__", "__annotate_func__", "__firstlineno__", "__static_attributes__", "__constants__"),
    *("__repr__", "extra_repr", "_get_name", "reset_parameters"),
}


def geometry_of(layer: nn.Module) -> ConvSpec | None:
    """The plain layer that ``layer`` is, in integers; None if it is none. No parametrisation is run.

    A subclass counts as the class of torch that it inherits from if it defines nothing of that class anew but how it is
    made, reset and printed.
    """
    if type(layer).__module__.startswith("torch.nn.modules."):
        return spec_of(layer)
    base = _torch_class(layer)
    return None if base is None or overridden_names(layer) else spec_of(_as(base, layer))


def overridden_names(layer: nn.Module) -> set[str]:
    """The names of torch's layer that the class of ``layer`` defines anew, such as ``forward``."""
    kind, base = parametrize.type_before_parametrizations(layer), _torch_class(layer)
    if base is None:
        return set()
    own = {name for part in kind.__mro__[: kind.__mro__.index(base)] for name in vars(part)}
    return own & ({*dir(base), *vars(layer), "weight", "bias"} - _INERT)


def kind_of(module: nn.Module) -> str:
    """Name of the module's class, "Conv2d" also where torch made it a "ParametrizedConv2d"."""
    return str(parametrize.type_before_parametrizations(module).__name__)


def _torch_class(layer: nn.Module) -> type[nn.Module] | None:
    """The first class of ``torch.nn`` that the layer inherits from."""
    kinds = parametrize.type_before_parametrizations(layer).__mro__
    return next((kind for kind in kinds if kind.__module__.startswith("torch.nn.modules.")), None)


def _as(kind: type[nn.Module], layer: nn.Module) -> nn.Module:
    """The attributes of ``layer`` as those of another class of module; a parametrised bias is an empty one there."""
    computed = {"bias": nn.Parameter()} if parametrize.is_parametrized(layer, "bias") else {}
    view = kind.__new__(kind)
    vars(view).update(vars(layer), _parameters={**layer._parameters, **computed}, _modules={})
    return view
