"""The ranks that a search chooses from."""

from __future__ import annotations

import torch
from subjects import images
from torch import nn

from polyadic import CompressOptions, Progress
from polyadic.decomposition import InputNorm
from polyadic.pipeline.apply import Decomposer
from polyadic.pipeline.candidates import find_candidates, prepare_candidates
from polyadic.schema import Choice
from polyadic.search import anchors, search_named
from polyadic.surgery import find_layers, input_norms


def test_every_rank_is_cheaper_than_its_layer(net: nn.Module) -> None:
    layers = find_layers(net, images(1))
    found = find_candidates(net, layers, ("tucker2", "svd", "cp-epc"), CompressOptions())
    dense = {site.name: site.macs for site in layers}
    assert {one.format for one in found} == {"tucker2", "svd", "cp-epc"}
    for one in found:
        assert one.dense_macs == dense[one.layer]
        assert list(one.macs) == sorted(one.macs)
        assert one.macs[-1] < one.dense_macs


def test_where_inputs_were_measured_a_strategy_is_told_the_errors_that_matter_there(net: nn.Module) -> None:
    options, layers = CompressOptions(), find_layers(net, images(1))
    decompose = Decomposer(net, options.cache, options.seed)
    candidates = find_candidates(net, layers, ("tucker2",), options)
    norms: dict[str, InputNorm] = input_norms(net, [one.layer for one in candidates], torch.as_tensor(images(16)))
    decompose.norms = norms
    found = prepare_candidates(search_named("frontier"), candidates, decompose, 4, list[Progress]().append)
    for one in found:
        at = anchors(one)[0]
        factored = decompose(Choice(one.layer, one.format, one.ranks[at]))
        assert one.errors is not None
        assert factored.weighted_error is not None
        assert factored.weighted_error != factored.relative_error
        assert one.errors[at] == factored.weighted_error


def test_errors_beyond_the_first_small_one_are_not_measured(net: nn.Module) -> None:
    with torch.no_grad():
        for layer in net.modules():  # of rank 1: the cheapest rank is exact
            if isinstance(layer, nn.Conv2d | nn.Linear):
                matrix = layer.weight.flatten(1)
                layer.weight.copy_((matrix[:, :1] @ matrix[:1]).reshape(layer.weight.shape))
    options, steps = CompressOptions(), list[Progress]()
    decompose = Decomposer(net, options.cache, options.seed)
    candidates = find_candidates(net, find_layers(net, images(1)), ("svd",), options)
    found = prepare_candidates(search_named("frontier"), candidates, decompose, 4, steps.append)
    assert len(steps) == len(found)
