"""A result as a folder that anyone can use: weights, plan, figures and a model card. Nothing in it is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from polyadic.errors import LayerError, StorageError
from polyadic.models import LIBRARIES, load_model
from polyadic.pipeline import Applied, CompressionResult
from polyadic.reporting import model_card
from polyadic.schema import VERSION, JsonObject, Plan, SearchResult, Stage, Summary, TTSpec
from polyadic.storage import json_bytes, read_document, storage_error, write_together
from polyadic.surgery import plan_stages, rebuild

WEIGHTS, CARD = "model.safetensors", "README.md"


@dataclass(frozen=True)
class Origin:
    """Where the dense network comes from, so that a folder can be loaded by itself.

    Attributes:
        model: its text, such as "polyadic:resnet20"; None for a model that only the user can build.
        classes: number of classes it was built with, where that was asked for.
        mean: per-channel mean of the images it takes.
        std: per-channel standard deviation.
        input_shape: (C, H, W) of one sample; None for a network of several inputs.
    """

    model: str | None = None
    classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_shape: tuple[int, ...] | None = None


def save(result: CompressionResult, directory: Path | str, *, origin: Origin | None = None) -> None:
    """Write plan, weights, figures and model card to ``directory``: all of them or none.

    Where the network was trained further after it was scored, the files say so in the place of its old scores.

    Raises:
        StorageError: the disk refused; whatever stood in ``directory`` before is untouched.
    """
    directory = Path(directory)
    example = result.example_input
    origin = origin or Origin(input_shape=tuple(example.shape[1:]) if isinstance(example, Tensor) else None)
    stages = plan_stages(result.dense, result.plan)
    trains = any(isinstance(stage, TTSpec) for chain in stages.values() for stage in chain)
    summary = result.summary_now()
    card = model_card(summary, origin.model, tensor_trains=trains)
    write_together(  # the first one appears last, and says that the folder is complete
        {
            directory / Summary.file: json_bytes(summary.to_json(), indent=2),
            **_network_files(directory, result.model, result.plan, stages, origin),
            directory / CARD: card.encode(),
        }
    )


def save_applied(applied: Applied, dense: nn.Module, directory: Path | str, origin: Origin) -> None:
    """Write a network with a plan applied to it, which nothing has measured: its plan and its weights, both or none.

    Args:
        applied: by :func:`polyadic.apply_plan`.
        dense: the network that it was made of.
        directory: for the files; :func:`load` reads them.
        origin: where the dense network comes from.

    Raises:
        StorageError: the disk refused; whatever stood in ``directory`` before is untouched.
    """
    stages = plan_stages(dense, applied.plan)
    write_together(_network_files(Path(directory), applied.model, applied.plan, stages, origin))


def save_search(
    found: SearchResult, directory: Path | str, origin: Origin, known: Mapping[str, Any] | None = None
) -> None:
    """Write ``plan.json``, to be carried out, and ``search.json`` beside the log of the trials: both or none.

    Args:
        found: by a search.
        directory: where the log is.
        origin: where the dense network comes from.
        known: more to be said of it, such as the command.

    Raises:
        StorageError: the disk refused; whatever stood in ``directory`` before is untouched.
    """
    directory, document = Path(directory), found.to_json()
    document["provenance"] = {**(known or {}), **document["provenance"]}
    write_together(
        {
            directory / Plan.file: json_bytes(_plan_to_do(found.plan, origin), indent=2),
            directory / SearchResult.file: json_bytes(document),
        }
    )


def load(directory: Path | str, model: nn.Module | None = None, *, trust_code: bool = False) -> nn.Module:
    """The compressed network that ``directory`` holds, in evaluation mode; no decomposition runs.

    Args:
        directory: written by :func:`save`.
        model: the dense network's structure, whatever its weights; built from the plan's own text where absent. It is
            changed in place.
        trust_code: run the function that the plan names if it is not one of a known library's networks.

    Raises:
        StorageError: a file is missing or damaged.
        LayerError: the structure does not fit the plan or the weights, or building it takes code that is not trusted.
    """
    directory = Path(directory)
    document = read_plan(directory)
    origin = origin_of(document)
    if model is None:
        if origin.model is None:
            raise LayerError(f"{directory} does not say how its network is built: pass the dense model to load()")
        if not trust_code and not origin.model.startswith(LIBRARIES):
            raise LayerError(
                f"{directory} is built by code of its own, {origin.model!r}, which is not run unasked: pass the dense "
                "model to load(), or say that you trust it (trust_code=True, --trust-code)"
            )
        model = load_model(origin.model, classes=origin.classes).model
    network = rebuild(model, Plan.from_json(document["layers"]))
    path = directory / WEIGHTS
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except OSError as error:
        raise storage_error(path, error) from error
    except SafetensorError as error:
        raise StorageError(f"{path} is damaged ({error}): copy it again") from error
    except RuntimeError as error:
        raise LayerError(
            f"the weights in {path} do not fit the network of {origin.model or 'the given model'}: {error}"
        ) from error
    return network.eval()


def write_plan(path: Path, plan: Plan, origin: Origin) -> None:
    """Write a plan that was not carried out yet, in the layout of ``plan.json`` but for the chains.

    Raises:
        StorageError: the disk refused; what stood at ``path`` before is untouched.
    """
    write_together({path: json_bytes(_plan_to_do(plan, origin), indent=2)})


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


def _plan_to_do(plan: Plan, origin: Origin) -> dict[str, Any]:
    """The content of ``plan.json`` for a plan that was not carried out yet."""
    return {"version": VERSION, "origin": asdict(origin), "layers": plan.to_json()}


def _network_files(
    directory: Path, model: nn.Module, plan: Plan, stages: dict[str, tuple[Stage, ...]], origin: Origin
) -> dict[Path, bytes]:
    """Weights and plan, its chains spelled out as torch layers, so that they can be used without this library.

    The weights are the same bytes for the same network; tensors that share memory are written each.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    document = _plan_to_do(plan, origin)
    for choice in document["layers"]:
        choice["stages"] = [torch_layer(stage) for stage in stages[choice["layer"]]]
    return {
        directory / WEIGHTS: safetensors.torch.save(tensors, metadata={"format": "pt"}),
        directory / Plan.file: json_bytes(document, indent=2),
    }


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
