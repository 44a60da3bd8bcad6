"""The options that say what a network is judged by: samples of any kind, or images with labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from polyadic.cli.image_file_arguments import ImageFileArguments
from polyadic.errors import PolyadicError

BESIDE = ("validation", "metric", "metric_unit", "loss", "forward", "compare")
"""What stands beside samples."""

KINDS = "samples:DIR, npy:FILE, npz:FILE, file.py:name; with labels digits, npz:PREFIX, cifar10:DIR, imagefolder:DIR"


@dataclass(frozen=True, kw_only=True)
class ExampleArguments(ImageFileArguments):
    """What tells how large an input is: samples, images, or the size itself."""

    data: Annotated[str | None, typer.Option(help="as in compress; here only for the size of an input")] = None
    forward: Annotated[
        str | None, typer.Option(help="file.py:name of a function (model, batch) -> outputs", metavar="NAME")
    ] = None

    def refuse_what_has_no_samples(self) -> None:
        """Options that say what is done with samples, where there are none.

        Raises:
            PolyadicError: one of them was given.
        """
        given = [*self.beside, *self.of_files]
        if self.data is None and given:
            raise PolyadicError(f"{', '.join(given)}: of samples, and there are none: name them with --data")

    def refuse_what_has_no_meaning(self, data: str, labelled: bool, held_out: int | None) -> None:
        """Options that go with another kind of data.

        Raises:
            PolyadicError: one of them was given.
        """
        if labelled:
            judged = isinstance(self, OptionalJudgeArguments) and self.input_shape is not None
            given = [*self.beside, *self.of_files, *(["--input-shape"] if judged else [])]
            if given:
                raise PolyadicError(
                    f"{', '.join(given)}: of samples, and {data} holds images with labels, which are scored by "
                    "top-1 accuracy as large as they are: leave out one of them"
                )
            return
        if held_out is not None:
            raise PolyadicError(f"--held-out counts images with labels; {data} holds none: give --validation")
        given = [*self.of_files, *(f"--{name}" for name in ("mean", "std") if getattr(self, name) is not None)]
        if given and not data.startswith("samples:"):
            raise PolyadicError(
                f"{', '.join(given)}: of image files alone, and what {data} holds goes into the network as it is: "
                "leave them out"
            )

    @property
    def beside(self) -> list[str]:
        """The options that go with samples alone, as far as they are given."""
        return self.given(BESIDE)


@dataclass(frozen=True, kw_only=True)
class OptionalJudgeArguments(ExampleArguments):
    """Samples or images, and what else a network is judged by; or nothing."""

    data: Annotated[str | None, typer.Option(help=KINDS)] = None
    validation: Annotated[str | None, typer.Option(help="samples that choose and judge, named as in --data")] = None
    metric: Annotated[
        str | None, typer.Option(help="file.py:name of a function (model) -> number, or of a metric", metavar="NAME")
    ] = None
    metric_unit: Annotated[str | None, typer.Option(help='its unit, such as dB; "%" for a fraction')] = None
    loss: Annotated[
        str | None, typer.Option(help="file.py:name of a function (outputs, batch) -> loss", metavar="NAME")
    ] = None
    compare: Annotated[
        str | None, typer.Option(help="compare outputs by their squares (the default), or logits by their divergence")
    ] = None


@dataclass(frozen=True, kw_only=True)
class JudgeArguments(OptionalJudgeArguments):
    """Samples or images, and what else a network is judged by."""

    data: Annotated[str, typer.Option(help=KINDS)] = field()  # else it would inherit the default
