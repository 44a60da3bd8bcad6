from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import READINGS, Functional, Hidden, Net, Own, Tied, Twice, TwoNames, everything_of, images
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.models import load_model
from polyadic.schema import LayerSite
from polyadic.surgery import find_layers, network_cost


def sites_of(model: nn.Module, example: object = None) -> dict[str, LayerSite]:
    return {site.name: site for site in find_layers(model, images() if example is None else example)}  # type: ignore[arg-type]


def test_plain_and_nested_layers_are_candidates_in_the_order_of_the_modules() -> None:
    sites = find_layers(Net(), images())
    assert [(site.name, site.kind) for site in sites] == [
        ("stem", "Conv2d"),
        ("body.1", "Conv2d"),
        ("point", "Conv2d"),
        ("head", "Linear"),
    ]
    assert all(site.reason is None and not site.aliases for site in sites)
    assert [site.input_sizes for site in sites] == [((12, 12),), ((12, 12),), ((6, 6),), ((1,),)]
    assert [site.macs for site in sites] == [27 * 6 * 144, 54 * 8 * 36, 32 * 36, 144 * 5]
    assert sum(site.params for site in sites) == sum(p.numel() for p in Net().parameters()) - 2 * (6 + 8)


@pytest.mark.parametrize("batch", [1, 3])
def test_macs_are_those_of_one_sample_whatever_the_batch(batch: int) -> None:
    assert sum(site.macs for site in find_layers(Net(), images(batch))) == network_cost(Net(), images(batch)).macs


class OneByOne(nn.Module):
    """Each sample by itself, in batches of one or without a batch."""

    def __init__(self, batched: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)
        self.batched = batched

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.conv(each[None] if self.batched else each).mean((-2, -1)) for each in x]
        return torch.stack([self.head(part) for part in parts])


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("batched", [False, True])
def test_calls_for_each_sample_by_itself_cost_one_sample_together(batched: bool, batch: int) -> None:
    model = OneByOne(batched)
    sites = sites_of(model, images(batch))
    assert [site.input_sizes for site in sites.values()] == [((12, 12),), ((1,),)]
    assert sum(site.macs for site in sites.values()) == network_cost(model, images(batch)).macs == 27 * 4 * 100 + 20


class InChunks(nn.Module):
    """A convolution that runs on two samples at a time, and once per forward pass on something of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.own = nn.Parameter(torch.zeros(1, 3, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(part) for part in x.split(2)]) + self.conv(self.own).mean()


def test_calls_for_parts_of_a_batch_count_once_per_sample_and_those_for_all_once() -> None:
    assert sites_of(InChunks(), images(4))["conv"].macs == 27 * 4 * (100 + 9)
    assert network_cost(InChunks(), images(4)).macs == 27 * 4 * (100 + 9)


def test_an_example_without_a_batch_is_one_sample() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(0), nn.Linear(600, 5)).eval()
    x = images(1)[0]
    assert sum(site.macs for site in find_layers(model, x)) == network_cost(model, x).macs == 27 * 6 * 100 + 3000
    line = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    assert sum(site.macs for site in find_layers(line, torch.ones(6))) == network_cost(line, torch.ones(6)).macs == 32


@pytest.mark.parametrize("name", ["resnet20", "digits-cnn"])
def test_the_macs_of_all_sites_are_those_that_torch_counts(name: str) -> None:
    loaded = load_model(f"polyadic:{name}")
    assert loaded.input_shape is not None
    example = torch.zeros(2, *loaded.input_shape)
    assert sum(site.macs for site in find_layers(loaded.model, example)) == network_cost(loaded.model, example).macs


def test_a_layer_that_is_called_twice_costs_both_calls() -> None:
    sites = sites_of(Twice())
    assert sites["conv"].reason is None
    assert sites["conv"].input_sizes == ((12, 12), (6, 6))
    assert sites["conv"].macs == 81 * (144 + 36) == network_cost(Twice(), images()).macs


def test_a_layer_under_two_names_is_one_site() -> None:
    sites = sites_of(TwoNames())
    assert list(sites) == ["first"]
    assert (sites["first"].aliases, sites["first"].reason) == (("inner.again",), None)
    assert sites["first"].macs == 2 * 81 * 144 == network_cost(TwoNames(), images()).macs


@pytest.mark.parametrize("reading", READINGS)
def test_a_layer_of_which_the_model_reads_more_than_the_output_stays(reading: str) -> None:
    sites = sites_of(Functional(READINGS[reading]))
    assert sites["other"].reason is None
    reason = sites["conv"].reason
    assert reason is not None
    assert "outside the layer's own forward pass" in reason or "does more with it than call it" in reason


@pytest.mark.parametrize("activation", [torch.relu, torch.tanh])  # the first has a fused kernel, the second has none
def test_layers_in_a_transformer_are_candidates_and_so_are_the_projections_of_its_attention(
    activation: Callable[[Tensor], Tensor],
) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=activation)
    sites = sites_of(model, torch.zeros(1, 4, 8))
    projections = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    assert [name for name, site in sites.items() if site.reason is None] == [*projections, "linear1", "linear2"]
    assert sites["linear1"].macs == 4 * 8 * 16


def test_tied_weights_stay_and_each_names_the_other() -> None:
    sites = sites_of(Tied())
    assert sites["a"].reason == "it shares its weight with b"
    assert sites["b"].reason == "it shares its weight with a"
    assert sites["c"].reason is None


def test_a_layer_that_setattr_would_not_reach_stays() -> None:
    sites = sites_of(Hidden())
    assert "another reference" in str(sites["conv"].reason)
    assert sites["last"].reason is None


def test_layers_that_never_run_say_so() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Conv2d(3, 3, 1)
            self.unused = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    sites = sites_of(Unused())
    assert sites["unused"].reason == "it did not run in the traced forward pass"
    assert (sites["unused"].macs, sites["used"].reason) == (0, None)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Own(3, 3, 3), "subclass with a forward pass of its own"),
        (nn.Bilinear(12, 12, 4), "neither a convolution nor"),
    ],
)
def test_layers_of_another_kind_are_named_with_a_reason(layer: nn.Module, words: str) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, x) if isinstance(self.layer, nn.Bilinear) else self.layer(x)  # type: ignore[no-any-return]

    site = sites_of(Around())["layer"]
    assert words in str(site.reason)
    assert (site.macs, site.params, site.kind) == (0, 0, type(layer).__name__)


def test_words_and_sequences_have_reasons_too() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(10, 8)
            self.rnn = nn.LSTM(8, 8, batch_first=True)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h, _ = self.rnn(self.words(x))
            h, _ = self.attention(h, h, h)
            return self.out(h)  # type: ignore[no-any-return]

    sites = sites_of(Words(), torch.zeros(2, 5, dtype=torch.int64))
    projections = {f"attention.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
    assert {name for name, site in sites.items() if site.reason is None} == {"out", *projections}
    assert sites["out"].macs == 5 * 8 * 3
    assert {"words", "rnn"} <= set(sites)


def test_grouped_layers_are_candidates_that_each_format_judges() -> None:
    sites = sites_of(nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 4, 3, groups=2)))
    assert [site.reason for site in sites.values()] == [None, None]
    assert [site.spec.groups for site in sites.values() if site.spec] == [3, 2]


def test_layers_with_hooks_stay() -> None:
    for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
        getattr(model[0], register)(lambda *_: None)
        sites = sites_of(model)
        assert "hooks" in str(sites["0"].reason)
        assert sites["1"].reason is None


def test_a_model_that_is_one_layer_says_what_to_do() -> None:
    (site,) = find_layers(nn.Conv2d(3, 3, 3), images())
    assert site.reason == "the model itself is this layer: wrap it in nn.Sequential"


@pytest.mark.parametrize("build", [Net, Twice, TwoNames, Tied, Hidden, lambda: Functional(READINGS["its type"])])
def test_the_model_is_left_exactly_as_it_was(build: object) -> None:
    model: nn.Module = build()  # type: ignore[operator]
    model.train()
    next(model.children()).eval()
    before, seed = everything_of(model), torch.get_rng_state()
    find_layers(model, images())
    assert everything_of(model) == before
    assert torch.equal(torch.get_rng_state(), seed)
    assert torch.is_grad_enabled()


def test_a_forward_pass_that_fails_is_a_layer_error_and_leaves_the_model() -> None:
    model = Net().train()
    before = everything_of(model)
    with pytest.raises(LayerError, match=r"failed on an example input of shape \(2, 4, 12, 12\): RuntimeError"):
        find_layers(model, torch.zeros(2, 4, 12, 12))
    assert everything_of(model) == before


def test_several_inputs_and_unbatched_ones_are_served() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return self.conv(x * scale)  # type: ignore[no-any-return]

    sites = sites_of(TwoInputs(), (images(), torch.ones(1)))
    assert sites["conv"].macs == 27 * 4 * 100
