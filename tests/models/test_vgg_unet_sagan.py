from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from colorization.models.generators import VGGUNetSAGANConfig
from colorization.models.generators.vgg_unet_sagan import VGGUNetSAGAN
from colorization.models.layers import Normalization, SelfAttention
from colorization.models.vgg import VGGEncoder
from gradients import untrained
from planted_vgg import plant


def small(**settings: object) -> VGGUNetSAGAN:
    torch.manual_seed(0)
    network = VGGUNetSAGANConfig.model_validate({"width": 4, **settings}).build(64, 2)
    if isinstance(network.attention, SelfAttention):
        nn.init.constant_(network.attention.gamma, 0.5)  # at 0 the attention's weights rest
    return network


def test_unet_sagan_has_the_described_layers() -> None:
    with torch.device("meta"):
        network = VGGUNetSAGANConfig().build(128, 3)
        assert network(torch.empty(1, 1, 128, 128)).shape == (1, 3, 128, 128)
    encoder, below = 0, 1
    for width, convolutions in zip((64, 128, 256, 512, 512), (2, 2, 4, 4, 4), strict=True):
        encoder += 9 * below * width + (convolutions - 1) * 9 * width**2 + 2 * convolutions * width
        below = width
    decoder = 0
    for width in (512, 512, 256, 128, 64):
        decoder += 16 * below * width + 2 * width  # 4x4 transposed, batch norm
        decoder += 9 * 2 * width * width + 2 * width  # 3x3 on features and skip, batch norm
        below = width
    attention = 64 * (8 + 8 + 32) + 32 * 64 + 1
    last = 9 * 64 * 3 + 3
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == encoder + decoder + attention + last


def test_self_attention_is_the_last_but_one_layer_at_full_size() -> None:
    network = small()
    order: list[nn.Module] = []
    sides: list[torch.Size] = []

    def record(part: nn.Module, _: object, answer: torch.Tensor) -> None:
        order.append(part)
        sides.append(answer.shape[2:])

    for part in network.children():
        if part is not network.encoder:
            part.register_forward_hook(record)
    network(torch.randn(1, 1, 64, 64))
    assert order == [network.attention, network.last]
    assert sides == [(64, 64), (64, 64)]
    assert isinstance(network.attention, SelfAttention)
    assert not [m for m in small(self_attention=False).modules() if isinstance(m, SelfAttention)]


@pytest.mark.parametrize("spectral", [False, True])
def test_spectral_norm_is_on_every_convolution_but_the_encoders(spectral: bool) -> None:
    network = small(spectral=spectral)
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    for name, part in network.named_modules():
        if isinstance(part, kinds):
            assert is_parametrized(part) == (spectral and not name.startswith("encoder")), name


@pytest.mark.parametrize("norm", get_args(Normalization))
@pytest.mark.parametrize("encoder", ["vgg16", "vgg19"])
def test_any_sides_that_are_multiples_of_32_and_every_parameter_is_trained(
    norm: str, encoder: str
) -> None:
    network = small(normalization=norm, encoder=encoder)
    pictures = torch.rand(2, 1, 64, 96) * 2 - 1
    answer = network(pictures)
    assert answer.shape == (2, 2, 64, 96)
    assert answer.abs().max() < 1
    assert untrained(network, pictures) == []
    assert small(normalization=norm)(pictures[:1, :, :32, :32]).isfinite().all()


def test_skips_carry_what_the_bottleneck_does_not() -> None:
    network = small().eval()
    bottlenecks: list[torch.Tensor] = []
    network.encoder.register_forward_hook(lambda _, __, found: bottlenecks.append(found[-1]))
    network.ups[0].register_forward_pre_hook(lambda *_: (bottlenecks[0],))  # always the first one
    with torch.no_grad():
        dark, light = (network(torch.full((1, 1, 64, 64), value)) for value in (-1.0, 1.0))
    assert not torch.equal(*bottlenecks)
    assert (dark - light).abs().max() > 1e-3


def test_it_trains_under_bfloat16_autocast() -> None:
    network = small()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = network(torch.rand(2, 1, 32, 32))
    answer.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_pretrained_encoder_starts_as_torchvisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = plant("vgg19", "batch", tmp_path, monkeypatch)
    network = VGGUNetSAGANConfig(pretrained=True).build(32, 3).eval()
    gray = torch.rand(1, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = theirs(gray.repeat(1, 3, 1, 1))
        torch.testing.assert_close(network.encoder(gray)[-1], expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_the_weights_it_needs_are_named() -> None:
    names = {
        norm: str(VGGUNetSAGANConfig(pretrained=True, normalization=norm).weights())
        for norm in ("none", "batch")
    }
    assert names == {
        "none": "VGG19_Weights.IMAGENET1K_V1",
        "batch": "VGG19_BN_Weights.IMAGENET1K_V1",
    }
    assert VGGUNetSAGANConfig().weights() is None


@pytest.mark.parametrize(
    ("settings", "right"),
    [({"width": 32}, "pretrained VGG has width 64"), ({"normalization": "group"}, "none or batch")],
)
def test_pretrained_weights_of_another_network_are_refused(
    settings: dict[str, object], right: str
) -> None:
    with pytest.raises(ValueError, match=right):
        VGGUNetSAGANConfig.model_validate({"pretrained": True, **settings})


def test_the_encoder_can_be_frozen_by_its_name() -> None:
    assert isinstance(small().get_submodule("encoder"), VGGEncoder)
