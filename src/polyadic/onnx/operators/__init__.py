"""The operators of ONNX as functions of torch: one file for each kind, and a table of their names."""

from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operation_of, operators_in_table

__all__ = ["NodeFacts", "NotInTorchError", "Operation", "operation_of", "operators_in_table"]
