"""What a few epochs of training give back to truncated networks: free again, or held to their ranks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from polyadic.errors import StorageError
from polyadic.storage import atomic_path
from polyadic.studies.cuts import Chain
from polyadic.studies.scoring import Scorer
from polyadic.studies.study import OnProgress, Row, RowFile
from polyadic.studies.tree_kernel import factorise_in_place
from polyadic.studies.truncation_grid import TruncationOptions
from polyadic.surgery import copy_model
from polyadic.training import FinetuneOptions, augmentation_for, train_on_images

FORMS = ("dense", "factorised")
"""All entries of a truncated kernel move, so that its rank may rise again; or the factors of its tree do instead."""


def retrain_networks(
    network: nn.Module,
    kernels: Mapping[str, Tensor],
    scorer: Scorer,
    options: TruncationOptions,
    file: RowFile,
    on_progress: OnProgress | None = None,
) -> list[Row]:
    """Train each truncation that the options name, in both forms; test images come after all of them.

    Chains with crossing cuts are trained dense alone.
    """
    if options.retrain_epochs == 0:
        return []
    runs = [(Chain.parse(text), share, form) for text, share in options.retrain for form in FORMS]
    runs = [(chain, share, form) for chain, share, form in runs if form == "dense" or chain.is_tree]
    trained: dict[str, nn.Module] = {}
    for done, (chain, share, form) in enumerate(runs):
        key = _key(chain, share, form, options)
        if on_progress is not None:
            on_progress(done, len(runs), key)
        module = _truncated_network(network, kernels, chain, share, form)
        weights = _weights_path(options.work, key)
        if key in file and weights is not None and weights.exists():
            _load(module, weights)
        else:  # also where the weights are gone: the same seed trains the same network again
            row = _trained_row(module, kernels, chain, share, form, scorer, options)
            if weights is not None:
                _save(module, weights)
            file.add(key, row)
        trained[key] = module
    return [{**file[key], **_tested(key, module, scorer, file)} for key, module in trained.items()]


def _load(module: nn.Module, weights: Path) -> None:
    """What :func:`_save` wrote.

    Raises:
        StorageError: it is damaged, or of another network.
    """
    try:
        module.load_state_dict(safetensors.torch.load_file(weights))
    except (SafetensorError, OSError, RuntimeError) as error:  # the last: names or shapes that do not fit
        words = str(error).splitlines()[0]
        raise StorageError(f"{weights} is damaged ({words}): remove it, and the network is trained again") from error


def _truncated_network(
    network: nn.Module, kernels: Mapping[str, Tensor], chain: Chain, share: float, form: str
) -> nn.Module:
    """A copy with all ``kernels`` truncated, their weights in factors if ``form`` says so."""
    module = copy_model(network)
    for name, K in kernels.items():
        ranks = chain.ranks_at(share, K.shape)
        layer = module.get_submodule(name)
        layer.get_parameter("weight").data.copy_(chain.truncate(K, ranks))
        if form == "factorised" and any(r < full for r, full in zip(ranks, chain.largest_ranks(K.shape), strict=True)):
            factorise_in_place(layer, chain, ranks)
    return module


def _trained_row(
    module: nn.Module,
    kernels: Mapping[str, Tensor],
    chain: Chain,
    share: float,
    form: str,
    scorer: Scorer,
    options: TruncationOptions,
) -> dict[str, Any]:
    """Train ``module`` in place."""
    before = scorer.scores(module)
    tuning = FinetuneOptions(
        epochs=options.retrain_epochs,
        steps_per_epoch=options.retrain_steps,
        batch_size=options.retrain_batch_size,
        learning_rate=options.learning_rate,
        schedule="cosine",
        warmup=0.1,
        augmentation=augmentation_for(scorer.data),
        score_precision=options.execution.precision,
        seed=options.seed,
    )
    began = time.monotonic()
    report = train_on_images(module, scorer.data, tuning, execution=options.execution)
    after = scorer.scores(module)
    numbers = [chain.parameters(chain.ranks_at(share, K.shape), K.shape) for K in kernels.values()]
    known = [number for number in numbers if number is not None]
    whole = sum(K.numel() for K in kernels.values())
    return {
        "chain": str(chain),
        "share": share,
        "form": form,
        "layers": len(kernels),
        "epochs": options.retrain_epochs,
        "parameter_ratio": sum(known) / whole if form == "factorised" else 1.0,
        "accuracy_before": before.accuracy,
        "accuracy_before_recalibrated": before.accuracy_recalibrated,
        "accuracy_after": after.accuracy,
        "best_epoch": report.best_epoch,
        "accuracy_by_epoch": [record.score for record in report.history],
        "seconds": round(time.monotonic() - began, 1),
    }


def _tested(key: str, module: nn.Module, scorer: Scorer, file: RowFile) -> dict[str, Any]:
    if scorer.test_images == 0:
        return {"test_accuracy": None}
    test = f"test/{scorer.test_images}/{key}"
    if test not in file:
        file.add(test, {"test_accuracy": scorer.test_accuracies(module)[0]})
    return file[test]


def _key(chain: Chain, share: float, form: str, options: TruncationOptions) -> str:
    effort = f"{options.retrain_epochs}x{options.retrain_steps or 'all'}"
    effort += f"@{options.learning_rate:g}-{options.retrain_batch_size}-{options.seed}"
    return f"retrained/{chain}/{share:g}/{form}/{effort}"


def _weights_path(work: Path | None, key: str) -> Path | None:
    return None if work is None else work / f"{key.replace('/', '-').replace('|', '')}.safetensors"


def _save(module: nn.Module, path: Path) -> None:
    tensors = {name: value.detach().contiguous().clone() for name, value in module.state_dict().items()}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary)
