"""Flows: what goes in comes back, and the volume is what differentiation says."""

from collections.abc import Sequence

import pytest
import torch
from FrEIA.modules import HaarDownsampling
from torch import Tensor, nn

from colorization.experiment import outline, read_experiment
from colorization.models.cinn import CINNConfig
from colorization.models.cinn.cinn import ConditionalFlow
from colorization.models.cinn.flow import Flow, FullyConnectedConfig, LevelConfig
from colorization.models.cinn.transforms import Haar, Permutation, Subnetwork
from small_recipe import read_recipe, read_small_recipe


def flow(
    levels: Sequence[LevelConfig],
    side: int,
    channels: Sequence[int] | None = None,
    vector: int = 5,
    last: FullyConnectedConfig | None = None,
) -> Flow:
    torch.manual_seed(0)
    return Flow(
        levels,
        last or FullyConnectedConfig(couplings=2, hidden=8),
        side=side,
        conditions=channels or [3] * len(levels),
        vector=vector,
        init_scale=0.1,
    )


def conditions(network: Flow, batch: int, channels: Sequence[int], vector: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sides = [int(level.shapes[-1][1]) for level in network.levels]  # pyright: ignore[reportIndexIssue, reportArgumentType]
    maps = [
        torch.randn(batch, width, side, side, generator=generator)
        for width, side in zip(channels, sides, strict=True)
    ]
    return [*maps, torch.randn(batch, vector, generator=generator)]


LEVELS = (
    LevelConfig(couplings=2, hidden=6),
    LevelConfig(couplings=3, hidden=6, kernels=(1, 3), keep=3),
    LevelConfig(couplings=2, hidden=6, clamp=0.6, keep=4),
)


SMALL = [(name, True) for name in ("cinn", "cinn_deep", "cinn_scene", "cinn_instance")]
PUBLISHED = [("cinn", False), ("cinn_deep", False)]  # A5's have A4's flow


@pytest.mark.parametrize(("name", "small"), [*SMALL, *PUBLISHED])
@torch.no_grad()
def test_every_recipes_flow_returns_what_went_in(name: str, small: bool) -> None:
    data = read_small_recipe(name) if small else read_recipe(name)
    if name != "cinn":
        data["model"]["condition"]["pretrained"] = False
    torch.manual_seed(0)
    model = CINNConfig.model_validate(data["model"]).build(data["data"]["size"]).eval()
    network, side = model.network, data["data"]["size"] // 4
    channels = 3 if name == "cinn_scene" else 1
    given = network.condition(torch.rand(1, channels, 4 * side, 4 * side) * 2 - 1)
    pictures = torch.randn(1, 2, side, side)
    latents, _ = network.flow(pictures, given)
    assert latents.shape == (1, 2 * side * side)
    assert not torch.allclose(latents.view_as(pictures), pictures, atol=0.1)
    torch.testing.assert_close(network.flow.inverse(latents, given), pictures, rtol=0, atol=1e-4)


def test_the_log_determinant_is_the_one_of_the_jacobian() -> None:
    network = flow(LEVELS, 4)
    given = conditions(network, 1, [3, 3, 3], 5)
    picture = torch.randn(1, 2, 4, 4)
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x, given)[0], picture)
    assert isinstance(jacobian, Tensor)
    _, expected = torch.linalg.slogdet(jacobian.view(32, 32).double())
    _, found = network(picture, given)
    assert found.item() == pytest.approx(expected.item(), abs=1e-4)
    assert abs(expected) > 1


def test_the_latent_has_as_many_dimensions_as_the_picture_and_holds_all_that_is_split_off() -> None:
    network = flow(LEVELS, 8)
    assert network.size == 128
    assert network.split_shapes == [(0, 8, 8), (5, 4, 4), (8, 2, 2)]
    assert network.last_shape == (4, 2, 2)
    given = conditions(network, 2, [3, 3, 3], 5)
    picture = torch.randn(2, 2, 8, 8)
    latents, _ = network(picture, given)
    latents[:, :80] = 0  # of the second level
    changed = network.inverse(latents, given)
    assert not torch.allclose(changed, picture, atol=0.1)
    again, _ = network(changed, given)
    torch.testing.assert_close(again, latents, rtol=0, atol=1e-4)


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    network = flow(LEVELS, 4)
    given = conditions(network, 3, [3, 3, 3], 5)
    pictures = torch.randn(3, 2, 4, 4)
    latents, volumes = network(pictures, given)
    alone, volume = network(pictures[1:2], [condition[1:2] for condition in given])
    torch.testing.assert_close(latents[1:2], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(volumes[1:2], volume, rtol=1e-4, atol=1e-5)


def test_every_level_and_the_last_couplings_see_their_condition() -> None:
    network = flow(LEVELS, 8)
    given = conditions(network, 1, [3, 3, 3], 5)
    picture = torch.randn(1, 2, 8, 8)
    latents, _ = network(picture, given)
    for index in range(len(given)):
        changed = [c + 1 if i == index else c for i, c in enumerate(given)]
        assert not torch.allclose(network(picture, changed)[0], latents, atol=1e-3), index


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_changes_no_latent(memory_format: torch.memory_format) -> None:
    network = flow(LEVELS, 8)
    given = conditions(network, 2, [3, 3, 3], 5)
    picture = torch.randn(2, 2, 8, 8)
    expected, _ = network(picture, given)
    network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    found, _ = network(
        picture.contiguous(memory_format=memory_format),
        [*(c.contiguous(memory_format=memory_format) for c in given[:-1]), given[-1]],
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_under_bfloat16_autocast_only_the_subnetworks_insides_are_bfloat16() -> None:
    network = flow(LEVELS, 8)
    given = conditions(network, 2, [3, 3, 3], 5)
    seen: dict[str, set[torch.dtype]] = {"inside": set(), "flow": set()}

    def watch(module: nn.Module, _: object, answer: object) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert isinstance(answer, Tensor)
            seen["inside"].add(answer.dtype)
        elif not isinstance(module, nn.ReLU):
            tensors = answer if isinstance(answer, tuple | list) else [answer]
            flat = [x for t in tensors for x in (t if isinstance(t, tuple | list) else [t])]
            seen["flow"] |= {tensor.dtype for tensor in flat if isinstance(tensor, Tensor)}

    for module in network.modules():
        module.register_forward_hook(watch)
    picture = torch.randn(2, 2, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents, volume = network(picture, [condition.bfloat16() for condition in given])
        back = network.inverse(latents, [condition.bfloat16() for condition in given])
    assert seen == {"inside": {torch.bfloat16}, "flow": {torch.float32}}
    assert volume.dtype == torch.float32
    # A subnetwork's input that comes back an ulp off may round to another bfloat16.
    torch.testing.assert_close(back, picture, rtol=0, atol=1e-2)
    assert (back - picture).abs().median() < 1e-5


@pytest.mark.parametrize("name", ["cinn", "cinn_deep"])
def test_the_published_flows_have_the_described_shapes_and_parameters(name: str) -> None:
    network = outline(read_experiment(name)).get_submodule("network")
    assert isinstance(network, ConditionalFlow)
    found = network.flow
    if name == "cinn":
        leaving = [(2, 64, 64), (8, 32, 32), (8, 16, 16)]
        splits, last = [(0, 64, 64), (6, 32, 32), (4, 16, 16)], (4, 16, 16)
        # (couplings, channels, condition's channels, hidden) of each level, then of the vector
        sizes = [(4, 2, 64, 32), (6, 8, 128, 64), (6, 8, 128, 128)]
        vector = (8, 1024, 512, 512)
    else:
        leaving = [(2, 64, 64), (8, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]
        splits = [(0, 64, 64), (0, 32, 32), (16, 16, 16), (32, 8, 8), (96, 4, 4)]
        last = (32, 4, 4)
        sizes = [(4, 2, 128, 64), (6, 8, 128, 128), (6, 32, 256, 256)]
        sizes += [(6, 64, 512, 512), (6, 128, 512, 512)]
        vector = (8, 512, 512, 512)
    shapes = [level.shapes[-1] for level in found.levels]  # pyright: ignore[reportIndexIssue]
    assert shapes == leaving
    assert (found.split_shapes, found.last_shape) == (splits, last)
    assert found.size == 2 * 64 * 64
    expected = sum(
        2 * _two_layers(channels // 2 + condition, hidden, channels, kernel**2)
        for level, (couplings, channels, condition, hidden) in enumerate(sizes)
        for kernel in ([3] * couplings if level == 0 else [1, 3] * (couplings // 2))
    )
    couplings, size, condition, hidden = vector
    expected += couplings * 2 * _two_layers(size // 2 + condition, hidden, size, 1)
    assert sum(p.numel() for p in found.parameters()) == expected


def _two_layers(entering: int, hidden: int, leaving: int, pixels: int) -> int:
    """Count the parameters of a subnetwork; it gives a scale and a shift for half the channels."""
    return entering * hidden * pixels + hidden + hidden * leaving * pixels + leaving


def test_couplings_alternate_their_kernels_and_are_permuted_but_for_the_two_channels() -> None:
    network = flow(LEVELS, 8)
    kernels = [
        [m.kernel_size[0] for m in level.modules() if isinstance(m, nn.Conv2d)][::4]
        for level in network.levels
    ]
    assert kernels == [[3, 3], [1, 3, 1], [3, 3]]  # of the first layer of each coupling
    permutations = [
        sum(isinstance(module, Permutation) for module in level.modules())
        for level in (*network.levels, network.fully_connected)
    ]
    assert permutations == [0, 3, 2, 2]


def test_subnetworks_start_as_small_normal_numbers_biases_too() -> None:
    torch.manual_seed(0)
    for kernel in (None, 1, 3):
        network = Subnetwork(50, 60, hidden=400, kernel=kernel, scale=0.02)
        for parameter in network.parameters():
            assert parameter.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_haar_wavelets_are_freias_and_leave_their_input_alone(channels: int) -> None:
    picture = torch.randn(2, channels, 6, 8)
    ours, theirs = Haar([(channels, 6, 8)]), HaarDownsampling([(channels, 6, 8)], rebalance=0.5)
    (found,), volume = ours([picture])
    (expected,), their_volume = theirs([picture])
    torch.testing.assert_close(found, expected)
    assert volume == pytest.approx(float(their_volume))
    assert ours.output_dims([(channels, 6, 8)]) == [(4 * channels, 3, 4)]
    before = found.clone()
    (back,), backwards = ours([found], rev=True)
    torch.testing.assert_close(back, picture)
    assert backwards == -volume
    assert torch.equal(found, before)


def test_a_permutation_is_drawn_with_the_seed_and_travels_with_the_weights() -> None:
    torch.manual_seed(1)
    first = Permutation([(50, 2, 2)])
    torch.manual_seed(1)
    same = Permutation([(50, 2, 2)])
    other = Permutation([(50, 2, 2)])
    assert torch.equal(first.order, same.order)
    assert not torch.equal(first.order, other.order)
    other.load_state_dict(first.state_dict())
    picture = torch.randn(1, 50, 2, 2)
    (there,), volume = first([picture])
    (back,), _ = other([there], rev=True)
    assert volume == 0
    assert not torch.equal(there, picture)
    assert torch.equal(back, picture)


def test_the_clamps_bound_how_much_a_volume_grows() -> None:
    network = flow([LevelConfig(couplings=3, hidden=4, clamp=0.5)], 4)
    for name, parameter in network.named_parameters():
        nn.init.constant_(parameter, 1e6 if name.endswith(".2.bias") else 0)
    _, volume = network(torch.randn(1, 2, 4, 4), conditions(network, 1, [3], 5))
    # Each coupling scales each of the 32 dimensions once; FrEIA's 0.636 is 2 / pi, nearly.
    assert volume.item() == pytest.approx(32 * (3 * 0.5 + 2 * 0.6), rel=2e-3)


@pytest.mark.parametrize("keep", [8, 9])
def test_a_level_that_keeps_more_than_it_has_is_refused(keep: int) -> None:
    levels = [{"couplings": 1, "hidden": 2}, {"couplings": 1, "hidden": 2, "keep": keep}]
    with pytest.raises(ValueError, match=rf"flow.1.keep: found {keep}; the level has 8 channels"):
        CINNConfig.model_validate({"flow": levels, "condition": {"name": "resnet"}})
