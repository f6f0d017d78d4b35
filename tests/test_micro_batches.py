"""A batch computed in parts trains a model to the weights that the whole batch would."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rank_pool
from colorization import config
from colorization.config import ConfigError, override, parse
from colorization.experiment import Experiment, build_model, check
from colorization.memory_saving import describe_saving, with_less_memory
from colorization.micro_batches import add_gradients
from colorization.models.colorizer import Progress, Turn
from rank_pool import RankPool
from small_recipe import read_small_recipe

Make = Callable[..., Experiment]
TWO, FOUR = "train.micro_batches=2", "train.micro_batches=4"
ONE_EPOCH = {"only": {"turns": "adversarial", "epochs": 1}}
BATCH_NORM = "model.generator.normalization=batch"
# As in test_distributed: gradients that are not round-off alone, which Adam would scale up.
COMPARABLE = ("data.size=48", "model.lambda_l1=1", "train.ema=0.9")

pytestmark = pytest.mark.usefixtures("one_thread")


def small(name: str, *overrides: str) -> Experiment:
    """A small recipe's last stage for two steps on the sample photographs, without norms."""
    data = read_small_recipe(name)
    *_, last = data["train"]["stages"].values()
    data["train"]["stages"] = {"only": {"turns": last["turns"], "epochs": 1}}
    source = {"name": "sample", "crops": 16, "scoring_crops": 4}
    data["data"] = {"source": source, "size": 64}
    data["train"] |= {"batch_size": 8, "precision": "float32", "grid_pictures": 2}
    return parse(Experiment, override(data, config.parse_overrides(overrides)), name)


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max((first[k].double() - second[k].double()).abs().max().item() for k in first)


def trained(experiment: Experiment, run: Path) -> dict[str, Tensor]:
    return rank_pool.fit(experiment, run).states[-1]["model"]


MODELS = {
    "plain": (),
    "clipped weights": (
        "model.adversarial={name: wasserstein, gradient_penalty: 0, weight_clip: 0.05}",
    ),
    "generator first, clipped gradients": ("model.generator_first=true", "train.gradient_clip=0.1"),
    "unet": (
        "model={name: unet, generator: {name: unet, width: 4, normalization: group, dropout: 0}}",
        "train.stages.only.turns=l1",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_parts_of_a_batch_train_to_the_weights_of_the_whole(
    name: str, tiny: Make, tmp_path: Path
) -> None:
    settings = [word for word in COMPARABLE if name != "unet" or "lambda" not in word]
    stages = {"only": {"turns": "l1" if name == "unet" else "adversarial", "epochs": 1}}
    model = [word for word in MODELS[name] if "turns" not in word]
    whole = trained(tiny(*model, *settings, stages=stages), tmp_path / "whole")
    parted = trained(tiny(*model, *settings, FOUR, stages=stages), tmp_path / "parts")
    start = build_model(tiny(*model, *settings, stages=stages)).state_dict()
    assert largest_difference(whole, parted) < 1e-5
    assert largest_difference(whole, start) > 1e-4


def gradients(experiment: Experiment, parts: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Play a step without moving, return all gradients of each turn, and the state."""
    model = build_model(experiment).train()
    torch.manual_seed(1)
    lab = torch.rand(4, 3, 64, 64) * 2 - 1
    (stage,) = experiment.train.stages.values()
    turns = [model.turns(part, Progress(stage.turns, 0, 1)) for part in lab.chunk(parts)]
    found: list[Tensor] = []
    while turn := add_gradients(model, turns, model.players):
        network = model.get_submodule(turn.player)
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        found.append(torch.cat([grad.flatten() for grad in grads]).clone())
    return found, model.state_dict()


@pytest.mark.parametrize(
    ("name", "settings", "closeness"),
    [
        # Draws a latent a picture, in order. Rounding that differs with the size of the batch
        # chooses another maximum in its pooling here and there, on some processors.
        ("unet_cvae", ("model.network.normalization=group",), 1e-2),
        ("naive_cvae", (), 1e-5),
        ("unet_sagan", ("model.generator.normalization=group",), 1e-5),  # spectral norms on both
        ("vit_gan", ("model.discriminator.normalization=group",), 1e-5),
    ],
)
def test_gradients_of_parts_add_up_to_those_of_the_whole(
    name: str, settings: tuple[str, ...], closeness: float
) -> None:
    whole, state = gradients(small(name, *settings), 1)
    parted, parted_state = gradients(small(name, *settings), 2)
    assert len(whole) == len(parted)
    for ours, theirs in zip(whole, parted, strict=True):
        assert ours.norm() > 0
        assert (ours - theirs).norm() < closeness * ours.norm()
    assert largest_difference(state, parted_state) < 1e-6


def test_two_ranks_average_all_parts_and_agree_with_one_process(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    experiment = tiny(*COMPARABLE, TWO, stages=ONE_EPOCH)
    first, second = two_ranks.run(rank_pool.fit, experiment, tmp_path / "two")
    whole = trained(tiny(*COMPARABLE, stages=ONE_EPOCH), tmp_path / "one")
    assert largest_difference(first.states[0]["model"], second.states[0]["model"]) == 0
    assert largest_difference(first.states[0]["model"], whole) < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((BATCH_NORM,), r"found 2; in the stage only generator\.downs\S* \(BatchNorm2d\)"),
        (("model.augmentation.name=ada",), "augmenter adapts to the answers to a whole batch"),
    ],
)
def test_models_that_need_their_batches_whole_are_refused_parts(
    settings: tuple[str, ...], message: str, tiny: Make
) -> None:
    check(tiny(*settings, stages=ONE_EPOCH))
    with pytest.raises(ConfigError, match=message):
        check(tiny(*settings, TWO, stages=ONE_EPOCH))


def test_batch_norms_that_rest_in_a_stage_are_no_reason_to_refuse_parts(tiny: Make) -> None:
    resting = {"only": {**ONE_EPOCH["only"], "freeze": ["generator"]}}
    check(tiny(BATCH_NORM, TWO, stages=resting))


def test_a_share_that_cannot_be_parted_is_answered_with_the_nearest_numbers(
    tiny: Make, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"found 3; the 8 pictures .* take 2 or 4"):
        rank_pool.fit(tiny("train.micro_batches=3", stages=ONE_EPOCH), tmp_path)
    with pytest.raises(ConfigError, match=r"found 9; the 8 pictures .* take 8"):
        rank_pool.fit(tiny("train.micro_batches=9", stages=ONE_EPOCH), tmp_path)


def test_parts_that_play_other_turns_are_an_error() -> None:
    model = nn.ModuleDict({"first": nn.Linear(1, 1), "second": nn.Linear(1, 1)})

    def turns(*players: str) -> Iterator[Turn]:
        for player in players:
            yield Turn(player, model[player](torch.ones(1)).sum(), {})

    with pytest.raises(RuntimeError, match=r"after a turn of first .* found second"):
        add_gradients(model, [turns("first"), turns("second")], ("first", "second"))
    with pytest.raises(RuntimeError, match=r"after a turn of first .* found no turn"):
        add_gradients(model, [turns("first"), turns()], ("first", "second"))
    with pytest.raises(RuntimeError, match="found first"):
        add_gradients(model, [turns(), turns("first")], ("first", "second"))


@pytest.mark.parametrize(
    ("settings", "ranks", "how"),
    [
        ((), 1, "activation checkpointing, 4 micro-batches"),
        ((), 4, "activation checkpointing, 2 micro-batches"),
        (("train.batch_size=12",), 2, "activation checkpointing, 6 micro-batches"),
        ((BATCH_NORM,), 1, "activation checkpointing"),
        (("train.compile=true",), 1, "activation checkpointing, 4 micro-batches"),
    ],
)
def test_less_memory_is_had_in_the_ways_that_an_experiment_allows(
    settings: tuple[str, ...], ranks: int, how: str, tiny: Make
) -> None:
    experiment = tiny(*settings)
    saving = with_less_memory(experiment, ranks)
    assert describe_saving(experiment) == ""
    assert describe_saving(saving) == how
    assert saving.hash == experiment.hash
    assert with_less_memory(saving, ranks) == saving
