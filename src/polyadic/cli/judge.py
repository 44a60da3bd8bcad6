"""What ``--data`` names, as a task that chooses, trains and judges."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from polyadic.cli.finetune_arguments import FinetuneArguments, image_task
from polyadic.cli.judge_arguments import KINDS, ExampleArguments, OptionalJudgeArguments
from polyadic.cli.lists import input_size, numbers
from polyadic.cli.user_code import data_from, function_from, is_score, metric_from
from polyadic.data import ImageData, Pixels, images_of, load_data, load_samples, names_samples
from polyadic.errors import DataError, LayerError, PolyadicError
from polyadic.export import Origin
from polyadic.factory import NamedObject
from polyadic.layers import Inputs, first_samples, sample_shapes
from polyadic.models import LoadedModel
from polyadic.training import (
    Compare,
    DistillOptions,
    ImageTask,
    Metric,
    Samples,
    SampleTask,
    ScoreTask,
    Task,
    inputs_of,
)
from polyadic.training.metric import as_metric
from polyadic.training.samples import NO_BATCHES, batches_of

IMAGE_SETS = ("npz", "cifar10", "imagefolder")
"""Beginnings of texts that name images with labels."""


@dataclass(frozen=True)
class GivenData:
    """What ``--data`` names.

    Attributes:
        arguments: as they were given.
        images: with labels; None for anything else.
        made: what a Python file holds, or its function has returned; a function of the model that is still to be
            called; None for images, and for samples in files.
        origin: mean and deviation of pixels as they were given, order of channels and layout, where they are known.
    """

    arguments: ExampleArguments
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
        own, made = self.arguments, self._of(loaded.model)
        assert isinstance(own, OptionalJudgeArguments)
        if isinstance(made, Task):
            return self._of_its_own(made, tuning)
        if isinstance(made, Metric):
            score = made if own.metric_unit is None else replace(made, unit=own.metric_unit)
            return self._of_its_own(ScoreTask(score), tuning, allowed=("--metric-unit",))
        return SampleTask(
            loaded.model,
            self._samples(self.text, made, loaded),
            validation=None if own.validation is None else self._samples(own.validation, None, loaded),
            metric=metric_from(own.metric, own.metric_unit),
            loss=function_from(own.loss, "loss"),
            forward=function_from(own.forward, "forward"),
            compare=_compare(own.compare),
            tuning=DistillOptions(epochs=0, seed=seed) if tuning is None else tuning.distillation(seed),
        )

    @property
    def compares_outputs(self) -> bool:
        """Whether samples are judged by outputs alone, as far as that is known before a function is called."""
        own = self.arguments
        metric = own.metric if isinstance(own, OptionalJudgeArguments) else None
        return self.images is None and metric is None and not isinstance(self.made, Task | Metric | NamedObject)

    @property
    def text(self) -> str:
        """As it was given.

        Raises:
            PolyadicError: nothing was.
        """
        if self.arguments.data is None:
            raise PolyadicError(f"what a network is judged by is missing: give --data, {KINDS}")
        return self.arguments.data

    def example(self, loaded: LoadedModel, task: Task | None = None) -> Inputs:
        """What the network takes, a batch of one: as ``task`` or the first of the samples knows it, else as is said.

        Raises:
            LayerError: nobody knows how large it is.
        """
        known = self._known_example(loaded, task)
        if known is not None:
            return known
        size = self.arguments.input_shape
        shape = loaded.input_shape if size is None else input_size(size)
        if shape is None:
            raise LayerError(
                f"taking {loaded.source!r} apart needs the size of an input: give --input-shape C,H,W or --data "
                "with samples"
            )
        return torch.zeros(1, *shape)

    def _known_example(self, loaded: LoadedModel, task: Task | None) -> Inputs | None:
        if task is not None:
            return task.example_input()
        if self.images is not None:
            size = self.arguments.input_shape
            return torch.zeros(1, *(self.images.image_shape if size is None else input_size(size)))
        if self.arguments.data is None:
            return None
        made = self._of(loaded.model)
        if isinstance(made, Task):
            return made.example_input()
        if isinstance(made, Metric):
            return None
        return first_samples(self._first_batch(loaded, made), 1)

    def inputs(self, loaded: LoadedModel, count: int) -> Inputs | None:
        """The first ``count`` of the samples, or of the held-out images, as the network takes them.

        Fewer where a batch of the samples holds fewer; None where there are none.
        """
        if self.images is not None:
            held_out = self.images.held_out
            return self.images.normalise(held_out.images(torch.arange(min(count, len(held_out)))))
        if self.arguments.data is None:
            return None
        made = self._of(loaded.model)
        if isinstance(made, SampleTask):
            return first_samples(made.inputs_of(made.train[0]), count)
        if isinstance(made, Task):
            return made.example_input()
        return None if isinstance(made, Metric) else first_samples(self._first_batch(loaded, made), count)

    def _first_batch(self, loaded: LoadedModel, made: object) -> Inputs:
        """What goes in of the first batch.

        Raises:
            DataError: there is none.
        """
        batch = next(iter(batches_of(self._samples(self.text, made, loaded), self.text)), None)
        if batch is None:
            raise DataError(f"{self.text} {NO_BATCHES}")
        return inputs_of(loaded.model, batch, function_from(self.arguments.forward, "forward"))

    def _of(self, model: nn.Module) -> object:
        """What a file of code holds for a network: a task, a metric, batches; None for other data."""
        if not isinstance(self.made, NamedObject):
            return self.made
        made = self.made(model)
        return as_metric(self.made.value) if is_score(made) else made

    def completed(self, origin: Origin, example: Inputs) -> Origin:
        """Where the network comes from, with what it takes."""
        shape = sample_shapes(example)[0] if isinstance(example, Tensor) else None
        if self.images is not None:
            return replace(origin, input_shape=shape)
        origin = replace(origin, mean=self.origin.mean, std=self.origin.std, input_shape=shape)
        pixels = self._cut_to(example)
        if pixels is None:
            return origin
        mean, std = pixels.constants
        order, layout = pixels.known_order, pixels.known_layout
        return replace(origin, mean=mean, std=std, channel_order=order, layout=layout)

    def provenance(self, example: Inputs) -> dict[str, Any]:
        """What ``result.json`` says of the samples: their text, and what was done with images of a folder."""
        pixels = self._cut_to(example)
        return {"data": self.text, **({} if pixels is None else {"pixels": pixels.to_json()})}

    def _cut_to(self, example: Inputs) -> Pixels | None:
        """How images of a folder became ``example``; None where the samples are others."""
        if self.arguments.data is None or not self.text.startswith("samples:") or not isinstance(example, Tensor):
            return None
        return self.arguments.pixels(self.origin, sample_shapes(example)[0])

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
                f"{self.text} says by itself how a network is scored and trained: leave out "
                f"{', '.join(given)}, or let it give samples"
            )
        return task

    def _samples(self, text: str, made: object, loaded: LoadedModel) -> Samples:
        """Batches, of files or of what a Python file holds.

        Raises:
            DataError: there are none.
        """
        if names_samples(text):
            return load_samples(text, self.arguments.pixels(self.origin, loaded.input_shape))
        if made is None:
            made = data_from(text)
            made = made(loaded.model) if isinstance(made, NamedObject) else made
        if isinstance(made, str | bytes | nn.Module | dict | None) or not isinstance(made, Iterable | Dataset | Tensor):
            raise DataError(
                f"'{text}' is, or gives, batches (a DataLoader, a list, a generator), a training.Task, a score, "
                f"or polyadic.data.ImageData; it gave {type(made).__name__}: return one of these"
            )
        return cast(Samples, batches_of(cast(Any, made), f"'{text}'"))


def _compare(text: str | None) -> Compare:
    if text is not None and text not in get_args(Compare):
        raise PolyadicError(f"--compare is {' or '.join(get_args(Compare))}; got {text!r}")
    return cast(Compare, text or "squares")


def shown_size(example: Inputs) -> str:
    """The size of an input, such as 3 x 224 x 224; of several, one behind the other."""
    return ", ".join(" x ".join(map(str, shape)) or "1" for shape in sample_shapes(example))


def without_training(task: Task) -> Task:
    """The same task, under which the network as a whole is not trained.

    Raises:
        PolyadicError: a task of the user's own that trains it.
    """
    if isinstance(task, SampleTask):
        silent = copy(task)
        silent.tuning = replace(task.tuning, epochs=0)
        return silent
    if not isinstance(task, ImageTask) and type(task).tune_network is not Task.tune_network:
        raise PolyadicError(
            f"nothing is to be trained here, and {type(task).__name__} trains by itself: carry the plan out with "
            "compress --plan, or give a task that does not"
        )
    return task


def read_data(
    arguments: ExampleArguments, seed: int = 0, held_out: int | None = None, origin: Origin | None = None
) -> GivenData:
    """What ``--data`` names, as far as that is known without the network; nothing where it is not given.

    Args:
        arguments: as they were given.
        seed: of the division of images with labels.
        held_out: how many of these choose.
        origin: of a saved network: how its images are normalised.

    Raises:
        PolyadicError: it names nothing that is there, or options that do not go with it were given.
    """
    arguments.refuse_what_has_no_samples()
    usual = origin or Origin()
    mean, std = numbers(arguments.mean, "--mean"), numbers(arguments.std, "--std")
    if arguments.value_range is None:  # constants of a saved network are of pixels in 0,1
        mean, std = mean or usual.mean, std or usual.std
    images: ImageData | None = None
    made: object = None
    if arguments.data is None:
        return GivenData(arguments, None, None, replace(usual, mean=mean, std=std))
    kind, _, place = arguments.data.partition(":")
    if arguments.data == "digits" or (kind in IMAGE_SETS and place and not names_samples(arguments.data)):
        images = load_data(arguments.data, mean=mean, std=std, held_out=held_out, seed=seed)
    elif not place:
        raise DataError(f"data are written {KINDS}; got '{arguments.data}'")
    elif not names_samples(arguments.data):
        made = data_from(arguments.data)
        if isinstance(made, ImageData | tuple):
            images = images_of(made, arguments.data, mean=mean, std=std, held_out=held_out, seed=seed)
    arguments.refuse_what_has_no_meaning(arguments.data, images is not None, held_out)
    return GivenData(arguments, images, None if images is not None else made, replace(usual, mean=mean, std=std))
