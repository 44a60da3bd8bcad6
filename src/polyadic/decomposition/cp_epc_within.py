"""Error-preserving correction up to an absolute bound: what the error leaves over is spent on stability."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition.cp_epc import EPCOptions, cp_epc


def cp_epc_within(K: Tensor, cp: CPTensor, squared_bound: float, options: EPCOptions) -> CPTensor:
    """``cp``, factors of ``K`` (I x J x L, float64), corrected until ``||K - K^||^2`` is at most ``squared_bound``.

    Where it is above the bound already, or zero would do, the factors come back as they are; so they do under a bound
    below 1e-6 ``||K||^2``, which callers know as a difference of squared norms no better than to 1e-16 ``||K||^2``.
    """
    used, energy = float((K - cp.full()).square().sum()), float(K.square().sum())
    if not (used < squared_bound < energy and squared_bound > 1e-6 * energy):
        return cp
    delta = math.sqrt(squared_bound / energy) * (1.0 - 1e-9)
    return cp_epc(K, cp, replace(options, error_slack=0.0, delta=delta)).factors
