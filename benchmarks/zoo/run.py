"""What Polyadic does in networks of every kind, with random weights: layers, savings, exactness at full rank.

    python benchmarks/zoo/run.py [--only REGEX] [--list]

Every network is a row: which layers are found and which stay dense, and why; what is saved when every layer that a
format serves has two times fewer parameters (Tucker-2 for windows, the SVD for matrices); and how far the network is
from the dense one when its layers are factorised at full rank, in float64. A row that is in the results already is not
run again, unless it failed; ``--only`` chooses rows by a regular expression, ``--fresh`` runs them all the same. The
results are ``benchmarks/results/zoo.json`` and ``docs/zoo.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script finds record.py, and its own folder as zoo

from record import RESULTS, record

from zoo.measure import faults, measured
from zoo.networks import NETWORKS, Network
from zoo.page import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "zoo.md"
LARGEST = 1.6e7  # parameters; an SVD of a 4096 x 4096 matrix takes a minute on one core


def main() -> None:
    """Run the rows that are missing and write each as soon as it is there; ends with 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression that a network's name must contain")
    parser.add_argument("--list", action="store_true", help="print the names of the networks and stop")
    parser.add_argument("--fresh", action="store_true", help="run rows that are in the results already")
    parser.add_argument("--ratio", type=float, default=2.0, help="how many times fewer parameters per layer")
    parser.add_argument("--largest", type=float, default=LARGEST, help="most parameters of a layer that is factorised")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    chosen = [network for network in NETWORKS.values() if re.search(options.only, network.name)]
    if options.list:
        print("\n".join(f"{network.group:15} {network.name}" for network in chosen))
        return
    torch.set_num_threads(options.threads)
    for network in chosen:
        known = rows().get(network.name, {"error": "not run"})
        if "error" not in known and not options.fresh:
            continue
        row = outcome(network, options.ratio, options.largest)
        print(f"{network.name}: {json.dumps(row)}", flush=True)
        write({**rows(), network.name: row})  # another process may have written rows meanwhile
    write(rows())
    wrong = [f"{network.name}: {fault}" for network in chosen for fault in faults(rows()[network.name])]
    sys.exit("\n".join(wrong) if wrong else 0)


def outcome(network: Network, ratio: float, largest: float) -> dict[str, Any]:
    """The row of ``network``, or the error that stands in its place."""
    if network.absent is not None:
        return {"group": network.group, "error": network.absent}
    try:
        return {**measured(network, ratio, largest), "threads": torch.get_num_threads()}
    except Exception as error:  # a network that fails is a finding, and the others are still to be seen
        traceback.print_exc()
        return {"group": network.group, "error": f"{type(error).__name__}: {error}"}


def rows() -> dict[str, Any]:
    """The rows in the results so far."""
    path = RESULTS / "zoo.json"
    return dict(json.loads(path.read_text())["rows"]) if path.exists() else {}


def write(results: dict[str, Any]) -> None:
    """The results, in the order of the table of networks, and the page made of them."""
    ordered = {name: results[name] for name in NETWORKS if name in results}
    path = record("zoo", {"command": "python benchmarks/zoo/run.py", "packages": packages(), "rows": ordered})
    PAGE.write_text(page(json.loads(path.read_text())))


def packages() -> dict[str, str]:
    """Versions of the libraries that networks come from."""
    found = {}
    for name in ("torchvision", "timm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


if __name__ == "__main__":
    main()
