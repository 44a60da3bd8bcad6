"""A layer of a model that may be factorised, or the reason why it may not."""

from __future__ import annotations

from dataclasses import dataclass

from polyadic.schema.chain import Stage, chain_macs
from polyadic.schema.conv_spec import ConvSpec


@dataclass(frozen=True)
class LayerSite:
    """One weight-bearing layer as a traced forward pass found it.

    Attributes:
        name: dotted path in the model.
        kind: class of the module, such as "Conv2d".
        spec: its geometry; None where Polyadic cannot describe it.
        input_sizes: spatial input size of every call in one pass over one sample (of a Linear: its positions).
        reason: why it cannot be factorised by any format; None for a candidate.
        aliases: further paths at which the same module is registered.
    """

    name: str
    kind: str
    spec: ConvSpec | None
    input_sizes: tuple[tuple[int, ...], ...] = ()
    reason: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all calls for one sample (0 where the geometry is unknown)."""
        return self.chain_macs((self.spec,)) if self.spec is not None else 0

    @property
    def params(self) -> int:
        """Weights and bias (0 where the geometry is unknown)."""
        return self.spec.params if self.spec is not None else 0

    def chain_macs(self, stages: tuple[Stage, ...]) -> int:
        """What ``stages`` in the place of this layer would cost, over all its calls."""
        return sum(chain_macs(stages, size) for size in self.input_sizes)
