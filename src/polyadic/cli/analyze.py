"""``polyadic analyze``: studies of a trained network, which is left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from polyadic.cli.arguments import (
    AsJson,
    CacheDir,
    Data,
    Formats,
    ForSize,
    InputShape,
    Mean,
    Model,
    Seed,
    Std,
    Weights,
    command_line,
    console,
    data_of,
    emit,
    example_of,
    model_of,
    names_of,
    numbers,
    reported,
    whole_numbers,
)
from polyadic.cli.study_tables import print_degeneracy, print_layers, print_truncation, tell_page
from polyadic.errors import PolyadicError
from polyadic.pipeline import environment
from polyadic.reporting import report
from polyadic.studies import (
    METHODS,
    DegeneracyOptions,
    LayerOptions,
    TruncationOptions,
    TruncationStudy,
    degeneracy_study,
    layer_study,
    truncation_study,
    write_degeneracy,
    write_layers,
    write_truncation,
)
from polyadic.surgery import FactorCache, default_cache_directory
from polyadic.training import LAYER_TUNING, Execution, Precision

_METHODS, _FORMATS = ",".join(METHODS), ",".join(LayerOptions.formats)

Layers = Annotated[list[str] | None, typer.Option("--layer", help="layer, or pattern with *, to look at (repeatable)")]
Out = Annotated[Path, typer.Option(help="folder for the tables, and for the rows of an interrupted study")]
Resume = Annotated[bool, typer.Option(help="go on with the study in OUT")]

analyze = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Study a trained network: what its kernels bear, and where decompositions break down.",
)


@analyze.command("truncation")
@reported
def truncation(
    model: Model,
    data: Data,
    out: Out,
    weights: Weights = None,
    layer: Layers = None,
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
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Truncate kernels along cuts of their four indices: norm lost, correlation, accuracy, and both controls."""
    if (retrain or retrain_steps is not None) and not retrain_epochs:
        raise PolyadicError("--retrain and --retrain-steps say how networks are trained: give --retrain-epochs, too")
    images_of = data_of(data, mean, std, seed)
    loaded, _ = model_of(model, weights, images_of)
    chosen: dict[str, Any] = {
        "chains": names_of(cuts) if cuts is not None else None,
        "shares": numbers(shares, "--shares"),
        "retrain": tuple(_retraining(text) for text in retrain) if retrain else None,
        "execution": _execution(precision),
    }
    options = TruncationOptions(
        **{name: value for name, value in chosen.items() if value is not None},
        layers=tuple(layer or ()),
        joint=joint,
        images=images,
        calibration_images=calibration_images,
        test_images=test_images,
        draws=draws,
        retrain_epochs=retrain_epochs,
        retrain_steps=retrain_steps,
        seed=seed,
        work=out,
        resume=resume,
    )
    with _Bar() as bar:
        study = truncation_study(loaded.model, images_of, options, on_progress=bar.show)
    write_truncation(study, out, _known(model, data, seed))
    page = report(out)
    if json:
        emit({"out": str(out), "report": str(page), "rows": len(study.rows), **_truncation_document(study)})
    else:
        print_truncation(study, out)
        tell_page(page)


@analyze.command("degeneracy")
@reported
def degeneracy(
    model: Model,
    out: Out,
    weights: Weights = None,
    layer: Layers = None,
    ranks: Annotated[str | None, typer.Option(help="CP ranks, separated by commas; up to no saving if absent")] = None,
    methods: Annotated[str, typer.Option(help="als, lm, stable, separated by commas")] = _METHODS,
    data: ForSize = None,
    input_shape: InputShape = None,
    seed: Seed = 0,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Decompose kernels by CP at growing ranks: intensities, sensitivity, error, cancelling terms."""
    images = data_of(data, None, None, 0) if data is not None else None
    loaded, _ = model_of(model, weights, images)
    options = DegeneracyOptions(
        methods=names_of(methods),
        ranks=whole_numbers(ranks, "--ranks") if ranks is not None else (),
        layers=tuple(layer or ()),
        seed=seed,
        work=out,
        resume=resume,
    )
    with _Bar() as bar:
        study = degeneracy_study(loaded.model, example_of(loaded, images, input_shape), options, on_progress=bar.show)
    write_degeneracy(study, out, _known(model, None, seed))
    page = report(out)
    if json:
        emit(
            {
                "out": str(out),
                "report": str(page),
                "rows": len(study.rows),
                "verdicts": dict(study.verdicts),
                "skipped": dict(study.skipped),
            }
        )
    else:
        print_degeneracy(study, out)
        tell_page(page)


@analyze.command("layers")
@reported
def layers(
    model: Model,
    data: Data,
    out: Out,
    weights: Weights = None,
    layer: Layers = None,
    formats: Formats = _FORMATS,
    shares: Annotated[
        str | None, typer.Option(help="MACs of the chains as shares of the layer's, separated by commas: 0.25,0.5")
    ] = None,
    images: Annotated[int, typer.Option(help="held-out training images for each accuracy")] = LayerOptions.images,
    tune: Annotated[bool, typer.Option(help="fine-tune each chain for a moment and score it again")] = True,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    cache_dir: CacheDir = None,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Factorise each layer alone in several formats and ranks: error, accuracy before and after fine-tuning it."""
    images_of = data_of(data, mean, std, seed)
    loaded, _ = model_of(model, weights, images_of)
    options = LayerOptions(
        formats=names_of(formats),
        shares=numbers(shares, "--shares") or LayerOptions.shares,
        layers=tuple(layer or ()),
        tuning=LAYER_TUNING if tune else None,
        images=images,
        cache=FactorCache(cache_dir or default_cache_directory()),
        seed=seed,
        work=out,
        resume=resume,
    )
    with _Bar() as bar:
        study = layer_study(loaded.model, images_of, options, on_progress=bar.show)
    write_layers(study, out, _known(model, data, seed))
    page = report(out)
    if json:
        emit(
            {
                "out": str(out),
                "report": str(page),
                "rows": len(study.rows),
                "dense_accuracy": study.dense_accuracy,
                "skipped": dict(study.skipped),
            }
        )
    else:
        print_layers(study, out)
        tell_page(page)


def _known(model: str, data: str | None, seed: int) -> dict[str, Any]:
    """Where a study comes from."""
    return {"command": command_line(), "model": model, "data": data, "seed": seed, **environment()}


class _Bar:
    """One line of progress on standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` rows are there, and ``what`` comes."""
        if self._task is None:
            self._task = self._progress.add_task("")
        self._progress.update(self._task, completed=done, total=total, description=what)


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


def _truncation_document(study: TruncationStudy) -> dict[str, Any]:
    return {
        **{name: value for name, value in study.settings.items() if name.startswith("dense_")},
        "retrained": [dict(row) for row in study.retrained],
        "skipped": dict(study.skipped),
    }
