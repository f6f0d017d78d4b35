from typing import get_args

import pytest
import torch

from colorization.models.generators import VGGAutoencoderConfig
from colorization.models.layers import Normalization
from gradients import untrained


def test_the_autoencoder_has_the_described_layers_at_128() -> None:
    with torch.device("meta"):
        network = VGGAutoencoderConfig().build(128, 2)
        assert network(torch.empty(2, 1, 128, 128)).shape == (2, 2, 128, 128)
    encoder, below = 0, 1
    for width, convolutions in zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True):
        encoder += 9 * below * width + (convolutions - 1) * 9 * width**2 + 2 * convolutions * width
        below = width
    to_latent = 512 * 4 * 4 * 100 + 100
    decoder = 100 * 512 * 4 * 4 + 2 * 512
    for width in (512, 512, 256, 128, 64):
        decoder += 16 * below * width + 2 * width
        below = width
    last = 9 * 64 * 2 + 2
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == encoder + to_latent + decoder + last


def test_all_of_a_picture_goes_through_the_latent_vector() -> None:
    config = VGGAutoencoderConfig(width=4, latent=5, normalization="group")
    torch.manual_seed(0)
    network = config.build(64, 2)
    seen: list[torch.Tensor] = []

    def record(_: object, __: object, latent: torch.Tensor) -> None:
        seen.append(latent)

    network.to_latent.register_forward_hook(record)
    picture = torch.rand(1, 1, 64, 64, requires_grad=True)
    answer = network(picture)
    assert seen[0].shape == (1, 5)
    (slope,) = torch.autograd.grad(answer.sum(), seen[0], retain_graph=True)
    (direct,) = torch.autograd.grad(answer.sum(), picture, retain_graph=True)
    (through,) = torch.autograd.grad(seen[0], picture, slope)
    torch.testing.assert_close(direct, through)


@pytest.mark.parametrize("norm", get_args(Normalization))
@pytest.mark.parametrize("size", [64, 96])
def test_it_answers_in_its_size_and_every_parameter_is_trained(norm: str, size: int) -> None:
    torch.manual_seed(0)
    config = VGGAutoencoderConfig.model_validate({"width": 4, "latent": 8, "normalization": norm})
    network = config.build(size, 3)
    pictures = torch.rand(3, 1, size, size) * 2 - 1
    answer = network(pictures)
    assert answer.shape == (3, 3, size, size)
    assert answer.abs().max() < 1
    assert untrained(network, pictures) == []


@pytest.mark.parametrize("norm", get_args(Normalization))
def test_its_smallest_side_trains(norm: str) -> None:
    config = VGGAutoencoderConfig.model_validate({"width": 4, "normalization": norm})
    side = config.smallest()
    assert config.build(side, 2)(torch.rand(2, 1, side, side)).shape == (2, 2, side, side)


def test_it_takes_pictures_of_its_training_size_alone() -> None:
    config = VGGAutoencoderConfig(width=4)
    assert config.fixed_size
    with pytest.raises(RuntimeError):
        config.build(64, 2)(torch.rand(2, 1, 96, 96))


def test_pretrained_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="pretrained VGG has width 64"):
        VGGAutoencoderConfig(pretrained=True, width=32)
    assert str(VGGAutoencoderConfig(pretrained=True).weights()) == "VGG16_BN_Weights.IMAGENET1K_V1"
