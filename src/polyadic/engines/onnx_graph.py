"""A network as an ONNX graph, and a chain of plain layers as one without tracing it."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from polyadic.engines.shortcut_graph import shortcuts_as_convolutions
from polyadic.errors import EngineError

OPSET = 18
EXTRA = "pip install 'polyadic[onnx]'"
BATCH = "batch"
"""What the free first dimension is called."""


def onnx_bytes(model: nn.Module, example: tuple[Tensor, ...], *, dynamic_batch: bool = False) -> bytes:
    """``model`` in evaluation mode as a serialised ONNX graph, written by torch's own exporter.

    Args:
        model: any module that ``torch.export`` takes; it is left as it was.
        example: its inputs, batch first; inputs are named ``input`` or ``input_0``, ``input_1``, ...
        dynamic_batch: leave the first dimension of all inputs free; the example then holds two samples or more.

    Raises:
        EngineError: the packages of the extra ``onnx`` are not installed.
    """
    try:
        import onnxscript  # noqa: F401  (torch's exporter needs it and says so less clearly)
    except ImportError as error:
        raise EngineError(f"an ONNX graph needs the package onnxscript: {EXTRA}") from error
    network = copy.deepcopy(model).eval().cpu().float()
    inputs = tuple(tensor.detach().cpu().contiguous() for tensor in example)
    shapes = tuple({0: torch.export.Dim(BATCH)} for _ in inputs) if dynamic_batch else None
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=input_names(len(inputs)),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise EngineError("torch's exporter returned no ONNX graph")
    shortcuts_as_convolutions(program.model)
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def input_names(count: int) -> Sequence[str]:
    """What inputs are called: ``input``, or numbered where there are several."""
    return ["input"] if count == 1 else [f"input_{n}" for n in range(count)]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter prints its steps and warns of its own insides; neither is for our users."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
