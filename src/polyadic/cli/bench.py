"""``polyadic bench``: what fewer multiply-accumulates are worth in milliseconds, on every engine that is installed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import torch
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from polyadic.benchmarking import BenchOptions, BenchResult, benchmark, write_bench
from polyadic.cli.judge import read_data
from polyadic.cli.judge_arguments import ExampleArguments
from polyadic.cli.lists import input_size, names_of, whole_numbers
from polyadic.cli.model_or_result import ModelOrResult, TrustCode
from polyadic.cli.option_groups import command
from polyadic.cli.progress import ProgressBars
from polyadic.cli.run_arguments import AsJson
from polyadic.cli.screen import emit, say
from polyadic.engines import ENGINES, NumberFormat
from polyadic.errors import LayerError, PolyadicError
from polyadic.export import Origin
from polyadic.models import LoadedModel
from polyadic.reporting import BENCH_COLUMNS, bench_figures, bench_notes, bench_page, bench_rows

DENSE, COMPRESSED = "dense", "compressed"


# All columns side by side do not fit a terminal. The layout of images is in the engine's name, and in bench.json.
_ROW = ("network", "engine", "batch", "format")
_TIMES = ("ms", "speed-up", "quartiles of it", "share of MACs")
_SPREAD = ("quartiles", "ready, s")
_SIZES = ("memory, MB", "peak, MB", "file, MB", "difference")
_WIDE = 116  # characters, in which the last two go side by side


@dataclass(frozen=True, kw_only=True)
class TimedInputArguments(ExampleArguments):
    """What networks are timed on."""

    data: Annotated[
        str | None,
        typer.Option(help="as in compress; what networks are timed on, random normal numbers if absent"),
    ] = None


@command
def bench_command(
    targets: Annotated[
        list[str], typer.Argument(metavar="DIR|MODEL ...", help="folders of results, or models as in compress")
    ],
    data: TimedInputArguments,
    weights: Annotated[Path | None, typer.Option(help="of a MODEL; as in compress")] = None,
    batch: Annotated[str, typer.Option(help="samples of a pass, several separated by commas")] = "1,8",
    threads: Annotated[int | None, typer.Option(help="of the processor; as many as torch takes when absent")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16; by default those usual on each engine")
    ] = None,
    engines: Annotated[str, typer.Option(help="where to run")] = ",".join(ENGINES),
    device: Annotated[str | None, typer.Option(help="cpu, cuda; by default all that there are")] = None,
    seconds: Annotated[float, typer.Option(help="for each network, engine and batch, at least")] = 2.0,
    rounds: Annotated[int, typer.Option(help="in which all networks take turns, at least")] = 15,
    clock: Annotated[
        str, typer.Option(help="wall, or process: without what other programs take, on one thread")
    ] = "wall",
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="fold batch norms for PyTorch; the other engines do so themselves")
    ] = True,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="measure the memory of a pass")] = True,
    trust_code: TrustCode = False,
    out: Annotated[Path | None, typer.Option(help="folder for bench.json, the page and the plots")] = None,
    json: AsJson = False,
) -> None:
    """Time networks against each other. The first one is the measure; that of a result is its dense network."""
    options = BenchOptions(
        engines=names_of(engines),
        batches=whole_numbers(batch, "--batch"),
        precisions=None if precision is None else _precisions(precision),
        seconds=seconds,
        rounds=rounds,
        fold=fold,
        memory=memory,
        clock=cast(Any, clock),
        threads=torch.get_num_threads() if threads is None else threads,
        devices=BenchOptions().devices if device is None else names_of(device),
    )
    networks, measured, origin = _networks(targets, weights, trust_code)
    example = _example(data, measured, origin, max(options.batches))
    inputs = "random normal numbers" if data.data is None else f"samples of {data.data}, repeated up to each batch"
    with ProgressBars() as bars:
        result = benchmark(networks, example, options, lambda p: bars.move("timing", p.done, p.total, p.message))
    result = replace(result, settings={**result.settings, "inputs": inputs, "targets": targets})
    folder = out or (Path(targets[0]) if len(targets) == 1 and Path(targets[0]).is_dir() else None)
    written = []
    if folder is not None:
        written = write_bench(result, folder, [("bench.html", bench_page(result)), *bench_figures(result)])
    if json:
        emit({"out": None if folder is None else str(folder), **result.to_json()})
        return
    _print(result)
    say(*(f"written to {path}" for path in written))


def _networks(
    targets: list[str], weights: Path | None, trust_code: bool
) -> tuple[dict[str, nn.Module], LoadedModel, Origin]:
    """The networks by name, the measure first; and one of them, with the shape of an input where one of them knows it.

    Raises:
        PolyadicError: weights without a model, folders of several dense networks, or inputs of several shapes.
    """
    if weights is not None and all(Path(text).is_dir() for text in targets):
        raise PolyadicError("a folder holds its own weights: leave out --weights")
    named = [
        ModelOrResult.named(text, trust_code=trust_code, weights=None if Path(text).is_dir() else weights)
        for text in targets
    ]
    networks: dict[str, nn.Module] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    known: tuple[LoadedModel, Origin] | None = None
    for target in named:
        if target.plan is not None and not networks:
            networks[DENSE] = target.dense()  # its weights are of no account for time
        loaded, origin = target.load()
        networks[COMPRESSED if target.plan is not None and len(targets) == 1 else target.text] = loaded.model
        if loaded.input_shape is not None:
            shapes[target.text] = loaded.input_shape
        if known is None or known[0].input_shape is None:
            known = loaded, origin
    models = {target.origin.model for target in named if target.plan is not None}
    if DENSE in networks and len(models) > 1:
        raise PolyadicError(
            f"results are timed against one dense network; these come from {', '.join(sorted(map(str, models)))}: "
            "name the network that is the measure first"
        )
    if len(set(shapes.values())) > 1:
        raise PolyadicError(f"networks are timed on the same inputs; these take {shapes}: time them apart")
    assert known is not None  # there is a target
    return networks, *known


def _example(data: TimedInputArguments, loaded: LoadedModel, origin: Origin, count: int) -> Tensor:
    """Up to ``count`` of the samples, or one input of random normal numbers, the same each time.

    Raises:
        LayerError: nobody knows the size, or the network takes several inputs.
    """
    inputs = read_data(data, origin=origin).inputs(loaded, count)
    if isinstance(inputs, Tensor):
        return inputs
    if inputs is not None:
        raise LayerError(
            f"networks of one input are timed; {data.data} gives {loaded.source!r} several: time it in your own program"
        )
    shape = loaded.input_shape if data.input_shape is None else input_size(data.input_shape)
    if shape is None:
        raise LayerError(
            f"timing {loaded.source!r} needs the size of an input: give --input-shape C,H,W or --data with samples"
        )
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def _precisions(text: str) -> tuple[NumberFormat, ...]:
    names = names_of(text)
    unknown = [name for name in names if name not in get_args(NumberFormat)]
    if unknown or not names:
        raise PolyadicError(f"--precision is some of {', '.join(get_args(NumberFormat))}; got {text!r}")
    return cast(tuple[NumberFormat, ...], names)


def _print(result: BenchResult) -> None:
    """The table, what was left out, and on what it was measured."""
    screen = Console()
    if not screen.is_terminal:  # a file has no edge
        screen = Console(width=_WIDE)
    known: dict[str, Any] = result.environment
    title = f"{known['processor']}, {known['threads']} thread(s), times of whole batches"
    wide = screen.width >= _WIDE
    for columns in (_TIMES, (*_SPREAD, *_SIZES)) if wide else (_TIMES, _SPREAD, _SIZES):
        table = Table(title=title if columns is _TIMES else None, box=SIMPLE, padding=(0, int(wide), 0, 0))
        for column in (*_ROW, *columns):
            # Where it is narrow, the paths of models are folded, and no number is cut.
            widest_word = max(map(len, column.split()))
            table.add_column(column, no_wrap=column in ("engine", "format"), min_width=widest_word, overflow="fold")
        for row in bench_rows(result):
            table.add_row(*(row[BENCH_COLUMNS.index(column)] for column in (*_ROW, *columns)))
        screen.print(table)
    folding = result.settings["folding for PyTorch"]  # of each network, or of all
    if isinstance(folding, dict):
        folding = "; ".join(f"{name}: {said}" for name, said in folding.items())
    say(*bench_notes(result), f"Batch norms folded for PyTorch: {folding}. Inputs: {result.settings['inputs']}.")
