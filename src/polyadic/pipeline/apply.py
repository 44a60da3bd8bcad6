"""Apply a plan: decompose every layer that it names and put the chains in their places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from polyadic.decomposition import InputNorm
from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, format_named
from polyadic.layers import Inputs, concatenate, device_of, first_samples, on_device
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.surgery import (
    FactorCache,
    SequentialOptions,
    check_finite,
    find_layers,
    layer_at,
    module_at,
    replace_in_sequence,
    replace_one_by_one,
    spec_at,
    unwrap_model,
)
from polyadic.training import Forward, Samples, sample_inputs, together
from polyadic.training.sample_checks import check_inputs


class Decomposer:
    """Decomposes layers of one network, each combination of kernel, format, rank and norm once.

    Attributes:
        model: whose layers they are.
        norms: of the layers' inputs, where they were measured; filled by whoever has inputs.
    """

    def __init__(self, model: nn.Module, cache: FactorCache, seed: int) -> None:
        """Decompose nothing yet."""
        self.model = model
        self.norms: dict[str, InputNorm] = {}
        self._cache, self._seed = cache, seed

    def __call__(self, choice: Choice, kernel: Tensor | None = None, norm: InputNorm | None = None) -> FactoredKernel:
        """The factored kernel for a choice.

        Args:
            choice: layer, format, rank.
            kernel: T x S/groups x window, near that of the layer; when absent the layer's own, in the norm of its
                inputs as far as that was measured.
            norm: of the layer's inputs, for ``kernel``.

        Raises:
            LayerError: the layer cannot be factorised so; the message names it.
        """
        _, own, spec = layer_at(self.model, choice.layer)
        if kernel is None:
            kernel, norm = own.detach(), self.norms.get(choice.layer)
        fmt, rank, cache = format_named(choice.format), choice.rank, self._cache
        try:
            key = cache.key(kernel, spec, fmt, rank, self._seed, norm)
            found = cache.find(key, spec, fmt, rank)
            return found or cache.keep(key, fmt.factorise(kernel, spec, rank, self._seed, norm))
        except LayerError as error:
            raise LayerError(f"layer {choice.layer!r}: {error}") from error


@dataclass(frozen=True, eq=False)
class Applied:
    """A network with a plan applied to it.

    Attributes:
        model: a copy of the network, in evaluation mode, its chains out of plain layers; to be trained or used.
        plan: layer, format, rank.
        kernels: what took the place of each layer: factors, errors, sensitivity.
        data_aware: whether inputs were there to fit the layers to.
    """

    model: nn.Module
    plan: Plan
    kernels: Mapping[str, FactoredKernel]
    data_aware: bool


def apply_plan(
    model: nn.Module,
    plan: Plan,
    inputs: Samples | None = None,
    *,
    forward: Forward | None = None,
    layers: Sequence[LayerSite] | None = None,
    options: SequentialOptions | None = None,
    cache: FactorCache | None = None,
    seed: int = 0,
    on_layer: Callable[[str], None] = lambda _: None,
) -> Applied:
    """A copy of ``model`` with every layer that ``plan`` names replaced by its chain; nothing is trained.

    With inputs each layer is decomposed in the norm of the inputs that it really gets, layer after layer, and fitted to
    what the dense network answers (:mod:`polyadic.surgery.replace_by_plan`): a few hundred unlabelled samples keep
    most of the accuracy that weights alone lose. Batch-norm statistics are left as they are.

    Example::

        plan = Plan((Choice("layer1.0.conv1", "cp-epc", (24,)), Choice("fc", "svd", (16,))))
        smaller = polyadic.apply_plan(model, plan, inputs=images).model  # then train it in a loop of your own

    Args:
        model: any module; it is left as it was.
        plan: layer, format, rank, by hand or from :func:`polyadic.find_plan`. A choice may name a stage of the chain of
            an earlier one.
        inputs: a batch (N, ...), or what yields batches, such as a DataLoader: the network's forward takes of each
            what it asks for, labels are not read (:func:`polyadic.training.inputs_of`); None uses the weights alone.
        forward: ``forward(model, batch)``, a pass of your own, where that rule does not say what goes in.
        layers: the layers of the model as :func:`polyadic.find_layers` has found them; looked for when absent.
        options: how firmly layers are fitted.
        cache: where factored kernels are kept; nowhere when absent.
        seed: of the decompositions.
        on_layer: called with the name of each layer when it has been replaced.

    Raises:
        LayerError: a layer is missing or cannot be factorised so, or the model mixes the samples of a batch.
        DataError: inputs of which none can be taken.
        DecompositionError: NaN or Inf among the features.
        PolyadicError: weights that are not finite.
    """
    _check_plan(plan)
    batch: Inputs | None = None
    model = unwrap_model(model)
    if isinstance(inputs, Tensor):
        batch = inputs
    elif inputs is not None:
        batch = concatenate(list(together(sample_inputs(inputs, model, forward))))
    if batch is not None:
        check_inputs(model, batch, "the batch of inputs")
    return apply_to_batch(model, plan, batch, layers=layers, options=options, cache=cache, seed=seed, on_layer=on_layer)


def _check_plan(plan: object) -> None:
    """Refuse what only stands for a plan.

    Raises:
        LayerError: it is none.
    """
    if not isinstance(plan, Plan):
        kind = type(plan).__name__
        text = isinstance(plan, str | Path)
        advice = f"polyadic.load_plan({str(plan)!r}) reads one" if text else "a result has one, result.plan"
        raise LayerError(f"a plan is a polyadic.Plan; got {kind}: {advice}")


def apply_to_batch(
    model: nn.Module,
    plan: Plan,
    batch: Inputs | None,
    *,
    layers: Sequence[LayerSite] | None = None,
    options: SequentialOptions | None = None,
    cache: FactorCache | None = None,
    seed: int = 0,
    on_layer: Callable[[str], None] = lambda _: None,
) -> Applied:
    """:func:`apply_plan` with what goes into the network as one batch."""
    check_finite(model)
    decompose = Decomposer(model, cache or FactorCache(None), seed)
    whole = Plan(tuple(choice for choice in plan.choices if _has(model, choice.layer)))
    stages = Plan(tuple(choice for choice in plan.choices if choice not in whole.choices))
    for choice in stages.choices:  # a stage stands in the place of a layer that the plan replaces before
        if not any(choice.layer.startswith(f"{before.layer}.") for before in plan.choices):
            spec_at(model, choice.layer)
    if batch is None:
        network, kernels = replace_one_by_one(model, whole, decompose, on_layer=on_layer)
    else:
        batch = on_device(batch, device_of(model))
        known = find_layers(model, first_samples(batch, 1)) if layers is None else layers
        network, kernels = replace_in_sequence(
            model, whole, decompose, batch, known, options=options, on_layer=on_layer
        )
    if stages.choices:  # they name stages of the chains that are there now
        further = apply_to_batch(network, stages, batch, options=options, cache=cache, seed=seed, on_layer=on_layer)
        network, kernels = further.model, {**kernels, **further.kernels}
    return Applied(network.eval(), plan, kernels, batch is not None)


def _has(model: nn.Module, name: str) -> bool:
    try:
        module_at(model, name)
    except AttributeError:
        return False
    return True
