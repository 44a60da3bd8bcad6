"""Networks as PyTorch should get them: without batch norms that cost time and say nothing new in evaluation mode.

The other engines fold batch norms by themselves, so that PyTorch without it would be timed on another network.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.surgery import fold_and_merge


def folded(networks: Mapping[str, nn.Module], example: Tensor) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The same networks with batch norms folded and neighbours merged, and what was done to each, in words.

    A network that cannot be folded is taken as it is.
    """
    made: dict[str, nn.Module] = {}
    said: dict[str, str] = {}
    for name, network in networks.items():
        try:
            result = fold_and_merge(network, example)
        except LayerError as error:
            made[name], said[name] = network, f"taken as it is: {error}"
            continue
        made[name] = result.model
        said[name] = f"{len(result.done)} changes made, {len(result.left)} refused"
    return made, said
