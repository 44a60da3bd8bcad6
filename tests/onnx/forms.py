"""Forms of operators: torch against ONNX Runtime, with random numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import helper
from standard_cases import Array, compute


@dataclass(frozen=True)
class Form:
    """One form of an operator: its attributes, and inputs as shapes (random numbers) or arrays, None where left out."""

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    outputs: int = 1

    def __str__(self) -> str:
        given = ",".join(f"{name}={value}" for name, value in self.attributes.items())
        shapes = [value if isinstance(value, tuple) else getattr(value, "shape", None) for value in self.inputs]
        return f"{self.operator}-{self.opset}({given}){shapes}".replace(" ", "")


def arrays_of(form: Form) -> list[Array | None]:
    """The inputs of a form, with random numbers where only a shape is given."""
    generator = np.random.default_rng(0)
    return [
        generator.normal(size=value).astype(np.float32) if isinstance(value, tuple) else value for value in form.inputs
    ]


def assert_as_onnx_runtime(form: Form) -> None:
    """Fail unless torch and ONNX Runtime compute the same."""
    inputs = {f"x{i}": value for i, value in enumerate(arrays_of(form)) if value is not None}
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(form.inputs)]
    outputs = [f"y{i}" for i in range(form.outputs)]
    node = helper.make_node(form.operator, names, outputs, **form.attributes)
    typed = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    untyped = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "one node", typed, untyped)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", form.opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    computed = compute(node, form.opset, inputs)
    for name, expected in zip(outputs, session.run(None, inputs), strict=True):
        torch.testing.assert_close(computed[name], torch.from_numpy(np.array(expected)), rtol=1e-4, atol=1e-5)


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)
