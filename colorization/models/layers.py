"""Layers that several networks share."""

import math
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

Normalization = Literal["batch", "instance", "group", "none"]


def biased(kind: Normalization) -> bool:
    """Tell whether a convolution before a normalization of this kind has a bias.

    A norm takes it out again: its gradient would be round-off alone, which Adam scales up to
    whole steps, other ones on each number of ranks.
    """
    return kind == "none"


def normalization(kind: Normalization, channels: int) -> nn.Module:
    """Return a normalization layer for (B, channels, H, W)."""
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "group":
            groups = math.gcd(32, channels)
            if groups == channels:  # a group of one channel has no deviation at a last 1x1 pixel
                groups = max(1, channels // 2)
            return nn.GroupNorm(groups, channels)
        case "none":
            return nn.Identity()


class PixelShuffleUp(nn.Sequential):
    """Double the sides: 1x1 convolution, ReLU, pixel shuffle, optional blur.

    The convolution starts as nearest-neighbour resize (ICNR, Aitken et al. 2017), and the blur
    averages 2x2 pixels (Sugawara et al. 2018): both against checkerboards.
    """

    def __init__(self, channels: int, out_channels: int, *, blur: bool) -> None:
        convolution = nn.Conv2d(channels, 4 * out_channels, 1)
        icnr_(convolution.weight)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)  # drawn for each of the 2x2 pixels it would be a pattern
        layers: list[nn.Module] = [convolution, nn.ReLU(inplace=True), nn.PixelShuffle(2)]
        if blur:
            layers += [nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)]
        super().__init__(*layers)


def icnr_(weight: Tensor, scale: int = 2) -> Tensor:
    """Draw a weight (C * scale^2, in, k, k) so that pixel shuffle gives nearest-neighbour resize.

    Aitken et al. 2017, section 3.
    """
    with torch.no_grad():
        start = torch.empty_like(weight[:: scale**2])
        nn.init.kaiming_normal_(start)
        return weight.copy_(start.repeat_interleave(scale**2, dim=0))


class SelfAttention(nn.Module):
    """Let each pixel of (B, channels, H, W) look at all others: input + gamma * attention.

    Queries and keys have an eighth of the channels, values half; keys and values are max-pooled
    2x2, as in the code of Zhang et al. 2019 (SAGAN, section 3), and gamma starts at 0. `spectral`
    puts spectral norm on the four 1x1 convolutions. The fused kernels have no second derivative:
    a gradient penalty needs torch's `SDPBackend.MATH`.
    """

    def __init__(self, channels: int, spectral: bool = False) -> None:
        super().__init__()
        narrow, wide = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, wide, 1, bias=False)
        self.project = nn.Conv2d(wide, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))
        if spectral:
            for convolution in (self.query, self.key, self.value, self.project):
                with_spectral_norm(convolution)

    def forward(self, features: Tensor) -> Tensor:
        """Answer with features of the same shape."""
        queries = _as_words(self.query(features))
        keys = _as_words(_halve(self.key(features)))
        values = _as_words(_halve(self.value(features)))
        # Zeros change no product, and the kernels that never hold all products want one width.
        padding = (0, values.shape[-1] - keys.shape[-1])
        queries, keys = F.pad(queries, padding), F.pad(keys, padding)
        seen = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
        seen = seen.squeeze(1).transpose(1, 2).unflatten(2, features.shape[-2:])
        return features + self.gamma * self.project(seen)


def _halve(features: Tensor) -> Tensor:
    return F.max_pool2d(features, 2, ceil_mode=True)  # the last row of an odd side is seen too


def _as_words(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1 head, H * W, C); those kernels want a word's numbers side by side."""
    return features.flatten(2).transpose(1, 2).contiguous().unsqueeze(1)


M = TypeVar("M", bound=nn.Module)


def with_spectral_norm(layer: M) -> M:
    """Divide a layer's weight by its largest singular value, from now on; return the layer.

    Miyato et al. 2018; one power iteration a forward in training. Draw the weight before: it is
    computed from another parameter (`parametrizations.weight.original`) afterwards.
    """
    spectral_norm(layer)
    chain = layer.get_submodule("parametrizations.weight")
    assert isinstance(chain, nn.ModuleList)
    chain[0] = _FullPrecision(chain[0])
    return layer


class _FullPrecision(nn.Module):
    """Compute a weight outside autocast, which on GPUs would multiply bfloat16 by float32."""

    def __init__(self, parametrization: nn.Module) -> None:
        super().__init__()
        self.parametrization = parametrization

    def forward(self, weight: Tensor) -> Tensor:
        device = weight.device.type
        if not torch.amp.is_autocast_available(device):  # the meta device
            return self.parametrization(weight)
        with torch.autocast(device, enabled=False):
            return self.parametrization(weight)


def draw_normal(module: nn.Module) -> None:
    """Start convolutions as N(0, 0.02) and norms as N(1, 0.02) (DCGAN, pix2pix); use with apply."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
