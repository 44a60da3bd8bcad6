"""An equivalent network of fewer and cheaper layers, to run or to export."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.layers import Inputs, call_model, evaluation_mode, tensors_in
from polyadic.surgery.find_layers import find_layers_as_is
from polyadic.surgery.fold import Change, fold_norms
from polyadic.surgery.merge_neighbours import merge_neighbours
from polyadic.surgery.plain_layers import copy_model


@dataclass(frozen=True)
class FoldedModel:
    """A network to run, and how it came about.

    Attributes:
        model: a copy, in evaluation mode; it is not to be trained, as its batch norms are gone.
        changes: what was done, and what was left with the reason.
    """

    model: nn.Module
    changes: tuple[Change, ...]

    @property
    def done(self) -> tuple[Change, ...]:
        """The changes that were made."""
        return tuple(change for change in self.changes if change.done)

    @property
    def left(self) -> tuple[Change, ...]:
        """What was considered and left as it is."""
        return tuple(change for change in self.changes if not change.done)


def fold_and_merge(model: nn.Module, example_input: Inputs) -> FoldedModel:
    """A network that answers as ``model`` does in evaluation mode, with batch norms folded and neighbours merged.

    Names stay: what is gone is an ``nn.Identity``. Products are formed in float64 and stored in the dtype of the
    layers. The result is run on the example once and compared with the model.

    Args:
        model: any module; it is run a few times in evaluation mode and left as it was.
        example_input: a batch (N, ...), or arguments by position (a tuple) or by name (a dict), the first one such.

    Raises:
        LayerError: the model does not run on the example, is compiled, has no weights yet, or does something with the
            outputs of its layers that a watched pass cannot see.
    """
    network = copy_model(model).eval()
    layers = {site.name: site for site in find_layers_as_is(network, example_input) if site.spec is not None}
    folded = fold_norms(network, example_input, layers)
    merged = merge_neighbours(network, example_input, layers)
    _check_equal(model, network, example_input)
    return FoldedModel(network, (*folded, *merged))


def _check_equal(model: nn.Module, network: nn.Module, example_input: Inputs) -> None:
    """Refuse a network whose answer on the example is grossly another one: rounding is not, a missed reader is."""
    wanted, got = _answer(model, example_input), _answer(network, example_input)
    for expected, found in zip(wanted, got, strict=True):
        if not expected.is_floating_point() or not bool(expected.isfinite().all()):
            continue
        bound = torch.finfo(expected.dtype).eps ** 0.25  # through many layers rounding grows; a lost norm is beyond
        size, error = expected.double().norm(), (expected.double() - found.double()).norm()
        if not float(error) <= bound * float(size):
            raise LayerError(
                "a folded network answers as the model does; on the example its answer is off by "
                f"{float(error / size):.2g} of its size, as the model reads outputs of its layers in a way that "
                "cannot be watched (a scripted or custom operation): use the model as it is"
            )


def _answer(model: nn.Module, example_input: Inputs) -> list[Tensor]:
    with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(tensors_in(call_model(model, example_input)))
