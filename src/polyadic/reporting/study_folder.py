"""A folder of a study, read back as plain data: what pages are made of, and nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from polyadic.errors import PolyadicError
from polyadic.reporting.documents import checked, read_document


@dataclass(frozen=True)
class TruncationRow:
    """One truncation; accuracies are fractions of held-out images. See docs/studies/truncation.md."""

    kind: str
    group: str
    chain: str
    share: float
    kept_fraction: float
    norm_loss: float
    accuracy: float
    position: int | None = None
    parameter_ratio: float | None = None
    gaussian_norm_loss: float | None = None
    accuracy_recalibrated: float | None = None
    perturbed_accuracy: float | None = None
    perturbed_accuracy_recalibrated: float | None = None
    test_accuracy: float | None = None

    @property
    def cuts(self) -> str:
        """The chain by one side of each cut; a single cut in full."""
        return "+".join(part.partition("|")[0] for part in self.chain.split("+")) if "+" in self.chain else self.chain


@dataclass(frozen=True)
class RetrainedRow:
    """A truncated network that was trained again."""

    chain: str
    share: float
    form: str
    parameter_ratio: float
    accuracy_before: float
    accuracy_after: float
    accuracy_before_recalibrated: float | None = None
    test_accuracy: float | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Truncation:
    """The layout of ``truncation.json``."""

    rows: tuple[TruncationRow, ...]
    retrained: tuple[RetrainedRow, ...]
    skipped: Mapping[str, str]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, name: str) -> float | None:
        """A setting that is a number, None where it is absent."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class DegeneracyRow:
    """One decomposition of ``K / ||K||``; None for what is infinite. See docs/studies/degeneracy.md."""

    layer: str
    method: str
    rank: int
    relative_error: float | None
    intensity_ratio: float | None
    sum_squared_intensity: float | None
    sensitivity: float | None
    degenerate: bool


@dataclass(frozen=True)
class Degeneracy:
    """The layout of ``degeneracy.json``."""

    rows: tuple[DegeneracyRow, ...]
    verdicts: Mapping[str, str]
    skipped: Mapping[str, str]
    methods: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerRow:
    """One layer in one format and rank; accuracies are fractions of held-out images. See docs/studies/layers.md."""

    layer: str
    format: str
    rank: tuple[int, ...]
    mac_ratio: float
    relative_error: float
    accuracy: float
    parameter_ratio: float | None = None
    sensitivity: float | None = None
    accuracy_tuned: float | None = None

    @property
    def ranks(self) -> str:
        """The rank, or the ranks separated by commas."""
        return ", ".join(map(str, self.rank))


@dataclass(frozen=True)
class Layers:
    """The layout of ``layers.json``."""

    rows: tuple[LayerRow, ...]
    skipped: Mapping[str, str]
    dense_accuracy: float
    provenance: Mapping[str, Any] = field(default_factory=dict)


Study = Truncation | Degeneracy | Layers

STUDIES: dict[str, TypeAdapter[Any]] = {
    "truncation.json": TypeAdapter(Truncation),
    "degeneracy.json": TypeAdapter(Degeneracy),
    "layers.json": TypeAdapter(Layers),
}


@dataclass(frozen=True)
class StudyFolder:
    """A folder and what it says."""

    path: Path
    study: Study

    @property
    def model(self) -> str | None:
        """Text of the network, where it is known."""
        value = self.study.provenance.get("model")
        return value if isinstance(value, str) else None


def study_in(name: str, document: Mapping[str, Any], where: Path | str = "the document of a study") -> Study:
    """What the document of a study says, checked; ``name`` is that of its file.

    Raises:
        StorageError: a part is missing or damaged.
    """
    study: Study = checked(STUDIES[name], document, where, "analyze again with --resume")
    return study


def read_study(directory: Path | str) -> StudyFolder:
    """Read what ``analyze`` wrote.

    Raises:
        StorageError: a file is damaged or of another version.
        PolyadicError: the folder holds no study, or several.
    """
    directory = Path(directory)
    found = [name for name in STUDIES if (directory / name).exists()]
    if len(found) != 1:
        raise PolyadicError(
            f"a page shows one study; {directory} holds {', '.join(found) or 'none'}: give a folder to each"
        )
    path = directory / found[0]
    return StudyFolder(directory, study_in(found[0], read_document(path), path))
