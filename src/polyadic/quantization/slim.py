"""Files of a network without what no engine reads: notes, long names, shapes of inner tensors, copies.

In a quantized network of a few hundred kilobytes these are most of the file: the exporter writes the Python stack of
every operation into it. A network computes what it computed before, bit for bit.
"""

from __future__ import annotations

import itertools
import string
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from typing import Any

_NAMED = ("Parameter", "Result")  # layers of OpenVINO whose names the world knows


def slim_graph(graph: bytes) -> bytes:
    """``graph`` with the same inputs, outputs and operations, and nothing that is not needed to run it.

    Notes, names of operations and inferred shapes are removed, tensors inside are renamed to ``a``, ``b``, ..., and
    constants of the same content are kept once (zero points, mostly). Graphs with subgraphs keep their names.

    Args:
        graph: a serialised ONNX model without external data.
    """
    import onnx

    model = onnx.load_from_string(graph)
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del model.graph.value_info[:]
    for entry in (*model.graph.input, *model.graph.output):
        entry.ClearField("doc_string")
        entry.ClearField("metadata_props")
    if not any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        _share_constants(model.graph)
        _rename(model.graph)
    slim: bytes = model.SerializeToString()
    return slim


def slim_ir(graph: bytes) -> bytes:
    """The content of OpenVINO's .xml file with the same layers, edges, inputs and outputs, and nothing else.

    Layers inside are named by their numbers, and notes of where each came from are removed; inputs and outputs keep
    their names. The .bin file that belongs to it stays as it is.
    """
    root = Xml.fromstring(graph)
    results = {layer.get("id") for layer in root.iter("layer") if layer.get("type") == "Result"}
    outputs = {
        (edge.get("from-layer"), edge.get("from-port")) for edge in root.iter("edge") if edge.get("to-layer") in results
    }
    for layer in root.iter("layer"):
        for notes in layer.findall("rt_info"):
            layer.remove(notes)
        if layer.get("type") in _NAMED:
            continue
        layer.set("name", layer.get("id", ""))
        for port in layer.iter("port"):
            if (layer.get("id"), port.get("id")) not in outputs:
                port.attrib.pop("names", None)
    for notes in root.findall("rt_info"):
        root.remove(notes)
    for element in root.iter():
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tail = None
    slim: bytes = Xml.tostring(root)
    return slim


def _share_constants(graph: Any) -> None:
    """One initialiser for each content; inputs that named a copy name the first."""
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    kept = []
    outputs = {entry.name for entry in graph.output}
    for tensor in graph.initializer:
        anonymous = type(tensor)()
        anonymous.CopyFrom(tensor)
        anonymous.ClearField("name")
        key = (anonymous.SerializeToString(deterministic=True),)
        if tensor.name not in outputs and key in first:
            same[tensor.name] = first[key]
        else:
            first.setdefault(key, tensor.name)
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)


def _rename(graph: Any) -> None:
    fixed = {entry.name for entry in (*graph.input, *graph.output)}
    fresh = (name for name in _short_names() if name not in fixed)
    new = {name: name for name in fixed} | {"": ""}  # an empty name is an input that was left out
    for tensor in graph.initializer:
        if tensor.name not in new:
            new[tensor.name] = next(fresh)
        tensor.name = new[tensor.name]
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name not in new:
                    new[name] = next(fresh)
                names[position] = new[name]


def _short_names() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))
