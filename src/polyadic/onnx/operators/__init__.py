"""The operators of ONNX as functions of torch: one file for each kind, and a table of their names."""

# Each of these enters its operators into the table when it is imported.
from polyadic.onnx.operators import activations as activations
from polyadic.onnx.operators import arithmetic as arithmetic
from polyadic.onnx.operators import attention as attention
from polyadic.onnx.operators import casts as casts
from polyadic.onnx.operators import comparisons as comparisons
from polyadic.onnx.operators import constants as constants
from polyadic.onnx.operators import convolutions as convolutions
from polyadic.onnx.operators import indexing as indexing
from polyadic.onnx.operators import matrices as matrices
from polyadic.onnx.operators import normalising as normalising
from polyadic.onnx.operators import padding as padding
from polyadic.onnx.operators import pooling as pooling
from polyadic.onnx.operators import quantizing as quantizing
from polyadic.onnx.operators import recurrent as recurrent
from polyadic.onnx.operators import reductions as reductions
from polyadic.onnx.operators import resizing as resizing
from polyadic.onnx.operators import sampling as sampling
from polyadic.onnx.operators import shapes as shapes
from polyadic.onnx.operators import signals as signals
from polyadic.onnx.operators import slicing as slicing
from polyadic.onnx.operators import suppression as suppression
from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operation_of, operators_in_table

__all__ = ["NodeFacts", "NotInTorchError", "Operation", "operation_of", "operators_in_table"]
