"""What studies of a trained network find: one row for each thing measured, and all rows as one JSON document.

Accuracies are fractions of held-out training images, divergences are in nats; None stands for what does not apply and
for what is infinite. The pages of docs/studies explain the columns, which are called as the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from polyadic.schema.json_object import VERSION, JsonObject
from polyadic.schema.notebook import NotebookResult
from polyadic.storage import as_plain


class StudyResult(NotebookResult):
    """What all studies have in common: a document of their own, and where it comes from."""

    file: ClassVar[str]
    """Name of the JSON document."""

    provenance: Mapping[str, Any]

    @property
    def model(self) -> str | None:
        """Text of the network, where it is known."""
        value = self.provenance.get("model")
        return value if isinstance(value, str) else None

    def to_json(self) -> dict[str, Any]:
        """The content of the study's document, of which pages are made."""
        plain: dict[str, Any] = as_plain({"version": VERSION, **asdict(self)})  # type: ignore[call-overload]
        return plain

    @classmethod
    def from_json(cls, data: object, where: Path | str = "the document of a study") -> Self:
        """The inverse of :meth:`to_json`; ``where`` is named where something is wrong.

        Raises:
            StorageError: something is missing or of another kind.
        """
        plain = as_plain(data)  # numbers that are not finite become null, as they are where a study was written
        read: Self = JsonObject.of(plain, where, "copy it again, or analyze again with --resume").whole(cls)
        return read


@dataclass(frozen=True, kw_only=True)
class TruncationRow:
    """One layer, or several together, truncated along a chain of cuts. See docs/studies/truncation.md."""

    kind: str
    group: str
    position: int | None = None
    layers: int = 1
    chain: str
    share: float
    rank: tuple[int, ...] | None = None
    largest_rank: tuple[int, ...] | None = None
    kept_fraction: float
    parameter_ratio: float | None = None
    norm_loss: float
    kept_energy: float | None = None
    entropy: float | None = None
    effective_rank: float | None = None
    participation: float | None = None
    gaussian_entropy: float | None = None
    gaussian_effective_rank: float | None = None
    gaussian_participation: float | None = None
    gaussian_norm_loss: float | None = None
    accuracy: float
    divergence: float | None = None
    accuracy_recalibrated: float | None = None
    divergence_recalibrated: float | None = None
    perturbed_accuracy: float | None = None
    perturbed_divergence: float | None = None
    perturbed_accuracy_recalibrated: float | None = None
    perturbed_divergence_recalibrated: float | None = None
    test_accuracy: float | None = None
    test_accuracy_recalibrated: float | None = None


@dataclass(frozen=True, kw_only=True)
class SpectrumRow:
    """One singular value of a kernel along a cut, beside that of a random kernel of the same norm."""

    layer: str
    cut: str
    index: int
    singular_value: float
    gaussian_singular_value: float


@dataclass(frozen=True, kw_only=True)
class RetrainedRow:
    """A truncated network that was trained again."""

    chain: str
    share: float
    form: str
    layers: int | None = None
    epochs: int | None = None
    parameter_ratio: float
    accuracy_before: float
    accuracy_before_recalibrated: float | None = None
    accuracy_after: float
    best_epoch: int | None = None
    accuracy_by_epoch: tuple[float | None, ...] = ()
    seconds: float | None = None
    test_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class TruncationStudy(StudyResult):
    """What truncated kernels cost; the content of ``truncation.json``.

    Attributes:
        rows: one for each single layer or group of layers, chain of cuts and kept rank.
        spectra: one for each layer, cut and singular value, beside that of the random kernel.
        retrained: one for each network that was trained again.
        skipped: layers that were asked for and have no kernel of four indices, each with the reason.
        settings: what the figures depend on, and the accuracy of the dense network.
        provenance: the command, the model, versions, machine.
    """

    file: ClassVar[str] = "truncation.json"

    rows: tuple[TruncationRow, ...]
    spectra: tuple[SpectrumRow, ...] = ()
    retrained: tuple[RetrainedRow, ...]
    skipped: Mapping[str, str]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, name: str) -> float | None:
        """A setting that is a number, None where it is absent."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True, kw_only=True)
class DegeneracyRow:
    """One CP decomposition of ``K / ||K||``. See docs/studies/degeneracy.md."""

    layer: str
    method: str
    rank: int
    relative_error: float | None
    intensities: tuple[float | None, ...] = ()
    intensity_ratio: float | None
    sum_squared_intensity: float | None
    sensitivity: float | None
    sensitivity_lemma: float | None = None
    congruence: float | None = None
    opposition: float | None = None
    gram_condition: float | None = None
    degenerate: bool
    sweeps: int | None = None
    stop: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class DegeneracyStudy(StudyResult):
    """How CP decompositions behave as their rank grows; the content of ``degeneracy.json``.

    Attributes:
        rows: one for each layer, method and rank; ``intensities`` are those of ``K / ||K||``, largest first.
        verdicts: a sentence for each layer.
        skipped: layers that were asked for and not decomposed, each with the reason.
        methods: what sentences call each method.
        provenance: the command, the model, versions, machine.
    """

    file: ClassVar[str] = "degeneracy.json"

    rows: tuple[DegeneracyRow, ...]
    verdicts: Mapping[str, str]
    skipped: Mapping[str, str]
    methods: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def intensities(self) -> list[dict[str, Any]]:
        """One row for each rank-one term, numbered from 1 by falling intensity."""
        return [
            {"layer": row.layer, "method": row.method, "rank": row.rank, "term": term, "intensity": value}
            for row in self.rows
            for term, value in enumerate(row.intensities, 1)
        ]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer in one format and rank. See docs/studies/layers.md."""

    layer: str
    position: int | None = None
    share: float | None = None
    format: str
    rank: tuple[int, ...]
    mac_ratio: float
    parameter_ratio: float | None = None
    relative_error: float
    sensitivity: float | None = None
    intensity_ratio: float | None = None
    accuracy: float
    divergence: float | None = None
    accuracy_tuned: float | None = None
    divergence_tuned: float | None = None
    seconds: float | None = None
    stop: str | None = None


@dataclass(frozen=True, kw_only=True)
class LayerStudy(StudyResult):
    """What each layer alone loses in several formats and ranks; the content of ``layers.json``.

    Attributes:
        rows: one for each layer, format and rank.
        skipped: layers that were asked for and that no format serves within the shares, each with the reason.
        dense_accuracy: of the dense network on the same images.
        provenance: the command, the model, versions, machine.
    """

    file: ClassVar[str] = "layers.json"

    rows: tuple[LayerRow, ...]
    skipped: Mapping[str, str]
    dense_accuracy: float
    provenance: Mapping[str, Any] = field(default_factory=dict)
