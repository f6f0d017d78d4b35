import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer, ViT_B_16_Weights, vit_b_16

from colorization.config import ConfigError, parse
from colorization.models.generators.vit import ViTGenerator, ViTGeneratorConfig
from colorization.models.pretrained import one_channel
from colorization.models.vit import ViTConfig, ViTTrunk, resize_positions

TINY = {"patch": 8, "hidden": 16, "depth": 2, "heads": 2, "mlp": 32}


def tiny(size: int, channels: int, **settings: Any) -> ViTGenerator:
    torch.manual_seed(0)
    return parse(ViTGeneratorConfig, {**TINY, **settings}).build(size, channels)


def theirs(size: int) -> VisionTransformer:
    """torchvision's network of the tiny measures, away from its start."""
    torch.manual_seed(1)
    network = VisionTransformer(size, TINY["patch"], 2, 2, 16, 32).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return network


@torch.no_grad()
def tokens(network: VisionTransformer, pictures: Tensor) -> Tensor:
    """What torchvision's class scores are made of, and the patches' tokens."""
    patches = network._process_input(pictures)
    class_token = network.class_token.expand(len(patches), -1, -1)
    return network.encoder(torch.cat([class_token, patches], dim=1))


def test_a_trunk_with_torchvisions_weights_has_its_tokens_on_the_repeated_gray_picture() -> None:
    network = theirs(32)
    trunk = ViTTrunk(ViTConfig.model_validate(TINY), 32, 1).eval()
    trunk.load_torchvision(network.state_dict())
    gray = torch.rand(2, 1, 32, 32) * 2 - 1
    expected = tokens(network, gray.repeat(1, 3, 1, 1))
    assert expected.std() > 0.5
    torch.testing.assert_close(trunk(gray), expected, rtol=1e-4, atol=1e-4)


def test_position_embeddings_are_interpolated_to_the_training_size_at_loading() -> None:
    network = theirs(32)
    trunk = ViTTrunk(ViTConfig.model_validate(TINY), 48, 1)
    trunk.load_torchvision(network.state_dict())
    found = trunk.encoder.pos_embedding
    assert found.shape == (1, 1 + 6 * 6, 16)
    assert torch.equal(found, resize_positions(network.encoder.pos_embedding, 6, 6))


def test_interpolated_positions_keep_rows_columns_and_the_class_token_apart() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    grid = torch.stack([rows, columns, torch.full_like(rows, 7)], dim=2).flatten(0, 1)
    positions = torch.cat([torch.full((1, 3), -5.0), grid])[None]
    found = resize_positions(positions, 4, 8)
    assert torch.equal(found[:, 0], positions[:, 0])
    row, column, same = found[0, 1:].unflatten(0, (4, 8)).unbind(2)
    torch.testing.assert_close(row, rows[:, :1].expand(4, 8))
    assert (column.diff(dim=1) > 0).all()
    torch.testing.assert_close(column, column[:1].expand(4, 8))
    torch.testing.assert_close(same, torch.full((4, 8), 7.0))
    assert resize_positions(positions, 4, 4) is positions


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("shape", [(32, 32), (8, 8), (40, 64), (64, 24)])
def test_pictures_of_any_multiple_of_the_patch_are_colored(
    shape: tuple[int, int], channels: int
) -> None:
    network = tiny(32, channels)
    answer = network(torch.rand(2, 1, *shape) * 2 - 1)
    assert answer.shape == (2, channels, *shape)
    assert answer.abs().max() < 1
    config = ViTGeneratorConfig.model_validate(TINY)
    assert (config.smallest(), config.multiple(32), config.fixed_size) == (8, 8, False)


def test_the_head_colors_each_patch_where_it_is() -> None:
    network = tiny(32, 2).eval()
    seen: list[Tensor] = []
    network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    lightness = torch.rand(1, 1, 16, 40) * 2 - 1
    network(lightness)
    patches = network.trunk(lightness)[0, 1:]
    assert seen[0].shape == (1, 16, 2, 5)
    for row in range(2):
        for column in range(5):
            assert torch.equal(seen[0][0, :, row, column], patches[5 * row + column])


def test_the_training_sizes_own_positions_are_used_for_other_sizes() -> None:
    network = tiny(32, 2).eval()
    moved = copy.deepcopy(network)
    with torch.no_grad():
        moved.trunk.encoder.pos_embedding.add_(
            torch.randn_like(network.trunk.encoder.pos_embedding)
        )
    lightness = torch.zeros(1, 1, 24, 48)
    assert not torch.allclose(network(lightness), moved(lightness), atol=1e-3)


@pytest.mark.parametrize("depth", [1, 3])
def test_every_parameter_of_the_generator_is_trained(depth: int) -> None:
    network = tiny(32, 2, depth=depth)
    network(torch.randn(2, 1, 32, 32)).square().mean().backward()
    names = dict(network.named_parameters())
    assert {"trunk.class_token", "trunk.encoder.ln.weight"} <= names.keys()
    for name, parameter in names.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_generator_has_the_published_layers() -> None:
    with torch.device("meta"):
        network = ViTGeneratorConfig().build(224, 2)
        assert network(torch.empty(1, 1, 224, 224)).shape == (1, 2, 224, 224)
        torchvisions = sum(p.numel() for p in vit_b_16().parameters())
    widths = [(m.in_channels, m.out_channels) for m in network.head if isinstance(m, nn.Conv2d)]
    assert widths == [(768, 768), (768, 768), (768, 512)]
    assert torchvisions == ViT_B_16_Weights.IMAGENET1K_V1.meta["num_params"]
    trunk = torchvisions - (768 * 1000 + 1000) - 2 * 768 * 16**2  # no classes, one channel
    head = 2 * (768 * 768 * 9 + 768) + (768 * 512 * 9 + 512)
    assert (trunk, head) == (85_405_440, 14_157_824)
    assert sum(p.numel() for p in network.parameters()) == trunk + head


def test_the_generator_works_under_bfloat16_autocast() -> None:
    network = tiny(32, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = network(torch.rand(2, 1, 24, 40))
    answer.float().square().mean().backward()
    assert answer.isfinite().all()


def test_pretrained_weights_are_taken_from_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(2)
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in vit_b_16().state_dict().items()}
    state = {key: torch.randn(()).expand(shape) for key, shape in shapes.items()}  # small on disk
    state["conv_proj.weight"] = torch.randn(shapes["conv_proj.weight"])
    weights = ViT_B_16_Weights.IMAGENET1K_V1
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / str(weights.url).rsplit("/", 1)[-1])

    config = ViTGeneratorConfig(pretrained=True)
    assert config.weights() == weights
    trunk = config.build(32, 2).trunk
    assert torch.equal(trunk.patches.weight, one_channel(state["conv_proj.weight"]))
    assert torch.equal(trunk.class_token, state["class_token"])
    assert trunk.encoder.pos_embedding.shape == (1, 1 + 2 * 2, 768)
    found = trunk.encoder.state_dict()
    for key, tensor in state.items():
        if key.startswith("encoder.") and key != "encoder.pos_embedding":
            assert torch.equal(found[key.removeprefix("encoder.")], tensor), key


@pytest.mark.parametrize("change", [{"patch": 8}, {"hidden": 384}, {"depth": 6}, {"mlp": 1024}])
def test_pretrained_weights_go_with_their_own_measures_only(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="patch: 16, hidden: 768, depth: 12, heads: 12, mlp: 307"):
        parse(ViTGeneratorConfig, {"pretrained": True, **change})
    assert ViTGeneratorConfig().weights() is None


def test_heads_that_cannot_share_a_token_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of heads, found hidden=20 and heads=3"):
        parse(ViTGeneratorConfig, {"hidden": 20, "heads": 3})
