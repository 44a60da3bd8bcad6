"""From a network and a score to a smaller network: what `polyadic.compress` promises, whatever the strategy."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from subjects import Net, corner_task, faithful, images
from torch import nn

from disks import files_in
from polyadic import CompressionResult, CompressOptions, PolyadicError, Progress, compress
from polyadic.errors import BudgetError, LayerError
from polyadic.schema import Plan
from polyadic.surgery import FactorCache, find_layers, network_cost, rebuild


def compressed(net: nn.Module, drop: float | str = 20.0, **options: object) -> CompressionResult:
    return compress(
        net,
        faithful(net),
        images(2),
        max_drop=drop,
        formats=("tucker2", "svd"),
        options=CompressOptions(**options),  # type: ignore[arg-type]
    )


def test_the_network_that_was_given_is_left_as_it_was(net: nn.Module) -> None:
    net.train()
    net.norm.eval()
    modules = [(name, id(module), module.training) for name, module in net.named_modules()]
    state = copy.deepcopy(net.state_dict())
    result = compressed(net)
    assert [(name, id(module), module.training) for name, module in net.named_modules()] == modules
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(module.training for module in result.model.modules())
    assert torch.equal(result.dense(images()), net.eval()(images()))


def test_the_result_is_made_of_torch_layers_alone_and_costs_what_it_says(net: nn.Module) -> None:
    result = compressed(net)
    assert result.plan.choices
    assert {type(module).__module__.split(".")[0] for module in result.model.modules()} == {"torch", Net.__module__}
    for cost, model in ((result.summary.dense, net), (result.summary.compressed, result.model)):
        assert cost == network_cost(model, images(1))
    layers = result.summary.layers
    assert [layer.name for layer in layers] == [site.name for site in find_layers(net, images(1))]
    assert sum(layer.macs_before for layer in layers) == result.summary.dense.macs
    assert sum(layer.macs_after for layer in layers) == result.summary.compressed.macs
    assert all(layer.macs_after < layer.macs_before for layer in layers if layer.status == "factorised")


def test_scores_are_those_of_the_score_function(net: nn.Module) -> None:
    score, result = faithful(net), compressed(net)
    assert result.summary.dense_score == score(net) == 1.0
    assert result.summary.compressed_score == score(result.model)
    assert result.summary.drop == pytest.approx(100 * (1 - score(result.model)))
    assert result.summary.drop_interval is None
    assert (result.summary.drop > result.summary.max_drop) == bool(result.summary.warnings)


def test_the_plan_builds_the_same_structure_again(net: nn.Module) -> None:
    result = compressed(net)
    other = rebuild(copy.deepcopy(net), Plan.from_json(result.plan.to_json()))
    other.load_state_dict(result.model.state_dict())
    assert torch.equal(other(images()), result.model(images()))


def test_more_drop_never_costs_more(net: nn.Module) -> None:
    macs = [compressed(net, drop, max_drop_per_layer=drop).summary.compressed.macs for drop in (2.0, 10.0, 40.0)]
    assert macs == sorted(macs, reverse=True)
    assert macs[0] > macs[-1]


def test_the_same_call_gives_the_same_bits_with_a_cache_or_without(net: nn.Module, tmp_path: Path) -> None:
    plain, cold, warm = (compressed(net, cache=FactorCache(folder)) for folder in (None, tmp_path, tmp_path))
    for other in (cold, warm):
        assert other.plan == plain.plan
        for name, value in plain.model.state_dict().items():
            assert torch.equal(other.model.state_dict()[name], value), name


def test_excluded_layers_stay_dense(net: nn.Module) -> None:
    result = compressed(net, exclude=("stem", "deep.*"))
    assert {choice.layer for choice in result.plan.choices} <= {"mix", "head"}
    assert isinstance(result.model.stem, nn.Conv2d)


def test_double_precision_stays(net: nn.Module) -> None:
    x, net = images().double(), net.double()
    y = net(x).detach()

    def score(model: nn.Module) -> float:
        return 1 - float((model(x).detach() - y).norm() / y.norm())

    result = compress(net, score, x, max_drop=0.3, formats=("tucker2",))
    assert {p.dtype for p in result.model.parameters()} == {torch.float64}


def test_images_are_all_it_takes(net: nn.Module, tmp_path: Path) -> None:
    steps: list[Progress] = []
    result = compress(
        net,
        corner_task(tuned=True),
        max_drop=60.0,
        formats=("cp-als", "svd"),
        options=CompressOptions(work=tmp_path),
        on_progress=steps.append,
    )
    assert result.example_input.shape == (1, 3, 8, 8)
    assert list(dict.fromkeys(step.stage for step in steps)) == ["search", "replace", "finetune"]
    assert all(step.done <= step.total for step in steps)
    assert all((step.done > 0 and step.message) or step.trying for step in steps)
    assert set(result.summary.seconds) >= {"search", "finetune", "test"}
    assert result.summary.provenance["images"] == {"train": 96, "held_out": 60, "test": 60}
    assert files_in(tmp_path) == {"trials.jsonl"}


def test_a_library_call_writes_nothing_unless_told(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compressed(net)
    assert files_in(tmp_path) == set()


def test_it_goes_on_from_its_log_without_a_single_new_trial(net: nn.Module, tmp_path: Path) -> None:
    first = compressed(net, work=tmp_path)
    log = (tmp_path / "trials.jsonl").read_bytes()
    second = compressed(net, work=tmp_path, resume=True)
    assert second.plan == first.plan
    assert (tmp_path / "trials.jsonl").read_bytes() == log
    with pytest.raises(PolyadicError, match="go on with --resume"):
        compressed(net, work=tmp_path)
    with torch.no_grad():
        net.head.bias += 1
    with pytest.raises(PolyadicError, match="belongs to a run with another model"):
        compressed(net, work=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"max_drop": -1.0}, PolyadicError, "max_drop is a number of points"),
        ({"max_drop": float("nan")}, PolyadicError, "max_drop is a number of points"),
        ({"max_drop": "half"}, PolyadicError, "max_drop is a number of points .* got half"),
        ({"max_drop": "150%"}, PolyadicError, "or a share of the dense score"),
        ({"max_drop": None}, BudgetError, "takes a drop .* or a budget .*; got neither"),
        ({"options": CompressOptions(trials=0)}, PolyadicError, "trials is a whole number from 1 up"),
        (
            {"options": CompressOptions(candidates_per_layer=0)},
            PolyadicError,
            "candidates_per_layer is a whole number from 1 up",
        ),
        ({"options": CompressOptions(round_to=0)}, PolyadicError, "round_to is a whole number from 1 up"),
        ({"options": CompressOptions(timeout=0.0)}, PolyadicError, "timeout is a number of seconds above 0"),
        ({"formats": ()}, PolyadicError, "at least one format"),
        ({"formats": ("cp",)}, LayerError, "a format is one of"),
        ({"example_input": None}, LayerError, "takes an example input"),
        ({"example_input": torch.zeros(1, 4, 8, 8)}, LayerError, r"failed on shape \(1, 4, 8, 8\)"),
        ({"options": CompressOptions(exclude=("*",))}, BudgetError, "none of the 4 layers"),
        (
            {"options": CompressOptions(max_drop_per_layer=-1.0)},
            PolyadicError,
            "max_drop_per_layer is a number of points",
        ),
        ({"data": lambda _: float("nan")}, PolyadicError, "finite number; got nan"),
        ({"data": lambda _: "good"}, PolyadicError, "returns one number, or one per sample; got 'good'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    net: nn.Module, given: dict[str, object], error: type[Exception], words: str
) -> None:
    known = {"data": faithful(net), "example_input": images(1), "max_drop": 5.0, "formats": ("svd",), **given}
    with pytest.raises(error, match=words):
        compress(net, **known)  # type: ignore[arg-type]


def test_a_score_that_every_change_ruins_is_a_budget_error(net: nn.Module) -> None:
    reference = [p.clone() for p in net.parameters()]

    def jealous(model: nn.Module) -> float:
        own = list(model.parameters())
        same = len(own) == len(reference) and all(torch.equal(a, b) for a, b in zip(own, reference, strict=True))
        return 1.0 if same else 0.0

    with pytest.raises(BudgetError, match="no layer can be made cheaper with at most"):
        compress(net, jealous, images(1), max_drop=0.1, formats=("tucker2", "svd"))


def test_layers_that_pass_alone_and_fail_together_are_a_budget_error(net: nn.Module) -> None:
    def hermits(model: nn.Module) -> float:
        chains = sum(isinstance(module, nn.Sequential) for module in model.modules()) - 1
        return 1.0 if chains <= 1 else 0.0

    with pytest.raises(BudgetError, match="the whole network"):
        compress(net, hermits, images(1), max_drop=0.1, formats=("tucker2", "svd"))


def test_a_drop_in_per_cent_is_a_share_of_the_dense_score(net: nn.Module) -> None:
    score = faithful(net)
    result = compress(net, lambda model: 0.6 * score(model), images(2), max_drop="10%", formats=("tucker2", "svd"))
    assert result.summary.max_drop == pytest.approx(0.06)
    assert (
        compressed(net, 6.0, max_drop_per_layer=1.0).plan == compressed(net, "6 %", max_drop_per_layer=1.0).plan
    )  # the dense score is 1


def test_weights_that_are_not_finite_are_refused_before_anything_is_scored(net: nn.Module) -> None:
    with torch.no_grad():
        net.head.weight[0, 0] = torch.inf
    with pytest.raises(PolyadicError, match=r"'head.weight' has 1 NaN or Inf of 480"):
        compress(net, lambda _: pytest.fail("scored"), images(1), max_drop=1.0)


def test_what_workers_or_processes_share_is_refused_with_the_way_to_share_it(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PolyadicError, match=r"find_plan \(polyadic search --storage\)"):
        compress(net, faithful(net), images(1), max_drop=5.0, options=CompressOptions(storage="sqlite:///study.db"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PolyadicError, match="accelerate launch -m polyadic finetune"):
        compress(net, faithful(net), images(1), max_drop=5.0)
