from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from colorization.losses import gradient_penalty
from colorization.models.discriminators import (
    CNNConfig,
    DiscriminatorConfig,
    PatchConfig,
    ResNetDiscriminatorConfig,
    SAGANDiscriminatorConfig,
    ViTDiscriminatorConfig,
)

VIT = {"name": "vit", "patch": 8, "hidden": 16, "depth": 2, "heads": 2, "mlp": 32}
TINY: dict[str, dict[str, Any]] = {
    "patch": {"name": "patch", "width": 4, "layers": 2},
    "patch on repeated gray": {"name": "patch", "width": 4, "layers": 1, "gray_channels": 3},
    "cnn": {"name": "cnn", "width": 4, "layers": 3},
    "cnn without norm": {"name": "cnn", "width": 4, "layers": 4, "normalization": "none"},
    "vit": VIT,
    "vit of one block": {**VIT, "depth": 1},
    "resnet": {"name": "resnet", "normalization": "group"},
    "sagan": {"name": "sagan", "width": 4, "layers": 3},
    "sagan without spectral norm": {"name": "sagan", "width": 4, "layers": 2, "spectral": False},
}
ONE_ANSWER = [kind for kind in TINY if not kind.startswith("patch")]


def config(settings: dict[str, Any]) -> DiscriminatorConfig:
    return TypeAdapter[DiscriminatorConfig](DiscriminatorConfig).validate_python(settings)


def build(kind: str, size: int = 32, channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    network = config(TINY[kind]).build(size, channels)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):  # self-attention starts switched off
            nn.init.constant_(parameter, 0.5)
    return network


def pictures(size: int = 32, channels: int = 3, count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, size, size, generator=generator) * 2 - 1


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("kind", ONE_ANSWER)
@pytest.mark.parametrize(("size", "channels"), [(32, 3), (64, 4)])
def test_a_picture_gets_one_logit(kind: str, size: int, channels: int) -> None:
    network = build(kind, size, channels)
    assert network(pictures(size, channels, 3)).shape == (3, 1, 1, 1)


@pytest.mark.parametrize("kind", TINY)
def test_logits_are_not_squashed_and_tell_pictures_apart(kind: str) -> None:
    network = build(kind)
    with torch.no_grad():
        *_, last = (p for name, p in network.named_parameters() if name.endswith("bias"))
        last += 100  # beyond what a sigmoid or tanh could answer
        answers = network(pictures())
    assert (answers > 50).all()
    assert (answers[0] != answers[1]).any()


@pytest.mark.parametrize("kind", TINY)
def test_every_parameter_of_a_discriminator_is_trained(kind: str) -> None:
    network = build(kind)
    network(pictures(count=4)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", TINY)
def test_a_gradient_penalty_trains_every_discriminator(kind: str) -> None:
    network = build(kind)
    penalty = gradient_penalty(network, pictures(seed=1), pictures(seed=2))
    assert penalty.isfinite()
    penalty.backward()
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:  # the last bias changes no slope
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", TINY)
def test_discriminators_work_under_bfloat16_autocast(kind: str) -> None:
    network = build(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers = network(pictures())
    answers.float().mean().backward()
    assert answers.isfinite().all()


SMALLEST: list[tuple[dict[str, Any], int]] = [
    ({"name": "patch", "width": 4, "layers": 3}, 24),
    ({"name": "cnn", "width": 4, "layers": 4}, 32),
    ({"name": "cnn", "width": 4, "layers": 4, "normalization": "instance"}, 32),
    ({"name": "cnn", "width": 4, "layers": 4, "normalization": "group"}, 16),
    ({"name": "cnn", "width": 4, "layers": 5, "normalization": "none"}, 32),
    (VIT, 8),
    ({"name": "resnet"}, 33),
    ({"name": "resnet", "normalization": "instance"}, 33),
    ({"name": "resnet", "normalization": "group"}, 32),
    ({"name": "sagan", "layers": 3}, 16),
]
# Sides below these would run, but on padding more than on pixels, or attend to one pixel.
UNHELPFUL = [{"name": "resnet", "normalization": "group"}, {"name": "sagan", "layers": 3}]


@pytest.mark.parametrize(("settings", "side"), SMALLEST)
def test_the_smallest_picture_can_be_learned_from_alone(
    settings: dict[str, Any], side: int
) -> None:
    small = config(settings)
    assert small.smallest() == side
    network = small.build(side, 3)
    network(pictures(side, count=1)).mean().backward()


@pytest.mark.parametrize(
    ("settings", "side"),
    [row for row in SMALLEST if row[0] not in UNHELPFUL],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_smaller_picture_than_the_smallest_cannot_work(
    settings: dict[str, Any], side: int
) -> None:
    with pytest.raises((RuntimeError, ValueError, AssertionError)):
        config(settings).build(side - 1, 3)(pictures(side - 1, count=1))


def test_a_vit_needs_whole_patches_and_the_others_take_any_side() -> None:
    for kind in TINY:
        multiple = config(TINY[kind]).multiple()
        assert multiple == (8 if kind.startswith("vit") else 1)
        if multiple == 1:
            assert build(kind, 37)(pictures(37)).isfinite().all()
    with pytest.raises(AssertionError):
        build("vit", 36)


def test_the_patchgan_can_judge_pix2pixs_pair_of_gray_and_color() -> None:
    with torch.device("meta"):
        assert parameters(PatchConfig().build(224, 3)) == 2_765_633
        assert parameters(PatchConfig(gray_channels=3).build(256, 4)) == 2_765_633 + 3 * 64 * 16
    network = build("patch on repeated gray", channels=4)
    first = network.get_submodule("0")
    seen: list[Tensor] = []
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    judged = pictures(channels=4)
    network(judged)
    gray = judged[:, :1]
    assert torch.equal(seen[0], torch.cat([gray, gray, gray, judged[:, 1:]], dim=1))


def test_the_cnn_has_the_published_layers() -> None:
    with torch.device("meta"):
        network = CNNConfig().build(256, 3)
        assert network(torch.empty(2, 3, 256, 256)).shape == (2, 1, 1, 1)
    layers = [m for m in network if isinstance(m, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [64, 128, 256, 512, 1024, 2048, 1]
    assert [layer.kernel_size for layer in layers] == [(4, 4)] * 7
    assert [layer.stride for layer in layers] == [(2, 2)] * 6 + [(1, 1)]
    steps = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 2048), (2048, 1)]
    weights = sum(16 * below * above for below, above in steps)
    norms = 2 * (128 + 256 + 512 + 1024 + 2048)
    assert parameters(network) == weights + norms + 64 + 1 == 44_739_393


def test_the_resnet_is_torchvisions_with_one_class() -> None:
    with torch.device("meta"):
        published = 11_689_512 - (512 * 1000 + 1000) + (512 + 1)
        assert parameters(ResNetDiscriminatorConfig().build(256, 3)) == published
        assert parameters(ResNetDiscriminatorConfig().build(256, 4)) == published + 64 * 49


def test_the_vit_is_a_vit_b16_with_one_answer() -> None:
    with torch.device("meta"):
        network = ViTDiscriminatorConfig().build(224, 3)
        assert network(torch.empty(1, 3, 224, 224)).shape == (1, 1, 1, 1)
    assert parameters(network) == 86_567_656 - (768 * 1000 + 1000) + (768 + 1)


def test_the_vit_answers_by_its_class_token_which_sees_all_patches() -> None:
    network = build("vit").eval()
    one = pictures(count=1)
    answer = network(one)
    class_token = network.get_submodule("trunk")(one)[:, 0]
    assert torch.equal(network.get_submodule("head")(class_token), answer.flatten(1))
    for row in (0, 24):
        for column in (0, 24):
            other = one.clone()
            other[..., row : row + 8, column : column + 8] = 0
            assert not torch.equal(network(other), answer)


def test_the_sagan_critic_attends_in_its_last_but_one_layer() -> None:
    with torch.device("meta"):
        network = SAGANDiscriminatorConfig(spectral=False).build(128, 4)
        assert network(torch.empty(2, 4, 128, 128)).shape == (2, 1, 1, 1)
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Conv2d", "LeakyReLU"] * 5 + ["SelfAttention", "Conv2d"]
    steps = [(4, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 1)]
    convolutions = sum(16 * below * above + above for below, above in steps)
    attention = 2 * 1024 * 128 + 2 * 1024 * 512 + 1
    assert parameters(network) == convolutions + attention == 12_474_306


def test_spectral_norm_is_on_every_convolution_of_the_sagan_critic_or_on_none() -> None:
    for kind, expected in (("sagan", True), ("sagan without spectral norm", False)):
        layers = [m for m in build(kind).modules() if isinstance(m, nn.Conv2d)]
        assert len(layers) == config(TINY[kind]).model_dump()["layers"] + 1 + 4
        assert all(is_parametrized(layer) == expected for layer in layers)


@pytest.mark.slow
def test_a_compiled_discriminator_can_be_penalized() -> None:
    network = build("cnn", 32)
    network.compile()
    assert network(pictures(32)).isfinite().all()
    gradient_penalty(network, pictures(32), -pictures(32)).backward()
    assert next(network.parameters()).grad is not None
