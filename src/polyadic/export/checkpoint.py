"""A result as a folder that anyone can use: weights, plan, figures and a model card. Nothing in it is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from polyadic.errors import LayerError, PolyadicError, StorageError
from polyadic.export.plan_file import Origin, origin_of, plan_to_do, read_plan, torch_layer
from polyadic.layers import Inputs
from polyadic.models import LIBRARIES, load_model
from polyadic.pipeline import Applied, CompressionResult, OwnScore
from polyadic.pipeline.own_loop import example_of, own_result
from polyadic.reporting import model_card
from polyadic.schema import Plan, SearchResult, Stage, Summary, TTSpec
from polyadic.storage import json_bytes, storage_error, write_together
from polyadic.surgery import plan_stages, rebuild
from polyadic.training import SampleTask
from polyadic.training.snapshot import weights_digest

WEIGHTS, CARD = "model.safetensors", "README.md"


@overload
def save(
    result: CompressionResult, directory: Path | str, *, score: OwnScore | None = None, origin: Origin | None = None
) -> None: ...


@overload
def save(
    result: nn.Module,
    directory: Path | str,
    *,
    plan: Plan,
    dense: nn.Module | None = None,
    example_input: Inputs | None = None,
    score: OwnScore | None = None,
    origin: Origin | None = None,
) -> None: ...


def save(
    result: CompressionResult | nn.Module,
    directory: Path | str,
    *,
    plan: Plan | None = None,
    dense: nn.Module | None = None,
    example_input: Inputs | None = None,
    score: OwnScore | None = None,
    origin: Origin | None = None,
) -> None:
    """Write plan, weights, figures and model card to ``directory``: all of them or none.

    Of a result, or of a network that was trained in a loop of your own, with the score that it has now. Where a result
    was trained further after it was scored, the files say so in the place of its old scores.

    Example::

        smaller = polyadic.apply_plan(model, plan, inputs=loader).model  # then train it in a loop of your own
        polyadic.save(smaller, "runs/mine", plan=plan, dense=model, score=psnr)

    Args:
        result: of :func:`polyadic.compress`, which is all that is needed, with a ``score`` where its model was trained
            since. Or a network, with what follows.
        directory: for the files; :func:`load` reads them.
        plan: by which the network was factorised.
        dense: the network that it was made of; left as it was. A :class:`polyadic.SampleTask` as the score knows it.
        example_input: what both take, for their costs: a batch (N, ...), a tuple by position, a dict by name. None
            takes what the score calls the dense network with first.
        score: from a network in evaluation mode to its score, or a :class:`polyadic.Metric` with name and unit, or a
            task: both networks are scored by it now. Or a number that is known, or a :class:`polyadic.KnownScore` with
            that of the dense network beside it. None says in the files that the network was not scored.
        origin: where the dense network comes from.

    Raises:
        LayerError: the network is not factorised as the plan says.
        PolyadicError: something is missing, or weights or scores are not finite.
        StorageError: the disk refused; whatever stood in ``directory`` before is untouched.
    """
    _check_arguments(result, directory)
    directory = Path(directory)
    if isinstance(result, nn.Module):
        result = _own_result(result, plan, dense, example_input, score)
    elif any(given is not None for given in (plan, dense, example_input, score)):
        result = _scored_anew(result, score if (plan, dense, example_input) == (None, None, None) else None)
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


def _check_arguments(result: object, directory: object) -> None:
    """Refuse what people pass first."""
    if not isinstance(result, CompressionResult | nn.Module):
        more = ": pass its model, with plan=, dense= and example_input=" if isinstance(result, Applied) else ""
        raise PolyadicError(f"save takes the result of compress, or a network; got {type(result).__name__}{more}")
    if not isinstance(directory, str | Path):
        raise PolyadicError(
            f"save writes to a folder; got {type(directory).__name__}: polyadic.save(model, 'runs/mine', plan=plan, "
            "dense=model_before, example_input=x, score=...)"
        )


def _own_result(
    model: nn.Module, plan: Plan | None, dense: nn.Module | None, example_input: Inputs | None, score: OwnScore | None
) -> CompressionResult:
    """A network of the user's own loop as a result; says what is missing."""
    if dense is None and isinstance(score, SampleTask):
        dense = score.dense
    if dense is not None and example_input is None:
        example_input = example_of(dense, score)
    if plan is None or dense is None or example_input is None:
        given = {"plan": plan, "dense": dense, "example_input": example_input}
        missing = ", ".join(f"{name}=" for name, value in given.items() if value is None)
        raise PolyadicError(
            "a network of your own loop is saved with the plan that it was factorised by, the dense network before "
            f"that, and an example of what both take, unless a function score= shows it; missing: {missing}"
        )
    return own_result(model, plan, dense, example_input, score)


def _scored_anew(result: CompressionResult, score: OwnScore | None) -> CompressionResult:
    """A result whose model was trained further, with the score that it has now.

    Raises:
        PolyadicError: there is no such score, or the network has not changed.
    """
    if score is None:
        raise PolyadicError(
            "a result has plan, dense and example_input of its own: leave them out; score= scores anew what was "
            "trained since"
        )
    if weights_digest(result.model) == result.scored_weights:
        raise PolyadicError("a result keeps its own score until its model is trained further: leave out score=")
    return own_result(result.model, result.plan, result.dense, result.example_input, score)


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
            directory / Plan.file: json_bytes(plan_to_do(found.plan, origin), indent=2),
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


def _network_files(
    directory: Path, model: nn.Module, plan: Plan, stages: dict[str, tuple[Stage, ...]], origin: Origin
) -> dict[Path, bytes]:
    """Weights and plan, its chains spelled out as torch layers, so that they can be used without this library.

    The weights are the same bytes for the same network; tensors that share memory are written each.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    document = plan_to_do(plan, origin)
    for choice in document["layers"]:
        choice["stages"] = [torch_layer(stage) for stage in stages[choice["layer"]]]
    return {
        directory / WEIGHTS: safetensors.torch.save(tensors, metadata={"format": "pt"}),
        directory / Plan.file: json_bytes(document, indent=2),
    }
