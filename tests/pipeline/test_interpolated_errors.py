"""What a strategy that wants errors is given: errors of a few ranks as they are, and all others between them."""

from __future__ import annotations

import itertools

import pytest
from subjects import images
from torch import nn

from polyadic import CompressOptions, Progress
from polyadic.pipeline.apply import Decomposer
from polyadic.pipeline.candidates import find_candidates, prepare_candidates
from polyadic.schema import Choice
from polyadic.search import anchors, search_named
from polyadic.surgery import find_layers


@pytest.mark.parametrize("fmt", ["tucker2", "svd"])
def test_errors_are_measured_at_a_few_ranks_and_fall_from_rank_to_rank(net: nn.Module, fmt: str) -> None:
    options, steps = CompressOptions(), list[Progress]()
    decompose = Decomposer(net, options.cache, options.seed)
    all_candidates = find_candidates(net, find_layers(net, images(1)), (fmt,), options)
    found = prepare_candidates(search_named("frontier"), all_candidates, decompose, 4, steps.append)
    assert 1 <= len(steps) <= 3 * len(found)
    assert max(len(candidates.ranks) for candidates in found) > 3
    for candidates in found:
        assert candidates.errors is not None
        assert all(one >= other > 0 for one, other in itertools.pairwise(candidates.errors))
        for number, at in enumerate(anchors(candidates)):
            exact = decompose(Choice(candidates.layer, candidates.format, candidates.ranks[at])).relative_error
            if number == 0 or exact > 0.1:
                assert candidates.errors[at] == exact
