"""Networks as people hold them: in wrappers for devices, averages and compilers, and in trainers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import polyadic
from polyadic.errors import LayerError
from polyadic.schema import Choice, Plan
from polyadic.surgery import decompose_, find_layers, network_cost, unwrap_model
from polyadic.surgery.layer_map import SVD

EXAMPLE = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
PLAN = Plan((Choice("0", "svd", (2,)),))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def of_package(package: str, name: str, parents: tuple[type, ...], **methods: object) -> type:
    """A class that says that it comes from a package which is not installed here."""
    return type(name, parents, {"__module__": package, **methods})


def yolo(*parents: type) -> object:
    base = of_package("ultralytics.engine.model", "Model", parents)
    made = of_package("ultralytics.models.yolo.model", "YOLO", (base,))()
    made.model = net()
    return made


def average() -> object:
    made = of_package("timm.utils.model_ema", "ModelEmaV3", (nn.Module,))()
    made.module = net()
    return made


WRAPPED: dict[str, Callable[[], object]] = {
    "DataParallel": lambda: nn.DataParallel(net()),
    "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(net()),
    "average of timm": average,
    "YOLO, a module": lambda: yolo(nn.Module),
    "YOLO, no module": yolo,
    "an average of a parallel one": lambda: torch.optim.swa_utils.AveragedModel(nn.DataParallel(net())),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_layers_are_named_as_in_the_network_inside(name: str) -> None:
    wrapped = WRAPPED[name]()
    assert [site.name for site in find_layers(wrapped, EXAMPLE)] == ["0", "2"]
    assert network_cost(wrapped, EXAMPLE) == network_cost(net(), EXAMPLE)
    network = polyadic.apply_plan(wrapped, PLAN).model
    assert type(network) is nn.Sequential
    assert decompose_(wrapped, {"0": SVD(2)}, EXAMPLE) == PLAN
    assert isinstance(unwrap_model(wrapped).get_submodule("0"), nn.Sequential)


def test_a_wrapped_network_is_compressed_and_the_result_is_bare() -> None:
    samples = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    options = polyadic.CompressOptions(alarm_at=1.0)
    result = polyadic.compress(nn.DataParallel(net()), samples, budget=["macs=90%"], formats=("svd",), options=options)
    assert type(result.model) is nn.Sequential
    found = polyadic.find_plan(nn.DataParallel(net()), samples, budget=["macs=90%"], formats=("svd",), options=options)
    assert {choice.layer for choice in found.plan.choices} <= {"0", "2"}


def test_what_torch_has_compiled_is_seen_through() -> None:
    if sys.platform == "win32":
        pytest.skip("torch.compile does not run on Windows")
    inner = net()
    assert unwrap_model(torch.compile(inner, backend="eager")) is inner


def test_what_distributes_a_network_is_seen_through(tmp_path: object) -> None:
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapped)  # without a process group
    wrapped.module = inner = net()
    assert unwrap_model(wrapped) is inner


class Lightning(ModuleType):
    """Just as much of the package as matters here."""


def test_a_trainer_is_a_network_where_it_has_a_forward_pass() -> None:
    def missing(self: nn.Module, *inputs: object) -> None:
        raise NotImplementedError

    missing.__module__ = "lightning.pytorch.core.module"
    base = of_package("lightning.pytorch.core.module", "LightningModule", (nn.Module,), forward=missing)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.net(x)

    with_forward, without = type("Trained", (base,), {"forward": forward})(), type("Bare", (base,), {})()
    with_forward.net = without.net = net()
    assert unwrap_model(with_forward) is with_forward
    assert [site.name for site in find_layers(with_forward, EXAMPLE)] == ["net.0", "net.2"]
    words = r"^Bare has no forward pass: pass the network that it holds, such as its \.net$"
    with pytest.raises(LayerError, match=words):
        find_layers(without, EXAMPLE)


class Pipeline:
    """As of Hugging Face: no module, but it holds one."""

    def __init__(self) -> None:
        self.model = net()


def compress(held: object, x: Tensor) -> object:
    return polyadic.compress(held, x, budget=["macs=90%"])


@pytest.mark.parametrize("call", [find_layers, network_cost, compress])
def test_what_merely_holds_a_network_is_refused_with_where_it_is(call: Callable[[object, Tensor], object]) -> None:
    with pytest.raises(LayerError, match=r"got Pipeline: it holds one, pass its \.model$"):
        call(Pipeline(), EXAMPLE)


def test_a_list_of_modules_has_no_forward_pass() -> None:
    with pytest.raises(LayerError, match="ModuleList has no forward pass"):
        find_layers(nn.ModuleList([net()]), EXAMPLE)


def test_what_is_scripted_is_refused_with_the_reason() -> None:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        scripted = torch.jit.script(net())
    with pytest.raises(LayerError, match=r"fixed by torch\.jit: pass the module that it was made of"):
        find_layers(scripted, EXAMPLE)
