from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nets import everything_of, images, net, seeded
from torch import Tensor, nn

from polyadic.models import ResNetCifar
from polyadic.surgery.forward_record import OperationCounter, record_forward


class Reads(nn.Module):
    """Two layers, and whatever ``between`` does with the output of the first: (N, 3, H, W) to anything."""

    def __init__(self, between: Callable[[Reads, Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5)
        self.kept: Tensor | None = None
        self.between = between

    def forward(self, x: Tensor) -> Any:
        return self.between(self, self.first(x))


def _keeps(model: Reads, y: Tensor) -> Tensor:
    model.kept = y
    return model.second(y)


def _in_place(model: Reads, y: Tensor) -> Tensor:
    y.relu_()
    return model.second(y)


ALONE: dict[str, Callable[[Reads, Tensor], Any]] = {
    "called": lambda model, y: model.second(y),
    "by keyword": lambda model, y: model.second(input=y),
    "then more": lambda model, y: F.relu(model.second(y)) + 1,
    "through dropout": lambda model, y: model.second(model.dropout(y)),
    "through a change of nothing": lambda model, y: model.second(y.to(y.dtype).contiguous()) if y is not None else y,
    "in a list": lambda model, y: [model.second(y)],
}
SHARED: dict[str, tuple[Callable[[Reads, Tensor], Any], str]] = {
    "added": (lambda model, y: model.second(y) + y, "operation add"),
    "stacked": (lambda model, y: torch.cat([model.second(y), y]), "operation cat"),
    "asked for its shape": (lambda model, y: model.second(y).reshape(y.shape), "operation __get__"),
    "viewed": (lambda model, y: (model.second(y), y[:, 0]), "operation __getitem__"),
    "changed in place": (_in_place, "operation relu_"),
    "returned": (lambda model, y: (model.second(y), y), "keeps or returns"),
    "returned in a dict": (lambda model, y: {"a": {"b": [y, model.second(y)]}}, "keeps or returns"),
    "kept": (_keeps, "keeps or returns"),
    "read twice": (lambda model, y: model.second(y) + model.second(y), "read by 'second'"),
    "functional norm": (lambda model, y: F.batch_norm(y, torch.zeros(3), torch.ones(3)), "operation batch_norm"),
    "nobody": (lambda model, y: torch.zeros(1), "read by nobody"),
}


@pytest.mark.parametrize("case", ALONE)
def test_a_layer_that_alone_reads_another_is_found(case: str) -> None:
    model = seeded(lambda: Reads(ALONE[case]))
    if case == "through a change of nothing":
        model.between = lambda model, y: model.second(y.contiguous())
    record = record_forward(model, images(), ["first", "second"])
    assert record.only_reader("first") == ("second", "")
    assert record.sources("second") == ("first",)
    assert record.sources("first") == (None,)


@pytest.mark.parametrize("case", SHARED)
def test_whoever_else_reads_an_output_is_named(case: str) -> None:
    between, words = SHARED[case]
    record = record_forward(seeded(lambda: Reads(between)), images(), ["first", "second"])
    reader, why = record.only_reader("first")
    assert reader is None
    assert words in why


def test_an_output_that_a_hook_from_outside_keeps_is_not_read_alone() -> None:
    model, found = seeded(lambda: Reads(ALONE["called"])), []
    body = nn.Sequential(nn.Sequential(model.first), model.second)
    body[0].register_forward_hook(lambda _, __, output: found.append(output))
    assert record_forward(body, images(), ["0.0", "1"]).only_reader("0.0")[0] is None
    found.clear()
    body[0].register_forward_hook(lambda _, __, output: None)
    assert record_forward(nn.Sequential(model.first, model.second), images(), ["0", "1"]).only_reader("0")[0] == "1"


def test_every_run_of_a_layer_counts() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    conv, norm, other = model
    model.forward = lambda x: norm(conv(norm(conv(x))))  # type: ignore[method-assign]
    record = record_forward(model, images(), ["0", "1"])
    assert record.only_reader("0") == ("1", "")
    assert record.sources("0") == (None, "1")
    model.forward = lambda x: norm(conv(x)) + other(conv(x))  # type: ignore[method-assign]
    assert record_forward(model, images(), ["0", "1", "2"]).only_reader("0")[0] is None
    assert "2" not in record_forward(model, images(), ["0", "1"]).runs


def test_the_model_is_left_as_it_was() -> None:
    model = net().train()
    before = everything_of(model)
    record_forward(model, images(1), ["stem", "norm", "point"])
    assert everything_of(model) == before


def test_a_record_holds_no_tensor_and_numbers_none_twice() -> None:
    model, alive = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4))), []
    for layer in model:
        layer.register_forward_hook(lambda _, __, output: alive.append(weakref.ref(output)))
    record = record_forward(model, images(), [str(n) for n in range(4)])
    assert len(alive) == 4
    assert all(reference() is None for reference in alive)
    assert len({run.result for runs in record.runs.values() for run in runs}) == 4


def test_operations_are_numbered_as_in_the_record_whatever_runs_inside_a_pause() -> None:
    model = seeded(lambda: ResNetCifar(8)).eval()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    x = torch.zeros(1, 3, 32, 32)
    record = record_forward(model, x, names)
    shapes: list[tuple[int, ...]] = []
    begins: dict[str, int] = {}
    counter = OperationCounter(lambda number, result: shapes.append((number, *result.shape)))

    class Instead(nn.Module):
        def __init__(self, name: str, layer: nn.Module) -> None:
            super().__init__()
            self.name, self.layer = name, layer

        def forward(self, x: Tensor) -> Tensor:
            begins[self.name] = counter.count
            with counter.paused():
                y: Tensor = self.layer(x) + torch.zeros(1)
                return y

    for name in names:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, Instead(name, model.get_submodule(name)))
    with torch.no_grad(), counter:
        model(x)
    assert [number for number, *_ in shapes] == list(range(len(record.numbered)))
    assert all(math.prod(shape) <= each.largest for (_, *shape), each in zip(shapes, record.numbered, strict=True))
    assert begins == {name: record.runs[name][0].begins for name in names}
