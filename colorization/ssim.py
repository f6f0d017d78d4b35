"""Structural similarity of pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11  # pixels; its side
_SIGMA = 1.5  # of the Gaussian window, in pixels
_C1, _C2 = 0.01**2, 0.03**2


def ssim(rgb: Tensor, rgb_true: Tensor) -> Tensor:
    """Return each picture's structural similarity: twice (B, 3, H, W) uint8 -> (B,) float64.

    Gaussian window of 11 with sigma 1.5, population covariance, averaged over the channels and over
    the places where the window lies within the picture, whose sides must be as long.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    # One by one: on the CPU several times as fast as the batch (it stays in the cache), and a
    # picture's score does not depend on its neighbours in the batch.
    pairs = zip(rgb, rgb_true, strict=True)
    scores = [_map(x[:, None].float() / 255, y[:, None].float() / 255) for x, y in pairs]
    return torch.stack([score.mean(dtype=torch.float64) for score in scores])


def _map(x: Tensor, y: Tensor) -> Tensor:
    """Compare channels in [0, 1], (N, 1, H, W), at each place of the window."""
    offsets = torch.arange(WINDOW, device=x.device) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    row = (window / window.sum()).view(1, 1, 1, -1)
    moments = torch.cat([x, y, x * x, y * y, x * y])
    x_mean, y_mean, xx, yy, xy = F.conv2d(F.conv2d(moments, row), row.transpose(2, 3)).chunk(5)
    variances = (xx - x_mean**2).clamp(min=0) + (yy - y_mean**2).clamp(min=0)
    covariance = xy - x_mean * y_mean
    similar = (2 * x_mean * y_mean + _C1) * (2 * covariance + _C2)
    return similar / ((x_mean**2 + y_mean**2 + _C1) * (variances + _C2))
