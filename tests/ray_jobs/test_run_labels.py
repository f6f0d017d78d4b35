from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from colorization.experiment import Experiment, read_experiment, recipes
from run_labels import kinds, run_name, run_tags, surroundings_tags

Make = Callable[..., Experiment]


def trial(number: int, params: dict[str, Any] | None = None, **attributes: Any) -> FrozenTrial:
    params = params or {}
    kind: dict[str, BaseDistribution] = {
        name: CategoricalDistribution([value])
        if isinstance(value, str)
        else FloatDistribution(value, value)
        for name, value in params.items()
    }
    made = create_trial(
        state=TrialState.RUNNING, params=params, distributions=kind, user_attrs=attributes
    )
    made.number = number
    return made


def test_kinds_are_what_the_model_has_kinds_of(tiny: Make) -> None:
    assert kinds(tiny()) == {
        "model": "gan",
        "generator": "unet",
        "discriminator": "patch",
        "adversarial": "lsgan",
    }
    assert kinds(tiny("model.augmentation={name: ada}"))["augmentation"] == "ada"


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_has_a_model_among_its_kinds(recipe: str) -> None:
    found = kinds(read_experiment(recipe))
    assert next(iter(found)) == "model"
    assert all(found.values())


def test_a_name_begins_as_the_directory_and_tells_the_choices(tiny: Make) -> None:
    choices = {"train.learning_rate": 0.01, "model.adversarial": "lsgan", "model.generator": "unet"}
    assert run_name(tiny(), trial(7, choices)) == "trial-0007 unet lsgan"


def test_numbers_tell_where_no_kind_is_chosen(tiny: Make) -> None:
    numbers = {"model.lambda_l1": 123.456, "train.learning_rate": 0.0002}
    assert run_name(tiny(), trial(3, numbers)) == "trial-0003 lambda_l1=123 learning_rate=0.0002"


def test_where_nothing_is_searched_all_kinds_tell(tiny: Make) -> None:
    assert run_name(tiny(), trial(0)) == "trial-0000 gan unet patch lsgan"


def test_recipes_and_finalists_are_named_as_such(tiny: Make) -> None:
    choices = {"model.generator": "unet"}
    assert run_name(tiny(), trial(1, choices, recipe="pix2pix")) == "trial-0001 (pix2pix) unet"
    again = trial(12, choices, finalist_of=7, seed=3)
    assert run_name(tiny(), again) == "trial-0012 of 7, seed 3"
    tags = run_tags("gan-1", tiny(), again)
    assert (tags["finalist_of"], tags["seed"]) == ("7", "3")


def test_tags_find_a_run_by_study_model_seed_and_recipe(tiny: Make) -> None:
    experiment = tiny("train.seed=5")
    tags = run_tags("gan-1", experiment, trial(1, recipe="pix2pix"))
    assert tags == {
        "study": "gan-1",
        "trial": "1",
        "experiment": experiment.hash,
        "seed": "5",
        "recipe": "pix2pix",
        **kinds(experiment),
    }


def test_the_hardware_is_the_gpu_where_there_is_one() -> None:
    found = {
        "machines": [{"host": "a", "cpu": "EPYC", "gpu": "H100"}, {"host": "b", "cpu": "EPYC"}],
        "code": {"commit": "12", "changed": False},
        "device": "cuda",
        "ranks": 2,
        "torch": {"threads": 1},
        "precision": "bfloat16",
    }
    tags = surroundings_tags(found)
    assert tags["hardware"] == "H100, EPYC"
    assert tags["host"] == "a, b"
    assert tags["git.changed"] == "false"
