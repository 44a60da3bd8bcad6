"""A network that was trained in a loop of the user's own is saved with the score that it has, and with no other."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from results import images, small
from torch import nn

import polyadic
from disks import files_in
from polyadic.data import ImageData
from polyadic.data.images import ArrayImages
from polyadic.errors import LayerError, PolyadicError, StorageError
from polyadic.reporting import report
from polyadic.schema import Summary
from polyadic.surgery import network_cost
from polyadic.training import DistillOptions, ImageTask

PLAN = polyadic.Plan((polyadic.Choice("first", "tucker2", (2, 3)), polyadic.Choice("head", "svd", (2,))))


def trained(dense: nn.Module, plan: polyadic.Plan = PLAN) -> nn.Module:
    """By one step away from the plan's own weights, in training mode as a trainer leaves it."""
    model = polyadic.apply_plan(dense, plan).model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.125)
    return model


def written(folder: Path) -> dict[str, Any]:
    """The content of ``result.json``, which its class can read."""
    document: dict[str, Any] = json.loads((folder / "result.json").read_text())
    Summary.from_json(document, polyadic.load_plan(folder))
    return document


def last_bias(model: nn.Module) -> float:
    """A score that training moves."""
    return float(list(model.parameters())[-1].detach().mean())


def test_a_function_scores_both_networks_when_one_is_saved(tmp_path: Path) -> None:
    dense = small()
    model = trained(dense)
    metric = polyadic.Metric(last_bias, name="bias", unit="dB")
    polyadic.save(model, tmp_path / "out", plan=PLAN, dense=dense, example_input=images(), score=metric)
    known = written(tmp_path / "out")
    assert files_in(tmp_path / "out") == {"plan.json", "model.safetensors", "result.json", "README.md"}
    assert known["compressed"]["score"] == pytest.approx(last_bias(dense) + 0.125)
    assert known["dense"]["score"] == pytest.approx(last_bias(dense))
    assert known["drop"] == pytest.approx(-0.125)
    assert (known["score_name"], known["score_unit"]) == ("bias", "dB")
    assert known["provenance"]["finetuning_stop"] == "trained in a loop of the user's own"
    assert "data_aware" not in known["provenance"]  # nobody has said
    assert known["compressed"]["score_before_finetuning"] is None
    assert (known["held_out"], known["warnings"]) == ({}, [])
    for name, network in (("dense", dense), ("compressed", model)):
        cost = network_cost(network, images(1))
        assert (known[name]["macs"], known[name]["params"]) == (cost.macs, cost.params)
    assert model.training  # goes on training where it was


def test_the_network_comes_back_bit_for_bit_and_its_plan_can_be_applied_again(tmp_path: Path) -> None:
    dense = small()
    model = trained(dense)
    polyadic.save(model, str(tmp_path), plan=PLAN, dense=dense, example_input=images(), score=0.5)
    model.eval()
    assert torch.equal(polyadic.load(tmp_path, small(seed=9))(images()), model(images()))
    assert polyadic.load_plan(tmp_path) == polyadic.load_plan(tmp_path / "plan.json") == PLAN
    again = polyadic.apply_plan(small(seed=9), polyadic.load_plan(tmp_path)).model
    assert again.state_dict().keys() == model.state_dict().keys()


def test_the_layers_are_told_with_their_costs(tmp_path: Path) -> None:
    dense = small()
    polyadic.save(trained(dense), tmp_path, plan=PLAN, dense=dense, example_input=images())
    layers = {layer["name"]: layer for layer in written(tmp_path)["layers"]}
    assert [layers[name]["status"] for name in ("first", "second", "head")] == ["factorised", "dense", "factorised"]
    assert layers["second"]["reason"] == "the plan does not name it"
    assert (layers["head"]["macs_before"], layers["head"]["macs_after"]) == (8 * 4, 8 * 2 + 2 * 4)
    assert layers["first"]["macs_after"] == 64 * (3 * 2 + 2 * 3 * 9 + 3 * 8)


def test_a_layer_that_was_factorised_twice_costs_what_its_last_chain_costs(tmp_path: Path) -> None:
    dense = small()
    twice = polyadic.Plan((*PLAN.choices, polyadic.Choice("first.1", "cp-epc", (2,))))
    polyadic.save(trained(dense, twice), tmp_path, plan=twice, dense=dense, example_input=images())
    known = written(tmp_path)
    saved = sum(layer["macs_before"] - layer["macs_after"] for layer in known["layers"])
    assert known["dense"]["macs"] - known["compressed"]["macs"] == saved


@pytest.mark.parametrize(
    ("score", "stored", "name", "words"),
    [
        (0.5, (None, 0.5), "score", "score of the dense network was not given"),
        (polyadic.KnownScore(31.25, 31.5, "PSNR", "dB"), (31.5, 31.25), "PSNR", None),
        (polyadic.KnownScore(0.25, 0.125, "error", higher_is_better=False), (-0.125, -0.25), "negative error", None),
        (None, (None, None), "score", "not scored since"),
        (np.float32(0.5), (None, 0.5), "score", "score of the dense network was not given"),
        (torch.tensor(0.5, requires_grad=True), (None, 0.5), "score", "score of the dense network was not given"),
    ],
)
def test_a_number_is_written_as_it_is_given(
    tmp_path: Path, score: Any, stored: tuple[float | None, float], name: str, words: str | None
) -> None:
    dense = small()
    polyadic.save(trained(dense), tmp_path, plan=PLAN, dense=dense, example_input=images(), score=score)
    known = written(tmp_path)
    assert (known["dense"]["score"], known["compressed"]["score"]) == stored
    assert known["score_name"] == name
    assert [words in warning for warning in known["warnings"]] == ([] if words is None else [True])
    card = (tmp_path / "README.md").read_text()
    assert "trained in a loop of the user's own" in card
    assert ("lost" if words is None else "with a score of 0.5" if score is not None else "not measured") in card
    page = report(tmp_path).read_text()
    assert ("what was lost is not known" in page) == (words is not None)
    before_the_layers = card.split("## Load")[0]
    assert "before fine-tuning" not in before_the_layers
    assert "nan" not in before_the_layers


def test_a_fraction_is_written_in_points(tmp_path: Path) -> None:
    dense = small()
    score = polyadic.KnownScore(0.5, 0.625, "accuracy", "%")
    polyadic.save(trained(dense), tmp_path, plan=PLAN, dense=dense, example_input=images(), score=score)
    assert written(tmp_path)["drop"] == 12.5
    assert "12.50 points of accuracy lost" in (tmp_path / "README.md").read_text()


def test_a_network_that_has_lost_most_says_so_first(tmp_path: Path) -> None:
    dense = small()
    score = polyadic.KnownScore(0.25, 0.75, "IoU", "%")
    polyadic.save(trained(dense), tmp_path, plan=PLAN, dense=dense, example_input=images(), score=score)
    known = written(tmp_path)
    assert known["provenance"]["answers_lost"] == pytest.approx(2 / 3)
    assert "IoU went from 75.00 % to 25.00 %; more than 25 % of it is lost" in known["warnings"][0]
    assert "train longer" in (tmp_path / "README.md").read_text()


def test_a_task_scores_both_on_its_test_samples(tmp_path: Path) -> None:
    dense = small()
    pixels = torch.randint(0, 255, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    part = ArrayImages(pixels, torch.arange(8) % 4)
    data = ImageData(
        name="x", classes=4, mean=(0.5,) * 3, std=(0.5,) * 3, digests={}, train=part, held_out=part, test=part
    )
    task = ImageTask(data)
    model = trained(dense)
    polyadic.save(model, tmp_path, plan=PLAN, dense=dense, example_input=images(), score=task)
    known = written(tmp_path)
    scores = task.final_scores((dense, model)).values
    assert (known["dense"]["score"], known["compressed"]["score"]) == scores
    assert (known["score_name"], known["judged_on"]) == ("top-1 accuracy", "test images")
    assert not {"network_tuning", "layer_tuning", "training_execution"} & set(known["provenance"])  # was not done
    card = (tmp_path / "README.md").read_text()
    assert "together with the dense network on the test images; whether they chose anything in that loop" in card


def test_what_a_score_knows_of_the_input_need_not_be_given(tmp_path: Path) -> None:
    dense = small()
    model = trained(dense)

    def largest(model: nn.Module) -> float:
        return float(model(images()).detach().amax())

    polyadic.save(model, tmp_path / "a", plan=PLAN, dense=dense, example_input=images(), score=largest)
    for number, score in enumerate((largest, polyadic.Metric(largest))):
        polyadic.save(model, tmp_path / str(number), plan=PLAN, dense=dense, score=score)
        for side in ("dense", "compressed"):
            assert written(tmp_path / str(number))[side] == written(tmp_path / "a")[side]
        assert (tmp_path / str(number) / "plan.json").read_bytes() == (tmp_path / "a" / "plan.json").read_bytes()


def test_a_task_of_samples_knows_the_dense_network_too(tmp_path: Path) -> None:
    dense = small()
    model = trained(dense)
    task = polyadic.SampleTask(dense, [images(), images()])
    polyadic.save(model, tmp_path, plan=PLAN, score=task)
    known = written(tmp_path)
    assert known["compressed"]["score"] == pytest.approx(task.final_scores((model,)).values[0])
    assert (known["dense"]["score"], known["dense"]["macs"]) == (1.0, network_cost(dense, images(1)).macs)
    with pytest.raises(PolyadicError, match="missing: plan="):
        polyadic.save(model, tmp_path, score=task)  # type: ignore[call-overload]


def test_a_result_that_was_trained_further_is_scored_anew(tmp_path: Path) -> None:
    task = polyadic.SampleTask(small(), [images(), images()], tuning=DistillOptions(epochs=0))
    result = polyadic.compress(small(), task, plan=PLAN)
    with pytest.raises(PolyadicError, match="until its model is trained further: leave out score="):
        polyadic.save(result, tmp_path / "out", score=last_bias)
    with torch.no_grad():
        next(result.model.parameters()).mul_(1.5)
    polyadic.save(result, tmp_path / "out", score=last_bias)
    known = written(tmp_path / "out")
    assert known["compressed"]["score"] == pytest.approx(last_bias(result.model))
    assert known["provenance"]["finetuning_stop"] == "trained in a loop of the user's own"
    with pytest.raises(PolyadicError, match="plan, dense and example_input of its own: leave them out"):
        polyadic.save(result, tmp_path / "out", score=last_bias, plan=PLAN)  # type: ignore[call-overload]


def test_an_empty_plan_saves_the_network_as_it_is(tmp_path: Path) -> None:
    dense = small()
    polyadic.save(copy.deepcopy(dense), tmp_path, plan=polyadic.Plan(), dense=dense, example_input=images(), score=1)
    assert written(tmp_path)["mac_reduction"] == 1.0


class Wrapper(nn.Module):
    """As launchers put one around a network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def broken(model: nn.Module) -> nn.Module:
    """Trained until nothing was left."""
    next(model.parameters()).data.fill_(math.nan)
    return model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model, dense: {"plan": None}, r"missing: plan="),
        (lambda model, dense: {"dense": None, "example_input": None}, r"missing: dense=, example_input="),
        (lambda model, dense: {"directory": PLAN}, r"writes to a folder; got Plan: polyadic.save\(model, 'runs/mine'"),
        (lambda model, dense: {"result": "runs/x"}, "the result of compress, or a network; got str"),
        (lambda model, dense: {"result": polyadic.apply_plan(dense, PLAN)}, "got Applied: pass its model"),
        (lambda model, dense: {"result": dense}, r"'first.0.weight' has .* and no such tensor in the network"),
        (lambda model, dense: {"dense": model}, "a plan names layers|is a Sequential"),
        (lambda model, dense: {"result": Wrapper(model)}, r"a Wrapper around it: pass model.module"),
        (lambda model, dense: {"result": broken(model)}, "NaN or Inf|finite"),
        (lambda model, dense: {"example_input": None}, r"unless a function score= shows it; missing: example_input="),
        (lambda model, dense: {"example_input": None, "score": last_bias}, "missing: example_input="),
        (lambda model, dense: {"example_input": None, "score": lambda net: net(absent)}, r"it fails \(.*absent"),  # noqa: F821
        (lambda model, dense: {"score": "0.93"}, "score is a number, .* got str"),
        (lambda model, dense: {"score": torch.ones(2)}, "a score is a finite number"),
        (lambda model, dense: {"score": math.nan}, "a score is a finite number; got nan as its value"),
        (lambda model, dense: {"score": lambda model: math.nan}, "returns a finite number; got nan"),
    ],
)
def test_what_cannot_be_saved_is_said_in_a_sentence(tmp_path: Path, change: Any, words: str) -> None:
    dense = small()
    given = {"directory": tmp_path / "out", "plan": PLAN, "dense": dense, "example_input": images(), "score": 0.5}
    model = trained(dense)
    given = {"result": model, **given, **change(model, dense)}
    with pytest.raises(PolyadicError, match=words):
        polyadic.save(**given)
    assert not (tmp_path / "out").exists()


def test_a_known_score_of_the_dense_network_is_finite_too() -> None:
    with pytest.raises(PolyadicError, match="got inf as its dense"):
        polyadic.KnownScore(0.5, math.inf)


def test_a_plan_is_no_text_and_a_folder_without_one_says_so(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"got str: polyadic.load_plan\('runs/first'\) reads one"):
        polyadic.apply_plan(small(), "runs/first")  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=r"plan.json"):
        polyadic.load_plan(tmp_path)
