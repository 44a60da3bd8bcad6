"""Weights from a file into a model: everything fits and is finite, or nothing is loaded. No code is ever executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from polyadic.errors import DataError
from polyadic.storage import inflates_to

RAW = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "params", "weights")
"""Keys under which training scripts keep the state dict inside a larger checkpoint, looked for in this order."""

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema")
"""Keys of a moving average of the weights, which is taken where a file holds nothing else."""

WRAPPERS = ("module", "_orig_mod", "model", "net", "network")
"""First parts of names that DataParallel, torch.compile, Lightning and the like put before those of the network."""

_LISTED = 5
_DEEPEST = 3  # state dicts lie under so many keys at most
_CLASS = re.compile(r"(?:GLOBAL|class|type|function) ([\w.]+\.[\w.]+)")


class _Skipped:
    """In the place of an object that lies beside the weights: takes whatever it is made of, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_SKIPPED: list[Any] = [
    (type(name.rpartition(".")[2].replace("_reconstruct", "ndarray"), (_Skipped,), {}), name)
    for name in (
        "argparse.Namespace",
        "types.SimpleNamespace",
        "datetime.datetime",
        "numpy.dtype",
        "numpy.ndarray",
        *(f"numpy.{core}.multiarray.{maker}" for core in ("core", "_core") for maker in ("scalar", "_reconstruct")),
        *(f"pathlib.{name}" for name in ("PosixPath", "WindowsPath", "_local.PosixPath", "_local.WindowsPath")),
    )
]
"""What scripts keep beside the weights (options, scores, paths): each is read as a stand-in, and never as itself."""


def load_weights(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Load the state dict in ``path`` into ``model``, casting each tensor to the dtype of its parameter or buffer.

    A name ending in ``.safetensors`` is read as such, any other file as torch's, tensors only: no pickled code runs. A
    state dict may lie under a key such as "state_dict", "model_state_dict" or "net" (:data:`RAW`, :data:`AVERAGED`).
    What DataParallel, ``torch.compile``, Lightning or ``AveragedModel`` put before the names is taken off.
    ``num_batches_tracked`` may be missing, and so may a tensor that the model shares with one that is there.

    Returns:
        What a reader must know of the choice: which weights of several were taken, whether they are averages.

    Raises:
        DataError: the file is missing, broken or no state dict, a name is missing or unexpected, a shape differs, a
            weight is NaN or infinite, or two tensors differ that the model shares. ``model`` is untouched.
    """
    found, notes = _read(path)
    state, averaged = _unwrapped(found, model)
    if averaged:
        notes = (*notes, f"'{path}' holds the averages that torch's AveragedModel kept, and they were taken")
    expected = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    _check_fit(state, expected, path)
    # Cast before looking for infinities: 1e5 is finite in float32 and infinite in float16.
    cast = {name: _cast(name, value, expected[name], path) for name, value in state.items()}
    model.load_state_dict(cast, strict=False)
    return notes


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the dense tensors of a safetensors or torch file, by name, on the CPU.

    Raises DataError when the file is missing, broken or holds anything but one state dict.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict, and which of several it is."""
    if not path.is_file():
        raise DataError(f"weights need a file; there is none at '{path}': check the path")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    notes: list[str] = []
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        keys = [key for key in (*RAW, *AVERAGED) if isinstance(content.get(key), Mapping)]
        if not keys:
            break
        if keys[0] in AVERAGED:
            notes.append(f"'{path}' holds averaged weights alone, and they were taken (its {keys[0]!r})")
        elif len(keys) > 1:
            others = ", ".join(map(repr, keys[1:]))
            notes.append(f"'{path}' holds {others}, too; the weights as they were trained were taken (its {keys[0]!r})")
        content = content[keys[0]]
    return _as_state_dict(content, path), tuple(notes)


def _as_state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        kind = "an empty dict" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise DataError(f"a weights file holds a state dict; '{path}' holds {kind}: save model.state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            states = [repr(key) for key, inner in content.items() if isinstance(inner, Mapping)]
            under = f" (there are dicts under {', '.join(states[:_LISTED])})" if states else ""
            raise DataError(
                f"a state dict maps names to tensors; '{path}' maps {name!r} to a {type(value).__name__}{under}: "
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
    bomb = inflates_to(path)
    if bomb is not None:
        raise DataError(f"'{path}' holds no weights ({bomb}): do not trust this file")
    try:
        with torch.serialization.safe_globals(_SKIPPED):
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file can make the unpickler raise nearly anything, and all of it means the same to the user.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        named = _CLASS.search(str(error))
        if "Unsupported" in str(error) and named is not None:
            reason = f"{named[1]} is in the way"
        raise DataError(
            f"a weights file holds tensors and plain containers only; '{path}' is damaged or holds other objects, "
            f"which are never unpickled ({reason}): save model.state_dict() with torch.save or as safetensors"
        ) from error


def _unwrapped(state: dict[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], bool]:
    """The tensors by the names of ``model``, without what wrappers put before them; whether they are averages."""
    own = set(model.state_dict())
    count = state.get("n_averaged")
    averaged = count is not None and count.ndim == 0 and "n_averaged" not in own
    if averaged:
        state = {name: value for name, value in state.items() if name != "n_averaged"}
    if not any("_orig_mod." in name for name in own):  # parts of a network may be compiled, too
        state = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    while state:
        first = next(iter(state)).partition(".")[0]
        prefix = f"{first}."
        if any(name.startswith(prefix) for name in own) or not all(name.startswith(prefix) for name in state):
            break
        bare = {name.removeprefix(prefix): value for name, value in state.items()}
        if first not in WRAPPERS and not own.issuperset(bare):
            break
        state = bare
    return state, averaged


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    shared: dict[int, list[str]] = {}  # names under which the file has one tensor of the model
    for name in state:
        if name in expected:
            shared.setdefault(id(expected[name]), []).append(name)
    missing = [
        f"{name} {tuple(value.shape)}"
        for name, value in expected.items()
        if name not in state and id(value) not in shared and not name.endswith("num_batches_tracked")
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
            f"Nothing was loaded: {_advice(state, expected)}"
        )
    for first, *others in shared.values():
        for other in others:
            if not torch.equal(state[first], state[other]):
                raise DataError(
                    f"the model has one tensor for '{first}' and '{other}'; '{path}' holds two different ones. Nothing "
                    "was loaded: choose the model that the file was trained with"
                )


def _advice(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What to do about names that do not fit: whose prefix is in the way of most of them, if one is."""
    for prefix in dict.fromkeys(name.partition(".")[0] + "." for name in state):
        inside = {name for name in state if name.startswith(prefix)}
        if 2 * sum(prefix + name in inside for name in expected) > len(expected):
            beside = [name for name in state if name not in inside]
            return (
                f"names of the model lie under {prefix!r}, and {_first(beside) or 'other names'} in the way: save the "
                "state dict of that part alone"
            )
    return "choose the model (and the number of classes) that the file was trained with"


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
