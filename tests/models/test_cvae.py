from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import rank_pool
from colorization.color import lab_to_rgb, rgb_to_lab
from colorization.config import ConfigError, parse
from colorization.data import SampleSource
from colorization.data.transforms import scoring_crop
from colorization.distributed import current_ranks
from colorization.experiment import Experiment, count_players, read_experiment
from colorization.export import export, load_exported, load_run
from colorization.measurements import Measurements
from colorization.models.colorizer import Progress, Turn
from colorization.models.cvae import CVAE, CVAEConfig
from colorization.models.cvae.kl_schedules import ConstantWeight, Cyclical, WarmUp
from colorization.models.cvae.posterior import Posterior
from colorization.optimizers import freeze
from colorization.training import fit
from rank_pool import RankPool

SIZE = 32
NETWORKS = [
    pytest.param({"name": name, "fusion": fusion}, id=f"{name}-{fusion}")
    for name in ("naive", "unet")
    for fusion in ("add", "concatenate")
]
UNETS = NETWORKS[2:]


def cvae(network: dict[str, Any], **settings: Any) -> CVAE:
    torch.manual_seed(0)
    data = {"name": "cvae", "network": {"width": 4, **network}, **settings}
    return parse(CVAEConfig, data).build(SIZE)


def published(network: dict[str, Any], size: int = 128) -> CVAE:
    with torch.device("meta"):
        return parse(CVAEConfig, {"name": "cvae", "network": network}).build(size)


def photographs(count: int = 4) -> Tensor:
    pictures = SampleSource(crops=count).open(0.0).train
    crops = [torch.from_numpy(scoring_crop(pictures.picture(i), SIZE)) for i in range(count)]
    return rgb_to_lab(torch.stack(crops).permute(0, 3, 1, 2))


def of_two_colors() -> Tensor:
    """Photographs whose lightness tells nothing of the colors: each comes in two."""
    lab = photographs(2)
    lab[:, 1:] = torch.tensor([0.4, 0.4])[:, None, None]
    return torch.cat([lab, torch.cat([lab[:, :1], -lab[:, 1:]], 1)])


def move(model: CVAE, lab: Tensor, turns: str = "vae", step: int = 0, steps: int = 100) -> Turn:
    (turn,) = model.turns(lab, Progress(turns, step, steps))
    return turn


def train(model: CVAE, lab: Tensor, steps: int) -> list[float]:
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    errors = []
    for step in range(steps):
        turn = move(model, lab, "vae", step, steps)
        optimizer.zero_grad()
        turn.loss.backward()
        optimizer.step()
        errors.append(turn.terms["reconstruction"].item())
    return errors


def summary(model: CVAE, lab: Tensor) -> dict[str, float]:
    """Measure a set of pictures as the evaluation does, two at a time."""
    model.eval()
    measurements = Measurements(model, SIZE, current_ranks("cpu"))
    for two in lab.split(2):
        with torch.no_grad():
            measurements.update(two)
    return measurements.compute()


def test_the_divergence_is_torchs_own_summed_over_the_latent() -> None:
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(5, 7), torch.randn(5, 7))
    theirs = kl_divergence(Normal(posterior.mean, (posterior.log_variance / 2).exp()), Normal(0, 1))
    torch.testing.assert_close(posterior.divergence(), theirs.sum(1))


def test_samples_of_the_posterior_have_its_mean_and_variance() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([-2.0, 0.5]), torch.tensor([1.0, -3.0])
    drawn = Posterior(mean.expand(50_000, 2), log_variance.expand(50_000, 2)).sample()
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.var(0), log_variance.exp(), rtol=0.03, atol=0)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_is_the_mean_squared_error_of_rgb_and_the_weighted_divergence(
    network: dict[str, Any],
) -> None:
    model, lab = cvae(network, kl_weight=0.25), photographs()
    torch.manual_seed(1)
    answer, posterior = model.network(lab[:, :1], lab_to_rgb(lab) * 2 - 1)
    torch.manual_seed(1)
    turn = move(model, lab)
    torch.testing.assert_close(turn.terms["reconstruction"], F.mse_loss(answer, lab_to_rgb(lab)))
    torch.testing.assert_close(turn.terms["kl"], posterior.divergence().mean())
    torch.testing.assert_close(turn.loss, turn.terms["reconstruction"] + 0.25 * turn.terms["kl"])
    dimensions = posterior.mean.shape[1]
    torch.testing.assert_close(turn.terms["kl_per_dimension"], turn.terms["kl"] / dimensions)
    assert answer.min() >= 0
    assert answer.max() <= 1


def test_the_divergence_does_not_grow_with_the_batch() -> None:
    model, lab = cvae({"name": "naive"}), photographs()
    once, twice = move(model, lab), move(model, lab.repeat(2, 1, 1, 1))
    torch.testing.assert_close(once.terms["kl"], twice.terms["kl"])


@pytest.mark.parametrize("network", NETWORKS)
def test_the_latent_has_as_many_dimensions_as_the_features(network: dict[str, Any]) -> None:
    for size, dimensions in ((64, 2048), (128, 8192), (256, 32768)):
        model = published(network, size)
        with torch.device("meta"):
            features = model.network.encode(torch.empty(2, 1, size, size))
            posterior = model.network.posterior(torch.empty(2, 3, size, size))
        assert features[-1].shape == (2, 512, size // 32, size // 32)
        assert posterior.mean.shape == posterior.log_variance.shape == (2, dimensions)


VGG19 = sum(
    convolutions * (9 * out * out + out) - 9 * out * (out - below)
    for below, out, convolutions in (
        (1, 64, 2), (64, 128, 2), (128, 256, 4), (256, 512, 4), (512, 512, 4)
    )
)  # fmt: skip
COLOR_CONVOLUTIONS = sum(
    9 * below * out + out for below, out in ((3, 16), (16, 32), (32, 64), (64, 128), (128, 256))
)
POSTERIOR = COLOR_CONVOLUTIONS + 2 * (4096 * 8192 + 8192)


@pytest.mark.parametrize(("fusion", "fused"), [("add", 8192), ("concatenate", 16384)])
def test_the_naive_network_has_the_published_layers(fusion: str, fused: int) -> None:
    network = published({"name": "naive", "fusion": fusion}).network
    linear = fused * 128 * 16 * 16 + 128 * 16 * 16
    transposed = sum(16 * below * out + out for below, out in ((128, 64), (64, 32), (32, 3)))
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == VGG19 + POSTERIOR + linear + transposed
    with torch.device("meta"):
        features = network.encode(torch.empty(2, 1, 128, 128))
        assert network.posterior.convolutions(torch.empty(2, 3, 128, 128)).shape[1:] == (256, 4, 4)
        assert network.decode(features, torch.empty(2, 8192)).shape == (2, 3, 128, 128)


def test_the_recipe_of_a1_has_about_356_million_parameters() -> None:
    parameters = count_players(read_experiment("naive_cvae"))["network"]
    assert parameters == pytest.approx(356e6, rel=0.001)


def test_the_unet_mirrors_vgg_19_with_skips_at_16_32_and_64_pixels() -> None:
    network = published({"name": "unet"}).network
    with torch.device("meta"):
        features = network.encode(torch.empty(2, 1, 128, 128))
        assert network.decode(features, torch.empty(2, 8192)).shape == (2, 3, 128, 128)
    assert features[-1].shape == (2, 512, 4, 4)

    def convolutions(part: str) -> list[list[tuple[int, int]]]:
        return [
            [(c.in_channels, c.out_channels) for c in block.modules() if isinstance(c, nn.Conv2d)]
            for block in network.get_submodule(part).children()
        ]

    assert convolutions("encoder.blocks") == [
        [(1, 64), (64, 64)],
        [(64, 128), (128, 128)],
        [(128, 256)] + 3 * [(256, 256)],
        [(256, 512)] + 3 * [(512, 512)],
        4 * [(512, 512)],
    ]
    assert convolutions("decoder.blocks") == [
        4 * [(512, 512)],
        [(1024, 512)] + 3 * [(512, 512)],
        [(512, 256)] + 3 * [(256, 256)],
        [(256, 128), (128, 128)],
        2 * [(64, 64)],
    ]


@pytest.mark.parametrize("network", UNETS)
def test_the_unet_alone_descends_the_errors_of_color_and_of_gray(network: dict[str, Any]) -> None:
    model, lab = cvae({**network, "gray_weight": 3.0}), photographs()
    answer, _ = model.network(lab[:, :1])
    turn = move(model, lab, "unet")
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    gray = F.mse_loss((answer * weights).sum(1), (lab_to_rgb(lab) * weights).sum(1))
    torch.testing.assert_close(turn.terms["reconstruction"], F.mse_loss(answer, lab_to_rgb(lab)))
    torch.testing.assert_close(turn.terms["gray"], gray)
    torch.testing.assert_close(turn.loss, turn.terms["reconstruction"] + 3 * gray)


@pytest.mark.parametrize(
    ("network", "turns"),
    [
        *[pytest.param(n.values[0], "vae", id=f"{n.id}-vae") for n in NETWORKS],
        *[pytest.param(n.values[0], "unet", id=f"{n.id}-unet") for n in UNETS],
    ],
)
def test_every_parameter_that_is_not_idle_is_trained_and_no_other(
    network: dict[str, Any], turns: str
) -> None:
    model = cvae(network)
    move(model, photographs(), turns).loss.backward()
    idle = tuple(f"{part}." for part in model.idle(turns))
    for name, parameter in model.named_parameters():
        if name.startswith(idle):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_only_the_unet_alone_has_idle_parts_those_of_the_latent() -> None:
    for fusion, parts in (
        ("add", ("network.posterior",)),
        ("concatenate", ("network.posterior", "network.fusion")),
    ):
        model = cvae({"name": "unet", "fusion": fusion})
        assert model.idle("unet") == parts
        assert model.idle("vae") == ()


def test_a_frozen_encoder_gets_no_gradient_and_builds_no_graph() -> None:
    model = cvae({"name": "unet"})
    (encoder,) = freeze(model, ("network.encoder",))
    graphs: list[object] = []
    encoder.register_forward_hook(lambda *hooked: graphs.extend(f.grad_fn for f in hooked[-1]))
    move(model, photographs()).loss.backward()
    assert graphs == [None] * 6
    assert all(p.grad is None for p in encoder.parameters())
    others = [p for n, p in model.named_parameters() if not n.startswith("network.encoder.")]
    assert all(p.grad is not None for p in others)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_few_steps_bring_the_reconstruction_nearer_to_photographs(
    network: dict[str, Any],
) -> None:
    lab = photographs()
    errors = train(cvae(network, kl_weight=1e-4), lab, 60)
    rgb = lab_to_rgb(lab)
    of_one_color = (rgb - rgb.mean((0, 2, 3), keepdim=True)).square().mean().item()
    assert sum(errors[-5:]) / 5 < 0.85 * of_one_color


@pytest.mark.parametrize("network", ["naive", "unet"])
def test_a_large_divergence_weight_collapses_the_posterior_and_a_small_one_does_not(
    network: str,
) -> None:
    lab = of_two_colors()
    found = {}
    for weight in (10.0, 1e-6):
        model = cvae({"name": network, "width": 8}, kl_weight=weight)
        train(model, lab, 75)
        found[weight] = summary(model, lab)
    assert found[10.0]["active_units"] == 0
    assert found[10.0]["kl"] < 0.01
    assert found[1e-6]["active_units"] > 0
    assert found[1e-6]["kl"] > 1


def test_units_are_active_whose_mean_varies_by_more_than_a_hundredth_over_the_set() -> None:
    model = cvae({"name": "naive"})
    means = torch.zeros(100, 4, dtype=torch.float64)
    means[:, 1] = 5  # far from the prior, and the same for all
    means[::2, 2], means[1::2, 2] = 0.09, -0.09  # variance 0.0081
    means[::2, 3], means[1::2, 3] = 7.11, 6.89  # variance 0.0121
    found = model.summarize(
        {"kl": torch.tensor(6.0), "mean": means.mean(0), "squared_mean": means.square().mean(0)}
    )
    assert found == {"kl": 6, "kl_per_dimension": 1.5, "active_units": 1}


def test_what_is_measured_is_the_divergence_that_is_descended() -> None:
    model, lab = cvae({"name": "naive"}), photographs()
    found = summary(model, lab)
    terms = move(model, lab).terms
    assert found["kl"] == pytest.approx(terms["kl"].item(), rel=1e-5)
    assert found["kl_per_dimension"] == pytest.approx(terms["kl_per_dimension"].item(), rel=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_samples_differ_and_those_of_temperature_zero_do_not(network: dict[str, Any]) -> None:
    model, lightness = cvae(network).eval(), photographs(2)[:, :1]
    samples = model.colorize(lightness, 3)
    assert samples.shape == (3, 2, 2, SIZE, SIZE)
    assert (samples[0] - samples[1]).abs().max() > 1e-4
    mean = model.colorize(lightness, 3, temperature=0)
    assert torch.equal(mean[0], mean[1])
    features = model.network.encode(lightness)
    rgb = model.network.decode(features, torch.zeros(2, features[-1][0].numel()))
    torch.testing.assert_close(mean[0], rgb_to_lab(rgb)[:, 1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_a_sample_is_the_same_whatever_the_batch_and_the_number_of_samples(
    network: dict[str, Any],
) -> None:
    model, lightness = cvae(network).eval(), photographs(3)[:, :1]
    samples = model.colorize(lightness, 4)
    torch.testing.assert_close(model.colorize(lightness[2:], 2)[:, 0], samples[:2, 2])


@torch.no_grad()
def test_the_models_own_temperature_is_taken_where_none_is_given() -> None:
    model, lightness = cvae({"name": "unet"}, temperature=0.5).eval(), photographs(1)[:, :1]
    torch.testing.assert_close(model.colorize(lightness), model.colorize(lightness, 1, 0.5))
    assert not torch.equal(model.colorize(lightness), model.colorize(lightness, 1, 1.0))


@torch.no_grad()
def test_the_features_of_a_picture_are_computed_once_for_all_samples() -> None:
    model, forwards = cvae({"name": "unet"}).eval(), []
    model.get_submodule("network.encoder").register_forward_hook(lambda *_: forwards.append(None))
    model.colorize(photographs(2)[:, :1], 5)
    assert len(forwards) == 1


@torch.no_grad()
def test_the_unet_colorizes_pictures_of_other_sizes_than_it_was_trained_on() -> None:
    model = cvae({"name": "unet"}).eval()
    assert not model.fixed_size
    assert model.colorize(torch.zeros(1, 1, 64, 96), 2).shape == (2, 1, 2, 64, 96)
    assert cvae({"name": "naive"}).fixed_size


@torch.no_grad()
def test_pictures_of_another_size_than_the_posterior_takes_are_scored_without_it() -> None:
    model = cvae({"name": "unet", "width": 4}).eval()
    assert summary(model, photographs()).keys() == {"kl", "kl_per_dimension", "active_units"}
    larger = F.interpolate(photographs(), scale_factor=2)
    assert model.summarize(model.measure(larger)) == {}


def test_concatenation_begins_as_addition_for_the_unet_that_knows_no_latent_yet() -> None:
    adds, joins = (cvae({"name": "unet", "fusion": f}).eval() for f in ("add", "concatenate"))
    missing, unexpected = joins.load_state_dict(adds.state_dict(), strict=False)
    assert all(name.startswith("network.fusion.") for name in missing)
    assert not unexpected
    lightness = photographs(2)[:, :1]
    torch.testing.assert_close(joins.colorize(lightness, 2), adds.colorize(lightness, 2))


def test_the_divergence_stays_in_float32_under_autocast() -> None:
    model, lab = cvae({"name": "unet"}), photographs()
    with torch.autocast("cpu", torch.bfloat16):
        _, posterior = model.network(lab[:, :1], lab_to_rgb(lab) * 2 - 1)
        turn = move(model, lab)
    assert all(part.dtype == torch.float32 for part in (*posterior, turn.loss))
    turn.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("schedule", "factors"),  # at steps 0, 25, 50, 75, 100, 150 and 199 of 200
    [
        (ConstantWeight(), [1, 1, 1, 1, 1, 1, 1]),
        (WarmUp(share=0.5), [0, 0.25, 0.5, 0.75, 1, 1, 1]),
        (WarmUp(share=1), [0, 0.125, 0.25, 0.375, 0.5, 0.75, 0.995]),
        (Cyclical(cycles=2, share=0.5), [0, 0.5, 1, 1, 0, 1, 1]),
        (Cyclical(cycles=1, share=0.25), [0, 0.5, 1, 1, 1, 1, 1]),
    ],
)
def test_the_divergences_weight_grows_as_its_schedule_says(
    schedule: ConstantWeight | WarmUp | Cyclical, factors: list[float]
) -> None:
    steps = (0, 25, 50, 75, 100, 150, 199)
    assert [schedule.factor(step, 200) for step in steps] == pytest.approx(factors)


def test_the_weight_in_force_is_logged_and_the_divergence_without_it() -> None:
    model = cvae({"name": "naive"}, kl_weight=0.5, kl_schedule={"name": "warm_up", "share": 0.5})
    turn = move(model, photographs(), step=25, steps=100)
    assert turn.terms["kl_weight"] == 0.25
    torch.testing.assert_close(turn.loss, turn.terms["reconstruction"] + 0.25 * turn.terms["kl"])
    assert turn.terms["kl"] > 0


TWO_STAGES = """
data: {source: {name: sample, crops: 8, scoring_crops: 4}, size: 32}
model:
  name: cvae
  network: {name: unet, width: 4, fusion: concatenate}
  kl_weight: 1.0e-4
train:
  batch_size: 4
  learning_rate: 1.0e-3
  precision: float32
  grid_pictures: 2
  stages:
    unet: {turns: unet, epochs: 1, select: false, change: {model.temperature: 0}}
    vae: {turns: vae, epochs: 2, freeze: [network.encoder]}
"""


def two_stages(**network: str) -> Experiment:
    data = yaml.safe_load(TWO_STAGES)
    data["model"]["network"] |= network
    return parse(Experiment, data)


@pytest.mark.usefixtures("one_thread")
def test_a_run_of_two_stages_resumes_to_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    experiment = two_stages()
    whole = rank_pool.fit(experiment, tmp_path / "whole")
    rank_pool.fit(experiment, tmp_path / "broken", stop_after=2)
    fit(experiment, tmp_path / "broken", device="cpu")
    resumed = load_run(tmp_path / "broken")[0].state_dict()
    unbroken = load_run(tmp_path / "whole")[0].state_dict()
    assert all(torch.equal(tensor, unbroken[name]) for name, tensor in resumed.items())

    alone, first, second = (state["model"] for state in whole.states)
    for name in alone:
        same = torch.equal(alone[name], second[name])
        assert same == name.startswith("network.encoder."), name
    assert not torch.equal(first["network.fusion.weight"], second["network.fusion.weight"])
    assert [scores["sample_variance"] > 0 for scores in whole.scores] == [False, True, True]
    assert all({"kl", "kl_per_dimension", "active_units"} <= s.keys() for s in whole.scores)


def test_an_exported_model_colorizes_without_its_posterior(tmp_path: Path) -> None:
    fit(two_stages(), tmp_path / "run", device="cpu")
    model, _ = load_exported(export(tmp_path / "run", tmp_path / "exported"))
    whole, _ = load_run(tmp_path / "run")
    assert not hasattr(model.network, "posterior")
    lab = photographs(2)
    assert torch.equal(model.colorize(lab[:, :1], 2), whole.colorize(lab[:, :1], 2))
    assert Measurements(model, SIZE, current_ranks("cpu")).compute() == {}


def test_two_ranks_hold_the_same_weights_after_both_stages(
    two_ranks: RankPool, tmp_path: Path
) -> None:
    # Group norm, since sums over ranks in 32 batch norms are slow where ranks share a processor.
    first, second = two_ranks.run(rank_pool.fit, two_stages(normalization="group"), tmp_path)
    assert len(first.states) == len(second.states) == 3
    for mine, theirs in zip(first.states, second.states, strict=True):
        assert all(torch.equal(mine["model"][n], theirs["model"][n]) for n in mine["model"])
    assert first.scores[-1]["active_units"] == second.scores[-1]["active_units"]


def test_turns_that_a_network_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"stages\.unet\.turns: found 'unet'; .* plays vae$"):
        two_stages(name="naive")


def test_sides_are_multiples_of_32() -> None:
    for network in ("naive", "unet"):
        config = parse(CVAEConfig, {"name": "cvae", "network": {"name": network}})
        assert config.refusal(96) is None
        assert f"network {network} needs a multiple of 32" in str(config.refusal(100))
        assert "32 at least" in str(config.refusal(16))


def test_pretrained_weights_are_those_of_the_normalization_and_the_published_width() -> None:
    def weights(**network: Any) -> list[str]:
        config = parse(CVAEConfig, {"name": "cvae", "network": {**network, "pretrained": True}})
        return [type(found).__name__ for found in config.weights()]

    assert weights(name="naive") == ["VGG19_Weights"]
    assert weights(name="unet") == ["VGG19_BN_Weights"]
    assert weights(name="unet", normalization="none") == ["VGG19_Weights"]
    for network in (
        {"name": "naive", "width": 32},
        {"name": "unet", "width": 32},
        {"name": "unet", "normalization": "group"},
    ):
        with pytest.raises(ConfigError, match="pretrained VGG has"):
            weights(**network)
