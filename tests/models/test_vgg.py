from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from colorization.models.layers import Normalization
from colorization.models.vgg import VGGEncoder, VGGKind
from planted_vgg import plant


@torch.no_grad()
def levels(features: nn.Sequential, pictures: Tensor) -> list[Tensor]:
    """What torchvision's network has before each pooling, and after the last one."""
    found = []
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            found.append(pictures)
        pictures = layer(pictures.clone())
    return [*found, pictures]


@pytest.mark.parametrize(
    ("kind", "norm", "channels"),
    [
        ("vgg16", "none", 1),
        ("vgg19", "none", 1),
        ("vgg19", "none", 3),
        ("vgg19", "batch", 1),
        ("vgg16", "batch", 3),
    ],
)
def test_a_pretrained_encoder_has_the_features_of_torchvisions_network(
    kind: VGGKind,
    norm: Normalization,
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = plant(kind, norm, tmp_path, monkeypatch)
    ours = VGGEncoder(kind, channels, normalization=norm, pretrained=True).eval()
    gray = torch.rand(1, 1, 32, 64) * 2 - 1
    with torch.no_grad():
        found = ours(gray.repeat(1, channels, 1, 1))
    for mine, other in zip(found, levels(theirs, gray.repeat(1, 3, 1, 1)), strict=True):
        assert other.std() > 0.1
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", get_args(Normalization))
@pytest.mark.parametrize("kind", get_args(VGGKind))
def test_features_halve_five_times_and_every_parameter_is_trained(
    kind: VGGKind, norm: Normalization
) -> None:
    torch.manual_seed(0)
    encoder = VGGEncoder(kind, 1, width=4, normalization=norm)
    features = encoder(torch.rand(2, 1, 64, 96) * 2 - 1)
    assert encoder.widths == [4, 8, 16, 32, 32]
    assert [tuple(f.shape[1:]) for f in features] == [
        (4, 64, 96),
        (8, 32, 48),
        (16, 16, 24),
        (32, 8, 12),
        (32, 4, 6),
        (32, 2, 3),
    ]
    features[-1].pow(3).mean().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("kind", "convolutions"), [("vgg16", [2, 2, 3, 3, 3]), ("vgg19", [2, 2, 4, 4, 4])]
)
def test_the_encoder_has_the_published_layers(kind: VGGKind, convolutions: list[int]) -> None:
    with torch.device("meta"):
        encoder = VGGEncoder(kind, 3)
    found = [sum(isinstance(m, nn.Conv2d) for m in block.modules()) for block in encoder.blocks]
    assert found == convolutions
    expected, below = 0, 3
    for width, many in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        expected += (9 * below + 1) * width + (many - 1) * (9 * width + 1) * width
        below = width
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected
    # All of VGG-19 but its three linear layers: 143,667,240 as published by torchvision.
    linear = (512 * 7 * 7 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert kind != "vgg19" or expected + linear == 143_667_240


def test_untrained_features_of_a_deep_encoder_without_norms_do_not_fade() -> None:
    torch.manual_seed(0)
    features = VGGEncoder("vgg19", 1, width=8)(torch.randn(2, 1, 128, 128))
    assert 0.05 < features[-2].std() < 10
