import re
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorization.config import ConfigError, parse
from colorization.models.adversarial import AdversarialLoss
from colorization.models.colorizer import Progress, Turn, read_only
from colorization.models.discriminators import DiscriminatorConfig
from colorization.models.gan import GAN, GANConfig
from colorization.models.generators import GeneratorConfig

SIZE = 32
TINY = {
    "generator": {"name": "unet", "width": 4, "normalization": "group", "dropout": 0},
    "discriminator": {"width": 4, "layers": 1, "normalization": "group"},
}


def gan(**settings: Any) -> GAN:
    torch.manual_seed(0)
    return parse(GANConfig, {"name": "gan", **TINY, **settings}).build(SIZE)


def pictures(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def play(model: GAN, step: int = 0, turns: str = "adversarial", rate: float = 0.1) -> list[Turn]:
    """Take a training step as the trainer does, by plain gradient descent."""
    played = []
    for turn in model.turns(pictures(), Progress(turns, step, 100)):
        player = model.get_submodule(turn.player)
        player.zero_grad()
        turn.loss.backward()
        with torch.no_grad():
            for parameter in player.parameters():
                assert parameter.grad is not None
                parameter -= rate * parameter.grad
        played.append(turn)
    return played


def players(model: GAN, steps: int) -> list[str]:
    return ["".join(turn.player[0] for turn in play(model, step)) for step in range(steps)]


def test_the_discriminator_moves_its_steps_before_the_generator() -> None:
    assert players(gan(), 3) == ["dg", "dg", "dg"]
    assert players(gan(discriminator_steps=3), 2) == ["dddg", "dddg"]


def test_the_generator_may_move_before_the_discriminators_steps() -> None:
    assert players(gan(generator_first=True), 2) == ["gd", "gd"]
    assert players(gan(generator_first=True, discriminator_steps=2), 2) == ["gdd", "gdd"]
    both = gan(generator_first=True, generator_every=2, discriminator_every=3)
    assert players(both, 6) == ["gd", "", "g", "d", "g", ""]


def test_a_generator_that_moves_first_meets_the_discriminator_before_its_move() -> None:
    model = gan(generator_first=True, lambda_l1=0, adversarial={"name": "lsgan"})
    untrained = gan()
    lightness = pictures()[:, :1]
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    turn, judged = play(model, rate=0.5)
    fake = torch.cat([lightness, untrained.generator(lightness)], 1)
    torch.testing.assert_close(turn.loss, (untrained.discriminator(fake) - 1).square().mean())
    # The discriminator then judges the picture that the generator made before its move.
    in_generators_turn, real, in_its_own = seen
    assert torch.equal(in_generators_turn, fake)
    assert torch.equal(real, pictures())
    assert torch.equal(in_its_own, fake)
    torch.testing.assert_close(judged.terms["fake"], untrained.discriminator(fake).mean())


def test_each_player_moves_in_every_nth_step_from_the_first_on() -> None:
    assert players(gan(generator_every=3), 5) == ["dg", "d", "d", "dg", "d"]
    assert players(gan(discriminator_every=2), 4) == ["dg", "g", "dg", "g"]
    both = gan(generator_every=2, discriminator_every=3, discriminator_steps=2)
    assert players(both, 6) == ["ddg", "", "g", "dd", "g", ""]


def test_the_head_start_is_the_generators_alone() -> None:
    (turn,) = play(gan(), turns="l1")
    assert turn.player == "generator"
    assert turn.terms.keys() == {"l1"}
    assert turn.loss == turn.terms["l1"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"discriminator_steps": 4},
        {"generator_every": 2},
        {"generator_first": True},
        {"generator_first": True, "discriminator_steps": 3, "generator_every": 2},
    ],
)
def test_the_generators_picture_is_computed_once_a_step(settings: dict[str, Any]) -> None:
    model = gan(**settings)
    forwards: list[object] = []
    model.generator.register_forward_hook(lambda *_: forwards.append(None))
    for step in range(3):
        play(model, step)
        assert len(forwards) == step + 1


def test_the_discriminator_is_read_only_in_the_generators_turn() -> None:
    model = gan()
    for turn in model.turns(pictures(), Progress("adversarial", 0, 1)):
        model.zero_grad()
        turn.loss.backward()
        mine, other = (
            (model.discriminator, model.generator)
            if turn.player == "discriminator"
            else (model.generator, model.discriminator)
        )
        assert all(parameter.grad is not None for parameter in mine.parameters())
        assert all(parameter.grad is None for parameter in other.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_network_that_is_read_only_lets_gradients_through_and_thaws_nothing() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    network[0].requires_grad_(False)
    entering = torch.ones(1, 2, requires_grad=True)
    with read_only(network):
        network(entering).sum().backward()
    assert entering.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]


def test_the_generators_turn_sees_the_discriminator_after_its_move() -> None:
    model = gan(lambda_l1=0, adversarial={"name": "lsgan"})
    *_, turn = play(model, rate=0.5)
    fake = gan().generator(pictures()[:, :1])
    answers = model.discriminator(torch.cat([pictures()[:, :1], fake], 1))
    torch.testing.assert_close(turn.loss, (answers - 1).square().mean())
    before = gan().discriminator(torch.cat([pictures()[:, :1], fake], 1))
    assert not torch.isclose(turn.loss, (before - 1).square().mean(), rtol=1e-3)


def test_the_generators_loss_is_adversarial_plus_weighted_l1_and_terms_carry_no_weight() -> None:
    model = gan(lambda_l1=30)
    with torch.no_grad():
        l1 = F.l1_loss(model.generator(pictures()[:, :1]), pictures()[:, 1:])
    *_, turn = play(model)
    torch.testing.assert_close(turn.terms["l1"], l1)
    torch.testing.assert_close(turn.loss, turn.terms["adversarial"] + 30 * l1)


def test_the_squared_error_is_weighted_in_the_loss_and_plain_in_the_log() -> None:
    model = gan(lambda_l1=30, lambda_mse=50)
    with torch.no_grad():
        mse = F.mse_loss(model.generator(pictures()[:, :1]), pictures()[:, 1:])
    *_, turn = play(model)
    terms = turn.terms
    torch.testing.assert_close(terms["mse"], mse)
    torch.testing.assert_close(turn.loss, terms["adversarial"] + 30 * terms["l1"] + 50 * mse)
    *_, without = play(gan(lambda_l1=30))
    torch.testing.assert_close(without.terms["mse"], mse)
    torch.testing.assert_close(without.loss, turn.loss - 50 * mse)


def test_the_gradient_penalty_is_weighted_in_the_loss_and_plain_in_the_log() -> None:
    turn, _ = play(gan(adversarial={"name": "wasserstein", "gradient_penalty": 7}))
    penalty = turn.terms["gradient_penalty"]
    assert penalty > 0
    torch.testing.assert_close(turn.loss, turn.terms["adversarial"] + 7 * penalty)
    torch.testing.assert_close(turn.terms["adversarial"], turn.terms["fake"] - turn.terms["real"])


def test_clipped_weights_are_bounded_whenever_the_generator_sees_them() -> None:
    model = gan(adversarial={"name": "wasserstein", "gradient_penalty": 0, "weight_clip": 0.01})
    for turn in model.turns(pictures(), Progress("adversarial", 0, 1)):
        largest = max(p.abs().max().item() for p in model.discriminator.parameters())
        if turn.player == "discriminator":
            assert largest > 0.01
        else:
            assert largest == pytest.approx(0.01)


def test_the_ratio_of_learning_rates_is_the_discriminators() -> None:
    model = gan(learning_rate_ratio=4)
    assert model.learning_rate_ratio("discriminator") == 4
    assert model.learning_rate_ratio("generator") == 1


@pytest.mark.parametrize("output", ["ab", "rgb"])
def test_both_output_spaces_train_and_colorize(output: str) -> None:
    model = gan(output=output)
    assert len(play(model)) == 2
    ab = model.eval().colorize(pictures()[:, :1], samples=3)
    assert ab.shape == (3, 2, 2, SIZE, SIZE)
    assert torch.equal(ab[0], ab[2])
    assert ab.isfinite().all()


def test_the_discriminator_judges_colors_with_their_lightness() -> None:
    model = gan()
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    fake = model.generator(pictures()[:, :1]).detach()
    play(model)
    real_seen, fake_seen, again = seen
    assert torch.equal(real_seen, pictures())
    assert torch.equal(fake_seen, torch.cat([pictures()[:, :1], fake], 1))
    assert torch.equal(again, fake_seen)


SURE = {"name": "ada", "target": 0, "pictures": 8}


def judged(model: GAN) -> list[Tensor]:
    """Collect what the discriminator sees."""
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


def test_augmentation_changes_what_the_discriminator_sees_of_real_and_fake_alike() -> None:
    model = gan(augmentation={"name": "diffaugment", "color": False, "translation": False})
    seen = judged(model)
    play(model)
    assert len(seen) == 3
    for picture in seen:  # cut out of each picture: all channels alike
        blank = (picture == 0).all(1).flatten(1).float().mean(1)
        assert (blank > 0.03).all()


def test_ada_learns_how_sure_the_discriminator_is_and_remembers_it() -> None:
    model = gan(augmentation=SURE, adversarial={"name": "bce"})
    for parameter in model.discriminator.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_([*model.discriminator.parameters()][-1], 3)  # it takes all for real
    (first, _), (second, _) = play(model, rate=0), play(model, rate=0)
    assert first.terms["augmentation"] == 0
    assert second.terms["augmentation"] == 0.25  # two real pictures of eight
    assert model.state_dict()["augmenter.probability"] == 0.5
    nn.init.constant_([*model.discriminator.parameters()][-1], -3)
    play(model, rate=0)
    assert model.state_dict()["augmenter.probability"] == 0.25


def test_ada_is_refused_with_a_critic_whose_answers_have_no_threshold() -> None:
    with pytest.raises(ConfigError, match=r"ada adapts.*wasserstein have no threshold"):
        gan(augmentation=SURE, adversarial={"name": "wasserstein"})


GENERATORS = {
    "unet": {"width": 4, "dropout": 0},
    "resnet_unet": {"width": 4},
    "vit": {"patch": 8, "hidden": 16, "depth": 1, "heads": 2, "mlp": 16},
    "vgg_unet_sagan": {"width": 4},
    "vgg_autoencoder": {"width": 4, "latent": 8},
    "encoder_decoder": {"width": 4, "blocks": 1},
}
DISCRIMINATORS = {
    "patch": {"width": 4, "layers": 1},
    "cnn": {"width": 4, "layers": 3},
    "vit": {"patch": 8, "hidden": 16, "depth": 1, "heads": 2, "mlp": 16},
    "resnet": {"normalization": "group"},
    "sagan": {"width": 4, "layers": 3},
}
LOSSES = [
    {"name": "bce", "label_noise": 0.1},
    {"name": "lsgan"},
    {"name": "hinge"},
    {"name": "wasserstein"},
    {"name": "wasserstein", "gradient_penalty": 0, "weight_clip": 0.01},
]


def members(union: Any) -> set[str]:
    """Name the kinds of a discriminated union."""
    return {kind.model_fields["name"].default for kind in get_args(get_args(union)[0])}


def test_the_pairs_below_are_of_all_kinds() -> None:
    assert members(GeneratorConfig) == GENERATORS.keys()
    assert members(DiscriminatorConfig) == DISCRIMINATORS.keys()
    assert members(AdversarialLoss) == {loss["name"] for loss in LOSSES}


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_any_generator_plays_with_any_discriminator(generator: str, discriminator: str) -> None:
    number = list(GENERATORS).index(generator) + list(DISCRIMINATORS).index(discriminator)
    model = gan(
        generator={"name": generator, **GENERATORS[generator]},
        discriminator={"name": discriminator, **DISCRIMINATORS[discriminator]},
        adversarial=LOSSES[number % len(LOSSES)],
        output=("ab", "rgb")[number % 2],
    )
    assert [turn.player for turn in play(model, rate=1e-4)] == ["discriminator", "generator"]
    assert model.eval().colorize(pictures()[:, :1]).isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_any_discriminator_descends_any_loss(loss: dict[str, Any], discriminator: str) -> None:
    kind = {"name": discriminator, **DISCRIMINATORS[discriminator]}
    turn, _ = play(gan(discriminator=kind, adversarial=loss), rate=1e-4)
    assert turn.loss.isfinite()


@pytest.mark.parametrize(
    ("settings", "size", "message"),
    [
        ({"discriminator": {"name": "cnn", "layers": 6}}, 64, "discriminator cnn .* needs 128"),
        ({"discriminator": {"name": "vit"}}, 40, "discriminator vit needs a multiple of 16"),
        ({"generator": {"name": "vit"}}, 40, "generator vit needs a multiple of 16"),
        ({"generator": {"name": "encoder_decoder"}}, 32, "generator encoder_decoder .* needs 44"),
    ],
)
def test_a_size_that_a_player_cannot_work_on_is_refused_with_the_reason(
    settings: dict[str, Any], size: int, message: str
) -> None:
    refusal = parse(GANConfig, {"name": "gan", **TINY, **settings}).refusal(size)
    assert refusal is not None
    assert re.search(message, refusal), refusal
