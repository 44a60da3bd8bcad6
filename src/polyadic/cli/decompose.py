"""``polyadic decompose``: one kernel, no network."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from polyadic.algebra import (
    CPTensor,
    LowRank,
    TensorTrain,
    TTMatrixTensor,
    Tucker2Tensor,
    kernel_to_order3,
    order3_to_kernel,
)
from polyadic.cli.lists import whole_numbers
from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson, Seed
from polyadic.cli.screen import emit, say
from polyadic.decomposition import TuckerCP, tucker2_bounded
from polyadic.errors import DecompositionError, LayerError, StorageError
from polyadic.formats import (
    CPFormat,
    FactoredKernel,
    Format,
    SpatialCPFormat,
    TKDCPDFormat,
    error_of,
    format_named,
    rank_for,
)
from polyadic.schema import ConvSpec, Rank, chain_params, plain_rank
from polyadic.storage import atomic_path, storage_error

_FORMATS = (
    "cp-epc, cp-als, cp-als-epc, cp4-epc, tucker2, tkd-cpd-epc, tt or spatial-svd of kernels; svd of matrices; "
    "tt-matrix of both, its modes found or given as in tt-matrix[4x8x4,4x4x4], rows first"
)


@command
def decompose_command(
    kernel: Annotated[Path, typer.Argument(help=".npy file: T x S x D x D, D^2 x S x T, or a matrix T x S")],
    format: Annotated[str, typer.Option(help=_FORMATS)],
    out: Annotated[Path, typer.Option(help=".npz file for the factors")],
    rank: Annotated[
        str | None, typer.Option(help="rank, or ranks separated by commas; one number serves for all of a tensor train")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="at least so many times fewer numbers than in the kernel, instead of a rank")
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(help="bound on the relative error, instead of a rank; beside R of tkd-cpd-epc that of Tucker-2"),
    ] = None,
    error_slack: Annotated[
        float, typer.Option(help="share by which EPC may raise the error (formats with epc in their name)")
    ] = 0.0,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Decompose one kernel and save its factors as arrays."""
    array = read_array(kernel)
    weight = as_kernel(array)
    spec = _spec_of(weight)
    fmt = _with_slack(format_named(format), error_slack)
    reason = fmt.refuses(spec)
    if reason:
        raise LayerError(f"{fmt.name} cannot be used here: {reason}")
    wanted = _rank(fmt, weight, spec, seed, rank=rank, ratio=ratio, error=error)
    began = time.monotonic()
    solution = fmt.solve(weight, spec, wanted, seed)
    seconds = time.monotonic() - began
    _write_arrays(out, factors_as_arrays(solution.factors))
    stages = fmt.stages(spec, wanted)
    chain = FactoredKernel(fmt.name, wanted, stages, fmt.weights(solution.factors, spec, wanted), 0.0, "")
    stability = solution.stability
    document = {
        "format": fmt.name,
        "rank": plain_rank(wanted),
        "relative_error": error_of(weight, chain),  # without what padded digits of a train add to that of the solver
        "sensitivity": stability.sensitivity if stability else None,
        "sensitivity_lemma": stability.sensitivity_lemma if stability else None,
        "sum_squared_intensity": stability.sum_squared_intensity if stability else None,
        "intensity_ratio": stability.intensity_ratio if stability else None,
        "parameters": chain_params(stages),
        "parameters_before": weight.numel(),
        "sweeps": solution.sweeps,
        "seconds": round(seconds, 3),
        "stop": solution.stop.value,
    }
    if json:
        emit(document)
        return
    for key, value in {**document, "factors": out}.items():
        if value is not None:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            say(f"{key.replace('_', ' '):>22}  {shown}")


def read_array(path: Path) -> Tensor:
    """A real array from a .npy file, in float64; nothing pickled is read.

    Raises:
        StorageError: the file is missing or damaged.
        DecompositionError: it does not hold real numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise storage_error(path, error) from error
    except Exception as error:  # a damaged header makes numpy raise nearly anything, one that asks too much MemoryError
        raise StorageError(f"{path} is no plain .npy array ({error}): save it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DecompositionError(f"{path} is an archive of arrays: save the kernel alone with numpy.save")
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise DecompositionError(
            f"{path} holds a kernel of real numbers; got {array.dtype} of shape {array.shape}: save the weight itself"
        )
    return torch.from_numpy(array.astype(np.float64))


def as_kernel(array: Tensor) -> Tensor:
    """The array as T x S x window; the window of D^2 x S x T is not known and read as D^2 x 1.

    Raises:
        DecompositionError: neither a matrix, nor of order 3, nor T x S x D x D.
    """
    if array.ndim == 3:
        return order3_to_kernel(array, (int(array.shape[0]), 1))
    if array.ndim in (2, 4, 5):
        return array
    raise DecompositionError(
        f"a kernel is T x S x D x D, D^2 x S x T or a matrix T x S; got an array of shape {tuple(array.shape)}"
    )


def factors_as_arrays(factors: object) -> dict[str, Tensor]:
    """The factors by the letters of the literature; a CP of more axes goes on with D, E, trains have G1, G2 ..."""
    if isinstance(factors, CPTensor):
        return dict(zip("ABCDE", factors.factors, strict=False))
    if isinstance(factors, TuckerCP):
        merged = dict(zip("ABC", factors.merged().factors, strict=True))
        core = dict(zip(("core_A", "core_B", "core_C"), factors.core.factors, strict=True))
        return {**merged, **core, "U": factors.U, "V": factors.V}
    if isinstance(factors, Tucker2Tensor):
        return {"G": factors.G, "U": factors.U, "V": factors.V}
    if isinstance(factors, LowRank):
        return {"P": factors.P, "Q": factors.Q}
    if isinstance(factors, TensorTrain | TTMatrixTensor):
        return {f"G{number}": G for number, G in enumerate(factors.cores, start=1)}
    raise TypeError(f"no letters for {type(factors).__name__}")


def _spec_of(weight: Tensor) -> ConvSpec:
    T, S, *window = (int(n) for n in weight.shape)
    axes = len(window)
    if axes > 3:
        raise DecompositionError(f"a kernel has at most 3 spatial axes; got {axes}")
    return ConvSpec(S, T, tuple(window), (1,) * axes, (0,) * axes, (1,) * axes)


def _with_slack(fmt: Format, slack: float) -> Format:
    if slack == 0.0:
        return fmt
    if isinstance(fmt, CPFormat) and fmt.method == "cp-als-epc":
        return replace(fmt, epc=replace(fmt.epc, error_slack=slack))
    if isinstance(fmt, TKDCPDFormat | SpatialCPFormat) or (isinstance(fmt, CPFormat) and fmt.method == "cp-epc"):
        return replace(fmt, stable=replace(fmt.stable, epc=replace(fmt.stable.epc, error_slack=slack)))
    raise DecompositionError(f"--error-slack belongs to formats with EPC; {fmt.name} has none")


def _rank(
    fmt: Format,
    weight: Tensor,
    spec: ConvSpec,
    seed: int,
    *,
    rank: str | None,
    ratio: float | None,
    error: float | None,
) -> Rank:
    """The ranks as given, or as the ratio or the error bound asks.

    Raises:
        DecompositionError: not one of them.
        LayerError: a rank out of bounds, a ratio or an error that no rank meets.
    """
    given = whole_numbers(rank, "--rank") if rank is not None else ()
    if isinstance(fmt, TKDCPDFormat) and len(given) == 1 and ratio is None:
        given, error = (*fmt.tucker_ranks(weight, given[0], error), given[0]), None
    if sum((bool(given), ratio is not None, error is not None)) != 1:
        raise DecompositionError(
            f"{fmt.name} takes one of --rank, --ratio and --error (tkd-cpd-epc a rank R with --error, too); "
            f"got {rank = }, {ratio = }, {error = }"
        )
    if fmt.name == "tucker2" and error is not None:
        return tucker2_bounded(kernel_to_order3(weight), error).factors.ranks
    number = given[0] if len(given) == 1 and fmt.name.startswith("tt") else given or None
    return rank_for(fmt, weight, spec, rank=number, ratio=ratio, error=error, seed=seed)


def _write_arrays(path: Path, arrays: dict[str, Tensor]) -> None:
    plain: dict[str, Any] = {name: tensor.numpy() for name, tensor in arrays.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **plain)
