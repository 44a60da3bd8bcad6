"""OpenVINO's own graph, an XML file, without what no engine reads: long names, notes of the converter, indentation."""

from __future__ import annotations

import xml.etree.ElementTree as Xml

_NAMED = ("Parameter", "Result")


def slim_ir(graph: bytes) -> bytes:
    """The content of an .xml file with the same layers, edges, inputs and outputs, and nothing else.

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
