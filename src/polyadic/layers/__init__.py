"""Modules made of plain torch layers from a factored kernel."""

from polyadic.layers.chain import empty_chain, filled_chain
from polyadic.layers.plain import plain_layer, spec_of

__all__ = ["empty_chain", "filled_chain", "plain_layer", "spec_of"]
