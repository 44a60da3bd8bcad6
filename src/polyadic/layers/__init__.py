"""Modules made of plain torch layers from a factored kernel."""

from polyadic.layers.chain import empty_chain, filled_chain
from polyadic.layers.plain import device_of, plain_layer, spec_of

__all__ = ["device_of", "empty_chain", "filled_chain", "plain_layer", "spec_of"]
