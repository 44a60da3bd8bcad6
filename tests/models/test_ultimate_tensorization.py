from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from polyadic.cli import app
from polyadic.layers import TTLayer
from polyadic.models import ZOO

DENSE = {"tt-conv-3x": "conv", "naive-2x": "conv", "naive-3x": "conv"}
DENSE |= {"tt-conv-tt-fc-42x": "conv-fc", "tt-conv-tt-fc-83x": "conv-fc"}
# Compression as table 1 of the paper states it; its naive networks to two digits, whose ranks are not stated.
COMPRESSION = {"tt-conv-3x": 3.230, "tt-conv-tt-fc-42x": 41.651, "tt-conv-tt-fc-83x": 82.868}
NAIVE = {"naive-2x": 2.02, "naive-3x": 2.90}


def build(name: str) -> nn.Module:
    with torch.device("meta"):
        return ZOO[f"ut-{name}"].build(10)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trains(model: nn.Module) -> dict[str, TTLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, TTLayer)}


@pytest.mark.parametrize("name", list(COMPRESSION))
def test_compression_is_that_of_the_paper(name: str) -> None:
    ratio = count(build(DENSE[name])) / count(build(name))
    assert round(ratio, 3) == COMPRESSION[name]


@pytest.mark.parametrize("name", list(NAIVE))
def test_naive_networks_are_as_small_as_in_the_paper(name: str) -> None:
    assert round(count(build(DENSE[name])) / count(build(name)), 2) == NAIVE[name]


def test_dense_network_is_the_one_that_the_paper_counts() -> None:
    # 3 x 3 kernels, two numbers per channel for batch norm, a classifier without bias
    channels = (3, 64, 64, 128, 128, 128, 128)
    kernels = sum(9 * S * T for S, T in itertools.pairwise(channels))
    assert count(build("conv")) == kernels + 2 * sum(channels[1:]) + 1280 == 557_248


@pytest.mark.parametrize("name", list(DENSE))
def test_a_train_stands_where_the_dense_network_has_a_layer_of_the_same_sizes(name: str) -> None:
    dense, compressed = build(DENSE[name]), build(name)
    for path, train in trains(compressed).items():
        kernel = dense.get_submodule(path).get_parameter("weight")
        assert kernel.shape == train.spec.dense.weight_shape
        assert math.prod(train.spec.row_modes) == kernel.shape[0]
        assert math.prod(train.spec.column_modes) == kernel.shape[1]
    plain = {path for path, module in dense.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert plain - set(trains(compressed)) == {"stage1.conv", "classifier"}


@pytest.mark.parametrize("name", ["conv", "tt-conv-3x", "naive-3x", "tt-conv-tt-fc-83x"])
def test_one_logit_per_class_and_a_gradient_for_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = ZOO[f"ut-{name}"].build(7)
    logits = model(torch.randn(3, 3, 32, 32))
    assert logits.shape == (3, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert float(parameter.grad.abs().max()) > 0, path


@pytest.mark.parametrize("name", ["tt-conv-3x", "naive-2x", "tt-conv-tt-fc-83x"])
def test_a_network_of_trains_equals_the_dense_network_with_their_kernels(name: str) -> None:
    torch.manual_seed(0)
    compressed, dense = ZOO[f"ut-{name}"].build(10).eval(), ZOO[f"ut-{DENSE[name]}"].build(10).eval()
    dense.load_state_dict({k: v for k, v in compressed.state_dict().items() if ".cores." not in k}, strict=False)
    for path, train in trains(compressed).items():
        dense.get_submodule(path).load_state_dict(train.to_dense().state_dict())
        train.run_in("cores")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(compressed(images), dense(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["conv", "tt-conv-3x", "naive-2x", "conv-fc", "tt-conv-tt-fc-42x"])
def test_untrained_kernels_have_the_variance_of_he(name: str) -> None:
    torch.manual_seed(0)
    model = ZOO[f"ut-{name}"].build(10)
    for path in ("stage2.conv", "stage4.conv", "hidden.1.linear"):
        if path.startswith("hidden") and "fc" not in name:
            continue
        layer = model.get_submodule(path)
        K: Tensor = layer.kernel() if isinstance(layer, TTLayer) else layer.get_parameter("weight")
        fan_in = K[0].numel()
        # Entries of a train are not independent: at these ranks one draw scatters by a tenth and more.
        assert float(K.detach().square().mean()) * fan_in == pytest.approx(2, rel=0.35), path


def test_pools_halve_even_sizes_and_see_every_pixel() -> None:
    pool = build("conv").get_submodule("pool")
    for size in (32, 16):
        x = torch.arange(size, dtype=torch.float32).expand(1, 1, size, size)
        expected = [min(2 * i + 2, size - 1) for i in range(size // 2)]
        assert pool(x)[0, 0, 0].tolist() == expected


def test_inspect_counts_the_cores_and_leaves_them_alone() -> None:
    out = CliRunner().invoke(app, ["inspect", "polyadic:ut-tt-conv-tt-fc-83x", "--json"])
    assert out.exit_code == 0, out.output
    found = json.loads(out.stdout)
    assert found["params"] == 168_154
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["hidden.0.linear"]["status"] == "unsupported"
    assert "tensor-train" in layers["stage2.conv"]["reason"]
    assert layers["stage1.conv"]["status"] == "supported"
