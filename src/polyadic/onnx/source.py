"""Reading of ONNX files, of which nothing is trusted and nothing runs: a whole and sound network, or one sentence.

The order matters: texts and tensors are checked before anything else looks at them; data of other files comes inside
before the onnx package's own checker, which would look for these files by itself; and the checker comes last, because
it says less clearly what is wrong.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import checker

from polyadic.errors import DataError, first_words
from polyadic.onnx.external_data import bring_inside, read_plain_file
from polyadic.onnx.functions import check_calls, graphs_of, inlined
from polyadic.onnx.graph_checks import check_graph, check_weights
from polyadic.onnx.messages import checked_tensors, shown, told
from polyadic.onnx.tensor_formats import LIMIT, check_data, checked_format

OPSETS = range(7, 26)
"""The versions of ONNX's own set of operators that are read."""

_ALIAS = "ai.onnx"  # another name of ONNX's own set, which is called "" in most files


def read_onnx(path: Path) -> onnx.ModelProto:
    """The network in an ONNX file, whole and checked, with the data of other files inside.

    All tensors have their data as raw data or in their own lists; functions that the file defines for itself are
    replaced by their nodes; ONNX's own operators have the domain ``""``. Every value has one maker that comes before
    all that takes it, and weights of layers are finite. What the file says of shapes is not checked against what its
    nodes compute.

    Args:
        path: of the file; data in other files stands in the same folder or below it.

    Raises:
        DataError: whatever is wrong with the file, in one sentence that names it. Nothing was written or run.
    """
    try:
        content = read_plain_file(path)
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read as an ONNX file: {_why(error)}") from error
    size = len(content)
    try:
        model = _parsed(content)
        del content  # half of the memory, while the rest is checked
        return _checked(model, path.parent, size)
    except DataError as error:
        raise DataError(f"'{path}' cannot be read as an ONNX file: {error}") from error


def _why(error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "a network is read from a file, and there is none: check the path"
    if isinstance(error, IsADirectoryError):
        return "a network is read from a file, and this is a folder: name the file in it"
    return f"the operating system says: {getattr(error, 'strerror', None) or first_words(error)}: check the path"


def _parsed(content: bytes) -> onnx.ModelProto:
    """The message in the bytes of a file, which has a graph."""
    if not content:
        raise DataError("a network takes some bytes; the file is empty: export it again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RuntimeError) as error:
        raise DataError(
            "an ONNX file is one message of protobuf, and graphs in it are nested at most 32 deep; this is none, or it "
            "is cut off or damaged: export it again"
        ) from error
    if not model.HasField("graph"):
        raise DataError("an ONNX file holds a graph; this one holds none: export it again")
    return model


def _checked(model: onnx.ModelProto, folder: Path, size: int) -> onnx.ModelProto:
    """The model with all data inside and without functions of its own, after every check."""
    tensors = checked_tensors(model)
    _opsets(model)
    bring_inside(tensors, folder, size)
    for tensor in tensors:
        check_data(tensor, checked_format(tensor))
    del tensors
    _name_domains_once(model)
    if len(model.functions):
        check_calls(model)
        check_graph(model.graph, _opsets(model))
        _check_by_onnx(model)
        model = inlined(model)
    check_graph(model.graph, _opsets(model))
    _check_by_onnx(model)
    check_weights(model.graph)
    return model


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    """The version of each set of operators that the file names, by domain; ONNX's own is ``""``."""
    found: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == _ALIAS else entry.domain
        if found.setdefault(domain, entry.version) != entry.version:
            raise DataError(
                f"a set of operators has one version; {shown(domain)} has {found[domain]} and {entry.version}: export "
                "the file again"
            )
    if "" not in found:
        raise DataError(
            f"a file says for which opset of ONNX it is written, {OPSETS[0]} to {OPSETS[-1]}; this one does not: "
            "export it again"
        )
    if found[""] not in OPSETS:
        raise DataError(
            f"opsets {OPSETS[0]} to {OPSETS[-1]} of ONNX are read; this file is written for opset {found['']}: export "
            "it for one of these, or convert it with onnx.version_converter"
        )
    return found


def _name_domains_once(model: onnx.ModelProto) -> None:
    """Call ONNX's own set ``""`` wherever a node or the model calls it ``ai.onnx``, in place."""
    if any(entry.domain == _ALIAS for entry in model.opset_import):
        versions = _opsets(model)
        del model.opset_import[:]
        model.opset_import.extend(onnx.helper.make_opsetid(domain, number) for domain, number in versions.items())
    for entry in (one for function in model.functions for one in function.opset_import):
        entry.domain = "" if entry.domain == _ALIAS else entry.domain
    pending = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            if node.domain == _ALIAS:
                node.ClearField("domain")
            pending.extend(graph.node for graph in graphs_of(node))


def _check_by_onnx(model: onnx.ModelProto) -> None:
    """What the onnx package checks: attributes, numbers of inputs, types of inputs and outputs, and more."""
    if model.ByteSize() > LIMIT:
        raise DataError("a file with all its data is at most 2^31 - 1 bytes, which is protobuf's limit; this is more")
    # The checker asks for shapes of outputs, which the standard and ONNX Runtime do without: it is shown empty ones.
    open_ended = [
        value.type.tensor_type
        for value in model.graph.output
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    for kind in open_ended:
        kind.shape.SetInParent()
    try:
        checker.check_model(model)
    except Exception as error:  # of C++, of several kinds
        raise DataError(f"the checker of the onnx package says: {told(error)}: export the file again") from error
    finally:
        for kind in open_ended:
            kind.ClearField("shape")
