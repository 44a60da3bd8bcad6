"""Compress a network layer after layer, each in sight of what those before it have done.

Layers are replaced in the order in which they run (:mod:`polyadic.surgery.lockstep`). For each, from a few
unlabelled images: the kernel is corrected so that it answers from the compressed network's inputs what the dense layer
answers from the dense one's (:func:`polyadic.decomposition.patch_moments.fitted_kernel`); it is decomposed in the norm of
those inputs; the last stage of the chain is refitted to the dense output from the features that really reach it, and what
is left of the mean error goes into the bias, or into the running mean of the batch norm that follows. Where the output
is added to a shortcut, the target is the dense sum. Nothing is trained.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from polyadic.decomposition import InputNorm
from polyadic.decomposition.patch_moments import PatchMoments, fitted_bias, fitted_kernel
from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, format_named
from polyadic.formats.factored_kernel import error_of
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.surgery.following_ops import Numbering, find_following_ops
from polyadic.surgery.input_norms import norm_of
from polyadic.surgery.lockstep import LayerInputs, run_in_lockstep
from polyadic.surgery.patches import patch_rows, some_positions
from polyadic.surgery.rebuild import plan_stages
from polyadic.surgery.replace import chain_for, layer_at, replace_layer, site_at
from polyadic.surgery.sequential_options import SequentialOptions
from polyadic.surgery.weights import copy_model, is_computed

SWITCHED_OFF = 0.05  # of the largest scale of a batch norm: through weaker channels a shortcut is not repaired

Factorise = Callable[[Choice, Tensor, InputNorm | None], FactoredKernel]


def replace_in_sequence(
    dense: nn.Module,
    sites: Iterable[LayerSite],
    plan: Plan,
    images: Tensor,
    factorise: Factorise,
    options: SequentialOptions | None = None,
    on_layer: Callable[[str], None] = lambda _: None,
) -> tuple[nn.Module, dict[str, FactoredKernel]]:
    """A copy of ``dense`` with every layer of ``plan`` replaced, and the factored kernels.

    Args:
        dense: the network, in evaluation mode; it is left as it was.
        sites: the layers of the network; those that the plan does not name stay dense.
        plan: layer, format, rank.
        images: unlabelled inputs (N, ...), where the network is.
        factorise: from a choice, a kernel and a norm to the factored kernel.
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
    walked = [site for site in sites if plan.of(site.name) or (options.correct_dense and _is_plain(site))]
    walk = _Walk(network, plan, walked, images, factorise, options, on_layer)
    successors = run_in_lockstep(network, walked, walk.images, walk.replace, walk.numbering)
    for site in walked:
        if site.name in successors:
            replace_layer(network, site, successors[site.name])
        elif site.name in walk.choices:
            replace_layer(network, site, walk.unseen(walk.choices[site.name]))
    for name, shift in walk.shifts.items():
        network.get_submodule(name).get_buffer("running_mean").sub_(shift)
    return network, {choice.layer: walk.kernels[choice.layer] for choice in plan.choices}


def replace_one_by_one(
    dense: nn.Module,
    sites: Iterable[LayerSite],
    plan: Plan,
    factorise: Factorise,
    on_layer: Callable[[str], None] = lambda _: None,
) -> tuple[nn.Module, dict[str, FactoredKernel]]:
    """The same without images: every layer for itself, in the plain norm.

    A choice may name a stage of the chain of an earlier one, which is no site of the dense network.

    Raises:
        LayerError: a layer cannot be factorised so.
    """
    network, known = copy_model(dense), {site.name: site for site in sites}
    kernels = {}
    for choice in plan.choices:
        layer, weight, _ = layer_at(network, choice.layer)
        kernels[choice.layer] = factorise(choice, weight.detach(), None)
        site = known.get(choice.layer) or site_at(network, choice.layer)
        replace_layer(network, site, chain_for(layer, kernels[choice.layer]))
        on_layer(choice.layer)
    return network, kernels


class _Walk:
    """The state of one walk: what was factorised so far, and what later layers need."""

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        sites: list[LayerSite],
        images: Tensor,
        factorise: Factorise,
        options: SequentialOptions,
        on_layer: Callable[[str], None],
    ) -> None:
        plan_stages(network, plan)  # refuses a plan that does not fit before anything runs
        self.network = network
        self.choices = {choice.layer: choice for choice in plan.choices}
        self.layers = {site.name: layer_at(network, site.name) for site in sites}
        self.factorise = factorise
        self.options = options
        self.on_layer = on_layer
        self.around, largest = find_following_ops(network, self.layers, images[:1])
        self.images = options.affordable(images, 2 * largest)
        self.numbering = Numbering(self._seen)
        self.waiting = Counter(found.partner for found in self.around.values() if found.partner is not None)
        self.sums: dict[int, Tensor] = {}
        self.kernels: dict[str, FactoredKernel] = {}
        self.shifts: dict[str, Tensor] = {}

    def replace(self, name: str, meeting: LayerInputs) -> tuple[nn.Module, Tensor | None]:
        """What takes the place of layer ``name``, and the bias that a batch norm after it has to take up."""
        _, _, spec = self.layers[name]
        target = self._target(name, meeting)
        positions = some_positions(target, spec, self.options.positions_for(spec), self.options.seed)
        if name in self.choices:
            return self._chain(name, meeting, target, positions)
        return self._corrected(name, meeting, target, positions)

    def _corrected(
        self, name: str, meeting: LayerInputs, target: Tensor, positions: Tensor
    ) -> tuple[nn.Module, Tensor | None]:
        """A layer that stays dense, corrected for what the layers before it have lost."""
        layer, weight, spec = self.layers[name]
        too_large = spec.in_channels * spec.taps > self.options.largest_patch
        if too_large or is_computed(layer) or torch.equal(meeting.x, meeting.y):
            return layer, None  # a parametrisation cannot be told which weight to compute
        moments = PatchMoments.of(patch_rows(meeting.y, target, spec, positions), bias=self._takes_bias(name))
        successor = copy.deepcopy(layer)
        kernel = fitted_kernel(weight, moments, self.options.ridge_for(moments.count))
        successor.get_parameter("weight").copy_(kernel)
        return successor, self._with_bias(name, successor, fitted_bias(kernel, moments).to(weight))

    def _with_bias(self, name: str, last: nn.Module, bias: Tensor) -> Tensor | None:
        """Put ``bias`` into the layer, or keep it for the batch norm that follows and return it, if there is either."""
        if self.layers[name][2].bias:
            last.get_parameter("bias").copy_(bias)
            return None
        if not self._takes_bias(name):
            return None
        self.shifts[str(self.around[name].norm)] = bias
        return bias

    def _chain(
        self, name: str, meeting: LayerInputs, target: Tensor, positions: Tensor
    ) -> tuple[nn.Module, Tensor | None]:
        layer, weight, _ = self.layers[name]
        choice, options = self.choices[name], self.options
        kernel, norm = self._prepared(name, meeting, target, positions)
        factored = self.factorise(choice, kernel, norm)
        chain = chain_for(layer, factored)
        shift, last_stage = None, factored.stages[-1]
        if options.refit and options.can_refit(last_stage):
            z = chain[:-1](meeting.y)
            rows = patch_rows(z, target, last_stage, positions)
            moments = PatchMoments.of(rows, bias=self._takes_bias(name))
            last = fitted_kernel(factored.weights[-1], moments, options.refit_ridge_for(moments.count))
            bias = fitted_bias(last, moments).to(weight)
            factored = format_named(choice.format).refitted(factored, last, weight.detach())
            factored = replace(factored, weighted_error=moments.output_error(last))
            chain = chain_for(layer, factored)
            shift = self._with_bias(name, chain[-1], bias)
        else:
            factored = replace(factored, relative_error=error_of(weight, factored))
            shift = self._mean_corrected(name, chain, meeting, target) if options.refit else None
        self.kernels[name] = factored
        self.on_layer(name)
        return chain, shift

    def _mean_corrected(self, name: str, chain: nn.Sequential, meeting: LayerInputs, target: Tensor) -> Tensor | None:
        """Of a chain whose last stage is not refitted: at least its mean error goes into the bias."""
        if not self._takes_bias(name):
            return None
        own = chain[-1]._parameters.get("bias")
        lost = (target - chain(meeting.y)).to(torch.float64 if target.dtype == torch.float64 else torch.float32)
        axes = [axis for axis in range(lost.ndim) if axis != (1 if self.layers[name][2].axes else lost.ndim - 1)]
        mean = lost.mean(axes).to(target)
        return self._with_bias(name, chain[-1], mean if own is None else own + mean)

    def unseen(self, choice: Choice) -> nn.Module:
        """The chain of a layer that did not run."""
        layer, weight, _ = self.layers[choice.layer]
        self.kernels[choice.layer] = self.factorise(choice, weight.detach(), None)
        return chain_for(layer, self.kernels[choice.layer])

    def _seen(self, number: int, _: object, __: object, result: Tensor) -> None:
        if self.waiting[number]:
            self.sums[number] = result

    def _takes_bias(self, name: str) -> bool:
        _, _, spec = self.layers[name]
        return spec.bias or (name in self.around and self.around[name].norm is not None)

    def _target(self, name: str, meeting: LayerInputs) -> Tensor:
        """The dense output; and, where a shortcut is added to it, what the compressed network lost on that."""
        around = self.around.get(name)
        if around is None or around.partner is None:
            return meeting.t
        shortcut = self.sums.get(around.partner)
        self.waiting[around.partner] -= 1
        if not self.waiting[around.partner]:
            self.sums.pop(around.partner, None)
        both = (2 * meeting.t.shape[0], *meeting.t.shape[1:])
        if (
            not self.options.repair
            or self.numbering.count != around.begins
            or shortcut is None
            or shortcut.shape != both
        ):
            return meeting.t
        dense, compressed = shortcut.chunk(2)
        lost = dense - compressed
        if around.norm is not None:
            inverse = _inverse_scale(self.network.get_submodule(around.norm)).to(lost)
            lost = lost * inverse.reshape(-1, *([1] * (lost.ndim - 2)))
        return meeting.t + lost

    def _prepared(
        self, name: str, meeting: LayerInputs, target: Tensor, positions: Tensor
    ) -> tuple[Tensor, InputNorm | None]:
        """The kernel, corrected if that is asked for, and the norm to decompose it in."""
        _, weight, spec = self.layers[name]
        options, kernel = self.options, weight.detach()
        if options.norm == "plain" and not options.correct:
            return kernel, None
        x = meeting.y if options.inputs == "compressed" else meeting.x
        if spec.groups > 1:  # each group has a kernel of its own
            return kernel, None
        if spec.transposed or spec.in_channels * spec.taps > options.largest_patch:
            return kernel, norm_of(x, target, spec, options) if options.norm != "plain" else None
        moments = PatchMoments.of(patch_rows(x, target, spec, positions), bias=self._takes_bias(name))
        if options.correct:
            kernel = fitted_kernel(kernel, moments, options.ridge_for(moments.count))
        if options.norm == "plain":
            return kernel, None
        norm = InputNorm.of_patches(moments, spec.taps, options.ridge_for(moments.count))
        return kernel, norm.channels_only() if options.norm == "channels" else norm


def _is_plain(site: LayerSite) -> bool:
    """Whether the layer can be corrected in its place: one that gathers patches, over all channels."""
    return site.reason is None and site.spec is not None and site.spec.groups == 1 and not site.spec.transposed


def _inverse_scale(norm: nn.Module) -> Tensor:
    """One over what a batch norm multiplies each channel by; 0 for channels that it all but switches off."""
    variance, weight = norm.get_buffer("running_var"), norm._parameters.get("weight")
    scale = (variance + float(getattr(norm, "eps", 0.0))).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    return torch.where(scale.abs() > SWITCHED_OFF * scale.abs().max(), 1.0 / scale, 0.0)
