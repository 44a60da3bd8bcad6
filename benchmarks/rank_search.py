"""Rank searches side by side: what a network keeps at one budget, before any fine-tuning.

    python benchmarks/rank_search.py --weights resnet56_cifar10.safetensors --data npz:build/data/cifar10

Every row is one search of one budget in one set of formats: how many points of test accuracy are lost, after how many
trials and minutes. All rows see the same training images: 1000 for the norms of the inputs and for batch-norm
statistics, 1000 held-out ones to compare plans; the test images are read once, for the figure in the row. A row that is
in the results already is not run again; ``--rows`` chooses rows by a regular expression, ``--fresh`` runs them all the
same. Trials lie in the cache folder, so that a row that was cut off goes on. ``pars-after-frontier`` begins with the
plan of the row of the frontier, or searches it first where there is no such row; its own trials alone are counted.
"""

from __future__ import annotations

import argparse
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, command, record, rows_in
from torch import nn

from polyadic import CompressOptions, compress
from polyadic.data import ImageData, load_data
from polyadic.models import load_model
from polyadic.pipeline import find_plan
from polyadic.schema import Plan
from polyadic.search import RankSearch, search_named
from polyadic.surgery import FactorCache
from polyadic.training import ImageTask

WARM = "pars-after-frontier"
SEARCHES = ("uniform", "error-bound", "vbmf", "greedy", "frontier", "pars", WARM)
FORMATS = {"spatial-svd": ("spatial-svd", "svd"), "cp": ("cp-epc", "svd"), "mixed": ("cp-epc", "spatial-svd", "svd")}
RATIOS = (2.0, 2.8)


@dataclass(frozen=True)
class Row:
    """One search."""

    search: str
    formats: str
    ratio: float

    @property
    def name(self) -> str:
        """In the results."""
        return f"{self.search} {self.formats} {self.ratio:g}x"


def rows() -> list[Row]:
    """All searches in the format of the published comparison, and the better ones in others."""
    published = [Row(search, "spatial-svd", ratio) for ratio in RATIOS for search in SEARCHES]
    others = [
        Row(search, formats, ratio)
        for formats in ("cp", "mixed")
        for ratio in RATIOS
        for search in ("uniform", "error-bound", "frontier")
    ]
    return [*published, *others]


def search_of(row: Row, dense: nn.Module, data: ImageData, cache: Path, known: Mapping[str, Any]) -> RankSearch:
    """The strategy; a warm start takes the frontier's plan from its row, or finds it."""
    if row.search != WARM:
        return search_named(row.search)
    before = replace(row, search="frontier")
    plan = known.get(before.name, {}).get("plan")
    if plan is not None:
        return search_named("pars", start=Plan.from_json(plan))
    options = options_of(before, search_named("frontier"), cache)
    formats = FORMATS[row.formats]
    found = find_plan(dense, task_of(data), budget=[f"macs={row.ratio}x"], formats=formats, options=options)
    return search_named("pars", start=found.plan)


def options_of(row: Row, search: RankSearch, cache: Path) -> CompressOptions:
    """Factors and trials lie in a folder of the row."""
    folder = cache / row.name
    return CompressOptions(search=search, cache=FactorCache(folder), work=folder / "trials", resume=True)


def task_of(data: ImageData) -> ImageTask:
    """Nothing is trained."""
    return ImageTask(data, layer=None, network=None)


def run(row: Row, dense: nn.Module, data: ImageData, cache: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Search, carry out, and read the test images once."""
    search = search_of(row, dense, data, cache, known)
    began, seen = time.perf_counter(), [0.0]

    def show(progress: Any) -> None:
        if time.perf_counter() - seen[0] > 30:
            seen[0] = time.perf_counter()
            print(f"  {progress.stage} {progress.done}/{progress.total} {seen[0] - began:.0f} s", flush=True)

    result = compress(
        dense,
        task_of(data),
        budget=[f"macs={row.ratio}x"],
        formats=FORMATS[row.formats],
        options=options_of(row, search, cache),
        on_progress=show,
    )
    summary = result.summary
    return {
        "macs_ratio": summary.mac_reduction,
        "params_ratio": summary.dense.params / summary.compressed.params,
        "test_accuracy": summary.score_before_finetuning,
        "points_lost": 100 * (summary.dense_score - summary.score_before_finetuning),
        "points_lost_interval": summary.drop_interval,
        "trials": summary.provenance["trials"],
        "seconds": summary.seconds,
        "minutes": round((time.perf_counter() - began) / 60, 2),
        "formats": list(FORMATS[row.formats]),
        "plan": summary.plan.to_json(),
        "threads": torch.get_num_threads(),
        "command": command(),
    }


def main() -> None:
    """Run the rows that are missing and write each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="polyadic:resnet56")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", default="", help="regular expression that a row's name must contain")
    parser.add_argument("--fresh", action="store_true", help="run rows that are in the results already")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path, default=Path("build/rank_search"), help="a folder of factors per row")
    options = parser.parse_args()
    chosen = [row for row in rows() if re.search(options.rows, row.name)]
    if options.list:
        print("\n".join(row.name for row in chosen))
        return
    torch.set_num_threads(options.threads)
    name = f"rank_search_{options.weights.stem}"
    data = load_data(options.data, held_out=5000)
    dense = load_model(options.model, options.weights).model.eval()
    for row in chosen:
        known = rows_in(RESULTS / f"{name}.json")
        if row.name in known and not options.fresh:
            continue
        if options.fresh:
            shutil.rmtree(options.cache / row.name / "trials", ignore_errors=True)
        outcome = run(row, dense, data, options.cache, known)
        print(row.name, outcome, flush=True)
        known = rows_in(RESULTS / f"{name}.json")  # another process may have written rows meanwhile
        record(name, {"rows": {**known, row.name: outcome}})


if __name__ == "__main__":
    main()
