"""A callback of Lightning that saves a compressed network with its true score when a fit has ended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from polyadic.errors import PolyadicError
from polyadic.export.checkpoint import save
from polyadic.layers import Inputs
from polyadic.pipeline import KnownScore, OwnScore
from polyadic.pipeline.own_loop import check_factorised
from polyadic.schema import Plan

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def lightning_callback(
    directory: Path | str,
    *,
    network: str,
    plan: Plan,
    dense: nn.Module,
    example_input: Inputs,
    score: OwnScore | str | None,
) -> Any:
    """A ``Callback`` for Lightning's ``Trainer`` that saves a network at the end of a fit (:func:`polyadic.save`).

    Whether the network is factorised as the plan says is looked at before the training begins. Of several processes the
    first one saves.

    Example::

        callback = polyadic.lightning_callback(
            "runs/mine", network="net", plan=plan, dense=model, example_input=x, score="val_psnr"
        )
        Trainer(callbacks=[callback]).fit(module, loader)

    Args:
        directory: for the files; :func:`polyadic.load` reads them.
        network: the attribute of the Lightning module that holds the network; "" for the module itself.
        plan: by which it was factorised.
        dense: the network that it was made of.
        example_input: what both take.
        score: as in :func:`polyadic.save`; or the name of a metric that the module logs, whose last value it then is,
            more being better.

    Raises:
        PolyadicError: neither ``lightning`` nor ``pytorch_lightning`` is installed.
    """

    def network_of(module: nn.Module) -> nn.Module:
        try:
            return module.get_submodule(network)
        except AttributeError:
            names = ", ".join(name for name, _ in module.named_children())
            raise PolyadicError(
                f"network names what holds the network in {type(module).__name__}, one of {names}; got {network!r}"
            ) from None

    class SaveCompressed(_callback_class()):  # type: ignore[misc]
        """Saves a compressed network at the end of a fit."""

        def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
            """Refuse what could not be saved, before it is trained."""
            check_factorised(network_of(pl_module), dense, plan)

        def on_fit_end(self, trainer: Any, pl_module: nn.Module) -> None:
            """Save."""
            if trainer.is_global_zero:
                known = _logged(score, trainer.callback_metrics) if isinstance(score, str) else score
                save(
                    network_of(pl_module),
                    directory,
                    plan=plan,
                    dense=dense,
                    example_input=example_input,
                    score=known,
                )

    return SaveCompressed()


def _logged(name: str, metrics: dict[str, Any]) -> KnownScore:
    """The last value of a metric that the module has logged.

    Raises:
        PolyadicError: it has logged none of that name.
    """
    if name not in metrics:
        logged = ", ".join(metrics) or "nothing"
        raise PolyadicError(
            f"score names a metric that the Lightning module logs (self.log); got {name!r}, and it has logged "
            f"{logged}: pass one of them, or a function from a network to a number"
        )
    return KnownScore(float(metrics[name]), name=name)


def _callback_class() -> Callable[..., Any]:
    """The ``Callback`` of the Lightning that the user has loaded, else of one that is installed.

    Raises:
        PolyadicError: there is none.
    """
    loaded = [package for package in _PACKAGES if package in sys.modules]
    for package in loaded or [package for package in _PACKAGES if find_spec(package.partition(".")[0]) is not None]:
        found: Callable[..., Any] = import_module(package).Callback
        return found
    raise PolyadicError("a callback of Lightning takes Lightning: pip install lightning")
