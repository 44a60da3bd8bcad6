"""The fused kernels of torch's transformers, which in evaluation mode run instead of the modules that they read.

They take the weights of ``linear1`` and its like directly, so they bypass hooks, and whatever stands in such a module's
place fails. Looking at a model goes the plain way; a transformer of which a part was replaced never leaves it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

Changes = list[tuple[nn.Module, str, object]]
"""Attributes that were changed: module, name, the value that it had."""


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Transformers of ``torch.nn`` by the forward passes of their modules, not by the fused kernels."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def leave_fast_path(model: nn.Module, name: str) -> Changes:
    """Have the transformers around the module called ``name`` call it, in evaluation mode as well.

    Returns:
        The attributes that were changed: module, name, the value that it had.
    """
    changed: Changes = []
    while name:
        name = name.rpartition(".")[0]
        module = model.get_submodule(name)
        for kind, attribute, value in _SWITCHES:
            if isinstance(module, kind) and getattr(module, attribute, value) != value:
                changed.append((module, attribute, getattr(module, attribute)))
                setattr(module, attribute, value)
    return changed


# Both are read for nothing but whether the fused kernel, or a nested tensor for it, may be taken.
_SWITCHES: tuple[tuple[type[nn.Module], str, object], ...] = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
    (nn.TransformerEncoder, "use_nested_tensor", False),
)
