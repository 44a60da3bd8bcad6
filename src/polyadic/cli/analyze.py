"""``polyadic analyze``: studies of a trained network, which is left as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from torch import Tensor

from polyadic.cli.data_arguments import DataArguments
from polyadic.cli.judge import read_data
from polyadic.cli.judge_arguments import ExampleArguments
from polyadic.cli.lists import names_of, numbers, whole_numbers
from polyadic.cli.model_arguments import TrainedModelArguments
from polyadic.cli.option_groups import command
from polyadic.cli.progress import ProgressBars
from polyadic.cli.run_arguments import AsJson, CacheDir, Seed, factor_cache
from polyadic.cli.screen import command_line, emit, say
from polyadic.cli.study_tables import print_degeneracy, print_layers, print_truncation
from polyadic.engines import environment
from polyadic.errors import LayerError, PolyadicError
from polyadic.layers import Inputs
from polyadic.reporting import report
from polyadic.storage import folder_lock
from polyadic.studies import (
    METHODS,
    DegeneracyOptions,
    LayerOptions,
    TruncationOptions,
    degeneracy_study,
    layer_study,
    truncation_study,
    write_degeneracy,
    write_layers,
    write_truncation,
)
from polyadic.training import LAYER_TUNING, Execution, Precision

_METHODS, _FORMATS = ",".join(METHODS), ",".join(LayerOptions.formats)

analyze_command = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Study a trained network: what its kernels bear, and where decompositions break down.",
)


@dataclass(frozen=True, kw_only=True)
class StudyArguments:
    """Where a study is kept, and which layers it looks at."""

    panel: ClassVar[str] = "Study"
    out: Annotated[Path, typer.Option(help="folder for the tables, and for the rows of an interrupted study")]
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="layer, or pattern with *, to look at (repeatable)")
    ] = None
    seed: Seed = 0
    resume: Annotated[bool, typer.Option(help="go on with the study in OUT")] = False
    json: AsJson = False

    @property
    def chosen(self) -> dict[str, Any]:
        """What the options of every study have in common."""
        layers = tuple(self.layer or ())
        return {"layers": layers, "seed": self.seed, "work": self.out, "resume": self.resume}

    def known(self, model: TrainedModelArguments, data: str | None) -> dict[str, Any]:
        """Where the study comes from."""
        return {"command": command_line(), "model": model.model, "data": data, "seed": self.seed, **environment()}

    def show(self, document: Mapping[str, Any], print_study: Callable[[], None]) -> None:
        """Write the page of the study, whose tables are in the folder, and print the document or the tables."""
        page = report(self.out)
        if self.json:
            emit({"out": str(self.out), "report": str(page), **document})
        else:
            print_study()
            say(f"the whole story: {page}")


@analyze_command.command("truncation")
@command
def truncation(
    model: TrainedModelArguments,
    data: DataArguments,
    study: StudyArguments,
    cuts: Annotated[
        str | None, typer.Option(help="cuts, or chains of them joined by +, separated by commas: o|ihw,oi|hw,o+i")
    ] = None,
    shares: Annotated[
        str | None, typer.Option(help="kept ranks as shares of the largest, separated by commas: 0.125,0.5")
    ] = None,
    joint: Annotated[bool, typer.Option(help="truncate several layers together as well")] = True,
    images: Annotated[int, typer.Option(help="held-out training images for each accuracy")] = TruncationOptions.images,
    calibration_images: Annotated[
        int, typer.Option(help="training images for batch-norm statistics")
    ] = TruncationOptions.calibration_images,
    test_images: Annotated[
        int | None, typer.Option(help="test images for joint and re-trained networks; 0 for none")
    ] = TruncationOptions.test_images,
    draws: Annotated[int, typer.Option(help="random perturbations for each row")] = TruncationOptions.draws,
    retrain_epochs: Annotated[int, typer.Option(help="epochs of training of a few truncated networks")] = 0,
    retrain: Annotated[
        list[str] | None, typer.Option(help="which networks those are (repeatable)", metavar="CUTS=SHARE")
    ] = None,
    retrain_steps: Annotated[int | None, typer.Option(help="batches per epoch; all training images if absent")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 or bfloat16; bfloat16 where the processor multiplies it, if absent")
    ] = None,
) -> None:
    """Truncate kernels along cuts of their four indices: norm lost, correlation, accuracy, and both controls."""
    with folder_lock(study.out):
        if (retrain or retrain_steps is not None) and not retrain_epochs:
            raise PolyadicError(
                "--retrain and --retrain-steps say how networks are trained: give --retrain-epochs, too"
            )
        loaded_images = data.load(study.seed)
        loaded, _ = model.load(loaded_images)
        chosen: dict[str, Any] = {
            "chains": names_of(cuts) if cuts is not None else None,
            "shares": numbers(shares, "--shares"),
            "retrain": tuple(_retraining(text) for text in retrain) if retrain else None,
            "execution": _execution(precision),
        }
        options = TruncationOptions(
            **{name: value for name, value in chosen.items() if value is not None},
            joint=joint,
            images=images,
            calibration_images=calibration_images,
            test_images=test_images,
            draws=draws,
            retrain_epochs=retrain_epochs,
            retrain_steps=retrain_steps,
            **study.chosen,
        )
        with ProgressBars() as bars:
            made = truncation_study(loaded.model, loaded_images, options, on_progress=bars.rows)
        write_truncation(made, study.out, study.known(model, data.data))
        dense = {name: value for name, value in made.settings.items() if name.startswith("dense_")}
        retrained = [asdict(row) for row in made.retrained]
        document = {"rows": len(made.rows), **dense, "retrained": retrained, "skipped": dict(made.skipped)}
        study.show(document, lambda: print_truncation(made, study.out))


@analyze_command.command("degeneracy")
@command
def degeneracy(
    model: TrainedModelArguments,
    size: ExampleArguments,
    study: StudyArguments,
    ranks: Annotated[str | None, typer.Option(help="CP ranks, separated by commas; up to no saving if absent")] = None,
    methods: Annotated[str, typer.Option(help="als, lm, stable, separated by commas")] = _METHODS,
) -> None:
    """Decompose kernels by CP at growing ranks: intensities, sensitivity, error, cancelling terms."""
    with folder_lock(study.out):
        judge = read_data(size)
        loaded, _ = model.load(judge.images)
        options = DegeneracyOptions(
            methods=names_of(methods),
            ranks=whole_numbers(ranks, "--ranks") if ranks is not None else (),
            **study.chosen,
        )
        with ProgressBars() as bars:
            made = degeneracy_study(loaded.model, _one_tensor(judge.example(loaded)), options, on_progress=bars.rows)
        write_degeneracy(made, study.out, study.known(model, None))
        document = {"rows": len(made.rows), "verdicts": dict(made.verdicts), "skipped": dict(made.skipped)}
        study.show(document, lambda: print_degeneracy(made, study.out))


@analyze_command.command("layers")
@command
def layers(
    model: TrainedModelArguments,
    data: DataArguments,
    study: StudyArguments,
    formats: Annotated[str, typer.Option(help="formats to try, separated by commas")] = _FORMATS,
    shares: Annotated[
        str | None, typer.Option(help="MACs of the chains as shares of the layer's, separated by commas: 0.25,0.5")
    ] = None,
    images: Annotated[int, typer.Option(help="held-out training images for each accuracy")] = LayerOptions.images,
    tune: Annotated[bool, typer.Option(help="fine-tune each chain for a moment and score it again")] = True,
    cache_dir: CacheDir = None,
) -> None:
    """Factorise each layer alone in several formats and ranks: error, accuracy before and after fine-tuning it."""
    with folder_lock(study.out):
        loaded_images = data.load(study.seed)
        loaded, _ = model.load(loaded_images)
        options = LayerOptions(
            formats=names_of(formats),
            shares=numbers(shares, "--shares") or LayerOptions.shares,
            tuning=LAYER_TUNING if tune else None,
            images=images,
            cache=factor_cache(cache_dir),
            **study.chosen,
        )
        with ProgressBars() as bars:
            made = layer_study(loaded.model, loaded_images, options, on_progress=bars.rows)
        write_layers(made, study.out, study.known(model, data.data))
        document = {"rows": len(made.rows), "dense_accuracy": made.dense_accuracy, "skipped": dict(made.skipped)}
        study.show(document, lambda: print_layers(made, study.out))


def _one_tensor(example: Inputs) -> Tensor:
    """The input of a network of one.

    Raises:
        LayerError: it takes several.
    """
    if not isinstance(example, Tensor):
        raise LayerError("networks of one input are studied, and this one takes several: study a part of it")
    return example


def _retraining(text: str) -> tuple[str, float]:
    """Read "o+i=0.25".

    Raises:
        PolyadicError: no share, or one that is no number.
    """
    cuts, _, share = text.rpartition("=")
    try:
        return cuts, float(share)
    except ValueError as error:
        raise PolyadicError(
            f"--retrain takes cuts and the share of their ranks, such as o+i=0.25; got {text!r}"
        ) from error


def _execution(precision: str | None) -> Execution | None:
    if precision is None:
        return None
    names: dict[str, Precision] = {"float32": "float32", "bfloat16": "bfloat16"}
    if precision not in names:
        raise PolyadicError(f"--precision is float32 or bfloat16; got {precision!r}")
    return Execution(precision=names[precision])
