"""Truncation of the kernels of a dense network, after Singh, Jahromi and Orus (arXiv 2403.14379): norm and accuracy.

Each kernel is truncated along each cut (:mod:`polyadic.studies.cuts`) and put back; the network stays dense. What is
lost of the kernel's norm stands beside what is lost of the accuracy, and both beside two controls: a random kernel of
the same norm, whose spectrum has learnt nothing, and a random error of the same norm in place of the truncation error.
What follows the paper and what is ours: docs/studies/truncation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.schema import RetrainedRow, SpectrumRow, TruncationRow, TruncationStudy
from polyadic.studies.cuts import Cut
from polyadic.studies.scoring import Scorer, Scores, digest_of, replace_kernels
from polyadic.studies.spectrum import Spectrum, gaussian_like, perturb, seeded_generator
from polyadic.studies.study import OnProgress, Row, RowFile, rows_of
from polyadic.studies.truncation_grid import Point, TruncationOptions, kernels_of, points_of
from polyadic.studies.truncation_retraining import retrain_networks
from polyadic.surgery import copy_model, find_layers_as_is


def truncation_study(
    model: nn.Module,
    data: ImageData,
    options: TruncationOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> TruncationStudy:
    """Truncate the kernels of ``model`` layer by layer and jointly, and measure.

    Accuracies are taken on held-out training images. Test images are read once, after every row is known and every
    network is trained, for the joint rows, the re-trained networks and the dense one. ``model`` itself is left as it
    is.

    Args:
        model: float32 network (n, C, H, W) -> logits (n, classes), trained.
        data: its images.
        options: the grid; :class:`TruncationOptions` with its defaults when absent.
        on_progress: told of every row.

    Raises:
        LayerError: no layer that was asked for has a kernel of four indices, or the model does not run.
        DataError: the logits do not fit the labels.
        PolyadicError: rows of another study lie in the folder.
        StorageError: a row could not be written.
    """
    options = options or TruncationOptions()
    network = copy_model(model).eval()
    kernels, skipped = kernels_of(network, find_layers_as_is(network, data.example(1)), options)
    file = RowFile(options.work, digest_of(network, data, options.decisive()), resume=options.resume)
    scorer = options.scorer(network, data)
    points = points_of(kernels, options)
    measured = {point.key: partial(_row, point, network, kernels, scorer, options) for point in points}
    file.measure(measured, on_progress)
    retrained = retrain_networks(network, kernels, scorer, options, file, on_progress)
    rows = [{**file[point.key], **_tested(point, network, kernels, scorer, file)} for point in points]
    return TruncationStudy(
        rows=rows_of(TruncationRow, rows),
        spectra=tuple(_spectra(kernels, options)),
        retrained=rows_of(RetrainedRow, retrained),
        skipped=skipped,
        settings=_settings(network, data, scorer, options, file),
    )


def _row(
    point: Point, network: nn.Module, kernels: Mapping[str, Tensor], scorer: Scorer, options: TruncationOptions
) -> Row:
    """Everything about one point but test images."""
    whole = {name: kernels[name] for name in point.ranks}
    short = point.truncate(kernels)
    with replace_kernels(network, short):
        scores = scorer.scores(network)
    others = []
    for draw in range(options.draws):
        generator = seeded_generator(options.seed, "perturbation", point.key, str(draw))
        noisy = {name: perturb(K, short[name], generator) for name, K in whole.items()}
        with replace_kernels(network, noisy):
            others.append(scorer.scores(network))
    return {
        "kind": point.kind,
        "group": point.group,
        "position": list(kernels).index(point.group) if point.kind == "single" else None,
        "layers": len(point.ranks),
        "chain": str(point.chain),
        "share": point.share,
        **_ranks(point, whole),
        **_norms(whole, short),
        **_correlation(point, whole, options.seed),
        **asdict(scores),
        **{f"perturbed_{name}": value for name, value in asdict(Scores.mean(others)).items()},
    }


def _ranks(point: Point, whole: Mapping[str, Tensor]) -> dict[str, Any]:
    """Kept and largest ranks (of a single layer), their ratio, and the ratio of the numbers in the factors."""
    pairs = [
        (kept, largest)
        for name, K in whole.items()
        for kept, largest in zip(point.ranks[name], point.chain.largest_ranks(K.shape), strict=True)
    ]
    numbers = [point.chain.parameters(point.ranks[name], K.shape) for name, K in whole.items()]
    known = [number for number in numbers if number is not None]
    single = point.kind == "single"
    return {
        "rank": [kept for kept, _ in pairs] if single else None,
        "largest_rank": [largest for _, largest in pairs] if single else None,
        "kept_fraction": sum(min(kept / largest, 1.0) for kept, largest in pairs) / len(pairs),
        "parameter_ratio": sum(known) / sum(K.numel() for K in whole.values()) if len(known) == len(whole) else None,
    }


def _norms(whole: Mapping[str, Tensor], short: Mapping[str, Tensor]) -> dict[str, float]:
    """``||K - K^|| / ||K||`` and ``||K^||^2 / ||K||^2``, sums over layers taken of the squares."""
    total = math.fsum(float(K.double().square().sum()) for K in whole.values())
    lost = math.fsum(float((K.double() - short[name].double()).square().sum()) for name, K in whole.items())
    kept = math.fsum(float(K.double().square().sum()) for K in short.values())
    return {"norm_loss": math.sqrt(lost / total), "kept_energy": kept / total} if total > 0 else _NOTHING


_TESTED = ("test_accuracy", "test_accuracy_recalibrated")

_NOTHING = {"norm_loss": 0.0, "kept_energy": 1.0}  # of a kernel of zeros


def _correlation(point: Point, whole: Mapping[str, Tensor], seed: int) -> dict[str, float | None]:
    """Entropy and ranks of the cut's spectrum, trained and random; of a single layer along a single cut."""
    names = ("entropy", "effective_rank", "participation")
    columns = (*names, "gaussian_entropy", "gaussian_effective_rank", "gaussian_participation", "gaussian_norm_loss")
    if point.kind != "single" or len(point.chain.cuts) > 1:
        return dict.fromkeys(columns)
    ((layer, K),) = whole.items()
    (cut,), (rank,) = point.chain.cuts, point.ranks[layer]
    trained, random = Spectrum.of(K, cut), _random_spectrum(layer, K, cut, seed)
    values = [getattr(spectrum, name) for spectrum in (trained, random) for name in names]
    return dict(zip(columns, [*values, random.norm_loss(rank)], strict=True))


def _random_spectrum(layer: str, K: Tensor, cut: Cut, seed: int) -> Spectrum:
    """Of one random kernel per layer, the same for all its cuts."""
    return Spectrum.of(gaussian_like(K, seeded_generator(seed, "gaussian", layer)), cut)


def _spectra(kernels: Mapping[str, Tensor], options: TruncationOptions) -> list[SpectrumRow]:
    return [
        SpectrumRow(layer=layer, cut=text, index=index, singular_value=value, gaussian_singular_value=other)
        for layer, K in kernels.items()
        for text in options.chains
        if "+" not in text
        for cut in (Cut.parse(text),)
        for index, (value, other) in enumerate(
            zip(Spectrum.of(K, cut).values, _random_spectrum(layer, K, cut, options.seed).values, strict=True), 1
        )
    ]


def _tested(
    point: Point, network: nn.Module, kernels: Mapping[str, Tensor], scorer: Scorer, file: RowFile
) -> dict[str, Any]:
    """Test accuracies of a joint truncation."""
    if point.kind != "joint" or scorer.test_images == 0:
        return dict.fromkeys(_TESTED)
    key = f"test/{scorer.test_images}/{point.key}"
    if key not in file:
        with replace_kernels(network, point.truncate(kernels)):
            file.add(key, dict(zip(_TESTED, scorer.test_accuracies(network), strict=True)))
    return file[key]


def _settings(network: nn.Module, data: ImageData, scorer: Scorer, options: TruncationOptions, file: RowFile) -> Row:
    tested: Row = dict.fromkeys(_TESTED)
    if options.test_images != 0:
        key = f"test/{options.test_images}/dense"
        if key not in file:
            file.add(key, dict(zip(_TESTED, scorer.test_accuracies(network), strict=True)))
        tested = file[key]
    return {
        "data": data.name,
        "data_digests": data.digests,
        "held_out_images": len(scorer.held_out),
        "calibration_images": min(options.calibration_images, len(data.train)),
        "test_images": len(data.test) if options.test_images is None else min(options.test_images, len(data.test)),
        "dense_accuracy": scorer.dense_accuracy,
        "dense_accuracy_recalibrated": scorer.dense.accuracy_recalibrated,
        **{f"dense_{column}": tested[column] for column in _TESTED},
        "chains": options.chains,
        "shares": options.shares,
        "layers": options.layers,
        "draws": options.draws,
        "seed": options.seed,
        "execution": repr(options.execution),
    }
