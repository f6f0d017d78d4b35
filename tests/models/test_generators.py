from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights

from colorization.config import ConfigError
from colorization.models.discriminators import PatchConfig
from colorization.models.generators import ResNetUNetConfig, UNetGeneratorConfig
from colorization.models.layers import PixelShuffleUp, icnr_, normalization
from colorization.models.pretrained import load_pretrained, one_channel


def test_the_unet_has_the_published_eight_levels_at_256() -> None:
    network = UNetGeneratorConfig().build(256, 2)
    downs = [m for m in network.downs.modules() if isinstance(m, nn.Conv2d)]
    widths = [convolution.out_channels for convolution in downs]
    assert widths == [64, 128, 256, 512, 512, 512, 512, 512]
    assert len(network.ups) == 8


@pytest.mark.parametrize(
    ("size", "depth"), [(16, 4), (64, 6), (96, 5), (128, 7), (224, 5), (256, 8), (512, 8)]
)
def test_the_unet_halves_the_sides_while_they_are_even(size: int, depth: int) -> None:
    config = UNetGeneratorConfig()
    assert config.depth(size) == depth
    assert config.multiple(size) == 2**depth
    assert size % config.multiple(size) == 0


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("channels", [2, 3])
def test_generators_answer_in_the_pictures_size_between_minus_one_and_one(
    norm: str, channels: int
) -> None:
    lightness = torch.rand(2, 1, 64, 96) * 2 - 1
    settings = {"width": 4, "normalization": norm}
    for config in (
        UNetGeneratorConfig.model_validate(settings),
        ResNetUNetConfig.model_validate(settings),
    ):
        answer = config.build(32, channels)(lightness)
        assert answer.shape == (2, channels, 64, 96)
        assert answer.abs().max() < 1
        answer.mean().backward()


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_every_parameter_of_the_generators_and_the_discriminator_is_trained(norm: str) -> None:
    settings = {"width": 4, "normalization": norm}
    torch.manual_seed(0)
    for network, pictures in (
        (UNetGeneratorConfig.model_validate(settings).build(64, 2), torch.randn(4, 1, 64, 64)),
        (ResNetUNetConfig.model_validate(settings).build(64, 2), torch.randn(4, 1, 64, 64)),
        (PatchConfig.model_validate(settings).build(64, 3), torch.randn(4, 3, 64, 64)),
    ):
        network(pictures).square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "resnet50"])
def test_each_resnet_can_be_the_encoder(encoder: str) -> None:
    config = ResNetUNetConfig.model_validate({"encoder": encoder, "width": 4})
    with torch.device("meta"):
        assert config.build(64, 2)(torch.empty(1, 1, 64, 64)).shape == (1, 2, 64, 64)


def test_the_patchgan_answers_26_by_26_at_224_as_published() -> None:
    with torch.device("meta"):
        network = PatchConfig().build(224, 3)
        assert network(torch.empty(1, 3, 224, 224)).shape == (1, 1, 26, 26)
        assert network(torch.empty(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    widths = [m.out_channels for m in network if isinstance(m, nn.Conv2d)]
    assert widths == [64, 128, 256, 512, 1]


@pytest.mark.parametrize("layers", range(1, 7))
def test_the_patchgans_smallest_picture_is_the_smallest(layers: int) -> None:
    config = PatchConfig(width=4, layers=layers)
    with torch.device("meta"):
        side = config.smallest()
        network = config.build(side, 3).eval()
        assert min(network(torch.empty(1, 3, side, side)).shape) > 0
        with pytest.raises(RuntimeError):
            network(torch.empty(1, 3, side - 2**layers, side - 2**layers))


def test_an_icnr_weight_makes_pixel_shuffle_a_nearest_neighbour_resize() -> None:
    torch.manual_seed(0)
    weight = icnr_(torch.empty(12, 5, 3, 3))
    pictures = torch.randn(2, 5, 6, 6)
    shuffled = F.pixel_shuffle(F.conv2d(pictures, weight, padding=1), 2)
    small = shuffled[..., ::2, ::2]
    torch.testing.assert_close(shuffled, F.interpolate(small, scale_factor=2, mode="nearest"))
    assert small.std() > 0


def test_doubling_the_sides_starts_without_a_checkerboard() -> None:
    torch.manual_seed(0)
    up = PixelShuffleUp(8, 4, blur=False)
    doubled = up(torch.randn(2, 8, 5, 5))
    assert doubled.shape == (2, 4, 10, 10)
    small = doubled[..., ::2, ::2]
    torch.testing.assert_close(doubled, F.interpolate(small, scale_factor=2, mode="nearest"))


def test_the_blur_averages_two_by_two_pixels_and_keeps_the_size() -> None:
    torch.manual_seed(0)
    sharp, soft = PixelShuffleUp(8, 4, blur=False), PixelShuffleUp(8, 4, blur=True)
    soft.load_state_dict(sharp.state_dict())
    pictures = torch.randn(1, 8, 3, 3)
    expected = F.avg_pool2d(F.pad(sharp(pictures), (1, 0, 1, 0), mode="replicate"), 2, stride=1)
    torch.testing.assert_close(soft(pictures), expected)


def test_a_one_channel_convolution_sees_gray_as_the_three_channel_one_saw_it_repeated() -> None:
    three = nn.Conv2d(3, 8, 7, padding=3, bias=False)
    gray = torch.randn(2, 1, 16, 16)
    found = F.conv2d(gray, one_channel(three.weight), padding=3)
    torch.testing.assert_close(found, three(gray.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


def test_group_norm_has_32_groups_or_as_many_as_divide_the_channels() -> None:
    for channels, groups in ((4, 2), (12, 4), (32, 16), (48, 16), (64, 32)):
        norm = normalization("group", channels)
        assert isinstance(norm, nn.GroupNorm)
        assert norm.num_groups == groups


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights; returns the folder they belong into."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


WEIGHTS = ResNet18_Weights.IMAGENET1K_V1
FILE = str(WEIGHTS.url).rsplit("/", 1)[-1]


def test_a_pretrained_encoder_starts_from_the_weights_in_torchs_cache(torch_home: Path) -> None:
    # torch compares the hash in the file's name when it downloads, not when the file is there.
    torch.manual_seed(1)
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), torch_home / FILE)
    encoder = ResNetUNetConfig(pretrained=True, width=4).build(64, 2).encoder.eval()
    gray = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(
        encoder.conv1(gray), theirs.conv1(gray.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5
    )
    found = encoder.state_dict()
    for name, tensor in theirs.state_dict().items():
        if name != "conv1.weight" and not name.startswith("fc."):
            assert torch.equal(found[name], tensor), name


def test_weights_that_are_not_to_be_had_are_named_with_file_and_folder(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A closed port, so that the test is the same with and without a network.
    for proxy in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    with pytest.raises(ConfigError) as caught:
        load_pretrained(WEIGHTS)
    for part in (FILE, str(torch_home), "ResNet18_Weights.IMAGENET1K_V1", "pretrained=false"):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 torn"])
def test_damaged_weights_are_named(content: bytes, torch_home: Path) -> None:
    (torch_home / FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{FILE} are damaged"):
        load_pretrained(WEIGHTS)


def test_pretrained_weights_go_with_batch_norm_only() -> None:
    with pytest.raises(ValueError, match="trained with normalization: batch"):
        ResNetUNetConfig(pretrained=True, normalization="group")


@pytest.mark.parametrize("channels", [2, 4, 32, 48, 64])
def test_group_norm_goes_by_more_than_one_number_on_a_single_pixel(channels: int) -> None:
    norm = normalization("group", channels)
    answer = norm(torch.arange(2.0 * channels).view(2, channels, 1, 1) ** 2)
    assert answer.std() > 0.1
