from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from forms import Form, arrays_of, floats, integers
from onnx import helper
from standard_cases import compute, operation_of_node
from torch import Tensor

from polyadic.onnx.operators import NotInTorchError


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pads_longer_than_the_axis_go_around_it_more_than_once(mode: str, size: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, size)).astype(np.float32)
    node = helper.make_node("Pad", ["x", "pads"], ["y"], mode=mode)
    padded = compute(node, 21, {"x": x, "pads": integers(0, 7, 0, 5)})["y"]
    assert np.array_equal(padded.numpy(), np.pad(x, ((0, 0), (7, 5)), mode))


@pytest.mark.parametrize(
    "form",
    [
        Form("Conv", ((1, 2, 7, 6), (3, 2, 3, 3), (3,)), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        Form("ConvTranspose", ((1, 2, 3, 3), (2, 2, 3, 3), (2,)), {"strides": [2, 2], "pads": [1, 0, 0, 2]}),
        Form("InstanceNormalization", ((2, 3, 4), (3,), (3,))),
        Form("Resize", ((1, 1, 4, 5), None, floats(1, 1, 0.6, 1.7)), {"mode": "linear"}),
        Form("Resize", ((1, 1, 4, 5), None, floats(1, 1, 2, 1.5)), {"mode": "cubic", "exclude_outside": 1}),
        Form("AveragePool", ((1, 1, 5, 6),), {"kernel_shape": [3, 2], "pads": [0, 1, 1, 0], "strides": [2, 1]}),
    ],
    ids=str,
)
def test_gradients_are_those_of_finite_differences(form: Form) -> None:
    operation = operation_of_node(
        helper.make_node(form.operator, [f"x{i}" for i in range(len(form.inputs))], ["y"], **form.attributes),
        form.opset,
    )
    learnt = [isinstance(value, tuple) for value in form.inputs]
    inputs = [
        None
        if value is None
        else torch.from_numpy(value).double().requires_grad_()
        if moves
        else torch.from_numpy(value)
        for value, moves in zip(arrays_of(form), learnt, strict=True)
    ]
    assert torch.autograd.gradcheck(operation, tuple(inputs))


@pytest.mark.parametrize(
    "form",
    [
        Form("BatchNormalization", ((2, 3),) + ((3,),) * 4, {"training_mode": 1}, 15),
        Form("MaxPool", ((1, 1, 4),), {"kernel_shape": [2], "storage_order": 1}, 12, 2),
        Form("LpPool", ((1, 1, 5),), {"kernel_shape": [2], "auto_pad": "VALID", "ceil_mode": 1}, 18),
        Form("RoiAlign", ((1, 1, 4, 4), (1, 4), integers(0)), {"mode": "max"}, 16),
        Form("Conv", ((1, 1, 2, 2, 2, 2), (1, 1, 1, 1, 1, 1)), {"kernel_shape": [1] * 4}),
    ],
    ids=str,
)
def test_forms_that_are_left_to_onnx_runtime_say_so_before_anything_runs(form: Form) -> None:
    node = helper.make_node(
        form.operator, ["x"] * len(form.inputs), [f"y{i}" for i in range(form.outputs)], **form.attributes
    )
    with pytest.raises(NotInTorchError):
        operation_of_node(node, form.opset)


def test_two_thousand_boxes_are_sifted_as_by_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2000, 4, generator=generator) * 100
    corners[:, 2:] = corners[:, :2] + 5 + corners[:, 2:] / 5
    scores = torch.rand(2000, generator=generator)
    kept: list[int] = []
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    for box in scores.argsort(descending=True).tolist():
        others = torch.tensor(kept, dtype=torch.int64)
        lower = torch.maximum(corners[others, :2], corners[box, :2])
        shared = (torch.minimum(corners[others, 2:], corners[box, 2:]) - lower).clamp(min=0).prod(1)
        if not (shared / (areas[others] + areas[box] - shared) > 0.4).any():
            kept.append(box)
    node = helper.make_node("NonMaxSuppression", ["b", "s", "m", "t"], ["y"])
    operation = operation_of_node(node, 11)
    found = operation(corners[None], scores[None, None], torch.tensor([10000]), torch.tensor([0.4]))
    assert isinstance(found, Tensor)
    assert found[:, 2].tolist() == kept


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("LpPool", {"kernel_shape": [2, 2]}),
        ("GlobalLpPool", {}),
        ("LpNormalization", {}),
        ("MeanVarianceNormalization", {}),
        ("LRN", {"size": 3}),
    ],
)
def test_zeros_have_finite_gradients(operator: str, attributes: dict[str, Any]) -> None:
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    y = operation_of_node(helper.make_node(operator, ["x"], ["y"], **attributes), 18)(x)
    assert isinstance(y, Tensor)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
