"""Changes of the number format."""

from __future__ import annotations

from polyadic.onnx.operators.dtypes import torch_dtype
from polyadic.onnx.operators.table import NodeFacts, Operation, enter_plain, operator

enter_plain({"CastLike": lambda x, like: x.to(like.dtype)})


@operator("Cast")
def cast(facts: NodeFacts) -> Operation:
    """The same numbers in another format; integers lose the fraction, towards 0."""
    dtype = torch_dtype(facts.attributes["to"])
    return lambda x: x.to(dtype)
