"""A kernel trained in its factors: the tree tensor network of a chain of cuts, as a parametrisation of a weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from polyadic.algebra import gram, mode_product, unfold
from polyadic.errors import LayerError
from polyadic.studies.cuts import INDICES, Chain, Cut, tree_shapes


class TreeKernel(nn.Module):
    """From the factors of a tree to the kernel (T x S x D_h x D_w), and from a kernel of its ranks to the factors.

    The layer stays a plain convolution: it costs as many MACs as before, and only its parameters are fewer.
    """

    def __init__(self, chain: Chain, ranks: Sequence[int], shape: Sequence[int]) -> None:
        """Describe the tree.

        Raises:
            LayerError: cuts of ``chain`` cross.
        """
        super().__init__()
        shapes = tree_shapes(chain, ranks, shape)
        if shapes is None:
            raise LayerError(f"a kernel in factors needs cuts that do not cross; got {chain}: leave one of them out")
        self.shape = tuple(shape)
        self.shapes = shapes
        kept = {cut.side for cut, rank in zip(chain.cuts, ranks, strict=True) if rank < cut.largest_rank(shape)}
        self.leaves = [axis for axis, index in enumerate(INDICES) if index in kept]
        self.pair = next((Cut(side) for side in sorted(kept) if len(side) == 2), None)
        leaf_rank = {axis: shapes[n][1] for n, axis in enumerate(self.leaves)}
        self.inner = tuple(leaf_rank.get(axis, size) for axis, size in enumerate(self.shape))

    def forward(self, *factors: Tensor) -> Tensor:
        """Contract the factors, leaves first and cores last, to the kernel."""
        leaves, cores = factors[: len(self.leaves)], factors[len(self.leaves) :]
        with torch.autocast(factors[0].device.type, enabled=False):  # small products: the weight keeps its precision
            X = cores[0] if self.pair is None else self.pair.folded(cores[0] @ cores[1], self.inner)
            for axis, U in zip(self.leaves, leaves, strict=True):
                X = mode_product(X, U, axis)
        return X

    @torch.no_grad()
    def right_inverse(self, K: Tensor) -> tuple[Tensor, ...]:
        """The factors of ``K``, exact where ``K`` has been truncated along the chain."""
        X, leaves = K.double(), []
        for n, axis in enumerate(self.leaves):
            # eigenvectors rather than an SVD: there are always n_k of them, however few columns other leaves left
            U = torch.linalg.eigh(gram(unfold(X, axis).mT)).eigenvectors.flip(1)[:, : self.shapes[n][1]]
            X = mode_product(X, U.mT, axis)
            leaves.append(U)
        factors = [*leaves, X]
        if self.pair is not None:
            rank = self.shapes[-1][0]
            U, s, Vh = torch.linalg.svd(self.pair.matrix(X), full_matrices=False)
            root = s[:rank].sqrt()
            factors = [*leaves, U[:, :rank] * root, root[:, None] * Vh[:rank]]
        return tuple(factor.to(K.dtype).contiguous() for factor in factors)


def factorise_in_place(layer: nn.Module, chain: Chain, ranks: Sequence[int]) -> None:
    """Replace the weight of ``layer`` by the factors of its tree; only its kernel of these ranks stays.

    Raises:
        LayerError: cuts of ``chain`` cross.
    """
    weight = layer.get_parameter("weight")
    tree = TreeKernel(chain, ranks, tuple(weight.shape))
    parametrize.register_parametrization(layer, "weight", tree)
