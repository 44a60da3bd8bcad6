from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from standard_cases import StandardCase, assert_same, compute, operation_of_node, standard_cases

from polyadic.onnx.operators import NotInTorchError, operators_in_table

# Of the examples of the standard, those that torch computes at least; more where more operators are in the table.
CASES_AT_LEAST = 1028

# What these draw is up to the library.
RANDOM = tuple(f"test_training_dropout{form}" for form in ("", "_mask", "_default", "_default_mask"))

# The numbers that go into these and come out are written with four decimals.
ROUNDED = (
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_gridsample_bicubic",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
)

# Corners of a length that is not whole: the text of the standard, and ONNX Runtime, take the whole length.
AGAINST_THE_TEXT = (
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
)


@pytest.fixture(scope="module")
def cases() -> dict[str, list[StandardCase]]:
    """The examples by operator."""
    by_operator = defaultdict(list)
    for case in standard_cases():
        by_operator[case.node.op_type].append(case)
    return by_operator


def why_not(case: StandardCase) -> str | None:
    """Why torch does not compute an example whose operator is in the table, or None where it does."""
    kind = case.unreadable()
    if kind is not None:
        return f"torch does not compute with {kind}"
    if case.name in RANDOM:
        return "draws at random"
    if case.name in AGAINST_THE_TEXT:
        return "is not what the text says"
    try:
        operation_of_node(case.node, case.opset)
    except NotInTorchError as error:
        return str(error)
    return None


@pytest.mark.parametrize("operator", operators_in_table())
def test_the_examples_of_the_standard(operator: str, cases: dict[str, list[StandardCase]]) -> None:
    failures = []
    for case in cases[operator]:
        if why_not(case) is not None:
            continue
        try:
            outputs = compute(case.node, case.opset, case.inputs)
            for name, expected in case.outputs.items():
                assert_same(outputs[name], expected, decimals=4 if case.name in ROUNDED else None)
        except Exception as error:
            failures.append(f"{case.name}: {type(error).__name__}: {error}")
    assert not failures, "\n\n".join(failures)


def test_few_examples_are_left_out_and_each_says_why(cases: dict[str, list[StandardCase]]) -> None:
    reasons = Counter(why_not(case) for operator in operators_in_table() for case in cases[operator])
    assert reasons[None] >= CASES_AT_LEAST, reasons
