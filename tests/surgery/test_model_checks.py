"""Models whose layers cannot be read or replaced are refused in one sentence that says what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from nets import images
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.layers import SVDLinear, TTLinear
from polyadic.surgery import CP, decompose_, find_layers


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(small())


def jit_traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(small(), images())


def compiled_in_place() -> nn.Module:
    model = small()
    model.compile(backend="eager")
    return model


def compiled_inside() -> nn.Module:
    return nn.Sequential(torch.compile(small(), backend="eager"))


FIXED: dict[str, Callable[[], nn.Module]] = {
    "torch.compile in place": compiled_in_place,
    "torch.compile inside": compiled_inside,
    "torch.jit by script": scripted,
    "torch.jit by trace": jit_traced,
    "torch.export": lambda: torch.export.export(small(), (images(),)).module(),
}


@pytest.mark.parametrize("way", FIXED)
def test_a_model_that_is_fixed_already_is_refused(way: str) -> None:
    if "compile" in way and sys.platform == "win32":
        pytest.skip("torch.compile does not run on Windows")
    model = FIXED[way]()
    words = f"is fixed by {way.split()[0]}: pass the module that it was made of, and compile or export the result"
    for search in (lambda: find_layers(model, images()), lambda: decompose_(model, {"*": CP(1)}, images())):
        with pytest.raises(LayerError, match=words):
            search()


def test_a_lazy_model_is_refused_until_it_has_run() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU())
    with pytest.raises(LayerError, match=r"^'0.weight' has no shape before the first forward pass: run the model once"):
        find_layers(model, images())
    model(images())
    assert [site.reason for site in find_layers(model, images())] == [None]


def test_a_symbolically_traced_model_is_a_model_like_any_other() -> None:
    model = torch.fx.symbolic_trace(small())
    assert [site.reason for site in find_layers(model, images())] == [None, None]
    decompose_(model, {"2": CP(2)}, images())
    assert isinstance(model.get_submodule("2"), nn.Sequential)
    assert model(images()).shape == (2, 4, 8, 8)


def test_quantised_layers_are_named_with_what_to_do() -> None:
    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if not engines:
        pytest.skip("this build of torch has no engine for quantised layers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    (site,) = find_layers(model, torch.zeros(2, 3))
    assert site.reason == "Linear is quantised: factorise the network first and quantise it then"


class Subclassed(Tensor):
    """A tensor that could mean anything."""


def test_a_weight_that_is_no_plain_tensor_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].weight = nn.Parameter(torch.zeros(3, 3).as_subclass(Subclassed))
    first, second = find_layers(model, torch.zeros(2, 3))
    assert first.reason == "its weight is a Subclassed, not a plain tensor"
    assert second.reason is None


def test_a_layer_whose_forward_pass_was_exchanged_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].forward = lambda x: 2 * nn.Linear.forward(model[0], x)  # type: ignore[assignment]
    first, second = find_layers(model, torch.zeros(2, 3))
    assert "its forward pass was replaced by another function" in str(first.reason)
    assert second.reason is None


def test_parameters_in_lists_belong_to_the_module_that_holds_the_list() -> None:
    class Banks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.banks = nn.ParameterList([nn.Parameter(torch.zeros(3, 3))])
            self.keyed = nn.ParameterDict({"a": nn.Parameter(torch.zeros(3))})
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x @ self.banks[0])  # type: ignore[no-any-return]

    sites = find_layers(nn.Sequential(Banks()), torch.zeros(2, 3))
    assert [(site.name, site.kind) for site in sites] == [("0", "Banks"), ("0.head", "Linear")]
    assert sites[0].reason == "Banks is neither a convolution nor a fully connected layer"


def test_layers_that_are_factorised_already_are_found_by_their_stages() -> None:
    model = nn.Sequential(TTLinear(16, 12), nn.ReLU(), SVDLinear(12, 8, rank=4))
    sites = {site.name: (site.kind, site.reason) for site in find_layers(model, torch.zeros(2, 16))}
    assert sites == {
        "0": ("TTLinear", "it is a tensor-train layer already"),
        "2.0": ("Linear", None),
        "2.1": ("Linear", None),
    }
