"""A U-Net's decoder that mirrors VGG-19."""

import math

import torch
from torch import Tensor, nn

from colorization.models.layers import Normalization, biased, normalization

_CONVOLUTIONS = (2, 2, 4, 4, 4)  # of VGG-19's blocks, from the outermost
_SKIPPED = (1, 2, 3)  # blocks whose features are shown again: at 128 pixels 64, 32 and 16 of them


class MirroredDecoder(nn.Module):
    """The six features of a VGGEncoder, widths `widths`, -> RGB (B, 3, H, W) in [0, 1], float32.

    For each block of the encoder, from the innermost: a transposed 2x2 convolution, the encoder's
    features beside it where they are skipped to, and as many 3x3 convolutions as the block has.
    """

    def __init__(self, widths: list[int], norm: Normalization) -> None:
        super().__init__()
        self.ups = nn.ModuleList()
        self.blocks = nn.ModuleList()
        below = widths[-1]
        for block in reversed(range(len(widths))):
            width = widths[block]
            up = nn.ConvTranspose2d(below, width, 2, stride=2)
            # He et al. 2015, here and below, for inputs behind a ReLU: with torch's own start what
            # comes up fades beside the skipped features, and the latent, far below, has no say.
            nn.init.normal_(up.weight, std=math.sqrt(2 / below))
            self.ups.append(up)
            layers: list[nn.Module] = []
            entering = 2 * width if block in _SKIPPED else width
            for _ in range(_CONVOLUTIONS[block]):
                convolution = nn.Conv2d(entering, width, 3, padding=1, bias=biased(norm))
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                layers += [convolution, normalization(norm, width), nn.ReLU(inplace=True)]
                entering = width
            self.blocks.append(nn.Sequential(*layers))
            below = width
        self.last = nn.Conv2d(below, 3, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Answer with RGB."""
        decoded = features[-1]
        outwards = reversed(list(enumerate(features[:-1])))
        for (block, skipped), up, convolutions in zip(outwards, self.ups, self.blocks, strict=True):
            decoded = up(decoded)
            if block in _SKIPPED:
                decoded = torch.cat([decoded, skipped], 1)
            decoded = convolutions(decoded)
        return self.last(decoded).float().sigmoid()
