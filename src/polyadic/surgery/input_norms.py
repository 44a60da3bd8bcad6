"""The norms of layers' inputs in a network as it is: what single layers are tried out in."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from polyadic.decomposition import InputNorm, PatchMoments
from polyadic.schema import ConvSpec
from polyadic.surgery.following_ops import find_following_ops
from polyadic.surgery.patches import patch_rows, some_positions
from polyadic.surgery.plain_layers import geometry_of
from polyadic.surgery.sequential_options import SequentialOptions


def input_norms(
    model: nn.Module, layers: Iterable[str], images: Tensor, options: SequentialOptions | None = None
) -> dict[str, InputNorm]:
    """The norm of each layer's inputs, from one forward pass over ``images`` (N, ...).

    A layer that runs several times has that of its first run; one that does not run, or whose channels are too many
    for a matrix of their covariance, has none.

    Raises:
        DecompositionError: NaN or Inf among the inputs.
    """
    options, names = options or SequentialOptions(), list(layers)
    norms: dict[str, InputNorm] = {}

    def ran(name: str, layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        spec = geometry_of(layer)
        if name not in norms and spec is not None and spec.groups == 1:
            norm = norm_of(given[0], output, spec, options)
            norms.update({name: norm} if norm is not None else {})

    _, largest = find_following_ops(model, names, images[:1])
    with ExitStack() as stack:
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(partial(ran, name)).remove)
        stack.enter_context(torch.no_grad())
        model(options.affordable(images, largest))
    return norms


def norm_of(x: Tensor, output: Tensor, spec: ConvSpec, options: SequentialOptions) -> InputNorm | None:
    """The norm of the inputs ``x`` of one layer; of its channels alone where whole patches are too large.

    A transposed layer has no patches: its window spreads each position by itself.
    """
    if spec.in_channels > options.largest_patch:
        return None
    if spec.transposed or spec.in_channels * spec.taps > options.largest_patch:
        spec, output = ConvSpec.pointwise(spec.in_channels, spec.in_channels, spec.axes), x
    chosen = some_positions(output, spec, options.positions_for(spec), options.seed)
    moments = PatchMoments.of(patch_rows(x, output, spec, chosen))
    norm = InputNorm.of_patches(moments, spec.taps, options.ridge_for(moments.count))
    return norm if options.norm == "patches" else norm.channels_only()
