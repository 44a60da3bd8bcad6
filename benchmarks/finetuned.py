"""What a network keeps at a budget after a few epochs of fine-tuning: the whole command, as a user gives it.

    python benchmarks/finetuned.py --weights-dir ../shared/data --data npz:build/data/cifar10 --threads 1

Each row is one run of `polyadic compress`: search, surgery, at most five epochs, and the test images read once at the
end. Runs lie in the folder ``--runs``; one that was cut off goes on, and one that is complete is only read again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record, rows_in

TRAINING = {"gently": ("--finetune-rate", "0.001", "--freeze-statistics"), "mixed": ("--mix-images",)}
NORMALISATION = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")


@dataclass(frozen=True)
class Row:
    """One run: a network, how many times fewer MACs, how its ranks are found, and how it is trained."""

    network: str
    ratio: float
    search: str = "error-bound"
    formats: str = "cp-epc,svd"
    epochs: int = 5
    training: str | None = None

    @property
    def name(self) -> str:
        """In the results and of the folder."""
        how = f"-{self.training}" if self.training else ""
        return f"{self.network}-{self.ratio:g}x-{self.search}-{self.formats.replace(',', '+')}{how}"

    def command(self, given: argparse.Namespace) -> list[str]:
        """After `polyadic`."""
        folder = given.runs / self.name
        return [
            *("compress", f"polyadic:{self.network}", "--data", given.data, *NORMALISATION),
            *("--weights", str(given.weights_dir / f"{self.network}_cifar10.safetensors")),
            *("--budget", f"macs={self.ratio:g}x", "--search", self.search, "--formats", self.formats),
            *(TRAINING[self.training] if self.training else ()),
            *("--finetune-epochs", str(self.epochs), "--out", str(folder), "--json"),
            *(("--resume",) if folder.exists() else ()),
        ]


ROWS = (
    Row("resnet20", 2.5),
    Row("resnet20", 2.5, search="frontier"),
    Row("resnet20", 2.5, search="frontier", training="gently"),
    Row("resnet20", 2.5, search="frontier", training="mixed"),
    Row("resnet56", 3.0, epochs=4),
    Row("resnet56", 2.0, search="frontier", epochs=2),
    Row("resnet56", 2.0, search="frontier", epochs=4, training="mixed"),
)


def carried_out(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """Run the command unless its folder holds a result, and read that."""
    command, result = row.command(given), given.runs / row.name / "result.json"
    if not result.exists():
        environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
        subprocess.run([sys.executable, "-m", "polyadic", *command], check=True, env=environment)
    return {**figures(json.loads(result.read_text())), "command": shlex.join(["polyadic", *command])}


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What the row says of a run."""
    dense, compressed = result["dense"], result["compressed"]
    return {
        "macs_ratio": result["mac_reduction"],
        "params_ratio": dense["params"] / compressed["params"],
        "dense_accuracy": dense["score"],
        "untuned_accuracy": compressed["score_before_finetuning"],
        "test_accuracy": compressed["score"],
        "points_lost": result["drop"],
        "points_lost_interval": result["drop_interval"],
        "held_out": result["held_out"],
        "epochs": len(result["provenance"]["finetuning"]),
        "seconds": result["seconds"],
    }


def main() -> None:
    """Run the rows that are missing and write each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights-dir", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", default="", help="regular expression of names of rows")
    parser.add_argument("--runs", type=Path, default=Path("build/finetuned"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for row in ROWS:
        if re.fullmatch(given.rows or ".*", row.name):
            found = {**carried_out(row, given), "threads": given.threads}
            rows = {**rows_in(RESULTS / "finetuned_cifar10.json"), row.name: found}
            record("finetuned_cifar10", {"rows": rows})
            print(row.name, found)


if __name__ == "__main__":
    main()
