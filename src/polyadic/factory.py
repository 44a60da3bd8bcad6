"""A user's own function named in text: ``package.module:factory`` or ``path/file.py:factory``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from polyadic.errors import PolyadicError


def call_factory(text: str, what: str, refusal: type[PolyadicError]) -> object:
    """Import the function that ``text`` names, call it without arguments and return what it returns.

    Modules beside the file, or in the working directory for a package, can be imported while the function runs. The
    user's code is executed. ``what`` ("model", "data") stands in the messages. Raises ``refusal`` when the function
    cannot be imported, is none or fails.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise refusal(f"a {what} factory is written package.module:factory or file.py:factory; got '{text}'")
    from_file = place.endswith(".py")
    with _importable(Path(place).resolve().parent if from_file else Path.cwd()):
        module = _import_file(Path(place), what, refusal) if from_file else _import_module(place, what, refusal)
        factory = getattr(module, name, None)
        if not callable(factory):
            raise refusal(f"'{place}' must define the {what} factory '{name}'; it does not: check the name in '{text}'")
        try:
            return factory()
        except refusal:
            # It already says what is wrong, and to whom.
            raise
        except Exception as error:
            raise refusal(f"'{text}' is called without arguments and raised {_told(error)}: correct it") from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` on the import path for the duration of the block."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _import_module(place: str, what: str, refusal: type[PolyadicError]) -> ModuleType:
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise refusal(
            f"a {what} factory lies in an importable module; '{place}' is not ({_told(error)}): check its name, or run "
            "in the folder that holds it"
        ) from error


def _import_file(path: Path, what: str, refusal: type[PolyadicError]) -> ModuleType:
    if not path.is_file():
        raise refusal(f"a {what} factory needs its Python file; there is none at '{path}': check the path")
    # A name of its own, so that the file cannot hide an installed module of the same name.
    name = f"polyadic_{what}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise refusal(f"'{path}' cannot be read as a Python module: give a .py file")
    module = importlib.util.module_from_spec(spec)
    # Registered first: dataclasses and pickles look their module up by name while the file runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise refusal(f"'{path}' could not be executed ({_told(error)}): correct it") from error
    return module


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
