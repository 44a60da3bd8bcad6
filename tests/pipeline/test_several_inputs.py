"""Networks of several inputs, by position and by name; passes of the user's own; sizes and number formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from subjects import Net, images
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import polyadic
from polyadic.engines import LatencyModel, engine_named
from polyadic.errors import DataError, LayerError, PolyadicError
from polyadic.layers import as_arguments, concatenate, first_samples, sample_count, sample_shapes
from polyadic.schema import Conditions
from polyadic.search import Uniform
from polyadic.training import DistillOptions, SampleTask, distillation_loss, inputs_of, together

QUICK = polyadic.CompressOptions(search=Uniform(), alarm_at=1.0)
CALL: dict[str, Any] = {"budget": ["macs=70%"], "formats": ("tucker2", "svd"), "options": QUICK}


@dataclass
class Answer:
    """Outputs as libraries of transformers give them: a loss where there are labels, and maps."""

    loss: Tensor | None
    flow: Tensor


class Flow(nn.Module):
    """Two frames to a flow between them; with labels its loss, too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(24, 2, 3, padding=1)

    def forward(self, first: Tensor, second: Tensor, scale: Tensor | None = None, labels: Any = None) -> Answer:
        flow: Tensor = self.out(torch.cat([self.body(first), self.body(second)], 1))
        flow = flow if scale is None else flow * scale.reshape(-1, 1, 1, 1)
        return Answer(None if labels is None else (flow - labels).square().mean(), flow)


class Ranked(nn.Module):
    """Tokens and a picture, by name alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix = nn.Embedding(11, 8), nn.Linear(8, 16)
        self.look = nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Linear(32, 4)

    def forward(self, *, tokens: Tensor, picture: Tensor) -> Tensor:
        seen = torch.relu(self.look(picture)).mean((2, 3))
        logits: Tensor = self.head(torch.cat([torch.relu(self.mix(self.words(tokens))).mean(1), seen], 1))
        return logits


def flow() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Flow().eval(), images(24), images(24, 1), torch.rand(24) + 0.5


def ranked() -> tuple[nn.Module, dict[str, Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Ranked().eval(), {"tokens": torch.randint(11, (24, 6)), "picture": images(24), "y": torch.arange(24) % 4}


def test_two_inputs_by_position() -> None:
    model, a, b, _ = flow()
    result = polyadic.compress(model, DataLoader(TensorDataset(a, b), batch_size=8), **CALL)
    summary = result.summary
    assert summary.compressed.macs <= 0.7 * summary.dense.macs
    assert summary.provenance["data_aware"] is True
    assert {choice.layer for choice in summary.plan.choices} <= {"body.0", "body.2", "out"}
    with torch.no_grad():
        own, taught = result.model(a[[5, 15]], b[[5, 15]]), model(a[[5, 15]], b[[5, 15]])
    assert summary.compressed_score == pytest.approx(1 - float(distillation_loss(own, taught)), abs=1e-4)
    assert result.example_input[0].shape == (1, 3, 8, 8)


def test_inputs_by_name_without_the_labels_beside_them() -> None:
    model, a, b, scale = flow()
    seen: list[tuple[str, ...]] = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(tuple(kwargs)), with_kwargs=True)
    task = SampleTask(model, [{"labels": a, "scale": scale, "second": b, "first": a}])
    assert set(seen) == {("first", "second", "scale")}
    hook.remove()
    found = polyadic.find_plan(model, task, budget=["macs=70%"], formats=("tucker2",), options=QUICK)
    assert found.tried.cost.macs <= 0.7 * found.dense.macs
    model, batch = ranked()
    result = polyadic.compress(model, [batch], compare="divergence", **CALL)
    assert result.summary.provenance["compared"] == "outputs by divergence"
    assert result.summary.score_name == "information kept of the dense outputs"
    assert result.summary.compressed.macs <= 0.7 * result.summary.dense.macs


def test_labels_and_a_metric_with_inputs_by_name() -> None:
    model, batch = ranked()

    def right(net: nn.Module) -> float:
        return float((net(tokens=batch["tokens"], picture=batch["picture"]).argmax(1) == batch["y"]).float().mean())

    def loss(logits: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(logits, batch["y"])

    tuning = DistillOptions(epochs=80, learning_rate=0.02, distillation=0.0)
    task = SampleTask(model, [batch], validation=[batch], metric=right, loss=loss, tuning=tuning)
    result = polyadic.compress(model, task, **CALL)
    assert result.summary.compressed_score == right(result.model)
    assert result.summary.compressed_score > right(model) + 0.2, "labels teach what the dense network did not know"


def test_a_pass_of_ones_own_says_what_goes_in_and_what_counts() -> None:
    model, a, b, scale = flow()
    loader = DataLoader(TensorDataset(scale, a, b), batch_size=12)

    def forward(net: nn.Module, batch: Any) -> Tensor:
        scale, first, second = batch
        answer: Tensor = net(first / 2, second=second, scale=scale).flow[..., 1:-1, 1:-1]
        return answer

    task = SampleTask(model, loader, forward=forward)
    example = task.example_input()
    assert isinstance(example, dict)
    assert torch.equal(example["first"], a[:1] / 2)
    assert sample_shapes(task._answers(model, task.held_out[:1])) == ((2, 6, 6),)
    result = polyadic.compress(model, loader, forward=forward, **CALL)
    assert result.summary.provenance["data_aware"] is True
    plan = result.plan
    one = polyadic.apply_plan(model, plan, loader, forward=forward).model
    other = polyadic.apply_plan(model, plan, [{"first": a / 2, "second": b, "scale": scale}]).model
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(DataError, match="calls the model that it is given; it did not"):
        polyadic.compress(model, loader, forward=lambda net, batch: batch[1], **CALL)


def test_nothing_depends_on_how_the_loader_cuts() -> None:
    model, a, b, _ = flow()
    plan = polyadic.Plan((polyadic.Choice("body.2", "tucker2", (6, 6)), polyadic.Choice("out", "tucker2", (8, 2))))
    pairs = TensorDataset(a, b)
    one, other = (polyadic.apply_plan(model, plan, DataLoader(pairs, batch_size=size)).model for size in (1, 24))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    batches = list(SampleTask(model, DataLoader(pairs, batch_size=1)).calibration_batches())
    assert [sample_count(batch) for batch in batches] == [17]
    sizes = [sample_count(batch) for batch in together(images(600).split(100))]
    assert sizes == [200, 200, 200]
    assert [sample_count(batch) for batch in together([images(3), torch.zeros(8, 3, 4, 4), images(6)])] == [9]


def test_samples_of_several_sizes_where_the_network_takes_them() -> None:
    model, a, b, _ = flow()
    small = (a[..., :6], b[..., :6])
    result = polyadic.compress(model, [(a[:14], b[:14]), (small[0][14:], small[1][14:])], **CALL)
    assert result.summary.provenance["samples"] == {"train": 17, "held_out": 5, "last": 2}
    assert result.summary.provenance["data_aware"] is True
    assert result.summary.compressed_score > result.summary.held_out["before_finetuning"] - 0.3
    with pytest.raises(DataError, match=r"batch 1 of samples has \(3, 6, 6\) and Net does not take it .*: crop"):
        polyadic.compress(Net(), [a, a[..., :6, :6]], **CALL)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_of_another_number_format(dtype: torch.dtype) -> None:
    model, a, b, _ = flow()
    loader = DataLoader(TensorDataset(a.to(dtype), b.to(dtype)), batch_size=8)
    tuning = DistillOptions(epochs=2)
    task = SampleTask(model.to(dtype), loader, tuning=tuning)
    result = polyadic.compress(model, task, **CALL)
    assert {p.dtype for p in result.model.parameters()} == {dtype}
    assert result.summary.compressed_score > 0.5
    with pytest.raises(DataError, match="the weights are torch"):
        polyadic.compress(model, [(a.half(), b.half())], **CALL)


@pytest.mark.slow
def test_a_network_of_two_inputs_is_timed_and_saved(tmp_path: Any) -> None:
    model, a, b, _ = flow()
    latency = LatencyModel(engine_named("pytorch"), Conditions(batch=2, threads=1))
    options = polyadic.CompressOptions(search=Uniform(), latency=latency, require_speedup=False, alarm_at=1.0)
    batch = [{"first": a, "second": b}]
    result = polyadic.compress(model, batch, budget=["macs=70%"], formats=("tucker2",), options=options)
    assert result.summary.dense.latency is not None
    polyadic.save(result, tmp_path / "out")
    again = polyadic.load(tmp_path / "out", Flow())
    assert torch.equal(again(a, b).flow, result.model(a, b).flow)


def _positional(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ([torch.zeros(4, 3, 8, 8)], r"Flow.forward takes first, second; a batch has 1 of these"),
        (
            {"first": torch.zeros(4, 3, 8, 8), "other": torch.zeros(4)},
            r"by name \(first, second\), or one .* got first",
        ),
        ((torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 6, 8)), r"has \(3, 8, 8\), \(3, 6, 8\) and Flow does not take it"),
        (7, "got int: convert it, or say what goes into the network with forward="),
    ],
)
def test_a_batch_that_does_not_say_what_goes_in(batch: Any, words: str) -> None:
    with pytest.raises((PolyadicError, RuntimeError), match=words):
        SampleTask(flow()[0], [batch, batch])


def test_what_of_a_batch_goes_in() -> None:
    x, y = images(2), torch.zeros(2)
    net = Net()
    assert inputs_of(net, (x, y)) is x
    assert inputs_of(net, [(x, y), y]) is x, "inputs and labels in a pair of their own"
    assert inputs_of(net, {"x": x, "y": y}) is x
    assert inputs_of(net, {"image": x, "label": y.long()}) is x, "the only floating-point tensor"
    two = inputs_of(flow()[0], ((x, x), y))
    assert isinstance(two, tuple)
    assert len(two) == 2
    assert as_arguments(flow()[0], {"second": y, "first": x}) == (x, y)
    with pytest.raises(LayerError, match="tokens, picture by name alone"):
        as_arguments(ranked()[0], {"tokens": x, "picture": y})
    with pytest.raises(LayerError, match="samples of one size"):
        concatenate([x, x[..., :4]])
    joined = concatenate([(x, torch.arange(5)), (images(3), torch.arange(5))])
    assert [len(part) for part in joined] == [5, 5]
    assert first_samples({"x": x, "positions": torch.arange(5)}, 1)["positions"].tolist() == [0, 1, 2, 3, 4]


def test_boxes_and_names_follow_their_samples() -> None:
    """A list with an entry for each sample, also where there are as many samples as columns."""
    model, x = Net().eval(), images(12)
    boxes = [{"boxes": torch.full((number % 3, 4), float(number))} for number in range(12)]
    task = SampleTask(model, [(x[n : n + 2], boxes[n : n + 2]) for n in range(0, 12, 2)])
    for inputs, found in [*task.train, *task.held_out, *task.last]:
        for image, box in zip(inputs, found, strict=True):
            number = next(n for n in range(12) if torch.equal(x[n], image))
            assert torch.equal(box["boxes"], boxes[number]["boxes"])


def test_a_generator_function_of_dicts() -> None:
    model, a, b, _ = flow()

    def samples() -> Iterator[dict[str, Any]]:
        for start in range(0, 24, 6):
            yield {"first": a[start : start + 6], "second": b[start : start + 6], "name": list("abcdef")}

    make: Callable[[], Iterator[dict[str, Any]]] = samples
    assert polyadic.compress(model, make, **CALL).summary.provenance["samples"]["train"] == 17


def test_divergence_is_the_information_lost() -> None:
    logits = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0)) * 3
    assert float(distillation_loss(logits + 7, logits, "divergence")) == pytest.approx(0, abs=1e-6)
    mean = logits.softmax(1).mean((0, 2), keepdim=True).log().expand_as(logits)
    assert float(distillation_loss(mean, logits, "divergence")) == pytest.approx(1, abs=1e-5)
    assert float(distillation_loss(logits + 7, logits)) > 1
    with pytest.raises(LayerError, match="two classes or more; got"):
        distillation_loss(logits[:, :1], logits[:, :1], "divergence")
    with pytest.raises(LayerError, match="two classes or more; got"):
        SampleTask(nn.Sequential(nn.Conv2d(3, 1, 3)), images(12), compare="divergence")
