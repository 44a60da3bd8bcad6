"""Documents of searches and studies, written by hand; ``name`` stands wherever a text of the user can stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROVENANCE = {"command": "polyadic analyze ... --out 'my folder'", "model": "net.py:build", "seed": 0}
DENSE = {"params": 1000, "macs": 24_000, "bytes": 4000, "held_out": 0.91}


def choices(first: int, second: int | None, name: str = "conv") -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"layer": f"{name}1", "format": "cp-epc", "rank": first}]
    return made if second is None else [*made, {"layer": f"{name}2", "format": "tucker2", "rank": [3, second]}]


def tried(macs: int, drop: float | None, first: int, second: int, name: str = "conv") -> dict[str, Any]:
    cost = {"params": macs // 24, "macs": macs, "bytes": macs // 6}
    return {**cost, "drop": drop, "loss": None, "layers": choices(first, second, name)}


def search(name: str = "conv", **changes: Any) -> dict[str, Any]:
    """The content of ``search.json``: two layers factorised, one left dense, one that no format serves."""
    layers = [
        {"name": f"{name}1", "macs_before": 9000, "macs_after": 3000, "format": "cp-epc", "rank": 8, "reason": None},
        {"name": f"{name}2", "macs_before": 8000, "macs_after": 4000, "format": "tucker2", "rank": [3, 4],
         "reason": None},
        {"name": f"{name}3", "macs_before": 7000, "macs_after": 7000, "format": None, "rank": None,
         "reason": f"{name}: the search left it so"},
        {"name": f"{name}4", "macs_before": 0, "macs_after": 0, "format": None, "rank": None, "supported": False,
         "reason": f"{name}: no format serves it"},
    ]  # fmt: skip
    known = {
        "version": 1,
        "search": "frontier",
        "stop": "the search had nothing left to try",
        "trials": 5,
        "max_drop": None,
        "dense": DENSE,
        "plan": tried(14_000, 3.0, 8, 4, name),
        "front": [tried(11_000, 9.0, 2, 2, name), tried(14_000, 3.0, 8, 4, name)],
        "layers": layers,
        "seconds": {"inspect": 0.5, "search": 12.25},
        "provenance": {**PROVENANCE, "budget": "macs <= 15,000", "search": "Frontier()"},
    }
    return {**known, **changes}


def truncation(name: str = "layer", **changes: Any) -> dict[str, Any]:
    """The content of ``truncation.json``: two layers, two cuts and a chain of them, three shares, one trained again."""
    rows = []
    for at, chain in enumerate(("o|ihw", "i|ohw", "o|ihw+i|ohw")):
        for share in (0.25, 0.5, 0.75):
            for position, group in enumerate((f"{name}1", f"{name}2", "all", "shallow", "deep")):
                single = position < 2
                lost = 1.0 - share + 0.02 * position
                rows.append(
                    {
                        "kind": "single" if single else "joint",
                        "group": group,
                        "position": position if single else None,
                        "layers": 1 if single else 2,
                        "chain": chain,
                        "share": share,
                        "kept_fraction": share,
                        "parameter_ratio": 1.1 * share,
                        "norm_loss": lost,
                        "gaussian_norm_loss": min(1.0, lost + 0.1) if single and at < 2 else None,
                        "accuracy": 0.9 - 0.5 * lost,
                        "accuracy_recalibrated": 0.9 - 0.3 * lost,
                        "perturbed_accuracy": 0.9 - 0.1 * lost,
                        "perturbed_accuracy_recalibrated": 0.88,
                        "test_accuracy": None if single else 0.85 - 0.5 * lost,
                    }
                )
    retrained = [
        {
            "chain": "o|ihw+i|ohw", "share": 0.25, "form": form, "layers": 2, "epochs": 1, "parameter_ratio": ratio,
            "accuracy_before": 0.2, "accuracy_before_recalibrated": 0.4, "accuracy_after": 0.8, "test_accuracy": 0.7,
        }
        for form, ratio in (("dense", 1.0), ("factorised", 0.3))
    ]  # fmt: skip
    settings = {
        "data": name,
        "held_out_images": 250,
        "test_images": 500,
        "dense_accuracy": 0.9,
        "dense_accuracy_recalibrated": 0.89,
        "dense_test_accuracy": 0.86,
    }
    known = {
        "version": 1,
        "rows": rows,
        "spectra": [],
        "retrained": retrained,
        "skipped": {f"{name}3": f"{name}: no window"},
        "settings": settings,
        "provenance": PROVENANCE,
    }
    return {**known, **changes}


def degeneracy(name: str = "layer", **changes: Any) -> dict[str, Any]:
    """The content of ``degeneracy.json``: two layers, two methods, three ranks, one ratio infinite."""
    rows = [
        {
            "layer": layer,
            "method": method,
            "rank": rank,
            "relative_error": 1.0 / rank,
            "intensity_ratio": None if (method, rank) == ("als", 16) and layer.endswith("1") else 10.0 * rank,
            "sum_squared_intensity": 100.0 if method == "als" else 0.5,
            "sensitivity": 1000.0 / rank,
            "degenerate": method == "als" and rank == 4,
        }
        for layer in (f"{name}1", f"{name}2")
        for method in ("als", "stable")
        for rank in (4, 8, 16)
    ]
    sentence = f"{name}: degenerate at rank 4 under ALS; not degenerate under stable CP"
    verdicts = dict.fromkeys((f"{name}1", f"{name}2"), sentence)
    known = {
        "version": 1,
        "rows": rows,
        "verdicts": verdicts,
        "skipped": {f"{name}3": f"{name}: a matrix"},
        "methods": {"als": "ALS", "stable": "stable CP"},
        "provenance": PROVENANCE,
    }
    return {**known, **changes}


def layers(name: str = "layer", **changes: Any) -> dict[str, Any]:
    """The content of ``layers.json``: two layers in two formats at two ranks."""
    rows = [
        {
            "layer": layer,
            "format": fmt,
            "rank": [rank] if fmt == "cp-epc" else [rank, rank + 1],
            "mac_ratio": rank / 20,
            "parameter_ratio": rank / 25,
            "relative_error": 1 / rank,
            "sensitivity": 50.0 * rank if fmt == "cp-epc" else None,
            "accuracy": 0.9 - 1 / rank,
            "accuracy_tuned": 0.9 - 0.5 / rank,
        }
        for layer in (f"{name}1", f"{name}2")
        for fmt in ("cp-epc", "tucker2")
        for rank in (5, 10)
    ]
    known = {
        "version": 1,
        "rows": rows,
        "skipped": {f"{name}3": f"{name}: refused"},
        "dense_accuracy": 0.9,
        "provenance": PROVENANCE,
    }
    return {**known, **changes}


DOCUMENTS = {"truncation.json": truncation, "degeneracy.json": degeneracy, "layers.json": layers}


def written(path: Path, name: str, document: dict[str, Any]) -> Path:
    """A folder that holds a document."""
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(json.dumps(document), encoding="utf-8")
    return path
