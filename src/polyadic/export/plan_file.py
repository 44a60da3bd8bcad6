"""The plan of a network as a file: layer, format, rank, the chains in torch's words, and where the network is from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyadic.errors import StorageError
from polyadic.schema import VERSION, JsonObject, Plan, Stage, TTSpec
from polyadic.storage import json_bytes, read_document, write_together


@dataclass(frozen=True)
class Origin:
    """Where the dense network comes from, so that a folder can be loaded by itself.

    Attributes:
        model: its text, such as "polyadic:resnet20"; None for a model that only the user can build.
        classes: number of classes it was built with, where that was asked for.
        mean: per-channel mean of the images it takes.
        std: per-channel standard deviation.
        input_shape: (C, H, W) of one sample; None for a network of several inputs.
        channel_order: of images that were samples: "rgb", "bgr" or "grey"; None where that is not known.
        layout: of a batch of these: "NCHW" or "NHWC".
    """

    model: str | None = None
    classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_shape: tuple[int, ...] | None = None
    channel_order: str | None = None
    layout: str | None = None


def write_plan(path: Path, plan: Plan, origin: Origin) -> None:
    """Write a plan that was not carried out yet, in the layout of ``plan.json`` but for the chains.

    Raises:
        StorageError: the disk refused; what stood at ``path`` before is untouched.
    """
    write_together({path: json_bytes(plan_to_do(plan, origin), indent=2)})


def load_plan(path: Path | str) -> Plan:
    """The plan in a folder that a search or a compression has written, or in a file of its own.

    So a trainer that builds its network anew from a config applies it once more::

        smaller = polyadic.apply_plan(build(config), polyadic.load_plan("runs/first"), inputs=loader).model

    Raises:
        StorageError: it is missing, damaged, or of a newer version.
        LayerError: it is no list of {layer, format, rank}.
    """
    return Plan.from_json(read_plan(Path(path))["layers"])


def read_plan(path: Path) -> dict[str, Any]:
    """The content of a plan: of the file ``path``, or of ``plan.json`` in that folder.

    Raises:
        StorageError: it is missing, damaged, or of a newer version.
    """
    path = path if path.suffix == ".json" and not path.is_dir() else path / Plan.file
    document = read_document(path, VERSION)
    if not isinstance(document.get("layers"), list):
        raise StorageError(f"{path} holds an object with a list called layers; got something else")
    return document


def origin_of(document: dict[str, Any]) -> Origin:
    """Where the network of a plan comes from.

    Raises:
        StorageError: what it says of that is damaged.
    """
    origin: Origin = JsonObject(document.get("origin") or {}, Plan.file, place="origin").whole(Origin)
    return origin


def plan_to_do(plan: Plan, origin: Origin) -> dict[str, Any]:
    """The content of ``plan.json`` for a plan that was not carried out yet."""
    return {"version": VERSION, "origin": asdict(origin), "layers": plan.to_json()}


def torch_layer(stage: Stage) -> dict[str, Any]:
    """A stage as the name and the arguments of a class in ``torch.nn``.

    A tensor-train layer is spelled out as the layer whose kernel its cores contract to, with the cores' shapes.
    """
    if isinstance(stage, TTSpec):
        return {**torch_layer(stage.dense), "cores": [list(shape) for shape in stage.core_shapes]}
    if stage.axes == 0:
        return {
            "class": "Linear",
            "arguments": {"in_features": stage.in_channels, "out_features": stage.out_channels, "bias": stage.bias},
        }
    arguments = {
        "in_channels": stage.in_channels,
        "out_channels": stage.out_channels,
        "kernel_size": list(stage.kernel),
        "stride": list(stage.stride),
        "padding": stage.padding if stage.padding == "same" else list(stage.padding),
        "dilation": list(stage.dilation),
        "groups": stage.groups,
        "bias": stage.bias,
        "padding_mode": stage.padding_mode,
    }
    if stage.transposed:
        return {
            "class": f"ConvTranspose{stage.axes}d",
            "arguments": {**arguments, "output_padding": list(stage.output_padding)},
        }
    return {"class": f"Conv{stage.axes}d", "arguments": arguments}
