from collections.abc import Callable
from pathlib import Path

import pytest

from colorization import config
from colorization.config import ConfigError
from colorization.experiment import (
    SPEED_ONLY,
    Experiment,
    build_model,
    check,
    count_parameters,
    count_players,
    outline,
    read_experiment,
    recipes,
)

Make = Callable[..., Experiment]
L1 = {"turns": "l1", "epochs": 1}
ADVERSARIAL = {"turns": "adversarial", "epochs": 1}


def fault(tiny: Make, *overrides: str, **stages: object) -> str:
    with pytest.raises(ConfigError) as caught:
        check(tiny(*overrides, stages=stages or None))
    return str(caught.value)


@pytest.mark.parametrize("recipe", sorted(recipes()))
def test_every_recipe_parses_and_its_networks_can_be_built(recipe: str) -> None:
    experiment = read_experiment(recipe)
    model = outline(experiment)
    assert all(count_parameters(model.get_submodule(player)) > 0 for player in model.players)
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("recipe", sorted(recipes()))
def test_every_recipe_is_the_same_after_yaml_and_back(recipe: str, tmp_path: Path) -> None:
    experiment = read_experiment(recipe)
    path = tmp_path / "again.yaml"
    path.write_text(config.to_yaml(config.dump(experiment)))
    again = read_experiment(str(path))
    assert again == experiment
    assert again.hash == experiment.hash


def test_a_studys_best_file_is_read_as_an_experiment(tiny: Make, tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(config.to_yaml({"score": 3, "experiment": config.dump(tiny())}))
    assert read_experiment(str(path), ["model.lambda_l1=7"]) == tiny("model.lambda_l1=7")


def test_a_name_that_is_no_recipe_and_no_file_is_answered_with_the_recipes() -> None:
    with pytest.raises(ConfigError, match=r"neither a recipe nor a file.*resnet_gan"):
        read_experiment("resnet_gna")


def test_the_hash_ignores_what_changes_speed_only(tiny: Make) -> None:
    words = {
        "data.loader_workers": "data.loader_workers=3",
        "data.source.cache": "data.source.cache=/scratch",
        "data.source.cache_gigabytes": "data.source.cache_gigabytes=5",
        "train.compile": "train.compile=true",
        "train.channels_last": "train.channels_last=false",
        "train.activation_checkpointing": "train.activation_checkpointing=true",
        "train.micro_batches": "train.micro_batches=2",
    }
    assert set(words) == set(SPEED_ONLY)
    packed = ("data.source.name=packed", "data.source.path=s3://bucket/set")
    compiled = words.pop("train.compile")  # goes without checkpointing
    assert tiny(*packed, *words.values()).hash == tiny(*packed).hash
    assert tiny(compiled).hash == tiny().hash


def test_the_hash_sees_every_other_setting(tiny: Make) -> None:
    experiment = tiny()
    other = {
        "data.size": 48,
        "data.crop_scale": [0.5, 0.9],
        "model.generator.normalization": "none",
        "model.discriminator.normalization": "none",
        "model.generator.gray_channels": 3,
        "model.generator.head": "upsample",
        "model.discriminator.gray_channels": 3,
        "model.augmentation": {"name": "diffaugment"},
        "model.output": "rgb",
        "train.precision": "auto",
        "train.betas": [0.4, 0.99],
        "train.gradient_clip": 1.0,
    }
    for stage in ("head_start", "adversarial"):
        other |= {
            f"train.stages.{stage}.optimizers": "keep",
            f"train.stages.{stage}.freeze": ["generator.ups"],
            f"train.stages.{stage}.change": {"train.learning_rate": 1e-5},
        }
    bound = ("name", "turns", "select", "steps")  # to other settings, of stages or of their part
    for key, value in config.flatten(config.dump(experiment)).items():
        if key in SPEED_ONLY or key.split(".")[-1] in bound:
            continue
        match value:
            case bool():
                changed = not value
            case int():
                changed = value + 1
            case float():
                changed = value / 2 or 0.25
            case _:
                changed = other[key]
        changed = other.get(key, changed)
        data = config.override(config.dump(experiment), {key: changed})
        assert config.parse(Experiment, data).hash != experiment.hash, key


def test_the_order_of_stages_is_part_of_the_hash(tiny: Make) -> None:
    first = tiny(stages={"a": L1, "b": L1})
    assert first.hash != tiny(stages={"b": L1, "a": L1}).hash


def test_a_stage_sees_the_experiment_with_its_changes(tiny: Make) -> None:
    change = {"train.learning_rate": "1e-5", "model": {"discriminator_steps": 7}}
    experiment = tiny(stages={"a": L1, "b": {**ADVERSARIAL, "change": change}})
    assert experiment.at("a").train.learning_rate == 2e-4
    assert experiment.at("b").train.learning_rate == 1e-5
    assert experiment.at("b").model.discriminator_steps == 7  # pyright: ignore
    assert experiment.at("b").model.generator == experiment.model.generator  # pyright: ignore


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.learning_rat": 1}, "train.learning_rat: unknown setting; did you mean"),
        ({"train.learning_rate": 5}, "train.learning_rate: found 5; "),
        ({"train.seed": 5}, "train.seed cannot change within a run"),
        ({"train": {"seed": 5}}, "train.seed cannot change within a run"),
        ({"data.size": 64}, "data.size cannot change within a run"),
        ({"model.name": "unet"}, "model.name cannot change within a run"),
        ({"model.generator.width": 8}, "the networks would have other weights"),
    ],
)
def test_a_stages_impossible_change_is_refused_with_the_stage(
    change: dict[str, object], message: str, tiny: Make
) -> None:
    found = fault(tiny, late={**ADVERSARIAL, "change": change})
    assert "train.stages.late.change" in found
    assert message in found


def test_a_stage_needs_one_length(tiny: Make) -> None:
    assert "found epochs=None, steps=None" in fault(tiny, a={"turns": "l1"})
    assert "found epochs=1, steps=3" in fault(tiny, a={**L1, "steps": 3})


def test_a_stage_plays_turns_that_its_model_knows(tiny: Make) -> None:
    assert "model gan plays l1 | adversarial" in fault(tiny, a={"turns": "adv", "epochs": 1})
    assert "model unet plays l1" in fault(tiny, "model.name=unet")


def test_a_run_in_which_nothing_can_be_selected_is_refused(tiny: Make) -> None:
    assert "no stage" in fault(tiny, a={**L1, "select": False}, b={**L1, "epochs": 0})


def test_a_frozen_part_that_does_not_exist_is_answered_with_those_that_do(tiny: Make) -> None:
    found = fault(tiny, a={**L1, "freeze": ["generator.dows"]})
    assert found.startswith("train.stages.a.freeze: no part 'generator.dows'; there is ")
    assert "generator.downs" in found


def test_a_stage_in_which_nothing_is_left_to_train_is_refused(tiny: Make) -> None:
    freeze = {"turns": "adversarial", "epochs": 1, "freeze": ["generator", "discriminator"]}
    with pytest.raises(ConfigError, match=r"stages.a.freeze: .* nothing is left to train"):
        count_players(tiny(stages={"a": freeze}))
    count_players(tiny(stages={"a": {**freeze, "freeze": ["generator"]}}))


def test_picture_sizes_that_the_networks_cannot_take_are_refused(tiny: Make) -> None:
    assert "needs a multiple of 8, the nearest is 32" in fault(tiny, "data.size=34")
    assert "needs 192 at least" in fault(tiny, "model.discriminator.layers=6")
    instance = "model.generator={name: resnet_unet, normalization: instance}"
    assert "needs 64 at least" in fault(tiny, instance)


def test_a_wasserstein_critic_needs_one_thing_that_keeps_it_lipschitz(tiny: Make) -> None:
    for loss in (
        "{name: wasserstein, weight_clip: 0.1}",
        "{name: wasserstein, gradient_penalty: 0}",
    ):
        found = fault(tiny, f"model.adversarial={loss}")
        assert "needs one of gradient_penalty and weight_clip" in found


def test_a_source_setting_without_its_name_says_which_name_to_set(tiny: Make) -> None:
    assert "set data.source.name=folder too" in fault(tiny, "data.source.path=/pictures")


def test_both_betas_are_shares(tiny: Make) -> None:
    assert "both must be in [0, 1)" in fault(tiny, "train.betas=[0.5, 1.0]")


def test_the_seed_alone_decides_the_first_weights(tiny: Make) -> None:
    first, second = build_model(tiny()), build_model(tiny("train.learning_rate=0.5"))
    assert all((a == b).all() for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = build_model(tiny("train.seed=1"))
    assert any((a != b).any() for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_check_counts_each_players_parameters(tiny: Make) -> None:
    counts = check(tiny())
    model = build_model(tiny())
    assert counts == {p: count_parameters(model.get_submodule(p)) for p in model.players}
