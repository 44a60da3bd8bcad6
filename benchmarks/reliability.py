"""What the three hunts came to, in one file: damaged files, kills, random networks.

    python benchmarks/reliability.py

Run after `fuzz.py`, `kills.py` and `differential.py`; counts are read from their results. What they found, and what was
done about it, is told in FOUND: each has a test.
"""

from __future__ import annotations

import json
from typing import Any

from record import RESULTS, record

FOUND: dict[str, dict[str, str]] = {
    "fuzz": {
        "a cost of 0 in a search broke the report's page by a division by zero": "both numbers are said as they are",
        "a drop of 1e308 points broke its chart": "axes end at 1e300",
        "archives and images that inflate a thousandfold filled the memory": "refused before they are read",
        "a pickle in a CIFAR-10 batch could fill arrays or change a function": "only arrays and plain values are built",
        "PostScript in an image folder would have been run by Ghostscript": "refused",
        "damaged entries of shared studies ended in a traceback": "refused in one sentence",
        "odd keys, NaN and negative numbers in rows of analyze ended in a traceback": "refused, or drawn",
    },
    "kills": {
        "finetune, killed between its result and its page, was refused with --resume": "the page is made, and it ends",
        "a log of trials that was removed in mid-run was begun without its first line": "an error that names the log",
    },
    "differential": {},
}


def counts(name: str, *keys: str) -> dict[str, Any]:
    """Some numbers of a result."""
    figures = json.loads((RESULTS / f"{name}.json").read_text())
    return {"command": figures["command"], **{key: figures[key] for key in keys}}


def main() -> None:
    """Collect and record."""
    hunts = {
        "fuzz": counts("fuzz", "inputs", "wrong"),
        "kills": counts("kills", "kills", "runs", "kills_by_command", "kills_by_stage", "wrong"),
        "differential": counts("differential", "networks", "replaced", "saved", "exported", "refused", "wrong"),
    }
    for name, hunt in hunts.items():
        hunt["found_and_fixed"] = FOUND[name]
    print(record("reliability", hunts))


if __name__ == "__main__":
    main()
