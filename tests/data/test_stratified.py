from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyadic.data import default_held_out, stratified_split
from polyadic.errors import DataError


@pytest.mark.parametrize(
    ("images", "held_out"), [(2, 1), (4, 1), (1347, 269), (4999, 999), (5000, 500), (49_999, 4999), (1_281_167, 5000)]
)
def test_default_share(images: int, held_out: int) -> None:
    assert default_held_out(images) == held_out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.data())
def test_a_split_is_a_partition_in_proportion(labels: list[int], data: st.DataObject) -> None:
    total = len(labels)
    size = data.draw(st.integers(1, total - 1))
    rest, part = stratified_split(torch.tensor(labels), size, seed=data.draw(st.integers(0, 9)))
    assert len(part) == size
    assert sorted([*rest.tolist(), *part.tolist()]) == list(range(total))
    for label in set(labels):
        share = size * labels.count(label) / total
        held = sum(labels[at] == label for at in part.tolist())
        assert share - 1 < held < share + 1


def test_same_seed_same_split_and_another_seed_another() -> None:
    labels = torch.arange(200) % 10
    first, again, other = (stratified_split(labels, 50, seed)[1] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert set(first.tolist()) != set(other.tolist())


def test_a_prefix_is_mixed_even_when_the_labels_are_sorted() -> None:
    labels = torch.arange(1000) // 100
    for part in stratified_split(labels, 300, seed=0):
        assert len(set(labels[part[:100]].tolist())) == 10


def test_one_image_of_each_class_can_be_split() -> None:
    rest, part = stratified_split(torch.arange(100), 20, seed=0)
    assert (len(rest), len(part)) == (80, 20)


@pytest.mark.parametrize("size", [0, -1, 10, 11])
def test_both_parts_need_images(size: int) -> None:
    with pytest.raises(DataError, match=rf"1\.\.9 of the 10 images; got {size}"):
        stratified_split(torch.zeros(10, dtype=torch.int64), size, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DataError, match="got -1"):
        stratified_split(torch.zeros(10, dtype=torch.int64), 3, seed=-1)
