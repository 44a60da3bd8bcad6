"""A pattern that matches no layer is refused with the nearest names."""

from __future__ import annotations

import pytest

from polyadic.errors import LayerError
from polyadic.surgery import check_patterns, matches_any

NAMES = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "fc")


def test_patterns_that_match_pass() -> None:
    check_patterns(("conv1", "layer1.*", "f?"), NAMES, "exclude")
    check_patterns((), NAMES, "exclude")
    assert matches_any("layer1.0.conv1", ("fc", "layer1.*"))
    assert not matches_any("layer1.0.conv1", ())


@pytest.mark.parametrize(
    ("patterns", "advice"),
    [
        (("fc", "convl"), "'convl' matches none: did you mean 'conv1'"),
        (("layer1",), r"'layer1' matches none: did you mean 'layer1.\*'\? It holds layer1.0.conv1, ..."),
        (("xyz",), "'xyz' matches none: its layers are conv1, layer1.0.conv1, .*, fc"),
        (("",), "'' matches none"),
        ("fc", r"exclude is a list .* got the text 'fc': write \['fc'\]"),
    ],
)
def test_one_that_matches_nothing_is_refused(patterns: tuple[str, ...], advice: str) -> None:
    with pytest.raises(LayerError, match=advice):
        check_patterns(patterns, NAMES, "exclude")
