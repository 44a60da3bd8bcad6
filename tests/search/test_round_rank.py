from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polyadic.search import round_rank


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=4), st.integers(1, 32))
def test_every_part_is_the_nearest_multiple_that_there_is(parts: list[tuple[int, int]], multiple: int) -> None:
    rank, largest = tuple(part for part, _ in parts), tuple(part + more for part, more in parts)
    for part, most, new in zip(rank, largest, round_rank(rank, multiple, largest), strict=True):
        multiples = range(multiple, most + 1, multiple)
        if part == most or not multiples:
            assert new == part
        else:
            assert new in multiples
            assert abs(new - part) == min(abs(other - part) for other in multiples)


def test_one_is_every_number() -> None:
    assert round_rank((3, 7), 1, (9, 9)) == (3, 7)


def test_a_part_that_has_no_multiple_below_its_largest_value_stays() -> None:
    assert round_rank((3, 21), 8, (5, 30)) == (3, 24)
