"""The contracted kernel of a tensor-train layer: kept while nothing changes, dropped when a core does."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from trains import SMALL, image_of, layer_of

from polyadic.layers import TTLayer


@pytest.fixture
def contractions(monkeypatch: pytest.MonkeyPatch) -> list[TTLayer]:
    """One entry for every time that a kernel is contracted."""
    seen: list[TTLayer] = []
    contract = TTLayer.kernel

    def counted(layer: TTLayer) -> Tensor:
        seen.append(layer)
        return contract(layer)

    monkeypatch.setattr(TTLayer, "kernel", counted)
    return seen


X = image_of(SMALL, (5, 5))


def dense() -> TTLayer:
    return layer_of(SMALL, "dense")


@torch.no_grad()
def test_without_a_gradient_it_is_contracted_once(contractions: list[TTLayer]) -> None:
    layer = dense()
    first = layer(X)
    assert torch.equal(layer(X), first)
    layer(X[:1])
    assert len(contractions) == 1


def test_in_training_it_is_contracted_for_every_pass(contractions: list[TTLayer]) -> None:
    layer = dense()
    for _ in range(3):
        layer(X).sum().backward()
    assert len(contractions) == 3
    layer.requires_grad_(False)
    layer(X)
    layer(X)
    assert len(contractions) == 4


def stepped(optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Callable[[TTLayer], None]:
    def change(layer: TTLayer) -> None:
        with torch.enable_grad():
            layer(X).square().sum().backward()
        optimizer([*layer.cores]).step()

    return change


def in_place(layer: TTLayer) -> None:
    layer.cores[1].mul_(2)


def one_entry(layer: TTLayer) -> None:
    layer.cores[0][0, 0, 0, 0] = 100.0


def other_parameter(layer: TTLayer) -> None:
    layer.cores[2] = nn.Parameter(2 * layer.cores[2])


CHANGES: dict[str, Callable[[TTLayer], object]] = {
    "SGD": stepped(lambda cores: torch.optim.SGD(cores, lr=0.1)),
    "SGD, one by one": stepped(lambda cores: torch.optim.SGD(cores, lr=0.1, foreach=False)),
    "Adam": stepped(lambda cores: torch.optim.Adam(cores, lr=0.1)),
    "fused Adam": stepped(lambda cores: torch.optim.Adam(cores, lr=0.1, fused=True)),
    "load_state_dict": lambda layer: layer.load_state_dict(layer_of(SMALL, seed=9).state_dict()),
    "load_state_dict, assigned": lambda layer: layer.load_state_dict(layer_of(SMALL, seed=9).state_dict(), assign=True),
    "load_flat": lambda layer: layer.load_flat(torch.ones(SMALL.weight_shape, dtype=torch.float64)),
    "reset_parameters": lambda layer: layer.reset_parameters(),
    "in place": in_place,
    "one entry": one_entry,
    "another parameter": other_parameter,
    "vector_to_parameters": lambda layer: nn.utils.vector_to_parameters(
        torch.ones(sum(p.numel() for p in layer.parameters()), dtype=torch.float64), layer.parameters()
    ),
    ".data": lambda layer: (layer.cores[0].data.mul_(2), layer.forget()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_a_change_of_a_core_reaches_the_answer(change: Callable[[TTLayer], object]) -> None:
    layer = dense()
    before = layer(X)
    change(layer)
    after = layer(X)
    assert not torch.equal(after, before)
    layer.run_in("cores")
    torch.testing.assert_close(after, layer(X), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_another_type_is_another_kernel() -> None:
    layer = dense()
    before = layer(X)
    torch.testing.assert_close(layer.float()(X.float()), before.float(), rtol=1e-4, atol=1e-4)
    assert layer(X.float()).dtype == torch.float32
    assert layer.to(torch.bfloat16)(X.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(layer.double()(X), before, rtol=0.2, atol=2.0)


@torch.no_grad()
def test_no_core_takes_the_address_of_another_while_a_kernel_is_kept() -> None:
    """An allocator gives the memory of a dropped core to the next one of its size, which would look the same."""
    layer = dense()
    layer(X)
    memory = StorageWeakRef(layer.cores[0].untyped_storage())
    layer.load_state_dict(layer_of(SMALL, seed=9).state_dict(), assign=True)
    assert not memory.expired()
    layer(X)
    assert memory.expired()


@torch.no_grad()
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_it_is_neither_copied_nor_stored(copied: Callable[[TTLayer], TTLayer], contractions: list[TTLayer]) -> None:
    layer = dense()
    size, names = len(pickle.dumps(layer)), [*layer.state_dict()]
    y = layer(X)
    assert len(pickle.dumps(layer)) == size
    assert [*layer.state_dict()] == names == ["bias", "cores.0", "cores.1", "cores.2"]
    assert len(contractions) == 1
    twin = copied(layer)
    assert torch.equal(twin(X), y)
    assert len(contractions) == 2
    twin.cores[0].zero_()
    assert torch.equal(layer(X), y)
    assert not torch.equal(twin(X), y)


def test_kept_in_inference_mode_it_serves_a_backward_pass_later() -> None:
    layer = dense()
    layer.cores.requires_grad_(False)
    with torch.inference_mode():
        y = layer(X)
    x = X.clone().requires_grad_()
    answer = layer(x)
    answer.sum().backward()
    torch.testing.assert_close(answer.detach(), y.clone(), rtol=1e-12, atol=1e-12)
    assert x.grad is not None


def test_a_layer_made_in_inference_mode_follows_its_cores() -> None:
    with torch.inference_mode():
        layer = dense()
        before = layer(X)
        layer.cores[0].mul_(2)
        assert not torch.equal(layer(X), before)
