"""Multilinear algebra on plain tensors; serves alone, knows no network."""

from polyadic.algebra.cp import CPTensor
from polyadic.algebra.low_rank import LowRank
from polyadic.algebra.products import gram, gram_product, khatri_rao, mode_product, mttkrp
from polyadic.algebra.tensor_train import TensorTrain, largest_tt_ranks
from polyadic.algebra.tt_matrix import TTMatrixTensor, balanced_modes, covering_modes
from polyadic.algebra.tucker import Tucker2Tensor
from polyadic.algebra.unfolding import kernel_to_order3, order3_to_kernel, unfold

__all__ = [
    "CPTensor",
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
