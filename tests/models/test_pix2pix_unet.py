"""System E2's variant of pix2pix's U-Net."""

from typing import get_args

import pytest
import torch
from torch import nn

from colorization.models.generators import UNetGeneratorConfig
from colorization.models.generators.unet import UNetGenerator
from colorization.models.layers import Normalization
from colorization.models.pretrained import one_channel
from gradients import untrained

E2 = {"gray_channels": 3, "head": "upsample", "dropout_down": True, "normalization": "instance"}


def e2(size: int, channels: int = 3, **settings: object) -> UNetGenerator:
    torch.manual_seed(0)
    return UNetGeneratorConfig.model_validate({**E2, **settings}).build(size, channels)


def test_the_layers_are_the_described_ones_at_256() -> None:
    with torch.device("meta"):
        network = e2(256)
        shapes: list[tuple[int, ...]] = []
        kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Upsample, nn.ZeroPad2d)
        for part in network.modules():
            if isinstance(part, kinds):
                part.register_forward_hook(lambda _, __, answer: shapes.append(answer.shape[1:]))
        network(torch.empty(1, 1, 256, 256))
    downs = [(64, 128), (128, 64), (256, 32), (512, 16), (512, 8), (512, 4), (512, 2), (512, 1)]
    ups = [(512, 2), (512, 4), (512, 8), (512, 16), (256, 32), (128, 64), (64, 128)]
    head = [(128, 256), (128, 257), (3, 256)]
    assert [m.padding for m in network.modules() if isinstance(m, nn.ZeroPad2d)] == [(1, 0, 1, 0)]
    assert shapes == [(width, side, side) for width, side in (*downs, *ups, *head)]


def test_the_parameters_are_as_many_as_the_description_has() -> None:
    with torch.device("meta"):
        network = e2(256)
    expected, below = 0, 3
    for level, width in enumerate((64, 128, 256, 512, 512, 512, 512, 512)):
        plain = level in (0, 7)  # a bias there, instance norm elsewhere
        expected += 16 * below * width + (width if plain else 2 * width)
        below = width
    entering = 512
    for width in (512, 512, 512, 512, 256, 128, 64):
        expected += 16 * entering * width + 2 * width
        entering = 2 * width  # with the skip
    expected += 16 * 128 * 3 + 3
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_dropout_is_in_the_middle_going_down_and_up() -> None:
    def dropped(network: UNetGenerator, way: str) -> list[int]:
        return [
            level
            for level, part in enumerate(network.get_submodule(way).children())
            if any(isinstance(m, nn.Dropout) for m in part.modules())
        ]

    with torch.device("meta"):
        network, plain = e2(256), UNetGeneratorConfig().build(256, 2)
    assert dropped(network, "downs") == [3, 4, 5, 6, 7]  # those of 512 channels
    assert dropped(network, "ups") == [4, 5, 6]
    assert dropped(plain, "downs") == []


def test_gray_in_three_channels_is_the_lightness_repeated() -> None:
    settings = {"width": 4, "dropout": 0, "normalization": "group"}
    three, one = e2(32, **settings), e2(32, **settings, gray_channels=1)
    weights = three.state_dict()
    weights["downs.0.1.weight"] = one_channel(weights["downs.0.1.weight"])
    one.load_state_dict(weights)
    pictures = torch.rand(2, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(three(pictures), one(pictures), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", get_args(Normalization))
def test_it_answers_in_the_pictures_size_and_every_parameter_is_trained(norm: str) -> None:
    network = e2(32, width=4, normalization=norm)
    pictures = torch.rand(4, 1, 64, 96) * 2 - 1
    answer = network(pictures)
    assert answer.shape == (4, 3, 64, 96)
    assert answer.abs().max() < 1
    assert untrained(network, pictures) == []
