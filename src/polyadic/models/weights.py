"""Weights from a file into a model: everything fits and is finite, or nothing is loaded. No code is ever executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from polyadic.errors import DataError

# Keys under which training scripts keep the state dict inside a larger checkpoint.
_WRAPPERS = ("state_dict", "model")
_LISTED = 5


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the state dict in ``path`` into ``model``, casting each tensor to the dtype of its parameter or buffer.

    A name ending in ``.safetensors`` is read as such, any other file as torch's, tensors only: no pickled code runs. A
    state dict may lie under "state_dict" or "model"; a leading "module." on every name (DataParallel) is taken off;
    ``num_batches_tracked`` may be missing. Raises DataError, with ``model`` untouched, when the file is missing, broken
    or no state dict, when a name is missing or unexpected or a shape differs, or when a weight is NaN or infinite.
    """
    state = _without_module_prefix(read_state_dict(path), model)
    expected = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    _check_fit(state, expected, path)
    # Cast before looking for infinities: 1e5 is finite in float32 and infinite in float16.
    cast = {name: _cast(name, value, expected[name], path) for name, value in state.items()}
    model.load_state_dict(cast, strict=False)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the dense tensors of a safetensors or torch file, by name, on the CPU.

    Raises DataError when the file is missing, broken or holds anything but one state dict.
    """
    if not path.is_file():
        raise DataError(f"weights need a file; there is none at '{path}': check the path")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        kind = "an empty dict" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise DataError(f"a weights file holds a state dict; '{path}' holds {kind}: save model.state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise DataError(
                f"a state dict maps names to tensors; '{path}' maps {name!r} to a {type(value).__name__}: "
                "save model.state_dict(), alone or under the key 'state_dict'"
            )
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise DataError(f"weights are dense tensors; '{name}' in '{path}' is sparse, quantised or without data")
    return dict(content)


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"'{path}' is not a whole safetensors file ({error}): copy or save it again") from error


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file can make the unpickler raise nearly anything, and all of it means the same to the user.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"a weights file holds tensors and plain containers only; '{path}' is damaged or holds other objects, "
            f"which are never unpickled ({reason}): save model.state_dict() with torch.save or as safetensors"
        ) from error


def _without_module_prefix(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    prefix = "module."
    wrapped = all(name.startswith(prefix) for name in state)
    if not wrapped or any(name.startswith(prefix) for name in model.state_dict()):
        return state
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    missing = [
        f"{name} {tuple(value.shape)}"
        for name, value in expected.items()
        if name not in state and not name.endswith("num_batches_tracked")
    ]
    unexpected = [f"{name} {tuple(value.shape)}" for name, value in state.items() if name not in expected]
    reshaped = [
        f"{name} came as {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    groups = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
    found = [f"{len(names)} {label}: {_first(names)}" for label, names in groups if names]
    if found:
        raise DataError(
            f"names and shapes in a weights file must be those of the model; in '{path}' {'; '.join(found)}. "
            "Nothing was loaded: choose the model (and the number of classes) that the file was trained with"
        )


def _first(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _cast(name: str, value: Tensor, target: Tensor, path: Path) -> Tensor:
    if not torch.can_cast(value.dtype, target.dtype):
        raise DataError(
            f"weights keep their kind of number; '{name}' in '{path}' is {value.dtype}, the model's is {target.dtype}. "
            "Nothing was loaded: save it in the model's dtype"
        )
    cast = value.to(target.dtype)
    finite = torch.isfinite(cast)
    if not finite.all():
        count = int((~finite).sum())
        raise DataError(
            f"weights must be finite in the model's {target.dtype}; {count} of {cast.numel()} values of '{name}' in "
            f"'{path}' are NaN or infinite. Nothing was loaded: use a checkpoint from before the training diverged"
        )
    return cast
