"""The number formats of ONNX that torch computes with."""

from __future__ import annotations

from typing import Any

import torch

from polyadic.onnx.operators.table import NotInTorchError

# The keys are ONNX's own numbers, onnx.TensorProto.DataType. torch stores unsigned integers of 16 bits and more, floats
# of 8 bits, and complex numbers, but has few or no operators for them.
TORCH_DTYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


def torch_dtype(code: Any) -> torch.dtype:
    """The dtype of torch for a number format of ONNX; raises NotInTorchError where there is none."""
    dtype = TORCH_DTYPES.get(code) if isinstance(code, int) else None
    if dtype is None:
        raise NotInTorchError(f"torch does not compute with ONNX's number format {code!r}")
    return dtype
