"""The options that say how formats and ranks are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from polyadic.cli.goal_arguments import EngineArguments
from polyadic.cli.lists import names_of
from polyadic.cli.run_arguments import RunArguments, factor_cache
from polyadic.pipeline import CompressOptions
from polyadic.search import SEARCHES, RankSearch, search_named

DataAware = Annotated[
    bool, typer.Option("--data-aware/--plain-norm", help="decompose in the norm of each layer's inputs, or not")
]


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


def search_of(name: str | None, seed: int) -> RankSearch | None:
    """The search of that name, with ``seed`` where it takes one; None leaves the choice to what is asked.

    Raises:
        PolyadicError: no search has that name.
    """
    if name is None:
        return None
    seeded = name in SEARCHES and "seed" in getattr(SEARCHES[name], "__dataclass_fields__", {})
    return search_named(name, seed=seed) if seeded else search_named(name)
