from __future__ import annotations

import os
import pickle
import re
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from polyadic.errors import DataError
from polyadic.models import ZOO, load_model, load_weights


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def random_state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 3
        for name, value in small().state_dict().items()
    }


def assert_loaded(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, value in state.items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files_load_plain_wrapped_and_from_data_parallel(tmp_path: Path, wrap: str | None, prefix: str) -> None:
    state = random_state()
    saved = {prefix + name: value for name, value in state.items()}
    torch.save(saved if wrap is None else {"epoch": 3, wrap: saved}, tmp_path / "w.pt")
    model = small()
    load_weights(model, tmp_path / "w.pt")
    assert_loaded(model, state)


def test_safetensors_load_without_the_batch_counter(tmp_path: Path) -> None:
    state = random_state()
    del state["1.num_batches_tracked"]
    save_file(state, tmp_path / "w.safetensors")
    model = small()
    load_weights(model, tmp_path / "w.safetensors")
    assert_loaded(model, state)


def test_a_model_whose_own_names_begin_with_module_keeps_them(tmp_path: Path) -> None:
    model = nn.DataParallel(small())
    state = {f"module.{name}": value for name, value in random_state().items()}
    torch.save(state, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert_loaded(model, state)


def test_half_precision_is_cast_to_the_parameter(tmp_path: Path) -> None:
    state = {name: value.half() if value.is_floating_point() else value for name, value in random_state().items()}
    save_file(state, tmp_path / "w.safetensors")
    model = small()
    load_weights(model, tmp_path / "w.safetensors")
    assert model[0].weight.dtype is torch.float32
    assert torch.equal(model[0].weight, state["0.weight"].float())


def test_everything_that_does_not_fit_is_told_at_once_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = random_state()
    del state["0.bias"]
    state["extra"] = torch.zeros(5)
    state["1.weight"] = torch.zeros(9)
    torch.save(state, tmp_path / "w.pt")
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_weights(model, tmp_path / "w.pt")
    message = str(caught.value)
    assert "1 missing: 0.bias (4,)" in message
    assert "1 unexpected: extra (5,)" in message
    assert "1 of another shape: 1.weight came as (9,), expected (4,)" in message
    assert_loaded(model, before)


def test_only_the_first_names_are_listed(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"97 missing: conv1.weight \(16, 3, 3, 3\), .* and 92 more"):
        load_weights(ZOO["resnet20"].build(10), tmp_path / "w.safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, bad: float) -> None:
    state = random_state()
    state["1.running_var"][2] = bad
    torch.save(state, tmp_path / "w.pt")
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(DataError, match=r"1 of 4 values of '1\.running_var'"):
        load_weights(model, tmp_path / "w.pt")
    assert_loaded(model, before)


def test_a_weight_that_overflows_the_dtype_of_the_model_is_refused(tmp_path: Path) -> None:
    state = random_state()
    state["0.bias"][0] = 1e5
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"torch\.float16.*'0\.bias'"):
        load_weights(small().half(), tmp_path / "w.pt")


def test_complex_weights_are_refused(tmp_path: Path) -> None:
    torch.save(random_state() | {"0.bias": torch.zeros(4, dtype=torch.complex64)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"'0\.bias' .* is torch\.complex64"):
        load_weights(small(), tmp_path / "w.pt")


def test_sparse_weights_are_refused(tmp_path: Path) -> None:
    torch.save(random_state() | {"0.bias": torch.ones(4).to_sparse()}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"'0\.bias' .* sparse"):
        load_weights(small(), tmp_path / "w.pt")


class Touches:
    """Runs a command when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_torch", [True, False])
def test_no_pickled_code_is_ever_run(tmp_path: Path, as_torch: bool) -> None:
    path = tmp_path / "w.pt"
    trap = tmp_path / "trapped"
    content = {"state_dict": Touches(trap)}
    if as_torch:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="never unpickled"):
        load_weights(small(), path)
    assert not trap.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"save model\.state_dict\(\)"):
        load_weights(small(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 40, 200, 500, -1])
def test_truncated_files_are_refused(tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(random_state(), path)
    else:
        save_file(random_state(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=name):
        load_weights(small(), path)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w"])
@pytest.mark.parametrize("garbage", [b"", b"\x80", b"not weights", bytes(range(256)) * 8, b"PK\x03\x04" + bytes(64)])
def test_garbage_is_refused(tmp_path: Path, name: str, garbage: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(garbage)
    with pytest.raises(DataError, match=name):
        load_weights(small(), path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([torch.zeros(1)], "a list"),
        ({}, "an empty dict"),
        ({"epoch": 3}, "'epoch' to a int"),
        ({3: torch.zeros(1)}, "3 to a Tensor"),
        (torch.zeros(1), "a Tensor"),
    ],
)
def test_anything_but_a_state_dict_is_refused(tmp_path: Path, content: object, told: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match=told):
        load_weights(small(), tmp_path / "w.pt")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is none at"):
        load_weights(small(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_trained_weights_load(weights_folder: Path, name: str) -> None:
    path = weights_folder / f"{name}_cifar10.safetensors"
    if not path.is_file():
        pytest.skip(f"no trained weights: '{path}' does not exist")
    model = load_model(f"polyadic:{name}", path).model
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    with pytest.raises(DataError, match=r"linear\.weight came as \(10, 64\), expected \(100, 64\)"):
        load_model(f"polyadic:{name}", path, classes=100)


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


STATE = random_state()
OTHER = random_state(1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (under("_orig_mod.", STATE), ""),
        (under("module._orig_mod.", STATE), ""),
        ({f"{name[0]}._orig_mod{name[1:]}": value for name, value in STATE.items()}, ""),
        ({"epoch": 3, "model_state_dict": STATE, "loss": 0.3}, ""),
        ({"state_dict": under("model.", STATE), "hyper_parameters": {"lr": 0.1}}, ""),
        (under("backbone.", STATE), ""),
        ({"net": under("module.", STATE), "acc": 93.0}, ""),
        ({"params": STATE}, ""),
        ({"state_dict": STATE, "best": np.float64(93.0), "curve": np.zeros(3)}, ""),
        ({"model": STATE, "args": Namespace(lr=0.1, out=Path("runs"))}, ""),
        ({"n_averaged": torch.tensor(3), **under("module.", STATE)}, "AveragedModel"),
        ({"state_dict_ema": STATE}, "averaged weights alone, .*'state_dict_ema'"),
        ({"state_dict": STATE, "state_dict_ema": OTHER}, "holds 'state_dict_ema', too; .* as they were trained"),
    ],
)
def test_what_training_scripts_wrap_around_weights_comes_off(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    model = small()
    notes = load_weights(model, tmp_path / "w.pt")
    assert_loaded(model, STATE)
    assert re.search(said, "".join(notes)) if said else notes == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"generator": STATE, "epoch": 3}, r"maps 'generator' to a dict \(there are dicts under 'generator'\)"),
        ({"state_dict": under("model.", STATE) | {"loss.weight": torch.ones(2)}}, "under 'model.', and loss.weight in"),
        ({"state_dict": STATE, "config": Fraction(1, 2)}, r"never unpickled \(fractions.Fraction is in the way\)"),
        ({name: np.zeros(3) for name in STATE}, "maps '0.weight' to a ndarray"),
    ],
)
def test_what_cannot_come_off_is_named(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match=words):
        load_weights(small(), tmp_path / "w.pt")


def test_a_tensor_that_the_model_shares_may_lie_in_the_file_once(tmp_path: Path) -> None:
    trained, model = tied(), tied()
    save_model(trained, str(tmp_path / "w.safetensors"))
    load_weights(model, tmp_path / "w.safetensors")
    assert_loaded(model, trained.state_dict())
    torch.save(trained.state_dict() | {"2.weight": torch.ones(4, 4)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"one tensor for '0\.weight' and '2\.weight'; .* two different ones"):
        load_weights(model, tmp_path / "w.pt")
