"""Damaged files: whatever stands in a file that Polyadic reads, it is read, or refused with an error of Polyadic.

    python benchmarks/fuzz.py [inputs] [first seed] [processes]

Every input is drawn from its seed: a whole file of one kind, then bytes turned, cut, doubled or taken from elsewhere;
or, for JSON, a value replaced by another (of another type, huge, negative, empty, deeply nested), a key lost or
renamed. An input fails if anything but a ``PolyadicError`` is raised, if it takes longer than 5 s, if it makes the
process grow by more than 256 MiB, if something is written outside of its folder, or if a program is run. What fails is
named with its seed in ``results/fuzz.json``:
``python benchmarks/fuzz.py 1 SEED`` shows it again.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import pickle
import random
import resource
import runpy
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image

from polyadic.data import load_data
from polyadic.engines.onnx_graph import chain_graph
from polyadic.errors import PolyadicError
from polyadic.export import load, read_plan
from polyadic.models import DigitsCnn, load_weights
from polyadic.onnx.source import read_onnx
from polyadic.reporting import bench_page, read_bench, read_folder, report_html
from polyadic.schema import Choice, ConvSpec, LayerRow, Plan, Trial
from polyadic.search import StudyLog, TrialLog
from polyadic.studies.study import RowFile, rows_of

SECONDS = 5.0
GROWTH_KIB = 256 * 1024
FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), "", "x", "../x"),
    *("/etc/passwd", "os:system", "\x00", "layer1.0.conv1", [], {}, [[]], [None], {"": None}, [1, 2, 3], "é" * 2000),
)


_PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
_programs_run: list[str] = []
sys.addaudithook(lambda event, _: _programs_run.append(event) if event in _PROGRAMS else None)


@dataclass(frozen=True)
class Kind:
    """A kind of file: what a whole one lies in, the file to damage, and what reads it."""

    folder: Path
    file: str
    read: Callable[[Path], object]


def kinds(whole: Path) -> dict[str, Kind]:
    """Every kind of file that is read, each with a whole example below ``whole``."""
    model = DigitsCnn()
    (whole / "weights").mkdir()
    torch.save(model.state_dict(), whole / "weights" / "w.pt")
    draw = np.random.default_rng(0)
    (whole / "npz").mkdir()
    for role in ("train", "test"):
        x = draw.integers(0, 255, (24, 6, 6), dtype=np.uint8)
        np.savez_compressed(whole / "npz" / f"d_{role}.npz", x=x, y=np.arange(24) % 3)
    (whole / "log").mkdir()
    log = TrialLog(whole / "log" / "trials.jsonl", "run")
    for rank in range(1, 6):
        plan = Plan((Choice("stage1.0", "tucker2", (rank, rank + 1)),))
        log.run_trial(plan, lambda plan: (Trial(plan, drop=0.5), {}))
    run, cores, search = (FIXTURES / name for name in ("run_0_1", "run_0_1_cores", "search_0_1"))
    page = lambda folder: report_html(read_folder(folder))  # noqa: E731
    return {
        "plan.json": Kind(run, "plan.json", load),
        "plan.json of formats": Kind(cores, "plan.json", lambda folder: read_plan(folder / "plan.json")),
        "model.safetensors": Kind(run, "model.safetensors", load),
        "result.json": Kind(run, "result.json", page),
        "trials.jsonl": Kind(run, "trials.jsonl", page),
        "bench.json": Kind(cores, "bench.json", lambda folder: bench_page(read_bench(folder))),
        "search.json": Kind(search, "search.json", page),
        "trials of a search": Kind(search, "trials.jsonl", page),
        "trials to resume": Kind(
            whole / "log", "trials.jsonl", lambda folder: TrialLog(folder / "trials.jsonl", "run", resume=True)
        ),
        "weights (torch)": Kind(whole / "weights", "w.pt", lambda folder: load_weights(model, folder / "w.pt")),
        "npz": Kind(whole / "npz", "d_train.npz", lambda folder: load_data(f"npz:{folder / 'd'}")),
        **studies(whole),
        **onnx_files(whole),
        **images(whole),
        **shared_trials(whole),
    }


def studies(whole: Path) -> dict[str, Kind]:
    """What ``analyze`` writes: a document of each study, and the rows that an interrupted one goes on from."""
    made: dict[str, Kind] = {}
    by_hand = runpy.run_path(str(FIXTURES.parent / "reporting" / "documents_by_hand.py"))["DOCUMENTS"]
    for name, document in by_hand.items():
        folder = whole / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_text(json.dumps(document()))
        made[name] = Kind(folder, name, lambda folder: report_html(read_folder(folder)))
    (whole / "rows").mkdir()
    rows = RowFile(whole / "rows", "study")
    for number, row in enumerate(by_hand["layers.json"]()["rows"]):
        rows.add(str(number), row)
    made["rows to resume"] = Kind(whole / "rows", "rows.jsonl", resumed_rows)
    return made


def onnx_files(whole: Path) -> dict[str, Kind]:
    """Networks of other programs: one with its weights inside, one with them in a file beside it."""
    layer = ConvSpec(3, 4, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
    network = onnx.load_from_string(chain_graph([(layer,)], 1, (8, 8)))
    made: dict[str, Kind] = {}
    for name, beside in (("onnx", False), ("onnx, weights beside it", True)):
        folder = whole / name
        folder.mkdir()
        onnx.save(network, folder / "n.onnx", save_as_external_data=beside, location="w.bin", size_threshold=0)
        made[name] = Kind(folder, "n.onnx", lambda folder: read_onnx(folder / "n.onnx"))
    return made


def resumed_rows(folder: Path) -> object:
    """Rows of a study of layers, as ``--resume`` reads them."""
    rows = RowFile(folder, "study", resume=True)
    return rows_of(LayerRow, [rows[str(number)] for number in range(100) if str(number) in rows])


def images(whole: Path) -> dict[str, Kind]:
    """Folders of images, and CIFAR-10, whose batches are pickles."""
    draw = np.random.default_rng(0)
    made: dict[str, Kind] = {}
    for suffix in ("png", "jpg", "tif"):
        folder = whole / suffix
        for role in ("train", "test"):
            for label in ("a", "b"):
                (folder / role / label).mkdir(parents=True)
                for number in range(3):
                    pixels = draw.integers(0, 255, (24, 20, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / role / label / f"{number}.{suffix}")
        made[f"image ({suffix})"] = Kind(folder, f"test/a/0.{suffix}", decoded_folder)
    (whole / "cifar10").mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {b"data": draw.integers(0, 255, (10, 3072), dtype=np.uint8), b"labels": list(range(10))}
        (whole / "cifar10" / name).write_bytes(pickle.dumps(batch, protocol=2))
    made["cifar10"] = Kind(whole / "cifar10", "test_batch", lambda folder: load_data(f"cifar10:{folder}"))
    return made


def decoded_folder(folder: Path) -> object:
    """The test images of a folder, decoded."""
    data = load_data(f"imagefolder:{folder}", image_size=16)
    return data.test.images(torch.arange(len(data.test)))


def shared_trials(whole: Path) -> dict[str, Kind]:
    """Studies of Optuna that workers share: a database, and a journal."""
    made: dict[str, Kind] = {}
    for kind, scheme in (("database", "sqlite"), ("journal", "journal")):
        folder = whole / kind
        folder.mkdir()
        read = partial(read_trials, scheme=scheme)
        store = StudyLog(f"{scheme}:///{folder / 'study'}", "run")
        for rank in range(1, 4):
            plan = Plan((Choice("stage1.0", "tucker2", (rank, rank + 1)),))
            _ = store.running
            store.run_trial(plan, lambda plan: (Trial(plan, drop=0.5), {}))
        made[f"{kind} of trials"] = Kind(folder, "study", read)
    return made


def read_trials(folder: Path, scheme: str) -> object:
    """What a worker reads when it joins, and one trial of its own."""
    store = StudyLog(f"{scheme}:///{folder / 'study'}", "run")
    read = (store.running, store.trials)
    store.run_trial(Plan(()), lambda plan: (Trial(plan, drop=0.5), {}))
    return read


def damaged(content: bytes, rng: random.Random) -> bytes:
    """``content`` with one to four damages."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        lines = content.split(b"\n")
        line = rng.randrange(len(lines))
        try:
            document = json.loads(content if rng.random() < 0.5 else lines[line])
        except ValueError:
            document = None
        if isinstance(document, dict | list) and document and rng.random() < 0.8:
            swap_a_value(document, rng)
            text = json.dumps(document).encode()
            whole = len(lines) == 1 or (content.lstrip()[:1] in (b"{", b"[") and not is_json(lines[line]))
            content = text if whole else b"\n".join([*lines[:line], text, *lines[line + 1 :]])
        else:
            content = turn_bytes(content, rng)
    return content


def is_json(text: bytes) -> bool:
    """Whether ``text`` is a JSON document."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def swap_a_value(document: Any, rng: random.Random) -> None:
    """Replace, drop or rename one value somewhere in a JSON document, in place."""
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        key = rng.choice(keys)
        below = document[key]
        if not (isinstance(below, dict | list) and below and rng.random() < 0.8):
            break
        document = below
    deed = rng.random()
    if deed < 0.15:
        del document[key]
    elif deed < 0.25 and isinstance(document, dict):
        document[rng.choice(("", "x", f"{key} "))] = document.pop(key)
    elif deed < 0.35 and isinstance(below, int | float):
        document[key] = -below * rng.choice((1, 10, 10**9))
    elif deed < 0.40:
        nested: Any = 1
        for _ in range(rng.choice((50, 400))):
            nested = [nested]
        document[key] = nested
    else:
        document[key] = rng.choice(ODD_VALUES)


def turn_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits turned, a piece cut, doubled or overwritten, the end lost; most of it near the beginning."""
    if not content:
        return b"\x00"
    size = len(content)
    at = rng.randrange(min(size, 256) if rng.random() < 0.6 else size)
    length = rng.choice((1, 2, 8, 64, 1024))
    deed = rng.randrange(6)
    if deed == 0:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if deed == 1:
        return content[:at]
    if deed == 2:
        return content[:at] + content[at + length :]
    if deed == 3:
        return content[:at] + content[at : at + length] * 2 + content[at + length :]
    if deed == 4:
        return content[:at] + rng.randbytes(length) + content[at + length :]
    return content[:at] + rng.choice((b"\xff" * 8, b"\x00" * 8, b"9" * 20, b"\xff\xff\xff\x7f")) + content[at + 8 :]


def try_input(kind: Kind, seed: int, below: Path) -> str:
    """What came of one input: "read", "refused", or what was wrong."""
    rng = random.Random(seed)
    folder = below / "input"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kind.folder, folder)
    path = folder / kind.file
    path.write_bytes(damaged(path.read_bytes(), rng))
    before = {one.name for one in below.iterdir()}
    began, size = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = "read"
    _programs_run.clear()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            kind.read(folder)
    except PolyadicError:
        outcome = "refused"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {str(error)[:100]}"
    if time.perf_counter() - began > SECONDS:
        return f"took longer than {SECONDS:g} s"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size > GROWTH_KIB:
        return f"took more than {GROWTH_KIB // 1024} MiB"
    if _programs_run:
        return f"ran a program ({_programs_run.pop()})"
    return outcome if {one.name for one in below.iterdir()} == before else "wrote outside of its folder"


def run(inputs: int, first: int) -> tuple[dict[str, Counter[str]], list[dict[str, Any]]]:
    """Outcomes by kind of the seeds from ``first`` on, and the inputs that were wrong."""
    outcomes: dict[str, Counter[str]] = {}
    wrong: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        below = Path(name)
        (below / "whole").mkdir()
        (below / "tried").mkdir()
        every = list(kinds(below / "whole").items())
        for kind_name, kind in every:
            kind.read(kind.folder)  # whole files are read
            outcomes[kind_name] = Counter()
        for seed in range(first, first + inputs):
            kind_name, kind = every[seed % len(every)]
            outcome = try_input(kind, seed, below / "tried")
            if outcome.startswith("took longer"):  # once more: somebody else may have had the machine
                outcome = try_input(kind, seed, below / "tried")
            outcomes[kind_name][outcome if outcome in ("read", "refused") else "wrong"] += 1
            if outcome not in ("read", "refused"):
                wrong.append({"seed": seed, "kind": kind_name, "outcome": outcome})
    return outcomes, wrong


def run_together(inputs: int, first: int, processes: int) -> tuple[dict[str, Counter[str]], list[dict[str, Any]]]:
    """The same by several processes, each with its share of the seeds."""
    ends = [first + inputs * part // processes for part in range(processes + 1)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(run, [end - begin for begin, end in pairwise(ends)], ends[:-1]))
    outcomes: dict[str, Counter[str]] = {}
    for found, _ in parts:
        for kind, counts in found.items():
            outcomes.setdefault(kind, Counter()).update(counts)
    return outcomes, [one for _, wrong in parts for one in wrong]


def main() -> None:
    """Run and record."""
    from record import record

    given = [int(text) for text in sys.argv[1:]]
    inputs, first, processes = [*given, *(25_300, 0, 1)[len(given) :]]
    torch.set_num_threads(1)
    outcomes, wrong = run(inputs, first) if processes == 1 else run_together(inputs, first, processes)
    for kind, counts in outcomes.items():
        print(f"{kind:24s} {dict(counts)}")
    for one in wrong[:50]:
        print(one)
    if inputs > 1:
        print(record("fuzz", {"inputs": inputs, "first_seed": first, "outcomes": outcomes, "wrong": wrong}))


if __name__ == "__main__":
    main()
