"""Upsampling of small color pictures along the edges of a large lightness picture."""

import torch
from torch import Tensor
from torch.nn import functional as F


def joint_bilateral(
    small: Tensor,
    guide: Tensor,
    *,
    radius: int = 2,
    spatial_deviation: float = 0.5,
    guide_deviation: float = 0.2,
) -> Tensor:
    """Upsample (B, C, h, w) to the size of a guide (B, 1, H, W) without blurring over its edges.

    Each pixel is a mean of the small picture's pixels within `radius` of its own place there,
    weighted by nearness (`spatial_deviation`, in small pixels) and by likeness of the guide
    (`guide_deviation`, in the guide's units). Sides may have any ratios; float32 throughout. Needs
    memory for a few pictures of the size returned. Kopf et al. 2007, section 3.
    """
    small, guide = small.float(), guide.float()
    rows, row_offsets = _places(guide.shape[2], small.shape[2], guide.device)
    columns, column_offsets = _places(guide.shape[3], small.shape[3], guide.device)
    both = torch.cat([F.adaptive_avg_pool2d(guide, (small.shape[2], small.shape[3])), small], dim=1)
    total = torch.zeros_like(guide)
    result = guide.new_zeros(small.shape[0], small.shape[1], *guide.shape[2:])
    for down in range(-radius, radius + 1):
        near_rows = (rows + down).clamp(0, small.shape[2] - 1)
        row_distances = (row_offsets - down).square().view(-1, 1)
        band = both[:, :, near_rows]
        for right in range(-radius, radius + 1):
            neighbor = band[..., (columns + right).clamp(0, small.shape[3] - 1)]
            distances = row_distances + (column_offsets - right).square()
            likeness = -(guide - neighbor[:, :1]).square() / (2 * guide_deviation**2)
            # Where no neighbor is like the pixel, nearness decides.
            weight = likeness.exp().add(1e-6) * (-distances / (2 * spatial_deviation**2)).exp()
            total += weight
            result.addcmul_(weight, neighbor[:, 1:])
    return result / total


def _places(large: int, small: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Find each large pixel's small pixel, and how far from the middle of that one it lies."""
    place = (torch.arange(large, device=device) + 0.5) * (small / large) - 0.5
    nearest = place.round().clamp(0, small - 1)
    return nearest.long(), place - nearest
