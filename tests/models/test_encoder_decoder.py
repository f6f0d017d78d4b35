from typing import get_args

import pytest
import torch
from torch import nn

from colorization.models.generators import EncoderDecoderConfig
from colorization.models.layers import Normalization
from gradients import untrained


def test_the_layers_are_the_published_ones_at_256() -> None:
    with torch.device("meta"):
        network = EncoderDecoderConfig().build(256, 2)
        shapes: list[tuple[int, ...]] = []
        parts = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        for part in (network.encoder[0], *parts):
            part.register_forward_hook(lambda _, __, answer: shapes.append(answer.shape[1:]))
        assert network(torch.empty(1, 1, 256, 256)).shape == (1, 2, 256, 256)
    within = [(128, side, side) for side in range(82, 62, -2)]  # two unpadded 3x3 a block
    assert shapes == [
        (1, 336, 336),
        (32, 336, 336),
        (64, 168, 168),
        (128, 84, 84),
        *within,
        (64, 128, 128),
        (32, 256, 256),
        (2, 256, 256),
    ]
    kernels = [part.kernel_size[0] for part in parts]
    assert kernels == [9, 3, 3, *[3] * 10, 3, 3, 9]


def test_the_parameters_are_as_many_as_the_description_has() -> None:
    with torch.device("meta"):
        network = EncoderDecoderConfig().build(256, 2)
    convolutions = 81 * 32 + 9 * (32 * 64 + 64 * 128 + 10 * 128 * 128 + 128 * 64 + 64 * 32)
    norms = 2 * (32 + 64 + 128 + 10 * 128 + 64 + 32)
    last = 81 * 32 * 2 + 2
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == convolutions + norms + last


@pytest.mark.parametrize("norm", get_args(Normalization))
def test_any_sides_that_are_multiples_of_4_and_every_parameter_is_trained(norm: str) -> None:
    torch.manual_seed(0)
    config = EncoderDecoderConfig.model_validate({"width": 4, "blocks": 2, "normalization": norm})
    network = config.build(32, 2)
    pictures = torch.rand(2, 1, 28, 36) * 2 - 1
    answer = network(pictures)
    assert answer.shape == (2, 2, 28, 36)
    assert answer.abs().max() < 1
    assert untrained(network, pictures) == []


@pytest.mark.parametrize("blocks", [1, 3, 5])
def test_the_smallest_side_is_the_smallest(blocks: int) -> None:
    config = EncoderDecoderConfig(width=4, blocks=blocks)
    side = config.smallest()
    with torch.device("meta"):
        network = config.build(side, 2)
        assert network(torch.empty(2, 1, side, side)).shape == (2, 2, side, side)
        with pytest.raises(RuntimeError):
            network(torch.empty(2, 1, side - 4, side - 4))


def test_a_residual_block_that_adds_nothing_crops_two_pixels_at_each_border() -> None:
    (block,) = EncoderDecoderConfig(width=4, blocks=1, normalization="none").build(32, 2).blocks
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    features = torch.randn(1, 16, 9, 11)
    assert torch.equal(block(features), features[..., 2:-2, 2:-2])
