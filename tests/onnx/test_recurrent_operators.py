from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from forms import Form, arrays_of, assert_as_onnx_runtime
from onnx import helper
from standard_cases import operation_of_node

from polyadic.onnx.operators import NotInTorchError

STEPS, SAMPLES, INPUTS, HIDDEN = 6, 3, 4, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(kind: str, direction: str, *, lengths: bool, full: bool, **attributes: Any) -> Form:
    """A layer with lengths, a bias and first states, or without them; with peepholes where it is an LSTM and full."""
    ways, gates = 2 if direction == "bidirectional" else 1, GATES[kind]
    states: list[Any] = [(ways, SAMPLES, HIDDEN)] * (2 if kind == "LSTM" else 1) if full else []
    inputs: list[Any] = [
        (STEPS, SAMPLES, INPUTS),
        (ways, gates * HIDDEN, INPUTS),
        (ways, gates * HIDDEN, HIDDEN),
        (ways, 2 * gates * HIDDEN) if full else None,
        np.array([4, 6, 1], np.int32) if lengths else None,
        *states,
    ]
    while inputs[-1] is None:
        inputs.pop()
    attributes = {"hidden_size": HIDDEN, "direction": direction, **attributes}
    return Form(kind, tuple(inputs), attributes, 14, 3 if kind == "LSTM" else 2)


def with_peepholes(form: Form) -> Form:
    """The same LSTM, whose gates see its memory."""
    ways = form.inputs[1][0]
    return Form(form.operator, (*form.inputs, (ways, 3 * HIDDEN)), form.attributes, form.opset, form.outputs)


LAYERS = [
    layer(kind, direction, lengths=lengths, full=full, **more)
    for kind, variants in (
        ("RNN", ({},)),
        ("GRU", ({}, {"linear_before_reset": 1})),
        ("LSTM", ({},)),
    )
    for more in variants
    for direction in ("forward", "reverse", "bidirectional")
    for lengths in (False, True)
    for full in (False, True)
]


@pytest.mark.parametrize(
    "form",
    [
        *LAYERS,
        layer("RNN", "bidirectional", lengths=False, full=True, activations=["Relu", "Relu"]),
        with_peepholes(layer("LSTM", "bidirectional", lengths=True, full=True)),
        with_peepholes(layer("LSTM", "reverse", lengths=False, full=True)),
    ],
    ids=str,
)
def test_recurrent_layers_compute_what_onnx_runtime_does(form: Form) -> None:
    assert_as_onnx_runtime(form)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_samples_first_is_the_same_layer_with_two_axes_swapped(kind: str) -> None:
    form = layer(kind, "bidirectional", lengths=True, full=True)
    arrays = [None if value is None else torch.from_numpy(value) for value in arrays_of(form)]
    swapped = [
        value.transpose(0, 1) if place in (0, 5, 6) and value is not None else value
        for place, value in enumerate(arrays)
    ]
    outputs = [f"y{i}" for i in range(form.outputs)]
    names = [f"x{i}" for i in range(len(arrays))]
    nodes = [helper.make_node(kind, names, outputs, **form.attributes, layout=layout) for layout in (0, 1)]
    plain, other = (operation_of_node(node, 14)(*given) for node, given in zip(nodes, (arrays, swapped), strict=True))
    assert torch.equal(plain[0].permute(2, 0, 1, 3), other[0])
    for a, b in zip(plain[1:], other[1:], strict=True):
        assert torch.equal(a.transpose(0, 1), b)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("lengths", [False, True])
def test_recurrent_layers_pass_gradients_on(kind: str, lengths: bool) -> None:
    form = layer(kind, "bidirectional", lengths=lengths, full=True)
    inputs = [
        None
        if value is None
        else torch.from_numpy(value).double().requires_grad_()
        if value.dtype == np.float32
        else torch.from_numpy(value)
        for value in arrays_of(form)
    ]
    names, outputs = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(form.outputs)]
    operation = operation_of_node(helper.make_node(kind, names, outputs, **form.attributes), 14)
    assert torch.autograd.gradcheck(operation, tuple(inputs), fast_mode=True)


@pytest.mark.parametrize(
    "attributes", [{"clip": 1.0}, {"activations": ["Sigmoid", "Relu", "Tanh"]}, {"input_forget": 1}], ids=str
)
def test_layers_that_torch_does_not_have_are_left_to_onnx_runtime(attributes: dict[str, Any]) -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=HIDDEN, **attributes)
    with pytest.raises(NotInTorchError):
        operation_of_node(node, 14)
