"""What was measured, as rows; the content of ``bench.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from polyadic.errors import EngineError, StorageError
from polyadic.schema.json_object import VERSION, JsonObject

NumberFormat = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True)
class Conditions:
    """What a time is a time of; two times are compared under the same conditions only.

    Attributes:
        batch: samples of a pass.
        threads: of the processor, within one pass.
        precision: number format of convolutions and products; "int8" is a network that was quantized.
        device: "cpu" or "cuda".

    Raises:
        EngineError: a number below 1, or an unknown format or device.
    """

    batch: int = 1
    threads: int = 1
    precision: NumberFormat = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.batch < 1 or self.threads < 1:
            raise EngineError(f"batch and threads are at least 1; got batch={self.batch}, threads={self.threads}")
        if self.precision not in get_args(NumberFormat):
            raise EngineError(f"precision is one of {', '.join(get_args(NumberFormat))}; got {self.precision!r}")
        if self.device not in ("cpu", "cuda"):
            raise EngineError(f"an engine runs on cpu or cuda; got {self.device!r}")

    def __str__(self) -> str:
        """As people read it."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = threads if self.device == "cpu" else self.device
        return f"batch {self.batch}, {where}, {self.precision}"


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

    file: ClassVar[str] = "bench.json"

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
    def from_json(data: object, where: Path | str = file) -> BenchResult:
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
