from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyadic.engines import Conditions, OnnxRuntime, onnx_bytes

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


class Shortcut(nn.Module):
    """Subsamples, pads channels, and adds what a convolution makes of the same image."""

    def __init__(self, pads: tuple[int, ...], strides: tuple[int, ...], first: int = 0, zero: float = 0.0) -> None:
        super().__init__()
        self.pads, self.strides, self.first, self.zero = pads, strides, first, zero

    def forward(self, x: Tensor) -> Tensor:
        steps = [slice(self.first, None, stride) for stride in self.strides]
        y = F.pad(x[(slice(None), slice(None), *steps)], self.pads, value=self.zero)
        return y + y.mean()


def operations(module: nn.Module, image: Tensor, *, dynamic_batch: bool = True) -> tuple[Counter[str], Tensor]:
    """How often each one stands in the graph, and what it answers."""
    graph = onnx_bytes(module, (image,), dynamic_batch=dynamic_batch)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    answer = OnnxRuntime().prepare_graph(graph, (image,), Conditions(len(image))).answer(image)[0]
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read, "no constant is left over"
    return Counter(node.op_type for node in model.graph.node), answer


@pytest.mark.parametrize("dynamic_batch", [True, False])
@pytest.mark.parametrize(
    ("module", "size"),
    [
        (Shortcut((0, 0, 0, 0, 2, 3), (2, 2)), (7, 8)),
        (Shortcut((0, 0, 0, 0, 0, 1), (1, 3)), (4, 7)),
        (Shortcut((0, 0, 1, 1), (2,)), (9,)),
        (Shortcut((0, 0, 0, 0, 0, 0, 1, 0), (2, 1, 2)), (4, 3, 5)),
    ],
)
def test_subsampled_and_padded_images_are_convolutions_to_the_bit(
    module: nn.Module, size: tuple[int, ...], dynamic_batch: bool
) -> None:
    image = torch.randn(2, 3, *size)
    found, answer = operations(module, image, dynamic_batch=dynamic_batch)
    assert found["Conv"] == 1
    assert found["Slice"] == found["Pad"] == 0
    assert torch.allclose(answer, module(image), atol=1e-6)


@pytest.mark.parametrize(
    "module",
    [
        Shortcut((0, 0, 0, 0, 1, 1), (1, 1)),
        Shortcut((0, 1, 0, 0, 1, 1), (2, 2)),
        Shortcut((0, 0, 0, 0, -1, 1), (2, 2)),
        Shortcut((0, 0, 0, 0, 1, 1), (2, 2), first=1),
        Shortcut((0, 0, 0, 0, 1, 1), (2, 2), zero=1.0),
    ],
    ids=["no stride", "pixels padded", "channels cut off", "begins at the second pixel", "padded with ones"],
)
def test_others_are_left_alone(module: nn.Module) -> None:
    image = torch.randn(2, 3, 7, 8)
    found, answer = operations(module, image)
    assert found["Conv"] == 0
    assert found["Pad"] + found["Slice"] > 0
    assert torch.allclose(answer, module(image), atol=1e-6)


def test_what_somebody_else_sees_is_left_alone() -> None:
    class Seen(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            small = x[:, :, ::2, ::2]
            return F.pad(small, (0, 0, 0, 0, 1, 1)), small

    found, _ = operations(Seen(), torch.randn(2, 3, 6, 6))
    assert found["Conv"] == 0
    assert found["Pad"] == 1
