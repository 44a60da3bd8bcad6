"""Carry out a plan: replace layers each for itself, or one after the other in sight of what those before have done.

In sequence, layers are replaced in the order in which they run (:mod:`polyadic.surgery.lockstep`). For each, from a few
unlabelled inputs:

1. the target is what the dense layer answers; where a shortcut is added to that, the dense *sum*;
2. the kernel is corrected so that it answers this from the compressed network's inputs
   (:func:`polyadic.decomposition.fitted_kernel`), and decomposed in the norm of those inputs;
3. the last stage of the chain is refitted to the target from the features that really reach it, and what is left of
   the mean error goes into the bias, or into the running mean of the batch norm that follows.

Nothing is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from polyadic.decomposition import InputNorm
from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel
from polyadic.layers import Inputs, first_samples
from polyadic.schema import Choice, ConvSpec, LayerSite, Plan
from polyadic.surgery.following_ops import FollowingOps, find_following_ops
from polyadic.surgery.forward_record import OperationCounter
from polyadic.surgery.layer_fit import LayerFit, SequentialOptions
from polyadic.surgery.lockstep import LayerInputs, run_in_lockstep
from polyadic.surgery.patches import some_positions
from polyadic.surgery.plain_layers import copy_model
from polyadic.surgery.projections import packed_names, separate_for
from polyadic.surgery.rebuild import plan_stages
from polyadic.surgery.replace import chain_for, layer_at, replace_layer, site_at

SWITCHED_OFF = 0.05  # of the largest scale of a batch norm: through weaker channels a shortcut is not repaired

Factorise = Callable[[Choice, Tensor, InputNorm | None], FactoredKernel]
"""From a choice, a kernel (T x S/groups x window) and the norm of its inputs to the factored kernel."""


def replace_one_by_one(
    dense: nn.Module, plan: Plan, factorise: Factorise, *, on_layer: Callable[[str], None] = lambda _: None
) -> tuple[nn.Module, dict[str, FactoredKernel]]:
    """A copy of ``dense`` with every layer of ``plan`` replaced, each for itself in the plain norm; and the kernels.

    A choice may name a stage of the chain of an earlier one: ``conv1``, then ``conv1.1``.

    Args:
        dense: the network; it is left as it was.
        plan: layer, format, rank.
        factorise: see there.
        on_layer: called with the name of each layer when it has been replaced.

    Raises:
        LayerError: a layer cannot be factorised so.
    """
    network = copy_model(dense)
    separate_for(network, plan)
    kernels = {}
    for choice in plan.choices:
        layer, weight, _ = layer_at(network, choice.layer)
        kernels[choice.layer] = factorise(choice, weight.detach(), None)
        replace_layer(network, site_at(network, choice.layer), chain_for(layer, kernels[choice.layer]))
        on_layer(choice.layer)
    return network, kernels


def replace_in_sequence(
    dense: nn.Module,
    plan: Plan,
    factorise: Factorise,
    inputs: Inputs,
    sites: Iterable[LayerSite],
    *,
    options: SequentialOptions | None = None,
    on_layer: Callable[[str], None] = lambda _: None,
) -> tuple[nn.Module, dict[str, FactoredKernel]]:
    """A copy of ``dense`` with every layer of ``plan`` replaced, each in sight of those before; and the kernels.

    Args:
        dense: the network, in evaluation mode; it is left as it was.
        plan: layer, format, rank.
        factorise: see there.
        inputs: unlabelled, one batch of what the network takes, where it is.
        sites: the layers of the network; those that the plan does not name stay dense, and are corrected for what the
            layers before them have lost.
        options: see there.
        on_layer: called with the name of each layer when it has been replaced.

    Raises:
        LayerError: a layer cannot be factorised so, or the model mixes the samples of a batch.
        DecompositionError: NaN or Inf among the features.
    """
    sites, options = list(sites), options or SequentialOptions()
    strangers = {choice.layer for choice in plan.choices} - {site.name for site in sites}
    if strangers:
        raise LayerError(f"a plan names layers among the sites; got {', '.join(sorted(strangers))}, which are not")
    network = copy_model(dense).eval()
    plan_stages(network, plan)  # refuses a plan that does not fit before anything runs
    separate_for(network, plan)
    packed = packed_names(network)
    sites = [site for site in sites if not f"{site.name}.".startswith(packed)]
    walked = [site for site in sites if plan.of(site.name) or (options.correct_dense and _is_plain(site))]
    layers = {site.name: layer_at(network, site.name) for site in walked}
    following, largest = find_following_ops(network, layers, first_samples(inputs, 1))
    walk = _Walk(plan, factorise, options, on_layer, layers, following, _Shortcuts(network, following))
    successors = run_in_lockstep(
        network, walked, options.affordable(inputs, 2 * largest), walk.successor_of, walk.shortcuts.counter
    )
    kernels = walk.kernels
    for site in walked:
        choice = plan.of(site.name)
        if site.name in successors:
            replace_layer(network, site, successors[site.name])
        elif choice is not None:  # it did not run
            layer, weight, _ = layers[site.name]
            kernels[site.name] = factorise(choice, weight.detach(), None)
            replace_layer(network, site, chain_for(layer, kernels[site.name]))
    for norm, shift in walk.shifts.items():
        network.get_submodule(norm).get_buffer("running_mean").sub_(shift)
    return network, {choice.layer: kernels[choice.layer] for choice in plan.choices}


@dataclass(frozen=True, eq=False)
class _Walk:
    """What is known of all layers before the pass, by name; and what the pass has brought so far.

    ``layers`` holds layer, kernel and geometry, ``kernels`` the factored ones, ``shifts`` the biases (T) that batch
    norms have to take up, by norm.
    """

    plan: Plan
    factorise: Factorise
    options: SequentialOptions
    on_layer: Callable[[str], None]
    layers: Mapping[str, tuple[nn.Module, Tensor, ConvSpec]]
    following: Mapping[str, FollowingOps]
    shortcuts: _Shortcuts
    kernels: dict[str, FactoredKernel] = field(default_factory=dict)
    shifts: dict[str, Tensor] = field(default_factory=dict)

    def successor_of(self, name: str, seen: LayerInputs) -> tuple[nn.Module, Tensor | None]:
        """What takes the place of layer ``name``, and the bias that a batch norm after it has to take up."""
        (layer, weight, spec), options, choice = self.layers[name], self.options, self.plan.of(name)
        norm = self.following[name].norm if name in self.following else None
        lost = self.shortcuts.lost_at(name, seen.t)
        target = seen.t if lost is None or not options.repair else seen.t + lost
        positions = some_positions(target, spec, options.positions_for(spec), options.seed)
        fit = LayerFit(layer, weight.detach(), spec, seen, target, positions, spec.bias or norm is not None, options)
        if choice is None:
            successor, bias = fit.corrected_layer()
            last = successor
        else:
            factored = self.factorise(choice, *fit.kernel_and_norm())
            successor, self.kernels[name], bias = fit.chain(choice, factored)
            last = successor[-1]
            self.on_layer(name)
        if bias is not None and spec.bias:
            last.get_parameter("bias").copy_(bias)
            return successor, None
        if bias is not None:
            self.shifts[str(norm)] = bias
        return successor, bias


class _Shortcuts:
    """What is added to the outputs of layers, in both networks: kept from its operation to the last layer it waits for.

    ``counter`` has to count the operations of the pass.
    """

    def __init__(self, network: nn.Module, following: Mapping[str, FollowingOps]) -> None:
        self.network = network
        self.following = following
        self.counter = OperationCounter(self._seen)
        self.waiting = Counter(found.partner for found in following.values() if found.partner is not None)
        self.results: dict[int, Tensor] = {}

    def _seen(self, number: int, result: Tensor) -> None:
        if self.waiting[number]:
            self.results[number] = result

    def lost_at(self, name: str, t: Tensor) -> Tensor | None:
        """What the compressed network has lost on the shortcut, as an output ``t`` of layer ``name`` can repair it.

        None where no shortcut is added, or the pass does not run as it was recorded.
        """
        found = self.following.get(name)
        if found is None or found.partner is None:
            return None
        result = self.results.get(found.partner)
        self.waiting[found.partner] -= 1
        if not self.waiting[found.partner]:
            self.results.pop(found.partner, None)
        as_recorded = self.counter.count == found.begins
        if not as_recorded or result is None or result.shape != (2 * t.shape[0], *t.shape[1:]):
            return None
        dense, compressed = result.chunk(2)
        lost = dense - compressed
        if found.norm is not None:
            inverse = _inverse_scale(self.network.get_submodule(found.norm)).to(lost)
            lost = lost * inverse.reshape(-1, *([1] * (lost.ndim - 2)))
        return lost


def _is_plain(site: LayerSite) -> bool:
    """Whether the layer can be corrected in its place: one that gathers patches, over all channels."""
    return site.reason is None and site.spec is not None and site.spec.groups == 1 and not site.spec.transposed


def _inverse_scale(norm: nn.Module) -> Tensor:
    """One over what a batch norm multiplies each channel by; 0 for channels that it all but switches off."""
    variance, weight = norm.get_buffer("running_var"), norm._parameters.get("weight")
    scale = (variance + float(getattr(norm, "eps", 0.0))).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    return torch.where(scale.abs() > SWITCHED_OFF * scale.abs().max(), 1.0 / scale, 0.0)
