"""Values of images at places that are no pixels: by a grid, or within regions of interest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator

# The names of version 16 and those since version 20.
GRID_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}
REGIONS_AT_ONCE = 64
"""Regions are averaged in groups, since each takes memory for all channels and columns of the image."""


@operator("GridSample")
def grid_sample(facts: NodeFacts) -> Operation:
    """Values of an image or a volume at the places of a grid."""
    mode = GRID_MODES.get(facts.attributes.get("mode", "linear"))
    padding = facts.attributes.get("padding_mode", "zeros")
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise NotInTorchError(f"sampling by {facts.attributes} is not served")
    align = bool(facts.attributes.get("align_corners", 0))
    return lambda x, grid: F.grid_sample(x, grid.to(x.dtype), mode, padding, align)


@operator("AffineGrid")
def affine_grid(facts: NodeFacts) -> Operation:
    """The places that an affine map takes the pixels of an image or a volume to."""
    align = bool(facts.attributes.get("align_corners", 0))
    return lambda theta, size: torch.affine_grid_generator(theta, size.tolist(), align)


@operator("RoiAlign")
def roi_align(facts: NodeFacts) -> Operation:
    """Means of regions of interest, cut into bins and sampled between the pixels: He et al. 2017."""
    attributes = facts.attributes
    if attributes.get("mode", "avg") != "avg":
        raise NotInTorchError("the largest sample of a region is not served, only the mean")
    standard = "half_pixel" if facts.opset >= 16 else "output_half_pixel"
    half_pixel = attributes.get("coordinate_transformation_mode", standard) == "half_pixel"
    bins = (attributes.get("output_height", 1), attributes.get("output_width", 1))
    samples, scale = attributes.get("sampling_ratio", 0), attributes.get("spatial_scale", 1.0)

    def run(x: Tensor, regions: Tensor, images: Tensor) -> Tensor:
        ends = regions * scale - (0.5 if half_pixel else 0.0)  # x1, y1, x2, y2
        extents = ends[:, 2:] - ends[:, :2]
        if not half_pixel:
            extents = extents.clamp(min=1.0)
        # Linear between rows, linear between columns and the mean over both are sums of rows times sums of columns.
        rows = _bin_weights(ends[:, 1], extents[:, 1], bins[0], samples, x.shape[2])
        columns = _bin_weights(ends[:, 0], extents[:, 0], bins[1], samples, x.shape[3])
        result = torch.zeros(len(regions), x.shape[1], *bins, dtype=x.dtype, device=x.device)
        for image in sorted(set(images.tolist())):
            for members in (images == image).nonzero()[:, 0].split(REGIONS_AT_ONCE):
                means = torch.einsum("chw,rph,rqw->rcpq", x[image], rows[members], columns[members])
                result = result.index_copy(0, members, means.to(x.dtype))
        return result

    return run


def _bin_weights(start: Tensor, extent: Tensor, bins: int, samples: int, size: int) -> Tensor:
    """How much every element of an axis counts in the mean of every bin, (regions, bins, size)."""
    step = extent / bins
    # As many samples as the bin has elements, where the node does not say how many.
    counts = torch.full_like(step, samples) if samples > 0 else step.ceil().clamp(min=0)
    most = int(counts.max().item()) if len(counts) else 0
    number = torch.arange(most, device=start.device, dtype=start.dtype)
    inside = (number + 0.5) / counts.clamp(min=1)[:, None]
    first = torch.arange(bins, device=start.device, dtype=start.dtype)
    x = start[:, None, None] + (first[:, None] + inside[:, None, :]) * step[:, None, None]  # (regions, bins, samples)
    taken = (number < counts[:, None])[:, None, :] & (x >= -1) & (x <= size)
    # Between two elements both count, the nearer one more: 1 less the distance. Beyond the ends stand the ends.
    distances = (x.clamp(0, size - 1)[..., None] - torch.arange(size, device=start.device, dtype=start.dtype)).abs()
    weights = (1 - distances).clamp(min=0) * taken[..., None]
    return weights.sum(2) / counts.clamp(min=1)[:, None, None]
