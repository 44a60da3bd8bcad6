"""Killed commands: whatever moment SIGKILL comes at, no file is half written, and the command ends as if undisturbed.

    python benchmarks/kills.py [kills] [first seed] [minutes]

Each seed is one run of a command on a network of four layers and images of 8 x 8. It is killed two to four times, goes
on with ``--resume`` (a command without it is run again), and is then left to end. Every other kill comes at a moment
drawn uniformly from the time that the undisturbed command takes; the others at a step of the file system drawn from
those that it takes (a file begun, written, brought to the disk, renamed, removed), just before it, just after it, or
with half of the file written. Each command is a process of its own, forked from one that has loaded the library, so
that moments fall on the work.

After each kill every file in the folder has to be whole: JSON is JSON, weights are weights, a checkpoint is one. In the
end the folder holds the files of the undisturbed run, and those that two undisturbed runs write alike (the plan, the
weights, the trials without their times) are the same to the byte. What is wrong is named with its seed in
``results/kills.json``: ``python benchmarks/kills.py 1 SEED`` shows that run again, at about the same moments.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from polyadic.cli import COMMANDS, app, command_named
from polyadic.cli.progress import ProgressBars
from polyadic.data import load_data
from polyadic.export import load
from polyadic.models import load_model
from polyadic.schema import Plan, SearchResult, Summary
from polyadic.training import Augmentation, FinetuneOptions, train_on_images

NETWORK = '''"""A network of four layers."""

import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 3),
    )
'''

OVER_BUDGET = 3
"""A run that ended, too."""


TURNS = (
    *("compress", "finetune", "compress in rounds", "search", "finetune", "export"),
    *("compress", "finetune", "compress in rounds", "search", "compress in rounds", "quantize"),
)
"""Commands in the order of seeds, the quick ones more often."""


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        words: all but where it writes.
        alike: files that every run of it has to write alike.
        last: the file that appears last, and says that the others are there.
        resume: whether it goes on with ``--resume``.
        cached: whether it takes ``--cache-dir``.
    """

    words: tuple[str, ...]
    alike: tuple[str, ...]
    last: str
    resume: bool = True
    cached: bool = True

    def line(self, below: Path, again: bool) -> list[str]:
        """The words of a run that keeps everything below one folder."""
        more = ["--cache-dir", str(below / "cache")] if self.cached else []
        return [*self.words, "--out", str(below / "out"), *more, *(["--resume"] if again and self.resume else [])]


@dataclass
class Undisturbed:
    """What a command does when nobody kills it: its time, its steps of the file system, and its files."""

    seconds: float
    steps: int
    names: set[str]
    alike: dict[str, bytes]


@dataclass
class Outcome:
    """What came of one run: stages and kinds of its kills, and what was wrong."""

    command: str
    kills: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Watch:
    """What a forked process tells the one that forked it, in memory that both see: its steps so far, and its stage."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 128)

    @property
    def steps(self) -> int:
        """Steps of the file system so far."""
        return int(struct.unpack("q", self._shared[:8])[0])

    @property
    def stage(self) -> str:
        """The last stage that was shown."""
        return self._shared[8:].rstrip(b"\0").decode() or "loading"

    def step(self) -> int:
        """Count one more."""
        self._shared[:8] = struct.pack("q", self.steps + 1)
        return self.steps

    def show(self, stage: str) -> None:
        """Note the stage."""
        self._shared[8:] = stage.encode()[:120].ljust(120, b"\0")


def die() -> None:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def watch_steps(watch: Watch, deadly: int | None, manner: int) -> None:
    """Count what this process does to files, and die at one of those steps: before it, after it, or in the middle."""

    def watched(real: Callable[..., Any], *, writes: bool = False) -> Callable[..., Any]:
        def step(*given: Any, **named: Any) -> Any:
            now = watch.step() == deadly
            if now and manner == 0:
                die()
            if now and manner == 1 and writes:
                path, content = given
                with path.open("wb") as file:
                    file.write(bytes(content)[: len(content) // 2])
                die()
            result = real(*given, **named)
            if now:
                die()
            return result

        return step

    for owner, names in ((os, ("fsync", "truncate", "rmdir")), (Path, ("replace", "unlink", "mkdir"))):
        for name in names:
            setattr(owner, name, watched(getattr(owner, name)))
    tempfile.mkstemp = watched(tempfile.mkstemp)
    Path.write_bytes = watched(Path.write_bytes, writes=True)  # type: ignore[method-assign]


def forked(work: Callable[[], None], said: Path) -> int:
    """A process that does ``work``, with what it says in a file; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with said.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        torch.set_num_threads(1)
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # a child never returns into the code of its parent
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def start(words: list[str], below: Path, watch: Watch, deadly: int | None = None, manner: int = 0) -> int:
    """The command in a process of its own; its id."""

    def work() -> None:
        scratch = below / "scratch"  # for the temporary folders that a killed process leaves
        scratch.mkdir(exist_ok=True)
        tempfile.tempdir = str(scratch)
        sys.argv = ["polyadic", *words]
        move = ProgressBars.move

        def show(bars: ProgressBars, stage: str, *rest: Any) -> None:
            watch.show(stage.split()[0])
            move(bars, stage, *rest)

        ProgressBars.move = show  # type: ignore[method-assign]
        watch_steps(watch, deadly, manner)
        try:
            app(words)
        finally:
            (below / "loaded").write_text("\n".join(sys.modules))

    return forked(work, below / "said")


def wait(child: int, seconds: float | None = None) -> int | None:
    """The status of a process, negative for a signal; None where it still runs after so many seconds."""
    handle = os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], seconds)[0]:
            return None
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def whole_run(command: Command, below: Path) -> Undisturbed:
    """Run a command that nobody disturbs.

    Raises:
        RuntimeError: it fails.
    """
    below.mkdir(parents=True)
    watch, began = Watch(), time.perf_counter()
    status = wait(start(command.line(below, again=False), below, watch))
    seconds = time.perf_counter() - began
    if status not in (0, OVER_BUDGET):
        raise RuntimeError(f"{command.words[0]} ended with {status}: {(below / 'said').read_text()[-2000:]}")
    return Undisturbed(seconds, watch.steps, names_in(below / "out"), contents(below / "out"))


def names_in(folder: Path) -> set[str]:
    """Names of all files, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """All files, the trials without their times."""
    found = {name: (folder / name).read_bytes() for name in names_in(folder)}
    for name in found:
        if name.endswith(".jsonl"):
            lines = [json.loads(line) for line in found[name].splitlines()]
            plain = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
            found[name] = json.dumps(plain).encode()
    return found


def broken_files(out: Path, last: str) -> Iterator[str]:
    """What is not whole in a folder after a kill."""
    for name in names_in(out) if out.exists() else ():
        path = out / name
        if name.endswith(".partial") or path.name == ".lock":
            continue  # nobody reads them
        try:
            if name.endswith(".json"):
                json.loads(path.read_text())
            elif name.endswith(".jsonl"):
                text = path.read_bytes()
                for line in text[: text.rfind(b"\n") + 1].splitlines():
                    json.loads(line)
            elif name.endswith(".safetensors"):
                load_file(path)
            elif name.endswith(".pt"):
                torch.load(path, weights_only=True)
            elif path.stat().st_size == 0:
                yield f"{name} is empty"
        except Exception as error:
            yield f"{name} is half written: {type(error).__name__}: {str(error)[:100]}"
    if last == Summary.file and (out / last).exists():
        try:
            load(out, trust_code=True)
        except Exception as error:
            yield f"{last} is there and the result does not load: {type(error).__name__}: {str(error)[:100]}"


def differences(out: Path, expected: Undisturbed) -> Iterator[str]:
    """How the folder of a run that was killed differs from that of one that was not."""
    names = names_in(out) if out.exists() else set()
    for what, odd in (("is missing", expected.names - names), ("is left over", names - expected.names)):
        yield from (f"{name} {what}" for name in sorted(odd))
    found = contents(out) if names else {}
    yield from (f"{name} differs" for name, content in expected.alike.items() if found.get(name, content) != content)


def try_run(name: str, command: Command, expected: Undisturbed, seed: int, below: Path) -> Outcome:
    """Kill one run again and again, and let it end."""
    rng, outcome, out = random.Random(seed), Outcome(name), below / "out"
    shutil.rmtree(below, ignore_errors=True)
    below.mkdir(parents=True)
    status: int | None = None
    kills = rng.choice((2, 3, 4))
    for attempt in range(kills + 1):
        watch, by_step = Watch(), rng.random() < 0.5
        words, share, manner = command.line(below, again=attempt > 0), rng.random(), rng.randrange(3)
        if attempt == kills:
            status = wait(start(words, below, watch))
        elif by_step:
            status = wait(start(words, below, watch, 1 + int(share * expected.steps), manner))
        else:
            child = start(words, below, watch)
            status = wait(child, share * expected.seconds)
            if status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                status = wait(child)
        if status != -signal.SIGKILL:
            break  # it ended, whatever was meant to come
        outcome.kills.append((stage_of(out, watch, command.last), "step" if by_step else "time"))
        outcome.wrong += [f"after kill {attempt + 1}: {what}" for what in broken_files(out, command.last)]
    if status not in (0, OVER_BUDGET):
        outcome.wrong.append(f"ended with {status}: {(below / 'said').read_text().strip()[-300:]}")
    else:
        outcome.wrong += differences(out, expected)
        outcome.wrong += broken_files(out, command.last)
    return outcome


def stage_of(out: Path, watch: Watch, last: str) -> str:
    """Where a run was killed, by what it has shown and what lies in its folder."""
    if any(name.endswith(".partial") for name in (names_in(out) if out.exists() else ())):
        return "writing"
    return "after the last file" if (out / last).exists() else watch.stage


def prepare(below: Path) -> None:
    """A network in a file of its own, images, weights trained for a second, and a result to go on with."""
    (below / "net.py").write_text(NETWORK)
    for role, count, seed in (("train", 150, 0), ("test", 60, 1)):
        draw, y = np.random.default_rng(seed), np.arange(count) % 3
        x = draw.integers(0, 150, (count, 8, 8, 1))
        for image, label in zip(x, y, strict=True):
            image[2 * label : 2 * label + 4, 2:6] += 70
        np.savez(below / f"bars_{role}.npz", x=x.astype(np.uint8), y=y)
    network: Any = load_model(f"{below}/net.py:build").model
    options = FinetuneOptions(epochs=3, batch_size=32, learning_rate=0.05, augmentation=Augmentation.none())
    train_on_images(network, load_data(f"npz:{below}/bars"), options)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, below / "w.safetensors")


def commands(below: Path) -> dict[str, Command]:
    """The command lines that are killed; the last ones work on the result of the first one."""
    dense = (f"{below}/net.py:build", "--weights", f"{below}/w.safetensors")
    images, result = ("--data", f"npz:{below}/bars"), str(below / "compress-1" / "out")
    goal = ("--max-drop", "6", "--formats", "svd")
    budget = ("--budget", "macs=50%", "--formats", "svd,tucker2", "--search", "uniform")
    quick = ("--images", "32", "--judges", "30", "--no-ends", "--batches", "1", "--seconds", "0.01")
    network = (Plan.file, "model.safetensors")
    known = {
        "compress": Command(("compress", *dense, *images, *goal, "--finetune-epochs", "4"), network, Summary.file),
        "compress in rounds": Command(
            ("compress", *dense, *images, *budget, "--rounds", "2", "--finetune-epochs", "2"), network, Summary.file
        ),
        "search": Command(("search", *dense, *images, *goal), (Plan.file, "trials.jsonl"), SearchResult.file),
        "finetune": Command(
            ("finetune", result, *images, *dense[1:], "--trust-code", "--finetune-epochs", "6"),
            network,
            Summary.file,
            cached=False,
        ),
        "export": Command(
            ("export", result, *images, "--trust-code", "--to", "onnx"), ("model.onnx",), "export.json", False, False
        ),
        "quantize": Command(
            ("quantize", result, *images, "--trust-code", *quick),
            ("model.int8.onnx",),
            "quantization.json",
            False,
            False,
        ),
    }
    return known


def load_modules(names: list[str]) -> None:
    """Load once, for all the processes, what a command loads on demand."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # some are made, not found; then the command makes them again
                importlib.import_module(name)


@dataclass
class World:
    """Everything that the runs share."""

    below: Path
    commands: dict[str, Command]
    undisturbed: dict[str, Undisturbed]


def build_world(below: Path, only: tuple[str, ...] | None = None) -> World:
    """Run every command twice, undisturbed: what both write alike is what a killed one has to write."""
    for name in COMMANDS:
        command_named(name)  # loaded once, for all the processes
    if wait(forked(lambda: prepare(below), below / "said")) != 0:
        raise RuntimeError((below / "said").read_text()[-2000:])
    known = {name: one for name, one in commands(below).items() if only is None or name in only}
    undisturbed = {}
    for name, command in known.items():
        first = whole_run(command, below / f"{name}-1")
        load_modules((below / f"{name}-1" / "loaded").read_text().split())
        second = whole_run(command, below / f"{name}-2")
        alike = {file: text for file, text in first.alike.items() if second.alike.get(file) == text}
        if set(command.alike) - set(alike) or first.names != second.names:
            raise RuntimeError(f"{name} does not do the same twice: alike are {sorted(alike)} of {sorted(first.names)}")
        undisturbed[name] = Undisturbed(second.seconds, min(first.steps, second.steps), first.names, alike)
    return World(below, known, undisturbed)


def run(
    world: World, kills: int, first: int, seconds: float = float("inf"), tell: Callable[[str], None] = print
) -> tuple[int, list[Outcome], list[dict[str, Any]]]:
    """Runs of the seeds from ``first`` on, until there were so many kills or so many seconds; and what was wrong."""
    outcomes: list[Outcome] = []
    wrong: list[dict[str, Any]] = []
    seed, done, began = first, 0, time.perf_counter()
    names = [name for name in TURNS if name in world.commands]
    while done < kills and time.perf_counter() - began < seconds:
        name = names[seed % len(names)]
        outcome = try_run(name, world.commands[name], world.undisturbed[name], seed, world.below / "tried")
        outcomes.append(outcome)
        done += len(outcome.kills)
        if outcome.wrong:
            stages = [f"{stage} ({kind})" for stage, kind in outcome.kills]
            wrong.append({"seed": seed, "command": name, "kills": stages, "wrong": outcome.wrong})
        elapsed = time.perf_counter() - began
        tell(f"{elapsed:5.0f} s, seed {seed}, {done} kills, {name}: {outcome.kills} {outcome.wrong or ''}")
        seed += 1
    return done, outcomes, wrong


def main() -> None:
    """Run and record."""
    from record import record

    given = [int(text) for text in sys.argv[1:]]
    kills, first, minutes = [*given, *(240, 0, 24 * 60)[len(given) :]]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        world = build_world(Path(name))
        for command, known in world.undisturbed.items():
            print(f"{command}: {known.seconds:.1f} s, {known.steps} steps, alike: {sorted(known.alike)}", flush=True)
        done, outcomes, wrong = run(world, kills, first, 60.0 * minutes, lambda text: print(text, flush=True))
        every = [(outcome.command, *kill) for outcome in outcomes for kill in outcome.kills]
        figures = {
            "kills": done,
            "runs": len(outcomes),
            "first_seed": first,
            "wrong": wrong,
            "kills_by_command": Counter(command for command, _, _ in every),
            "kills_by_stage": Counter(stage for _, stage, _ in every),
            "kills_by_moment": Counter(kind for _, _, kind in every),
            "runs_by_command": Counter(outcome.command for outcome in outcomes),
            "seconds_undisturbed": {name: round(known.seconds, 2) for name, known in world.undisturbed.items()},
            "written_alike": {name: sorted(known.alike) for name, known in world.undisturbed.items()},
        }
    for key in ("kills", "kills_by_command", "kills_by_stage", "kills_by_moment"):
        print(key, figures[key])
    if kills > 1:
        print(record("kills", figures))


if __name__ == "__main__":
    main()
