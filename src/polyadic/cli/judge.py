"""What a network is judged by on the command line: images with labels, samples in files, or what code holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, cast, get_args

import torch
import typer
from torch import Tensor, nn
from torch.utils.data import Dataset

from polyadic.cli.arguments import FinetuneArguments, InputShape, Mean, Std, image_task, input_size, numbers
from polyadic.cli.user_code import data_from, function_from, is_score, metric_from
from polyadic.data import ImageData, Pixels, images_of, load_data, load_samples, names_samples
from polyadic.errors import DataError, LayerError, PolyadicError
from polyadic.export import Origin
from polyadic.factory import NamedObject
from polyadic.layers import Inputs, sample_shapes
from polyadic.models import LoadedModel
from polyadic.training import Compare, DistillOptions, Metric, Samples, SampleTask, ScoreTask, Task
from polyadic.training.metric import as_metric
from polyadic.training.samples import batches_of

IMAGE_SETS = ("npz", "cifar10", "imagefolder")
"""Beginnings of texts that name images with labels."""

KINDS = "samples:DIR, npy:FILE, npz:FILE, file.py:name; with labels digits, npz:PREFIX, cifar10:DIR, imagefolder:DIR"


@dataclass(frozen=True, kw_only=True)
class JudgeArguments:
    """Samples or images, and what else a network is judged by."""

    panel: ClassVar[str] = "Data"
    data: Annotated[str, typer.Option(help=KINDS)]
    validation: Annotated[str | None, typer.Option(help="samples that choose and judge, named as in --data")] = None
    metric: Annotated[
        str | None, typer.Option(help="file.py:name of a function (model) -> number, or of a metric", metavar="NAME")
    ] = None
    metric_unit: Annotated[str | None, typer.Option(help='its unit, such as dB; "%" for a fraction')] = None
    loss: Annotated[
        str | None, typer.Option(help="file.py:name of a function (outputs, batch) -> loss", metavar="NAME")
    ] = None
    forward: Annotated[
        str | None, typer.Option(help="file.py:name of a function (model, batch) -> outputs", metavar="NAME")
    ] = None
    compare: Annotated[
        str | None, typer.Option(help="compare outputs by their squares (the default), or logits by their divergence")
    ] = None
    mean: Mean = None
    std: Std = None
    input_shape: InputShape = None
    resize: Annotated[
        bool, typer.Option("--resize/--no-resize", help="scale images of samples:DIR, or cut out their middle unscaled")
    ] = True

    def read(self, seed: int = 0, held_out: int | None = None, origin: Origin | None = None) -> GivenData:
        """What ``--data`` names, as far as that is known without the network.

        Args:
            seed: of the division of images with labels.
            held_out: how many of these choose.
            origin: of a saved network: how its images are normalised.

        Raises:
            PolyadicError: it names nothing that is there, or options that do not go with it were given.
        """
        usual = origin or Origin()
        mean, std = numbers(self.mean, "--mean") or usual.mean, numbers(self.std, "--std") or usual.std
        kind, _, place = self.data.partition(":")
        images: ImageData | None = None
        made: object = None
        if self.data == "digits" or (kind in IMAGE_SETS and place and not names_samples(self.data)):
            images = load_data(self.data, mean=mean, std=std, held_out=held_out, seed=seed)
        elif not place:
            raise DataError(f"data are written {KINDS}; got '{self.data}'")
        elif not names_samples(self.data):
            made = data_from(self.data)
            if isinstance(made, ImageData | tuple):
                images = images_of(made, self.data, mean=mean, std=std, held_out=held_out, seed=seed)
        self._refuse_what_has_no_meaning(images is not None, held_out)
        return GivenData(self, images, None if images is not None else made, replace(usual, mean=mean, std=std))

    def _refuse_what_has_no_meaning(self, labelled: bool, held_out: int | None) -> None:
        """Options that go with another kind of data.

        Raises:
            PolyadicError: one of them was given.
        """
        of_files = [] if self.resize else ["--no-resize"]
        if labelled:
            given = [*self.beside, *of_files, *(["--input-shape"] if self.input_shape is not None else [])]
            if given:
                raise PolyadicError(
                    f"{', '.join(given)}: of samples, and {self.data} holds images with labels, which are scored by "
                    "top-1 accuracy as large as they are: leave out one of them"
                )
            return
        if held_out is not None:
            raise PolyadicError(f"--held-out counts images with labels; {self.data} holds none: give --validation")
        given = [*of_files, *(f"--{name}" for name in ("mean", "std") if getattr(self, name) is not None)]
        if given and not self.data.startswith("samples:"):
            raise PolyadicError(
                f"{', '.join(given)}: of image files alone, and what {self.data} holds goes into the network as it is: "
                "leave them out"
            )

    @property
    def beside(self) -> list[str]:
        """The options that go with samples alone, as far as they are given."""
        names = ("validation", "metric", "metric_unit", "loss", "forward", "compare")
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]


@dataclass(frozen=True)
class GivenData:
    """What ``--data`` names.

    Attributes:
        arguments: as they were given.
        images: with labels; None for anything else.
        made: what a Python file holds, or its function has returned; a function of the model that is still to be
            called; None for images, and for samples in files.
        origin: mean and deviation of pixels, where they are known.
    """

    arguments: JudgeArguments
    images: ImageData | None
    made: object
    origin: Origin

    def task(self, loaded: LoadedModel, tuning: FinetuneArguments | None, seed: int) -> Task:
        """What a network is judged and trained by; without ``tuning`` it is not trained as a whole.

        Args:
            loaded: the dense network.
            tuning: the options of the training.
            seed: of the training.

        Raises:
            PolyadicError: what a Python file holds judges no network, or options do not go with it.
            DataError: the samples cannot be used.
        """
        if self.images is not None:
            return image_task(self.images, seed) if tuning is None else tuning.image_task(self.images, seed)
        own, model = self.arguments, loaded.model
        made = self.made(model) if isinstance(self.made, NamedObject) else self.made
        if isinstance(made, Task):
            return self._of_its_own(made, tuning)
        if isinstance(made, Metric) or (isinstance(self.made, NamedObject) and is_score(made)):
            score = as_metric(made if isinstance(made, Metric) else cast(NamedObject, self.made).value)
            score = score if own.metric_unit is None else replace(score, unit=own.metric_unit)
            return self._of_its_own(ScoreTask(score), tuning, allowed=("--metric-unit",))
        return SampleTask(
            model,
            self._samples(own.data, made, loaded),
            validation=None if own.validation is None else self._samples(own.validation, None, loaded),
            metric=metric_from(own.metric, own.metric_unit),
            loss=function_from(own.loss, "loss"),
            forward=function_from(own.forward, "forward"),
            compare=_compare(own.compare),
            tuning=DistillOptions(epochs=0, seed=seed) if tuning is None else tuning.distillation(seed),
        )

    def example(self, loaded: LoadedModel, task: Task) -> Inputs:
        """What the network takes, a batch of one: as ``task`` knows it, else as large as is said.

        Raises:
            LayerError: nobody knows how large.
        """
        known = task.example_input()
        if known is not None:
            return known
        size = self.arguments.input_shape
        shape = loaded.input_shape if size is None else input_size(size)
        if shape is None:
            raise LayerError(f"{self.arguments.data} holds no samples: give the size of an input with --input-shape")
        return torch.zeros(1, *shape)

    def completed(self, origin: Origin, example: Inputs) -> Origin:
        """Where the network comes from, with what it takes."""
        if self.images is not None:
            return origin
        shapes = sample_shapes(example)
        shape = shapes[0] if isinstance(example, Tensor) else None
        if not self.arguments.data.startswith("samples:"):
            return replace(origin, input_shape=shape)
        assert shape is not None  # images are one tensor
        mean, std = Pixels(shape, self.origin.mean, self.origin.std).constants
        return replace(origin, input_shape=shape, mean=mean, std=std)

    def _of_its_own(self, task: Task, tuning: FinetuneArguments | None, allowed: tuple[str, ...] = ()) -> Task:
        """A task that says everything by itself.

        Raises:
            PolyadicError: options say it, too.
        """
        given = [name for name in self.arguments.beside if name not in allowed] + (
            [] if tuning is None else tuning.given
        )
        if given:
            raise PolyadicError(
                f"{self.arguments.data} says by itself how a network is scored and trained: leave out "
                f"{', '.join(given)}, or let it give samples"
            )
        return task

    def _samples(self, text: str, made: object, loaded: LoadedModel) -> Samples:
        """Batches, of files or of what a Python file holds.

        Raises:
            DataError: there are none.
        """
        if names_samples(text):
            return load_samples(text, self._pixels(loaded))
        if made is None:
            made = data_from(text)
            made = made(loaded.model) if isinstance(made, NamedObject) else made
        if isinstance(made, str | bytes | nn.Module | dict | None) or not isinstance(made, Iterable | Dataset | Tensor):
            raise DataError(
                f"'{text}' is, or gives, batches (a DataLoader, a list, a generator), a training.Task, a score, "
                f"or polyadic.data.ImageData; it gave {type(made).__name__}: return one of these"
            )
        return cast(Samples, batches_of(cast(Any, made), f"'{text}'"))

    def _pixels(self, loaded: LoadedModel) -> Pixels:
        size = self.arguments.input_shape
        shape = loaded.input_shape if size is None else input_size(size)
        return Pixels(
            Pixels.shape if shape is None else shape, self.origin.mean, self.origin.std, self.arguments.resize
        )


def _compare(text: str | None) -> Compare:
    if text is not None and text not in get_args(Compare):
        raise PolyadicError(f"--compare is {' or '.join(get_args(Compare))}; got {text!r}")
    return cast(Compare, text or "squares")
