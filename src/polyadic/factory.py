"""What a user's own code holds, named in text: ``package.module:name`` or ``path/file.py:name``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from polyadic.errors import PolyadicError


@dataclass(frozen=True)
class NamedObject:
    """What a user's text names.

    Attributes:
        text: as it was given.
        value: a function, or anything else that the module holds.
        folder: beside which modules lie that it imports.
        refusal: what a failure is raised as.
    """

    text: str
    value: Any
    folder: Path
    refusal: type[PolyadicError]

    def __call__(self, *arguments: object) -> Any:
        """Call the function; modules beside its file can be imported meanwhile.

        Raises:
            PolyadicError: it fails, as ``refusal``.
        """
        with _importable(self.folder):
            try:
                return self.value(*arguments)
            except self.refusal:
                # It already says what is wrong, and to whom.
                raise
            except Exception as error:
                how = "without arguments" if not arguments else f"with {len(arguments)} argument(s)"
                raise self.refusal(f"'{self.text}' is called {how} and raised {_told(error)}: correct it") from error


def named_object(text: str, what: str, refusal: type[PolyadicError]) -> NamedObject:
    """Import what ``text`` names: ``package.module:name`` or ``path/file.py:name``.

    The user's code is executed; modules beside the file, or in the working directory for a package, can be imported by
    it. ``what`` ("metric", "loss") stands in the messages. Raises ``refusal`` when it cannot be imported or is missing.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise refusal(f"a {what} is written package.module:name or file.py:name; got '{text}'")
    from_file = place.endswith(".py")
    folder = Path(place).resolve().parent if from_file else Path.cwd()
    with _importable(folder):
        module = _import_file(Path(place), what, refusal) if from_file else _import_module(place, what, refusal)
    if not hasattr(module, name):
        raise refusal(f"'{place}' must define the {what} '{name}'; it does not: check the name in '{text}'")
    return NamedObject(text, getattr(module, name), folder, refusal)


def call_factory(text: str, what: str, refusal: type[PolyadicError]) -> object:
    """Import the function that ``text`` names, call it without arguments and return what it returns.

    ``what`` ("model", "data") stands in the messages. Raises ``refusal`` when the function cannot be imported, is none
    or fails; see :func:`named_object`.
    """
    found = named_object(text, f"{what} factory", refusal)
    if not callable(found.value):
        place, _, name = text.rpartition(":")
        raise refusal(f"'{place}' must define the {what} factory '{name}'; it does not: check the name in '{text}'")
    return found()


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
            f"a {what} lies in an importable module; '{place}' is not ({_told(error)}): check its name, or run "
            "in the folder that holds it"
        ) from error


def _import_file(path: Path, what: str, refusal: type[PolyadicError]) -> ModuleType:
    if not path.is_file():
        raise refusal(f"a {what} needs its Python file; there is none at '{path}': check the path")
    # A name of its own, so that the file cannot hide an installed module of the same name.
    name = f"polyadic_{what.replace(' ', '_')}_{path.stem}"
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
