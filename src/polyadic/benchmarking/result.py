"""What was measured, as rows; the content of ``bench.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polyadic.engines import Conditions, Timing
from polyadic.errors import StorageError
from polyadic.schema import VERSION, JsonObject
from polyadic.storage import write_together

BENCH = "bench.json"


@dataclass(frozen=True)
class BenchNetwork:
    """A network that was timed; MACs are those of one sample.

    Attributes:
        name: what it is called in the rows.
        params: numbers that training would change.
        macs: multiply-accumulates of convolutions and matrix products.
        mac_reduction: MACs of the first network divided by this one's.
    """

    name: str
    params: int
    macs: int
    mac_reduction: float


@dataclass(frozen=True)
class BenchRow:
    """One network on one engine under one set of conditions.

    Attributes:
        network: its name.
        engine: its name.
        layout: of images in memory, as far as the engine is told.
        conditions: batch, threads, number format, device.
        reason: why there is no time, or None.
        median_ms: milliseconds of one pass over a whole batch.
        low_ms: lower quartile.
        high_ms: upper quartile.
        samples_ms: one for each round, in their order.
        speed_up: median over rounds of the first network's time divided by this one's of the same round.
        speed_up_low: its lower quartile.
        speed_up_high: its upper quartile.
        realised_share: speed-up divided by the reduction of MACs; None where MACs are not reduced.
        difference: largest difference to PyTorch's float32 answers, in terms of the largest of these.
        file_bytes: of the file that the engine loads.
        loaded_bytes: memory that the loaded network takes before its first pass.
        pass_bytes: memory by which a pass goes beyond that.
        memory_reason: why no memory was measured, or None.
        ready_s: seconds that the engine takes to load or compile the network and run it once; in none of the times.
    """

    network: str
    engine: str
    layout: str
    conditions: Conditions
    reason: str | None = None
    median_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    samples_ms: tuple[float, ...] = ()
    speed_up: float | None = None
    speed_up_low: float | None = None
    speed_up_high: float | None = None
    realised_share: float | None = None
    difference: float | None = None
    file_bytes: int | None = None
    loaded_bytes: int | None = None
    pass_bytes: int | None = None
    memory_reason: str | None = None
    ready_s: float | None = None

    @property
    def peak_bytes(self) -> int | None:
        """Memory of the network at its peak, in a pass."""
        if self.loaded_bytes is None or self.pass_bytes is None:
            return None
        return self.loaded_bytes + self.pass_bytes


@dataclass(frozen=True)
class BenchResult:
    """Everything that was measured.

    Attributes:
        networks: in the order in which they were given; speed-ups are over the first one.
        rows: by engine, conditions, network.
        skipped: engine or conditions, and why nothing was measured there.
        input_shape: of one sample.
        settings: rounds, seconds, folding.
        environment: machine and versions.
    """

    networks: tuple[BenchNetwork, ...]
    rows: tuple[BenchRow, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    input_shape: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of ``bench.json``."""
        return {"version": VERSION, **asdict(self)}

    @staticmethod
    def from_json(data: object, where: Path | str = BENCH) -> BenchResult:
        """The inverse of :meth:`to_json`; ``where`` is named where something is wrong.

        Raises:
            StorageError: something is missing or of another kind, or there is no network.
        """
        result: BenchResult = JsonObject.of(data, where, "copy it again, or measure again").whole(BenchResult)
        if not result.networks:
            raise StorageError(f"{where} is damaged at networks (there are none): copy it again, or measure again")
        return result

    @property
    def reference(self) -> str:
        """The network over which speed-ups are told."""
        return self.networks[0].name


def timed(row: dict[str, Any], timing: Timing, reference: Timing | None, mac_reduction: float) -> BenchRow:
    """A row with its times; ``reference`` is the first network's timing of the same rounds, if it has one."""
    low, high = timing.quartiles
    times: dict[str, Any] = {
        "median_ms": timing.median,
        "low_ms": low,
        "high_ms": high,
        "samples_ms": timing.samples,
    }
    if reference is not None:
        ratio = timing.times_faster_than(reference)
        times |= {"speed_up": ratio.median, "speed_up_low": ratio.low, "speed_up_high": ratio.high}
        if mac_reduction != 1.0:
            times["realised_share"] = ratio.median / mac_reduction
    return BenchRow(**row, **times)


def write_bench(result: BenchResult, folder: Path, beside: Sequence[tuple[str, bytes]] = ()) -> list[Path]:
    """Write ``bench.json`` to ``folder``, and other files beside it: all of them or none; say where they are.

    Raises:
        StorageError: the file system refused; what stood there is as it was.
    """
    document = (json.dumps(result.to_json(), indent=1) + "\n").encode()
    contents = {folder / BENCH: document, **{folder / name: content for name, content in beside}}
    write_together(contents)
    return list(contents)
