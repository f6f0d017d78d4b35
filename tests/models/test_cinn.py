import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights

from colorization import config
from colorization.color import rgb_to_lab
from colorization.config import parse
from colorization.data.sample import SampleSource
from colorization.data.transforms import scoring_crop
from colorization.experiment import Experiment, outline, read_experiment
from colorization.models.cinn import CINNConfig
from colorization.models.cinn.cinn import CINN
from colorization.models.cinn.likelihood import bits_per_dimension, negative_log_likelihood
from colorization.models.cinn.partly_colored import color_boxes
from colorization.models.colorizer import Progress, Turn
from colorization.training import fit
from colorization.upsampling import joint_bilateral
from small_recipe import read_small_recipe

SIZE = 32
TINY: dict[str, Any] = {
    "name": "cinn",
    "condition": {"name": "convolutional", "widths": [4], "vector": 6},
    "flow": [
        {"couplings": 1, "hidden": 8},
        {"couplings": 2, "hidden": 8, "kernels": [1, 3], "keep": 2},
        {"couplings": 1, "hidden": 8, "clamp": 0.6, "keep": 4},
    ],
    "fully_connected": {"couplings": 2, "hidden": 8},
    "init_scale": 0.1,
}
RESNET = {"name": "resnet", "network": "resnet18", "vector": 6}


def tiny(size: int = SIZE, seed: int = 0, **settings: Any) -> CINN:
    torch.manual_seed(seed)
    return parse(CINNConfig, {**TINY, **settings}).build(size)


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """Scaled Lab of one 32-pixel crop of each scene."""
    pictures = SampleSource(scoring_crops=8).open(0).validation
    crops = [torch.from_numpy(scoring_crop(pictures.picture(i), SIZE)) for i in range(8)]
    return rgb_to_lab(torch.stack(crops).permute(0, 3, 1, 2))


def standardized(model: CINN, photographs: Tensor) -> CINN:
    ab = photographs[:, 1:]
    model.standardize(ab.mean((0, 2, 3)), ab.std((0, 2, 3)))
    return model


def move(model: CINN, lab: Tensor) -> Turn:
    (turn,) = model.turns(lab, Progress("likelihood", 0, 1))
    return turn


def test_normal_latents_cost_the_entropy_of_the_colors_in_bits() -> None:
    # Squares of 1 are a normal's mean; standardized by d, ab is then N(0, (110 d)^2) in Lab units.
    z = torch.tensor([1.0, -1.0]).repeat(1, 50)
    nll = negative_log_likelihood(z, torch.zeros(1))
    deviations = (0.1, 0.3)
    found = bits_per_dimension(nll, torch.tensor(deviations))
    entropies = [0.5 * math.log2(2 * math.pi * math.e * (110 * d) ** 2) for d in deviations]
    assert found.item() == pytest.approx(sum(entropies) / 2, rel=1e-6)


def test_a_flow_that_scales_a_gaussian_to_the_normal_costs_its_entropy() -> None:
    colors = 0.5 * torch.randn(4, 20_000, generator=torch.Generator().manual_seed(0))
    volume = torch.full((4,), 20_000 * math.log(2))  # of z = 2 x
    bits = bits_per_dimension(negative_log_likelihood(2 * colors, volume), torch.full((2,), 0.1))
    entropy = 0.5 * math.log2(2 * math.pi * math.e * (0.5 * 11) ** 2)
    assert bits.tolist() == pytest.approx([entropy] * 4, rel=0.01)


def test_the_loss_is_the_likelihood_of_the_standardized_colors(photographs: Tensor) -> None:
    model = standardized(tiny(noise=0), photographs)
    turn = move(model, photographs)
    assert turn.player == "network"
    assert torch.equal(turn.loss, turn.terms["nll"])
    small = F.avg_pool2d(photographs[:, 1:], 4)
    mean, deviation = photographs[:, 1:].mean((0, 2, 3)), photographs[:, 1:].std((0, 2, 3))
    colors = (small - mean.view(2, 1, 1)) / deviation.view(2, 1, 1)
    z, log_det = model.network(colors, photographs[:, :1])
    expected = (z.square().sum(1) / 2 - log_det).mean() / (2 * 8 * 8)
    torch.testing.assert_close(turn.loss, expected)
    bits = (expected + math.log(2 * math.pi) / 2 + (110 * deviation).log().mean()) / math.log(2)
    torch.testing.assert_close(turn.terms["bits_per_dimension"], bits)


def test_latents_of_photographs_are_of_a_normals_size_from_the_start(photographs: Tensor) -> None:
    data = read_small_recipe("cinn")["model"]
    model = standardized(tiny(64, **data), photographs)
    z, _ = model.encode(F.interpolate(photographs, size=(64, 64), mode="bilinear"))
    assert 0.1 < z.std() < 2
    assert z.abs().max() < 20


def test_noise_is_on_the_colors_in_training_only(photographs: Tensor) -> None:
    model = standardized(tiny(noise=0.1), photographs).eval()  # batch norm stays as it is
    assert move(model, photographs).loss != move(model, photographs).loss
    first, second = (model.measure(photographs)["bits_per_dimension"] for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (8,)
    apart = model.measure(photographs[2:3])["bits_per_dimension"]
    torch.testing.assert_close(apart, first[2:3], rtol=1e-4, atol=1e-4)


def test_bits_per_dimension_fall_while_training(tmp_path: Path) -> None:
    data = read_small_recipe("cinn") | {"model": TINY}
    changes = {
        "data.size": SIZE,
        "data.source.crops": 64,
        "train.precision": "float32",
        "train.grid_every": 9,
        "train.stages.likelihood.epochs": 3,
    }
    experiment = parse(Experiment, config.override(data, changes))
    outcome = fit(experiment, tmp_path, device="cpu")
    trained = [epoch["train/network/bits_per_dimension"] for epoch in outcome.history]
    scored = [epoch["bits_per_dimension"] for epoch in outcome.history]
    assert trained == sorted(trained, reverse=True)
    assert trained[-1] < trained[0] - 0.3
    assert scored == sorted(scored, reverse=True)
    assert scored[-1] < scored[0] - 0.3


def test_colors_are_made_of_noise_alone_but_for_the_picture(photographs: Tensor) -> None:
    model = standardized(tiny(), photographs).eval()
    lightness = photographs[:, :1]
    with torch.no_grad():
        ab = model.colorize(lightness, samples=3)
        assert ab.shape == (3, 8, 2, SIZE, SIZE)
        assert ab.abs().max() <= 1
        assert not torch.allclose(ab[0], ab[1], atol=0.01)
        torch.testing.assert_close(model.colorize(lightness)[0], ab[0])
        torch.testing.assert_close(model.colorize(lightness[4:6], samples=2), ab[:2, 4:6])


def test_the_temperature_scales_the_noise_and_is_the_models_where_none_is_given(
    photographs: Tensor,
) -> None:
    model = standardized(tiny(temperature=0.5), photographs).eval()
    lightness = photographs[:, :1]
    with torch.no_grad():
        mean = model.colorize(lightness, samples=2, temperature=0)
        own = model.colorize(lightness, samples=2)
        half = model.colorize(lightness, samples=2, temperature=0.5)
        whole = model.colorize(lightness, samples=2, temperature=1)
    assert torch.equal(mean[0], mean[1])
    assert torch.equal(own, half)
    assert (whole[0] - mean[0]).abs().mean() > 1.3 * (half[0] - mean[0]).abs().mean()


def test_the_mean_sample_is_the_inverse_of_zero_in_the_pictures_own_units(
    photographs: Tensor,
) -> None:
    model = standardized(tiny(), photographs).eval()
    lightness = photographs[:, :1]
    with torch.no_grad():
        given = model.network.condition(lightness)
        small = model.network.flow.inverse(torch.zeros(8, 128), given)
        small = small * model.deviation.view(2, 1, 1) + model.mean.view(2, 1, 1)
        expected = joint_bilateral(small, lightness).clamp(-1, 1)
        found = model.colorize(lightness, temperature=0)[0]
    torch.testing.assert_close(found, expected)


def test_conditions_are_computed_once_for_all_samples(photographs: Tensor) -> None:
    model = tiny().eval()
    calls: list[None] = []
    model.network.condition.register_forward_hook(lambda *_: calls.append(None))
    with torch.no_grad():
        model.colorize(photographs[:, :1], samples=4)
    assert len(calls) == 1


def test_statistics_and_permutations_travel_with_the_weights(
    photographs: Tensor, tmp_path: Path
) -> None:
    model = standardized(tiny(), photographs).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = tiny(seed=1).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    lightness = photographs[:, :1]
    with torch.no_grad():
        assert torch.equal(other.colorize(lightness), model.colorize(lightness))


def test_every_parameter_is_floating_point_and_trained() -> None:
    generator = torch.Generator().manual_seed(0)
    networks: list[dict[str, Any]] = [
        {},
        {"condition": RESNET, "condition_on": "lab"},
        {"condition": {**RESNET, "transformer_layers": 1}},
        {"condition": {**RESNET, "network": "resnet50"}, "reduction": 2},
        {"condition": RESNET, "reduction": 8},
        {"condition": RESNET, "flow": TINY["flow"][:1], "reduction": 2},
        {"condition": RESNET, "flow": read_small_recipe("cinn_deep")["model"]["flow"]},
    ]
    for settings in networks:
        size = 64 if len(settings.get("flow", [])) == 5 else SIZE
        model = tiny(size, **settings)
        lab = torch.rand(4, 3, size, size, generator=generator) * 2 - 1
        move(model, lab).loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.is_floating_point(), name
            assert parameter.grad is not None, f"{settings}: {name}"
            assert parameter.grad.abs().max() > 0, f"{settings}: {name}"


def test_the_published_condition_networks_give_the_described_maps() -> None:
    for name, shapes in (
        ("cinn", [(64, 64, 64), (128, 32, 32), (128, 16, 16), (512,)]),
        (
            "cinn_deep",
            [(128, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4), (512,)],
        ),
    ):
        network = outline(read_experiment(name)).get_submodule("network.condition")
        with torch.device("meta"):
            maps = network(torch.empty(2, 1, 256, 256))
        assert [tuple(condition.shape[1:]) for condition in maps] == shapes


def test_at_a_quarter_of_the_side_conv1s_pooled_features_stand_beside_layer1s() -> None:
    network = tiny(condition=RESNET).network.condition.eval()
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda *call: seen.update({name: call[-1].clone()})

    for name in ("maxpool", "layer1"):
        network.get_submodule(f"resnet.{name}").register_forward_hook(keep(name))
    with torch.no_grad():
        first = network(torch.rand(1, 1, SIZE, SIZE))[0]
    assert torch.equal(first, torch.cat([seen["maxpool"], seen["layer1"]], 1))


@pytest.mark.parametrize("condition", [{"name": "convolutional", "widths": [8, 16]}, RESNET])
@pytest.mark.parametrize("network", ["resnet18", "resnet50"])
@pytest.mark.parametrize(
    ("size", "reduction"), [(16, 4), (48, 4), (96, 2), (512, 8), (512, 4), (32, 8)]
)
def test_each_level_gets_a_map_of_its_side_for_any_size_that_works_out(
    size: int, reduction: int, network: str, condition: dict[str, Any]
) -> None:
    if condition["name"] == "resnet":
        condition = {**condition, "network": network}
    settings = {**TINY, "condition": condition, "reduction": reduction}
    kind = parse(CINNConfig, settings)
    assert kind.refusal(size) is None
    with torch.device("meta"):
        model = kind.build(size).eval()
        lab = torch.empty(1, 3, size, size)
        z, _ = model.encode(lab)
    assert z.shape == (1, 2 * (size // reduction) ** 2)


@pytest.mark.parametrize(
    ("size", "reduction", "reason"),
    [
        (8, 4, "reduction 4 as it is set needs 16 at least"),
        (40, 4, "needs a multiple of 16, the nearest is 32"),
        (48, 8, "needs a multiple of 32, the nearest is 64"),
    ],
)
def test_sides_that_do_not_work_out_are_refused(size: int, reduction: int, reason: str) -> None:
    refusal = parse(CINNConfig, {**TINY, "reduction": reduction}).refusal(size)
    assert refusal is not None
    assert refusal.startswith(f"data.size: found {size}; a flow of 3 levels")
    assert reason in refusal


def test_more_widths_than_levels_are_refused() -> None:
    with pytest.raises(config.ConfigError, match=r"condition\.widths: found 4 .* has 3 levels"):
        parse(CINNConfig, {**TINY, "condition": {"name": "convolutional", "widths": [4] * 4}})


def test_a_model_conditioned_on_lab_sees_what_is_colored(photographs: Tensor) -> None:
    model = standardized(tiny(condition_on="lab"), photographs).eval()
    lightness, ab = photographs[:, :1], photographs[:, 1:]
    with torch.no_grad():
        bare = model.colorize(lightness)
        assert torch.equal(model.colorize(lightness, colored=torch.zeros_like(ab)), bare)
        assert not torch.allclose(model.colorize(lightness, colored=ab), bare, atol=1e-3)


def test_a_model_conditioned_on_lightness_refuses_colors(photographs: Tensor) -> None:
    with pytest.raises(ValueError, match="conditioned on lightness alone"):
        tiny().colorize(photographs[:, :1], colored=photographs[:, 1:])


def test_in_training_a_scene_model_sees_true_colors_in_some_boxes(photographs: Tensor) -> None:
    model = tiny(condition_on="lab")
    seen: list[Tensor] = []
    model.network.condition.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    move(model, photographs)
    (picture,) = seen
    assert torch.equal(picture[:, :1], photographs[:, :1])
    shown = (picture[:, 1:] != 0).any(1, keepdim=True).expand(-1, 2, -1, -1)
    assert torch.equal(picture[:, 1:][shown], photographs[:, 1:][shown])
    assert 0.05 < shown.float().mean() < 0.95


def test_boxes_are_none_to_four_with_sides_of_a_quarter_at_least() -> None:
    torch.manual_seed(0)
    shown = color_boxes(torch.ones(300, 2, 40, 60))[:, 0]
    areas = shown.mean((1, 2))
    assert 0.1 < (areas == 0).float().mean() < 0.3  # one of five numbers of boxes is none
    assert areas[areas > 0].min() >= 1 / 16
    assert areas.max() > 0.75**2  # more than the largest box
    # A row that is touched at all is touched over a quarter of its width.
    assert shown.sum(2)[shown.sum(2) > 0].min() >= 15
    assert shown.sum(1)[shown.sum(1) > 0].min() >= 10
    assert shown.amax(0).mean() > 0.95  # anywhere


@pytest.mark.parametrize("condition_on", ["lightness", "lab"])
def test_a_pretrained_condition_sees_lightness_as_the_weights_saw_gray(
    condition_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    weights = ResNet18_Weights.IMAGENET1K_V1
    torch.manual_seed(1)
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), folder / str(weights.url).rsplit("/", 1)[-1])

    settings = {**TINY, "condition": {**RESNET, "pretrained": True}, "condition_on": condition_on}
    kind = parse(CINNConfig, settings)
    assert kind.weights() == [weights]
    resnet = copy.deepcopy(kind.build(64).network.condition.get_submodule("resnet")).eval()
    lightness = torch.randn(1, 1, 64, 64)
    colored = torch.randn(1, 2, 64, 64)
    picture = lightness if condition_on == "lightness" else torch.cat([lightness, colored], 1)
    torch.testing.assert_close(
        resnet.get_submodule("conv1")(picture),
        theirs.conv1(lightness.repeat(1, 3, 1, 1)),
        rtol=1e-4,
        atol=1e-5,
    )
    found = resnet.state_dict()
    for name, tensor in theirs.state_dict().items():
        if name != "conv1.weight" and not name.startswith("fc."):
            assert torch.equal(found[name], tensor), name


def test_a_frozen_resnet_builds_no_graph() -> None:
    model = tiny(condition=RESNET)
    resnet = model.network.condition.get_submodule("resnet").eval().requires_grad_(False)
    answers: list[Tensor] = []

    def keep(*call: Any) -> None:
        answers.append(call[-1])

    resnet.get_submodule("layer4").register_forward_hook(keep)
    move(model, torch.rand(2, 3, SIZE, SIZE)).loss.backward()
    assert not answers[0].requires_grad
    assert model.network.condition.get_submodule("vector").weight.grad is not None


@pytest.mark.parametrize("condition", [TINY["condition"], {**RESNET, "transformer_layers": 1}])
def test_the_likelihood_is_float32_under_bfloat16_autocast(condition: dict[str, Any]) -> None:
    model = tiny(condition=condition).eval()
    lab = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact, exact_volume = model.encode(lab)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, log_det = model.encode(lab)
        turn = move(model, lab)
    assert {z.dtype, log_det.dtype, turn.loss.dtype} == {torch.float32}
    torch.testing.assert_close(z, exact, rtol=0, atol=0.1)
    torch.testing.assert_close(log_det, exact_volume, rtol=0.05, atol=1)
    turn.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
