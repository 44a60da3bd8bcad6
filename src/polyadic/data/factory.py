"""A data factory named in text: ``package.module:factory`` or ``path/file.py:factory``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from polyadic.errors import DataError


def call_factory(text: str) -> object:
    """Import the function that ``text`` names, call it without arguments and return what it returns.

    Modules beside the file, or in the working directory for a package, can be imported while the function runs. The
    user's code is executed. Raises DataError when it cannot be imported, is no function or fails.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise DataError(f"a data factory is written package.module:factory or file.py:factory; got '{text}'")
    from_file = place.endswith(".py")
    with _importable(Path(place).resolve().parent if from_file else Path.cwd()):
        module = _import_file(Path(place)) if from_file else _import_module(place)
        factory = getattr(module, name, None)
        if not callable(factory):
            raise DataError(f"'{place}' must define the data factory '{name}'; it does not: check the name in '{text}'")
        try:
            return factory()
        except DataError:
            # It already says what is wrong with the data, and to whom.
            raise
        except Exception as error:
            raise DataError(f"'{text}' is called without arguments and raised {_told(error)}: correct it") from error


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


def _import_module(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise DataError(
            f"a data factory lies in an importable module; '{place}' is not ({_told(error)}): check its name, or run "
            "in the folder that holds it"
        ) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise DataError(f"a data factory needs its Python file; there is none at '{path}': check the path")
    # A name of its own, so that the file cannot hide an installed module of the same name.
    name = f"polyadic_data_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DataError(f"'{path}' cannot be read as a Python module: give a .py file")
    module = importlib.util.module_from_spec(spec)
    # Registered first: dataclasses and pickles look their module up by name while the file runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise DataError(f"'{path}' could not be executed ({_told(error)}): correct it") from error
    return module


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
