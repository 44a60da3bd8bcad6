"""The options that commands share, in groups, and what each group makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, cast

import torch
import typer
from torch import Tensor

from polyadic.cli.screen import console
from polyadic.data import ImageData, load_data
from polyadic.engines import (
    ENGINES,
    Conditions,
    LatencyCache,
    LatencyModel,
    NumberFormat,
    engine_named,
)
from polyadic.errors import LayerError, PolyadicError
from polyadic.export import Origin
from polyadic.models import LIBRARIES, LoadedModel, load_model
from polyadic.pipeline import CompressOptions
from polyadic.search import SEARCHES, RankSearch, search_named
from polyadic.storage import cache_directory
from polyadic.surgery import FactorCache, default_cache_directory
from polyadic.training import (
    LAYER_TUNING,
    NETWORK_TUNING,
    DistillOptions,
    FinetuneOptions,
    ImageTask,
    augmentation_for,
)

Mean = Annotated[str | None, typer.Option(help="per-channel mean of pixels in 0..1, such as 0.485,0.456,0.406")]
Std = Annotated[str | None, typer.Option(help="per-channel standard deviation")]
HeldOut = Annotated[int | None, typer.Option(help="training images held out to choose ranks", rich_help_panel="Data")]
InputShape = Annotated[str | None, typer.Option(help="size of one input, such as 3,224,224")]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        help="what the network may cost: macs=50%, params=200k, bytes=1MB, latency=2ms, macs=2x (repeatable)",
        metavar="NAME=LIMIT",
        rich_help_panel="Goal",
    ),
]
AlarmAt = Annotated[
    float,
    typer.Option(
        help="share of the dense network's answers that may be lost before the result begins with a warning and the "
        "command ends with status 3",
        metavar="SHARE",
        min=0.0,
    ),
]
Seed = Annotated[int, typer.Option(help="same seed, same factors, same plan")]
CacheDir = Annotated[Path | None, typer.Option(help="where factored kernels are kept")]
DataAware = Annotated[
    bool, typer.Option("--data-aware/--plain-norm", help="decompose in the norm of each layer's inputs, or not")
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object on the last line of stdout")]


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """A network, and its weights."""

    panel: ClassVar[str] = "Model"
    model: Annotated[
        str, typer.Argument(help="polyadic:NAME, torchvision:NAME, timm:NAME, module:factory or file.py:factory")
    ]
    weights: Annotated[Path | None, typer.Option(help="safetensors, or a torch file with a plain state dict")] = None

    def load(self, images: ImageData | None) -> tuple[LoadedModel, Origin]:
        """The network, with as many classes as the data has, and where it comes from."""
        # a factory decides its number of classes itself
        classes = images.classes if images is not None and self.model.startswith(LIBRARIES) else None
        loaded = load_model(self.model, weights=self.weights, classes=classes)
        kinds = {tensor.dtype for tensor in loaded.model.parameters() if tensor.is_floating_point()}
        if kinds and torch.float32 not in kinds:
            raise LayerError(
                f"commands give networks float32 inputs; the weights of {self.model} are "
                f"{', '.join(sorted(str(kind).removeprefix('torch.') for kind in kinds))}: let its factory return "
                "model.float(); --precision is the number format on an engine"
            )
        for note in loaded.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        if images is None:
            return loaded, Origin(self.model, classes, input_shape=loaded.input_shape)
        return loaded, Origin(self.model, classes, images.mean, images.std, tuple(images.image_shape))


Untrained = Annotated[bool, typer.Option("--untrained", help="take a network of a library with random weights")]


@dataclass(frozen=True, kw_only=True)
class TrainedModelArguments(ModelArguments):
    """A network whose weights matter: one of a library comes with a file of them."""

    untrained: Untrained = False

    def load(self, images: ImageData | None) -> tuple[LoadedModel, Origin]:
        """The network and where it comes from.

        Raises:
            PolyadicError: a library's network without weights, which is not asked for.
        """
        require_weights(self.model, self.weights, untrained=self.untrained)
        return super().load(images)


def require_weights(model: str, weights: Path | None, *, untrained: bool) -> None:
    """Refuse a library's network with random weights, unless ``untrained`` asks for it; a factory loads its own.

    Raises:
        PolyadicError: it has no weights, or was asked for without any and has some.
    """
    if untrained and (weights is not None or not model.startswith(LIBRARIES)):
        what = f"those of {weights}" if weights is not None else "those of its factory"
        raise PolyadicError(f"--untrained takes {model} with random weights, and it has {what}: leave out one of them")
    if weights is None and not untrained and model.startswith(LIBRARIES):
        raise PolyadicError(
            f"{model} is built with random weights, and none were given: name the file of its trained ones with "
            "--weights, or say --untrained where random weights are meant"
        )


@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """Images, and how they are normalised."""

    panel: ClassVar[str] = "Data"
    data: Annotated[str, typer.Option(help="digits, npz:PREFIX, cifar10:DIR, imagefolder:DIR or module:factory")]
    mean: Mean = None
    std: Std = None

    def load(self, seed: int = 0, held_out: int | None = None, origin: Origin | None = None) -> ImageData:
        """The images, normalised as was asked, else as ``origin`` says."""
        return _images(self.data, self.mean, self.std, origin, seed, held_out)


@dataclass(frozen=True, kw_only=True)
class SizeArguments:
    """What tells how large an input is: images, or the size itself."""

    panel: ClassVar[str] = "Data"
    data: Annotated[str | None, typer.Option(help="as in compress; here only for the size of an image")] = None
    input_shape: InputShape = None
    mean: Mean = None
    std: Std = None

    def load(self, seed: int = 0, held_out: int | None = None, origin: Origin | None = None) -> ImageData | None:
        """The images, where any are named."""
        return None if self.data is None else _images(self.data, self.mean, self.std, origin, seed, held_out)

    def example(self, loaded: LoadedModel, images: ImageData | None) -> Tensor:
        """One input of zeros (1, ...): as large as the size says, else as the images, else as the model's name.

        Raises:
            LayerError: nobody knows the size, or it is none.
        """
        shape = images.image_shape if images is not None else loaded.input_shape
        if self.input_shape is not None:
            return torch.zeros(1, *input_size(self.input_shape))
        if shape is None:
            raise LayerError(
                f"taking {loaded.source!r} apart needs the size of an input: give --input-shape C,H,W or --data"
            )
        return torch.zeros(1, *shape)


@dataclass(frozen=True, kw_only=True)
class GoalArguments:
    """What is asked for."""

    panel: ClassVar[str] = "Goal"
    max_drop: Annotated[
        str | None,
        typer.Option(
            help="what may be lost, in the unit of the score (points of an accuracy), or as a share of it (0.5%)",
            metavar="POINTS",
        ),
    ] = None
    budget: Budget = None
    alarm_at: AlarmAt = CompressOptions.alarm_at


@dataclass(frozen=True, kw_only=True)
class FormatArguments:
    """What layers may become."""

    panel: ClassVar[str] = "Search"
    formats: Annotated[str, typer.Option(help="formats to choose from, separated by commas")] = "cp-epc,svd"
    round_to: Annotated[
        int | None,
        typer.Option(help="round ranks to multiples of this, where there are any; by default 8 with --engine"),
    ] = None
    exclude: Annotated[list[str] | None, typer.Option(help="layer, or pattern with *, to leave dense (repeatable)")] = (
        None
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The formats."""
        return names_of(self.formats)


@dataclass(frozen=True, kw_only=True)
class SearchArguments(FormatArguments):
    """How formats and ranks are found."""

    search: Annotated[str | None, typer.Option(help=f"how formats and ranks are found: {', '.join(SEARCHES)}")] = None
    trials: Annotated[int | None, typer.Option(help="most trials of the search")] = None
    timeout: Annotated[float | None, typer.Option(help="seconds after which the search ends", metavar="SECONDS")] = None
    max_drop_per_layer: Annotated[
        float | None,
        typer.Option(
            help="points that a single layer may lose; by default its share of what the network may lose",
            metavar="POINTS",
        ),
    ] = None
    finetune_recovery_factor: Annotated[
        float, typer.Option(help="times max-drop that may be lost before fine-tuning", metavar="TIMES")
    ] = CompressOptions.finetune_recovery_factor
    data_aware: DataAware = True

    def options(self, engine: EngineArguments, run: RunArguments, storage: str | None = None) -> CompressOptions:
        """The options of a search, and of a compression."""
        return CompressOptions(
            max_drop_per_layer=self.max_drop_per_layer,
            finetune_recovery_factor=self.finetune_recovery_factor,
            search=search_of(self.search, run.seed),
            trials=self.trials,
            timeout=self.timeout,
            round_to=self.round_to,
            latency=engine.latency(),
            require_speedup=engine.require_speedup,
            exclude=tuple(self.exclude or ()),
            data_aware=self.data_aware,
            seed=run.seed,
            cache=factor_cache(run.cache_dir),
            work=run.out,
            resume=run.resume,
            storage=storage,
        )


@dataclass(frozen=True, kw_only=True)
class EngineArguments:
    """Where the network is to be fast, and who takes the times."""

    panel: ClassVar[str] = "Engine"
    engine: Annotated[str | None, typer.Option(help=f"where the network is to be fast: {', '.join(ENGINES)}")] = None
    batch: Annotated[int | None, typer.Option(help="samples of a pass on the engine (1)")] = None
    threads: Annotated[int | None, typer.Option(help="of the engine; as many as torch takes when absent")] = None
    precision: Annotated[str | None, typer.Option(help="number format on the engine (float32): bfloat16, float16")] = (
        None
    )
    require_speedup: Annotated[
        bool,
        typer.Option(
            "--require-speedup/--no-require-speedup",
            help="replace layers only by what is measurably faster on the engine, or by what is smaller, too",
        ),
    ] = True
    latency_dir: Annotated[Path | None, typer.Option(help="where measured times are kept")] = None

    def latency(self) -> LatencyModel | None:
        """Who takes the times; None where no engine is named.

        Raises:
            EngineError: no engine has that name, or numbers out of range.
            PolyadicError: conditions, and no engine.
        """
        if self.engine is None:
            given = {
                "--batch": self.batch,
                "--threads": self.threads,
                "--precision": self.precision,
                "--latency-dir": self.latency_dir,
            }
            named = [name for name, value in given.items() if value is not None]
            if named:
                raise PolyadicError(
                    f"{', '.join(named)} belong to an engine: name one (--engine onnxruntime), or none of them"
                )
            return None
        usual = Conditions(threads=torch.get_num_threads())
        conditions = Conditions(
            usual.batch if self.batch is None else self.batch,
            usual.threads if self.threads is None else self.threads,
            usual.precision if self.precision is None else cast(NumberFormat, self.precision),
        )
        cache = LatencyCache(self.latency_dir or cache_directory("latency"))
        return LatencyModel(engine_named(self.engine), conditions, cache)


@dataclass(frozen=True, kw_only=True)
class FinetuneArguments:
    """How the whole network is trained after the layers are replaced."""

    panel: ClassVar[str] = "Fine-tuning"
    finetune_epochs: Annotated[
        int | None,
        typer.Option(
            help=f"epochs for the network ({NETWORK_TUNING.epochs}, with samples {DistillOptions.epochs}); 0 = none"
        ),
    ] = None
    finetune_rate: Annotated[
        float | None,
        typer.Option(
            help=f"learning rate of these epochs at its highest ({NETWORK_TUNING.learning_rate:g}, "
            f"with samples {DistillOptions.learning_rate:g}); cosine to 0"
        ),
    ] = None
    finetune_minutes: Annotated[
        float | None,
        typer.Option(
            help="with samples: after which the training has ended, whatever the epochs; the rate falls in time for it",
            metavar="MINUTES",
        ),
    ] = None
    freeze_statistics: Annotated[
        bool, typer.Option(help="leave batch-norm statistics as they are: forgets less, learns less; so with samples")
    ] = NETWORK_TUNING.freeze_statistics
    mix_images: Annotated[
        bool, typer.Option(help="train on mixtures of two images with labels, taught by the dense network")
    ] = NETWORK_TUNING.mixing

    @property
    def given(self) -> list[str]:
        """The options that say something else than the defaults."""
        words = {
            "--finetune-epochs": self.finetune_epochs is not None,
            "--finetune-rate": self.finetune_rate is not None,
            "--finetune-minutes": self.finetune_minutes is not None,
            "--freeze-statistics": self.freeze_statistics,
            "--mix-images": self.mix_images,
        }
        return [word for word, is_given in words.items() if is_given]

    def image_task(self, images: ImageData, seed: int) -> ImageTask:
        """The task of images with labels: augmentation as the images allow, the rest by default.

        Raises:
            PolyadicError: a negative number of epochs, a rate that is not above 0, or a limit of time.
        """
        if self.finetune_minutes is not None:
            raise PolyadicError(
                "--finetune-minutes ends the training with samples, and these are images with labels: say how long "
                "with --finetune-epochs"
            )
        epochs = self._epochs(NETWORK_TUNING.epochs)
        network = replace(
            NETWORK_TUNING,
            epochs=max(epochs, 1),
            learning_rate=NETWORK_TUNING.learning_rate if self.finetune_rate is None else self.finetune_rate,
            freeze_statistics=self.freeze_statistics,
            mixing=self.mix_images,
        )
        return image_task(images, seed, network if epochs else None)

    def distillation(self, seed: int) -> DistillOptions:
        """How samples teach, in which batch norms keep their statistics in any case.

        Raises:
            PolyadicError: a negative number of epochs, a rate or a time that is not above 0, or mixtures.
        """
        if self.mix_images:
            raise PolyadicError("--mix-images is of images with labels, and these are samples: leave it out")
        rate = DistillOptions.learning_rate if self.finetune_rate is None else self.finetune_rate
        return DistillOptions(self._epochs(DistillOptions.epochs), rate, minutes=self.finetune_minutes, seed=seed)

    def _epochs(self, usual: int) -> int:
        epochs = usual if self.finetune_epochs is None else self.finetune_epochs
        if epochs < 0:
            raise PolyadicError(f"--finetune-epochs is 0 or more; got {epochs}")
        return epochs


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Where a run that may be gone on with keeps its files, and what it shows."""

    panel: ClassVar[str] = "Run"
    out: Annotated[Path, typer.Option(help="folder for what the run makes, and for the log of its trials")]
    seed: Seed = 0
    resume: Annotated[bool, typer.Option(help="go on with the run in OUT")] = False
    cache_dir: CacheDir = None
    live: Annotated[bool, typer.Option("--live", help="show the best plans and the last trials as they come")] = False
    json: AsJson = False


def _images(
    text: str, mean: str | None, std: str | None, origin: Origin | None, seed: int, held_out: int | None
) -> ImageData:
    usual = origin or Origin()
    return load_data(
        text,
        mean=numbers(mean, "--mean") or usual.mean,
        std=numbers(std, "--std") or usual.std,
        held_out=held_out,
        seed=seed,
    )


def image_task(images: ImageData, seed: int, network: FinetuneOptions | None = None) -> ImageTask:
    """The task of the command line: augmentation as the images allow; without ``network`` single layers are trained."""
    augmentation = augmentation_for(images)
    layer = replace(LAYER_TUNING, augmentation=augmentation, seed=seed)
    return ImageTask(images, layer, network and replace(network, augmentation=augmentation, seed=seed))


def numbers(text: str | None, what: str) -> tuple[float, ...] | None:
    """Read "0.5,0.5" as (0.5, 0.5).

    Raises:
        PolyadicError: something in it is not a number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise PolyadicError(f"{what} is a list of numbers separated by commas; got {text!r}") from error


def whole_numbers(text: str, what: str) -> tuple[int, ...]:
    """Read "40,33,64" as (40, 33, 64).

    Raises:
        PolyadicError: something in it is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise PolyadicError(f"{what} is a whole number, or several separated by commas; got {text!r}") from error


def input_size(text: str) -> tuple[int, ...]:
    """Read the value of ``--input-shape``.

    Raises:
        LayerError: a size below 1.
    """
    sizes = whole_numbers(text, "--input-shape")
    if min(sizes) < 1:
        raise LayerError(f"--input-shape is a list of sizes from 1 up, such as 3,224,224; got {text!r}")
    return sizes


def names_of(text: str) -> tuple[str, ...]:
    """Read "cp-epc, svd" as names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def search_of(name: str | None, seed: int) -> RankSearch | None:
    """The search of that name, with ``seed`` where it takes one; None leaves the choice to what is asked.

    Raises:
        PolyadicError: no search has that name.
    """
    if name is None:
        return None
    seeded = name in SEARCHES and "seed" in getattr(SEARCHES[name], "__dataclass_fields__", {})
    return search_named(name, seed=seed) if seeded else search_named(name)


def factor_cache(directory: Path | None) -> FactorCache:
    """The cache of factored kernels in ``--cache-dir``, else where it usually is."""
    return FactorCache(directory or default_cache_directory())
