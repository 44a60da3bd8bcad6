"""Option groups: options that belong together are declared once, as a dataclass, for every command that takes them.

A field is declared as a parameter of a typer command is, by ``Annotated[type, typer.Option(...)]`` and its default::

    @dataclass(frozen=True, kw_only=True)
    class GoalArguments:
        panel: ClassVar[str] = "Goal"
        budget: Annotated[list[str] | None, typer.Option(help="what the network may cost")] = None

    @command
    def plan(goal: GoalArguments, out: Path) -> None: ...

The command line then has ``--budget`` under the heading "Goal" and ``--out``, and the function gets the group.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

from polyadic.cli.screen import report_errors


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command for typer: groups spelled out as options of their own, and errors told in a sentence.

    Args:
        function: whose parameters are groups (dataclasses with a heading ``panel``), or what typer takes.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        if name in groups:
            parameters += _spelled_out(groups[name])
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @wraps(function)
    def flat(**given: Any) -> None:
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        report_errors(function)(**made, **given)

    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    flat.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return flat


def _spelled_out(group: Any) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=_under_heading(hints[field.name], group.panel),
        )


def _default(field: Field[Any]) -> Any:
    return Parameter.empty if field.default is MISSING else field.default


def _under_heading(hint: Any, panel: str) -> Any:
    """The same annotation, its option under the heading ``panel`` in ``--help``."""
    if get_origin(hint) is not Annotated:
        return hint
    kind, *notes = get_args(hint)
    shown = []
    for note in notes:
        note = copy.copy(note)
        if isinstance(note, OptionInfo):
            note.rich_help_panel = panel
        shown.append(note)
    return Annotated[kind, *shown]
