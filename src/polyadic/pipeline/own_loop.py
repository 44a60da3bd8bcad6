"""A network that was trained in a loop of the user's own, as a result: with the score that it has now, and no other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

from torch import Tensor, nn

from polyadic.engines import environment
from polyadic.errors import DataError, LayerError, PolyadicError, first_words
from polyadic.layers import Inputs, device_of, evaluation_mode, first_samples, on_device
from polyadic.pipeline.alarm import is_ruined
from polyadic.pipeline.compress import CompressionResult
from polyadic.pipeline.options import CompressOptions
from polyadic.schema import OWN_LOOP, LayerOutcome, LayerSite, Plan, Stage, Summary, plain_rank
from polyadic.surgery import MACS_CONVENTION, check_finite, find_layers, network_cost, plan_stages, rebuild
from polyadic.surgery.plain_layers import copy_model
from polyadic.training import FinalScores, Metric, ScoreTask, Task, inputs_of

_NOT_DONE = ("layer_tuning", "network_tuning", "training_execution", "labelled_loss")
"""What a task reports of the training that it would have done."""

_WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""Beginnings of the names of parameters in what trainers put around a network."""


@dataclass(frozen=True)
class KnownScore:
    """A score that was taken elsewhere, by the validation of a trainer for instance.

    Attributes:
        value: of the network that is saved.
        dense: of the dense network, on the same samples; None where nobody knows.
        name: what it is, such as "PSNR".
        unit: as in :class:`polyadic.Metric`: "dB", or "%" for a fraction such as an accuracy, or nothing.
        higher_is_better: False for an error; the score then is its negative, and is called so.

    Raises:
        PolyadicError: a value that is no finite number.
    """

    value: float
    dense: float | None = None
    name: str = "score"
    unit: str = ""
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        for field, value in (("value", self.value), ("dense", self.dense)):
            if value is None and field == "dense":
                continue
            try:
                number = float(value.detach() if isinstance(value, Tensor) else value)  # type: ignore[arg-type]
            except (TypeError, ValueError, RuntimeError):
                number = math.nan
            if not math.isfinite(number):
                raise PolyadicError(
                    f"a score is a finite number; got {value!r} as its {field}: score the network again, or save it "
                    "with score=None, which says that it was not scored"
                )
            object.__setattr__(self, field, number)

    def signed(self, value: float | None) -> float:
        """With more being better; NaN for None."""
        return math.nan if value is None else value if self.higher_is_better else 0.0 - value


OwnScore = float | KnownScore | Metric | Task | Callable[[nn.Module], Any]
"""A number that is known, or what both networks are scored by now."""


def own_result(
    model: nn.Module, plan: Plan, dense: nn.Module, example_input: Inputs, score: OwnScore | None
) -> CompressionResult:
    """What is known of ``model`` after a training that Polyadic has not seen. Nothing of before is taken over.

    Args:
        model: factorised as ``plan`` says, and trained; left as it was.
        plan: layer, format, rank.
        dense: the network that it was made of; left as it was.
        example_input: what both take: a batch (N, ...), a tuple by position or a dict by name.
        score: :func:`polyadic.save` says what it may be.

    Raises:
        LayerError: the model is not factorised as the plan says, or does not run on the example.
        PolyadicError: weights or scores that are not finite, or a score of another kind.
    """
    check_finite(model)
    check_factorised(model, dense, plan)
    example = on_device(example_input, device_of(dense))
    stages = plan_stages(dense, plan)
    layers = tuple(_outcome(site, plan, stages) for site in find_layers(dense, example))
    with evaluation_mode(dense), evaluation_mode(model):
        scores, known = _scored(model, dense, score)
    summary = Summary(
        dense=network_cost(dense, example),
        compressed=network_cost(model, on_device(example_input, device_of(model))),
        dense_score=scores.values[0],
        compressed_score=scores.values[1],
        score_before_finetuning=math.nan,
        score_name=known.name,
        max_drop=None,
        drop_interval=scores.drop_interval,
        held_out={},
        plan=plan,
        layers=layers,
        seconds={},
        provenance={
            **environment(),
            **known.provenance,
            **_share_lost(scores, known),
            "finetuning_stop": OWN_LOOP,
            "macs_convention": MACS_CONVENTION,
        },
        score_is_fraction=known.fraction,
        judged_on=known.judged_on,
        score_unit=known.unit,
    )
    summary = replace(summary, warnings=_warnings(summary))
    return CompressionResult(model, dense, summary, first_samples(example, 1))


def example_of(dense: nn.Module, score: OwnScore | None) -> Inputs | None:
    """What ``score`` knows of the network's input, a batch of one; None where that is nothing.

    A function is begun, and what it calls the network with first is the input.

    Raises:
        PolyadicError: it fails before that.
    """
    if isinstance(score, Task):
        return score.example_input()
    if not callable(score) or (isinstance(score, Metric) and score.is_fed):
        return None
    try:
        with evaluation_mode(dense):
            return first_samples(inputs_of(dense, None, lambda model, _: score(model)), 1)
    except DataError as error:
        if not isinstance(error.__cause__, Exception):  # it has not called the network
            return None
        raise PolyadicError(
            f"score is a function from a network to a number; of the dense network it fails "
            f"({first_words(error.__cause__)}): try it before the network is saved"
        ) from error


def _share_lost(scores: FinalScores, known: _Known) -> dict[str, float]:
    """What share of a fraction, such as an accuracy, was lost; nothing of a number that has no zero of its own."""
    before, after = scores.values
    if not known.fraction or not before > 0 or not math.isfinite(after):
        return {}
    return {"answers_lost": max(0.0, 1.0 - after / before), "alarm_at": CompressOptions().alarm_at}


def _warnings(summary: Summary) -> tuple[str, ...]:
    """What a reader must know before relying on the network."""
    words, known = summary.words, summary.provenance
    if not math.isfinite(summary.compressed_score):
        return (f"the network was {OWN_LOOP} and not scored since: pass score= when it is saved",)
    if not math.isfinite(summary.dense_score):
        return (
            "the score of the dense network was not given, so that what was lost is not known: pass a function that "
            "scores both, or polyadic.KnownScore(value, dense=...)",
        )
    if is_ruined(summary.provenance):
        return (
            f"the {words.name} went from {words.said(summary.dense_score)} to {words.said(summary.compressed_score)}; "
            f"more than {100 * known['alarm_at']:g} % of it is lost, so that this is no longer taken for the same "
            "network: fit the layers to samples (apply_plan(inputs=loader)), train longer, or take higher ranks",
        )
    return ()


@dataclass(frozen=True)
class _Known:
    """The words for a score, and where it is from."""

    name: str
    fraction: bool
    unit: str
    judged_on: str | None
    provenance: Mapping[str, object]


def _scored(model: nn.Module, dense: nn.Module, score: OwnScore | None) -> tuple[FinalScores, _Known]:
    """Scores of the dense network and of the other one, with what they are."""
    if isinstance(score, Task) or callable(score):
        task = score if isinstance(score, Task) else ScoreTask(score)
        scores = task.final_scores((dense, model))
        known = {key: value for key, value in task.provenance().items() if key not in _NOT_DONE}
        known["scored"] = "when it was saved, together with the dense network"
        unit = task.score_unit
        return scores, _Known(task.score_name, task.score_is_fraction, unit, task.judged_on, known)
    if score is None:
        return FinalScores((math.nan, math.nan), None), _Known("score", False, "", None, {"scored": "not since"})
    if not isinstance(score, KnownScore | Real | Tensor):
        raise PolyadicError(
            f"score is a number, polyadic.KnownScore(...), or a function from a network to a number; got "
            f"{type(score).__name__}"
        )
    given = score if isinstance(score, KnownScore) else KnownScore(score)
    values = (given.signed(given.dense), given.signed(given.value))
    name = given.name if given.higher_is_better else f"negative {given.name}"
    fraction = given.unit == "%"
    known = {"scored": "by the user, who gave the number"}
    return FinalScores(values, None), _Known(name, fraction, "" if fraction else given.unit, None, known)


def _outcome(site: LayerSite, plan: Plan, stages: Mapping[str, tuple[Stage, ...]]) -> LayerOutcome:
    """What stands in the place of a layer; errors of its decomposition are not known, and no longer matter."""
    choice = plan.of(site.name)
    if choice is None:
        status: Literal["dense", "unsupported"] = "dense" if site.reason is None else "unsupported"
        return LayerOutcome(site.name, status, site.reason or "the plan does not name it", site.macs, site.macs)
    after = site.chain_macs(_all_stages(site.name, stages))
    return LayerOutcome(site.name, "factorised", None, site.macs, after, choice.format, plain_rank(choice.rank))


def _all_stages(name: str, stages: Mapping[str, tuple[Stage, ...]]) -> tuple[Stage, ...]:
    """The chain of a layer, with the chains of those of its stages that were factorised again."""
    parts = ((f"{name}.{number}", stage) for number, stage in enumerate(stages[name]))
    return tuple(one for part, stage in parts for one in (_all_stages(part, stages) if part in stages else (stage,)))


def check_factorised(model: nn.Module, dense: nn.Module, plan: Plan) -> None:
    """Refuse a network whose weights would not fit the plan when they are loaded.

    Args:
        model: factorised, whatever its weights.
        dense: the structure that it was made of.
        plan: layer, format, rank.

    Raises:
        LayerError: names a tensor that is missing, too many or of another shape.
    """
    expected = {name: tensor.shape for name, tensor in rebuild(copy_model(dense), plan).state_dict().items()}
    found = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if expected == found:
        return
    for wrapper in _WRAPPERS:
        if all(f"{wrapper}{name}" in found for name in expected):
            raise LayerError(
                f"save takes the network itself; got a {type(model).__name__} around it: pass "
                f"model.{wrapper.removesuffix('.')}"
            )
    name = next(name for name in (*expected, *found) if expected.get(name) != found.get(name))
    came, law = (f"{tuple(shapes[name])}" if name in shapes else "no such tensor" for shapes in (found, expected))
    raise LayerError(
        f"the network is factorised as the plan says; {name!r} has {law} there and {came} in the network: pass the "
        "plan that it was made by, and as dense= a network of the structure before that"
    )
