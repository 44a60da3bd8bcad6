"""Samples, and what stands beside them, passed in another way than they are meant.

Each mistake is answered by one sentence that says what to pass, before anything long begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from subjects import images
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import polyadic
from polyadic.errors import PolyadicError

X, Y = images(12), torch.arange(12) % 3
PAIRS: Any = TensorDataset(X, Y)
LABELLED: Any = DataLoader(PAIRS, batch_size=4)
NAN = torch.full((4, 3, 8, 8), math.nan)


def used_up() -> Iterator[Tensor]:
    """A generator that somebody has read before."""
    batches = iter([X])
    list(batches)
    return batches


class Fed(nn.Module):
    """Works as a torchmetrics.Metric does."""

    higher_is_better = True

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        if outputs.shape[0] != labels.shape[0] or labels.dim() > 1:
            raise ValueError("preds and target should have the same shape\nand so on")

    def compute(self) -> float:
        return 1.0

    def reset(self) -> None:
        pass


MISTAKES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a data set": (PAIRS, {}, r"got the data set TensorDataset: pass DataLoader\(dataset, batch_size=32\)"),
    "(x, y)": ((X, Y), {}, r"got a tuple of 2: .* pass DataLoader\(TensorDataset\(x, y\), batch_size=32\)"),
    "[x, y]": ([X, Y], {}, r"batch 1 of samples has .* \(12,\): pass inputs x first and labels y, .*, beside them"),
    "labels first": (
        DataLoader(TensorDataset(Y, X), batch_size=4),
        {},
        r"batch 0 of samples has a tensor of shape \(4,\): pass inputs x first",
    ),
    "an empty loader": (DataLoader(Subset(PAIRS, [])), {}, "samples yield at least one batch; got none: the loader is"),
    "an empty tensor": (X[:0], {}, r"batch 0 of samples has a tensor of shape \(0, 3, 8, 8\)"),
    "a generator that is used up": (used_up(), {}, r"a generator that was used up before \(give the function"),
    "a function that returns nothing": (lambda: None, {}, r"got NoneType: pass DataLoader\(inputs, batch_size=32\)"),
    "too few": (DataLoader(Subset(PAIRS, [0, 1])), {}, "there are 3 or more; got 2: give more"),
    "samples without batches": (
        list(X),
        {},
        r"batch 0 of samples is one sample, \(3, 8, 8\): pass DataLoader\(samples, batch_size=32\)",
    ),
    "numpy": (X.numpy(), {}, "got ndarray: convert it with torch.as_tensor"),
    "names of files": (["one.png", "two.png"], {}, "a batch is a tensor, .* got str: convert it"),
    "a dict of other names": (
        [{"a": torch.zeros(4, 3), "b": torch.zeros(4, 3)}],
        {},
        r"what forward takes by name \(x\), .* got a, b: say what goes in with forward=",
    ),
    "changing sizes": (
        [X, torch.zeros(4, 3, 9, 9)],
        {},
        r"batch 1 of samples has \(3, 9, 9\) and Net does not take it .*: crop or resize them",
    ),
    "other channels": ([X[:, :1]], {}, r"has \(1, 8, 8\) and Net does not take it .*: pass them as the network was"),
    "bytes of images": ([X.to(torch.uint8)], {}, r"Net does not take it .*: convert them to torch.float32, scaled"),
    "another number format": ([X.double()], {}, "the weights are torch.float32 and batch 0 .* convert one of them"),
    "NaN": ([X, NAN], {}, "samples are finite; batch 1 of samples holds NaN or Inf: clean the data"),
    "validation: a data set": (X, {"validation": PAIRS}, r"validation samples come in batches; .* pass DataLoader\("),
    "validation: NaN": (X, {"validation": [NAN]}, "batch 0 of validation samples holds NaN or Inf: clean"),
    "metric: NaN": (X, {"metric": lambda _: math.nan}, "finite number; got nan from score: let it return one"),
    "metric: nothing": (X, {"metric": lambda _: None}, "got None from score: return it as a float or a tensor"),
    "metric: text": (X, {"metric": "accuracy"}, "a metric is a function .* got str: pass one of these"),
    "metric: a class": (X, {"metric": Fed}, r"got the class Fed: make one, Fed\(...\)"),
    "metric: of outputs": (X, {"metric": F.mse_loss}, r"metric\(model\); got mse_loss\(.*: pass a function that runs"),
    "metric: without labels": (X, {"metric": Fed()}, "takes batches that hold labels.* got Tensor without: pass such"),
    "metric: other labels": (
        DataLoader(TensorDataset(X, X)),
        {"metric": Fed()},
        r"it does not take a tensor of shape \(1, 3\) and .* \(preds and target should have the same shape\): say",
    ),
    "loss: text": (LABELLED, {"loss": "mse"}, "a function of two arguments; got a str: pass a function"),
    "loss: of other arguments": (
        LABELLED,
        {"loss": lambda o: o.mean()},
        r"these two; got a function \(o\): let it",
    ),
    "loss: of outputs and labels": (
        LABELLED,
        {"loss": nn.CrossEntropyLoss()},
        r"here a list of 2; it fails on them \(.*\): pass for instance loss=lambda outputs, batch: .*batch\[1\]",
    ),
    "loss: detached": (
        LABELLED,
        {"loss": lambda o, b: F.cross_entropy(o.detach(), b[1])},
        "depends on the network's outputs, .* got a number that does not: compute it from its first argument",
    ),
    "loss: of something else": (
        LABELLED,
        {"loss": lambda o, b: torch.ones((), requires_grad=True)},
        "depends on the network's outputs, .* got a number that does not",
    ),
    "loss: a plain number": (LABELLED, {"loss": lambda o, b: o.mean().item()}, "as a tensor; got a float"),
    "loss: one per sample": (
        LABELLED,
        {"loss": lambda o, b: o.mean(1)},
        r"a tensor of shape \(.*and take the mean",
    ),
    "loss: NaN": (LABELLED, {"loss": lambda o, b: o.mean() * math.nan}, "got nan for the first batch: look for NaN in"),
    "forward: text": (LABELLED, {"forward": "logits"}, "a function of two arguments; got a str"),
    "forward: of one argument": (LABELLED, {"forward": lambda batch: batch}, r"got a function \(batch\): let it take"),
    "forward: without the network": (LABELLED, {"forward": lambda m, b: b[0]}, r"it did not: return model\(...\)"),
    "forward: of another batch": (
        LABELLED,
        {"forward": lambda m, b: m(b["x"])},
        r"here a list; it fails \(.*\): take out of the batch what goes in, such as forward=",
    ),
    "forward: classes": (LABELLED, {"forward": lambda m, b: m(b[0]).argmax(1)}, "returns its maps or logits"),
    "compare: another way": (X, {"compare": "mse"}, "compare is one of 'squares', 'divergence'; got 'mse'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_a_sentence(net: nn.Module, mistake: str) -> None:
    data, beside, words = MISTAKES[mistake]

    def began(progress: object) -> None:
        pytest.fail(f"it began: {progress}")

    with pytest.raises(PolyadicError, match=words) as caught:
        polyadic.compress(net, data, budget=["macs=60%"], on_progress=began, **beside)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 420


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (PAIRS, r"pass DataLoader\(dataset, batch_size=32\)"),
        ((X, Y), r"pass DataLoader\(TensorDataset\(x, y\)"),
        ("digits", r"got str: pass DataLoader\("),
        (used_up(), "a generator that was used up before"),
        (X.numpy(), "convert it with torch.as_tensor"),
        (NAN, "the batch of inputs holds NaN or Inf: clean the data"),
        (X.double(), "the batch of inputs is torch.float64: convert one of them"),
    ],
)
def test_a_plan_is_fitted_to_samples_alike(net: nn.Module, inputs: Any, words: str) -> None:
    plan = polyadic.Plan((polyadic.Choice("stem", "tucker2", (2, 3)),))
    with pytest.raises(PolyadicError, match=words):
        polyadic.apply_plan(net, plan, inputs=inputs)


def test_a_metric_that_becomes_nan_is_named(net: nn.Module) -> None:
    def psnr(model: nn.Module) -> float:
        return 30.0 if isinstance(model.get_submodule("stem"), nn.Conv2d) else math.nan

    with pytest.raises(PolyadicError, match="finite number; got nan from psnr: let it return one for any network"):
        polyadic.compress(net, X, metric=psnr, budget=["macs=60%"], formats=("tucker2",))


def test_outputs_are_compared_in_a_way_that_is_known() -> None:
    with pytest.raises(PolyadicError, match="compare is one of 'squares', 'divergence'; got 'mse'"):
        polyadic.distillation_loss(X, X, "mse")  # type: ignore[arg-type]
