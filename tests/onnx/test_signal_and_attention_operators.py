from __future__ import annotations

import numpy as np
import pytest
import torch
from forms import Form, arrays_of, assert_as_onnx_runtime
from onnx import helper
from standard_cases import Array, operation_of_node


def number(value: int, dtype: type = np.int64) -> Array:
    return np.array(value, dtype)


SIGNALS = [
    Form("HannWindow", (number(9),), {"periodic": 0}),
    Form("HammingWindow", (number(8),)),
    Form("BlackmanWindow", (number(1),)),
    *[Form("DFT", ((2, 6, 5, 1), number(n)), {"axis": 2, "onesided": 1}, 17) for n in (4, 8)],
    Form("DFT", ((2, 6, 5, 2),), {"axis": 1, "inverse": 1}, 17),
    Form("STFT", ((2, 40, 1), number(5), (16,)), {"onesided": 1}),
    Form("STFT", ((2, 40, 1), number(7), None, number(9)), {"onesided": 0}),
    Form(
        "MelWeightMatrix",
        (number(9), number(64), number(8000), number(10, np.float32), number(4000, np.float32)),
    ),
]

ATTENTION = [
    Form("Attention", ((2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6)), {}, 23),
    Form("Attention", ((2, 5, 8), (2, 5, 8), (2, 5, 8)), {"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1}, 23),
    Form("Attention", ((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (3, 5)), {"softcap": 2.0}, 23),
]


@pytest.mark.parametrize("form", [*SIGNALS, *ATTENTION], ids=str)
def test_signals_and_attention_are_computed_as_by_onnx_runtime(form: Form) -> None:
    assert_as_onnx_runtime(form)


def test_a_query_that_sees_no_key_has_zeros_and_zero_gradients() -> None:
    form = Form("Attention", ((1, 1, 3, 4), (1, 1, 5, 4), (1, 1, 5, 4)))
    inputs = [torch.from_numpy(value).double().requires_grad_() for value in arrays_of(form) if value is not None]
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    operation = operation_of_node(helper.make_node("Attention", ["q", "k", "v", "m"], ["y"]), 23)
    result = operation(*inputs, mask)
    assert isinstance(result, torch.Tensor)
    assert torch.equal(result[0, 0, 1], torch.zeros(4).double())
    assert torch.autograd.gradcheck(lambda *given: operation(*given, mask), tuple(inputs))
