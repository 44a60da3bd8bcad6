from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import polyadic
from polyadic.errors import LayerError
from polyadic.export import export_network
from polyadic.layers import SeparateAttention
from polyadic.schema import Choice, Plan
from polyadic.surgery import decompose_, find_layers, merge, network_cost, plan_stages, rebuild
from polyadic.surgery.layer_map import SVD

E = 16
NAMES = ["attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj"]
EXAMPLE = torch.randn(3, 5, E, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Self-attention and a head: (N, L, E) to (N, 2)."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(E, 4, **{"batch_first": True, **options})
        self.head = nn.Linear(E, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.attn(x, x, x, need_weights=False)[0].mean(1))
        return y


def net(**options: Any) -> Net:
    torch.manual_seed(0)
    return Net(**options).eval()


def test_projections_are_layers_and_the_model_stays_as_it_was() -> None:
    model = net()
    before = dict(model.named_modules())
    sites = find_layers(model, EXAMPLE)
    assert {site.name: (site.macs, site.reason) for site in sites} == {
        **dict.fromkeys(NAMES, (5 * E * E, None)),
        "head": (2 * E, None),
    }
    assert dict(model.named_modules()) == before
    assert network_cost(model, EXAMPLE).macs == sum(site.macs for site in sites) + 2 * 5 * 5 * E


@pytest.mark.parametrize("inputs", [None, EXAMPLE])
def test_a_plan_replaces_projections_of_a_copy(inputs: Tensor | None) -> None:
    model = net()
    plan = Plan(tuple(Choice(name, "svd", (E,)) for name in NAMES))
    network = polyadic.apply_plan(model, plan, inputs=inputs).model
    assert isinstance(network.attn, SeparateAttention)
    assert isinstance(network.attn.q_proj, nn.Sequential)
    assert isinstance(model.attn, nn.MultiheadAttention)
    torch.testing.assert_close(network(EXAMPLE), model(EXAMPLE), atol=1e-5, rtol=1e-4)


def test_a_plan_without_projections_leaves_attention_packed() -> None:
    model = net()
    sites = find_layers(model, EXAMPLE)
    network = polyadic.apply_plan(model, Plan((Choice("head", "svd", (1,)),)), inputs=EXAMPLE, layers=sites).model
    assert isinstance(network.attn, nn.MultiheadAttention)


def test_it_is_rebuilt_and_merged_from_the_network_as_it_came() -> None:
    model = net()
    plan = decompose_(model, {"attn.[qk]_proj": SVD(3), "attn.out_proj": SVD(E)}, EXAMPLE)
    assert [choice.layer for choice in plan.choices] == ["attn.q_proj", "attn.k_proj", "attn.out_proj"]
    dense = net()
    assert set(plan_stages(dense, plan)) == {choice.layer for choice in plan.choices}
    assert isinstance(dense.attn, nn.MultiheadAttention)
    again = rebuild(net(), plan).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(EXAMPLE), model(EXAMPLE))
    merged = merge(model, dense, plan)
    assert isinstance(merged.get_submodule("attn.q_proj"), nn.Linear)
    torch.testing.assert_close(merged(EXAMPLE), model(EXAMPLE), atol=1e-5, rtol=1e-4)


def test_a_failure_leaves_the_model_as_it_was() -> None:
    model = net()
    with pytest.raises(LayerError, match="99"):
        decompose_(model, {"attn.q_proj": SVD(3), "head": SVD(99)}, EXAMPLE)
    assert isinstance(model.attn, nn.MultiheadAttention)


@pytest.mark.parametrize(
    ("options", "words"), [({"add_bias_kv": True}, "add_bias_kv"), ({"add_zero_attn": True}, "add_zero_attn")]
)
def test_what_is_not_supported_stays_with_a_reason(options: dict[str, Any], words: str) -> None:
    sites = {site.name: site for site in find_layers(net(**options), EXAMPLE)}
    assert words in str(sites["attn"].reason)


def test_hooks_subclasses_and_other_readers_keep_attention_packed() -> None:
    class Reads(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.attn.in_proj_weight.sum()

    class Own(nn.MultiheadAttention):
        pass

    hooked, subclass = net(), net()
    hooked.attn.register_forward_hook(lambda *_: None)
    subclass.attn.__class__ = Own
    for model, words in ((hooked, "hooks"), (subclass, "subclass"), (Reads(), "more with it")):
        reasons = {site.name: site.reason for site in find_layers(model, EXAMPLE)}
        assert words in str(reasons["attn"])


def test_attention_of_shared_weights_stays_packed() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = net(), net()
            self.b.attn.in_proj_weight = self.a.attn.in_proj_weight

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    reasons = {site.name: site.reason for site in find_layers(Two(), EXAMPLE)}
    assert "shares weights" in str(reasons["a.attn"])
    assert "shares weights" in str(reasons["b.attn"])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_in_a_transformer_no_fused_kernel_bypasses_them() -> None:
    torch.manual_seed(0)
    dense = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, 4, 32, batch_first=True), 2).eval()
    padding = torch.tensor([[False] * 5] * 2 + [[False] * 3 + [True] * 2])
    plan = Plan((Choice("layers.1.self_attn.v_proj", "svd", (E,)),))
    network = polyadic.apply_plan(dense, plan).model
    with torch.no_grad():
        found, wanted = (each(EXAMPLE, src_key_padding_mask=padding) for each in (network, copy.deepcopy(dense)))
        torch.testing.assert_close(found[~padding], wanted[~padding], atol=1e-5, rtol=1e-4)
        network.get_submodule("layers.1.self_attn.v_proj")[0].weight.zero_()
        assert not torch.allclose(network(EXAMPLE)[0], wanted[0], atol=1e-2)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_of_either_layout_are_fitted_to_inputs(batch_first: bool) -> None:
    class Layout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, 4, 32, batch_first=batch_first), 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.body(x) if batch_first else self.body(x.transpose(0, 1)).transpose(0, 1)
            return y

    torch.manual_seed(0)
    model = Layout().eval()
    names = [site.name for site in find_layers(model, EXAMPLE) if site.reason is None]
    assert len(names) == 12
    plan = Plan(tuple(Choice(name, "svd", (E,)) for name in names))
    network = polyadic.apply_plan(model, plan, inputs=EXAMPLE).model
    torch.testing.assert_close(network(EXAMPLE), model(EXAMPLE), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("limit", "exclude"), [("macs=70%", ()), ("macs=99.9%", ("attn.*",))])
def test_a_compressed_network_is_saved_and_loaded(tmp_path: Path, limit: str, exclude: tuple[str, ...]) -> None:
    model = net()
    samples = [torch.randn(8, 5, E, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    options = polyadic.CompressOptions(exclude=exclude)
    result = polyadic.compress(model, samples, budget=[limit], formats=("svd",), options=options)
    assert isinstance(result.model.attn, nn.MultiheadAttention if exclude else SeparateAttention)
    polyadic.save(result, tmp_path / "run")
    loaded = polyadic.load(tmp_path / "run", net())
    torch.testing.assert_close(loaded(EXAMPLE), result.model(EXAMPLE))
    assert result.summary.compressed.macs == network_cost(loaded, EXAMPLE).macs <= network_cost(model, EXAMPLE).macs


@pytest.mark.slow  # quick tests export other chains, and attention alone is no more than functions of torch
def test_it_is_exported_to_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network = polyadic.apply_plan(net(), Plan((Choice("attn.q_proj", "svd", (4,)),))).model
    (written,) = export_network(network, {"onnx": tmp_path / "net.onnx"}, EXAMPLE)
    assert written.path.exists()
