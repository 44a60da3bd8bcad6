"""What a chain takes over from its layer's weight, and what from its bias; biases that two share, or that are none."""

from __future__ import annotations

import copy

import pytest
from nets import images
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.schema import Plan
from polyadic.surgery import TTMatrix, Tucker2, decompose_, find_layers, layer_at, merge, rebuild
from polyadic.surgery.layer_map import LayerConfig


def two() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()


@pytest.mark.parametrize("config", [Tucker2(4), TTMatrix(2)])
@pytest.mark.parametrize(("weight", "bias"), [(True, False), (False, True), (False, False)])
def test_weight_and_bias_keep_each_its_own_flag(config: LayerConfig, weight: bool, bias: bool) -> None:
    model = two()
    model[2].weight.requires_grad_(weight)
    model[2].bias.requires_grad_(bias)
    dense = copy.deepcopy(model)
    plan = decompose_(model, {"2": config}, images())

    def check(network: nn.Module) -> None:
        chain = network.get_submodule("2")
        for name, parameter in chain.named_parameters():
            assert parameter.requires_grad == (bias if name.endswith("bias") else weight), name

    check(model)
    check(rebuild(copy.deepcopy(dense), plan))
    check(merge(model, dense, plan))


def test_layers_that_share_a_bias_stay_and_each_names_the_other() -> None:
    model = two()
    model[2].bias = model[0].bias
    reasons = [site.reason for site in find_layers(model, images())]
    assert reasons == ["it shares its bias with 2", "it shares its bias with 0"]
    assert decompose_(model, {"*": Tucker2(4)}, images()) == Plan(())
    assert model[0].bias is model[2].bias


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_two_parameters_over_the_same_numbers_are_tied_too(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    model[2].get_parameter(name).data = model[0].get_parameter(name).data
    reasons = [site.reason for site in find_layers(model, images())]
    assert reasons == [f"it shares its {name} with 2", f"it shares its {name} with 0"]


def test_a_bias_that_is_read_elsewhere_keeps_the_layer() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.again = [self.conv.bias]

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x) + self.again[0].reshape(-1, 1, 1)  # type: ignore[union-attr]
            return y

    (site,) = find_layers(Again(), images())
    assert site.reason == "its bias is also used outside the layer's own forward pass (by reshape)"


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_buffer_in_the_place_of_a_parameter_keeps_that_layer_alone(name: str) -> None:
    model = two()
    kept = model[2].get_parameter(name).detach().clone()
    delattr(model[2], name)
    model[2].register_buffer(name, kept)
    first, second = find_layers(model, images())
    assert first.reason is None
    assert f"its {name} is a buffer" in str(second.reason)
    assert [choice.layer for choice in decompose_(model, {"*": Tucker2(4)}, images()).choices] == ["0"]
    with pytest.raises(LayerError, match=f"layer '2' cannot be factorised as tucker2: its {name} is a buffer"):
        decompose_(model, {"2": Tucker2(4)}, images())


def test_a_plan_names_the_layer_whose_bias_is_a_buffer() -> None:
    model = two()
    kept = model[2].bias.detach().clone()
    del model[2].bias
    model[2].register_buffer("bias", kept)
    with pytest.raises(LayerError, match="layer '2' cannot be factorised: its bias is a buffer"):
        layer_at(model, "2")
