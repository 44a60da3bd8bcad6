from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from torch import nn

from polyadic.engines import Conditions, OnnxRuntime, OpenVino, input_names, onnx_bytes
from polyadic.errors import EngineError


def test_a_graph_with_a_free_batch_serves_every_batch() -> None:
    pytest.importorskip("onnxscript")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    graph = onnx_bytes(network, (torch.randn(2, 3, 6, 6),), dynamic_batch=True)
    for engine in (OnnxRuntime(), OpenVino()):
        if engine.missing() is not None:
            continue
        for batch in (1, 3):
            images = torch.randn(batch, 3, 6, 6)
            answer = engine.prepare_graph(graph, (images,), Conditions(batch)).answer(images)[0]
            with torch.no_grad():
                assert torch.allclose(answer, network(images), rtol=1e-4, atol=1e-5)


def test_inputs_are_numbered_where_there_are_several() -> None:
    assert list(input_names(1)) == ["input"]
    assert list(input_names(2)) == ["input_0", "input_1"]


def test_without_its_package_a_graph_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def refuse(name: str, *more: Any, **options: Any) -> Any:
        if name == "onnxscript":
            raise ImportError(name)
        return found(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EngineError, match=r"needs the package onnxscript: pip install 'polyadic\[onnx\]'"):
        onnx_bytes(nn.Linear(1, 1), (torch.ones(1, 1),))
