"""Multilinear algebra on plain tensors; serves alone, knows no network."""

from polyadic.algebra.cp import CPTensor
from polyadic.algebra.factors import Factors, LowRank, Tucker2Tensor
from polyadic.algebra.products import (
    gram,
    gram_product,
    kernel_to_order3,
    khatri_rao,
    mode_product,
    mttkrp,
    order3_to_kernel,
    unfold,
)
from polyadic.algebra.tensor_train import TensorTrain, largest_tt_ranks
from polyadic.algebra.tt_matrix import TTMatrixTensor, balanced_modes, covering_modes

__all__ = [
    "CPTensor",
    "Factors",
    "LowRank",
    "TTMatrixTensor",
    "TensorTrain",
    "Tucker2Tensor",
    "balanced_modes",
    "covering_modes",
    "gram",
    "gram_product",
    "kernel_to_order3",
    "khatri_rao",
    "largest_tt_ranks",
    "mode_product",
    "mttkrp",
    "order3_to_kernel",
    "unfold",
]
