import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial

from colorization.config import ConfigError
from colorization.experiment import read_experiment
from distributions import Choice, Floats, Integers
from space import SPACES, Space

SMALL = """
search: {trials: 5, first_trials: [resnet_gan]}
experiment:
  data: {size: 64}
  model:
    name: gan
    generator: !choice
      - {name: unet, width: !logint [4, 16], normalization: !choice [batch, group]}
      - {name: resnet_unet, width: !logint [8, 32]}
    discriminator: {width: 8, layers: 2}
    adversarial: !choice
      lsgan: {name: lsgan}
      penalty: {name: wasserstein, gradient_penalty: !loguniform [0.1, 100]}
      clip: {name: wasserstein, gradient_penalty: 0, weight_clip: !loguniform [1e-3, 1e-1]}
    lambda_l1: !loguniform [1, 50]
  train:
    learning_rate: !loguniform [1e-5, 1e-3]
    betas: !choice [[0.5, 0.999], [0.9, 0.99]]
    batch_size: !choice [8]
    stages:
      head_start: {turns: l1, epochs: !int [0, 3], select: false}
      adversarial: {turns: adversarial, epochs: 4}
"""

UNET_BRANCH = {
    "model.generator": "unet",
    "model.generator.unet.width": 8,
    "model.generator.unet.normalization": "group",
    "model.adversarial": "penalty",
    "model.adversarial.penalty.gradient_penalty": 5.0,
    "model.lambda_l1": 10.0,
    "train.learning_rate": 1e-4,
    "train.betas": "[0.9, 0.99]",
    "train.batch_size": 8,
    "train.stages.head_start.epochs": 1,
}


@pytest.fixture
def small(tmp_path):
    """A function that writes a space, changed by (old, new) text, and reads it."""

    def read(*changes: tuple[str, str], overrides: list[str] | None = None) -> Space:
        text = SMALL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "small.yaml"
        path.write_text(text, encoding="utf-8")
        return Space.read(path, "gan", overrides or [])

    return read


def samples(space: Space, count: int = 40) -> list[tuple[dict[str, Any], Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = []
    for _ in range(count):
        trial = study.ask()
        experiment = space.sample(trial)
        found.append((trial.params, experiment))
    return found


# --- sampling


def test_parameters_are_named_by_paths_with_the_branch_in_them(small):
    assert small().parameters() == {
        "model.generator": Choice(small().tree["model"]["generator"].options),
        "model.generator.unet.width": Integers(4, 16, log=True),
        "model.generator.unet.normalization": Choice({"batch": "batch", "group": "group"}),
        "model.generator.resnet_unet.width": Integers(8, 32, log=True),
        "model.adversarial": Choice(small().tree["model"]["adversarial"].options),
        "model.adversarial.penalty.gradient_penalty": Floats(0.1, 100, log=True),
        "model.adversarial.clip.weight_clip": Floats(0.001, 0.1, log=True),
        "model.lambda_l1": Floats(1, 50, log=True),
        "train.learning_rate": Floats(1e-5, 1e-3, log=True),
        "train.betas": Choice({"[0.5, 0.999]": [0.5, 0.999], "[0.9, 0.99]": [0.9, 0.99]}),
        "train.batch_size": Choice({8: 8}),
        "train.stages.head_start.epochs": Integers(0, 3),
    }


def test_a_trial_samples_the_experiment_that_its_parameters_say(small):
    experiment = small().sample(FixedTrial(UNET_BRANCH))
    assert experiment.model.generator.name == "unet"
    assert experiment.model.generator.width == 8
    assert experiment.model.generator.normalization == "group"
    assert experiment.model.adversarial.gradient_penalty == 5.0
    assert experiment.model.lambda_l1 == 10.0
    assert experiment.train.betas == (0.9, 0.99)
    assert experiment.train.stages["head_start"].epochs == 1


def test_a_branch_is_searched_only_where_it_is_chosen(small):
    for parameters, experiment in samples(small()):
        chosen = parameters["model.adversarial"]
        inside = "model.adversarial.penalty.gradient_penalty" in parameters
        assert inside == (chosen == "penalty")
        width = f"model.generator.{experiment.model.generator.name}.width"
        assert parameters[width] == experiment.model.generator.width


def test_samples_reach_every_branch_and_stay_within_their_ranges(small):
    found = samples(small())
    assert {p["model.adversarial"] for p, _ in found} == {"lsgan", "penalty", "clip"}
    assert {e.train.stages["head_start"].epochs for _, e in found} == {0, 1, 2, 3}
    assert all(1e-5 <= e.train.learning_rate <= 1e-3 for _, e in found)


def test_the_order_of_branches_in_the_file_does_not_matter_to_a_study(small):
    swapped = small(("[batch, group]", "[group, batch]"))
    assert swapped.hash == small().hash
    study = optuna.create_study()
    for space in (small(), swapped):  # Optuna refuses a categorical whose choices changed places
        study.enqueue_trial(UNET_BRANCH)
        assert space.sample(study.ask()) == small().sample(FixedTrial(UNET_BRANCH))


def test_a_branch_may_hold_another_choice_of_branches(small):
    nested = small(
        ("- {name: resnet_unet, width: !logint [8, 32]}", "- {name: resnet_unet, width: 8}"),
        (
            "learning_rate: !loguniform [1e-5, 1e-3]",
            "gradient_clip: !choice {none: null, clipped: !choice {mild: 60, hard: !uniform "
            "[1, 5]}}",
        ),
    )
    nested.validate()
    name = "train.gradient_clip"
    given = {
        **{k: v for k, v in UNET_BRANCH.items() if k != "train.learning_rate"},
        name: "clipped",
        f"{name}.clipped": "hard",
        f"{name}.clipped.hard": 2.5,
    }
    assert nested.sample(FixedTrial(given)).train.gradient_clip == 2.5
    without = {**given, name: "none"}
    assert nested.sample(FixedTrial(without)).train.gradient_clip is None


def test_tags_inside_a_list_are_searched(small):
    space = small(("!choice [[0.5, 0.999], [0.9, 0.99]]", "[!uniform [0, 0.9], 0.999]"))
    space.validate()
    given = {k: v for k, v in UNET_BRANCH.items() if k != "train.betas"}
    assert space.sample(FixedTrial({**given, "train.betas.0": 0.25})).train.betas == (0.25, 0.999)


def test_a_file_without_tags_is_a_space_of_one_experiment():
    recipe = Path("colorization/recipes/resnet_gan.yaml")
    path = SPACES.parent / recipe
    space = Space.read(path, "gan")
    assert space.parameters() == {}
    assert space.typical() == read_experiment("resnet_gan")


# --- command line


def test_a_setting_takes_the_place_of_a_distribution(small):
    space = small(overrides=["model.lambda_l1=80", "train.batch_size=4", "data.flip=false"])
    assert "model.lambda_l1" not in space.parameters()
    experiment = space.typical()
    assert (experiment.model.lambda_l1, experiment.train.batch_size) == (80, 4)
    assert experiment.data.flip is False


def test_a_setting_may_be_a_distribution(small):
    space = small(overrides=["model.lambda_l1=!loguniform [10, 1e2]"])
    assert space.parameters()["model.lambda_l1"] == Floats(10, 100, log=True)


def test_a_name_picks_its_branches_and_keeps_what_they_search(small):
    space = small(
        overrides=[
            "model.generator.width=!int [4, 8]",
            "model.generator.name=unet",
            "model.adversarial.name=wasserstein",
        ]
    )
    parameters = space.parameters()
    assert "model.generator.unet.normalization" in parameters
    assert parameters["model.generator.unet.width"] == Integers(4, 8)
    assert not any("resnet_unet" in name for name in parameters)
    assert set(parameters["model.adversarial"].options) == {"penalty", "clip"}
    assert "model.adversarial.penalty.gradient_penalty" in parameters


def test_a_label_picks_one_of_two_branches_of_the_same_name(small):
    space = small(overrides=["model.adversarial.name=clip"])
    space.validate()
    assert set(space.parameters()["model.adversarial"].options) == {"clip"}
    assert space.typical().model.adversarial.weight_clip > 0


def test_a_name_that_the_choice_does_not_offer_begins_anew(small):
    space = small(overrides=["model.adversarial.margin=0.9", "model.adversarial.name=hinge"])
    assert "model.adversarial" not in space.parameters()
    assert space.typical().model.adversarial.margin == 0.9


def test_a_setting_inside_an_open_choice_asks_which_branch(small):
    with pytest.raises(ConfigError, match=r"model.generator.name=unet.*model.generator.unet.width"):
        small(overrides=["model.generator.width=8"])
    space = small(overrides=["model.generator.unet.width=8"])
    assert "model.generator.unet.width" not in space.parameters()
    assert "model.generator.resnet_unet.width" in space.parameters()


def test_a_setting_below_a_number_is_refused(small):
    with pytest.raises(ConfigError, match=r"model.lambda_l1 is !loguniform \[1, 50\]"):
        small(overrides=["model.lambda_l1.low=3"])


def test_search_settings_are_changed_under_search(small):
    space = small(overrides=["search.trials=3", "search.scheduler.grace_period=4"])
    assert (space.search.trials, space.search.scheduler.grace_period) == (3, 4)


# --- what is wrong is said before anything starts


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("!loguniform [1, 50]", "!loguniform [0, 50]", "log scale both must be above 0"),
        ("!loguniform [1, 50]", "!loguniform [50, 1]", "first number must be below the second"),
        ("!loguniform [1, 50]", "!loguniform 50", r"two numbers are needed: !loguniform \["),
        ("!loguniform [1, 50]", "!uniform [1, fifty]", "two numbers are needed"),
        ("!loguniform [1, 50]", "!logunform [1, 50]", "did you mean !loguniform"),
        ("!int [0, 3]", "!int [0, 2.5]", "whole numbers are needed"),
        ("!logint [8, 32]", "!logint [0, 32]", "both must be 1 or more"),
        ("!choice [8]", "!choice []", "one is needed at least"),
        ("!choice [8]", "!choice [8, 8]", "found 8 twice"),
        ("!choice [8]", "!choice 8", "a list is needed"),
        ("- {name: resnet_unet, ", "- {", "needs a fixed name, or labels"),
        ("!choice [8]", "!choice [!int [2, 4]]", "needs a label"),
    ],
)
def test_a_bad_tag_names_file_and_line(small, old, new, message):
    line = next(i for i, text in enumerate(SMALL.splitlines(), start=1) if old in text)
    with pytest.raises(ConfigError, match=rf"small\.yaml, line {line}: .*{message}"):
        small((old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lambda_l1:", "lamda_l1:", "model.lamda_l1: unknown setting; did you mean 'lambda_l1'"),
        ("[1, 50]", "[1, 20000]", r"lambda_l1: found 20000.0.*\[1, 20000\]"),
        ("[1e-3, 1e-1]", "[1e-3, 3]", r"weight_clip: found 3.0; .*clip.weight_clip=3.0"),
        ("[0.1, 100]", "[0.1, 5e3]", r"\(tried model.adversarial.penalty.gradient_penalty=5000.0"),
        ("{name: lsgan}", "{name: lsgun}", "model.adversarial.name: found 'lsgun'; .*'lsgan'"),
        ("{name: lsgan}", "{name: lsgan, margin: 1}", "margin: unknown setting"),
        ("size: 64", "size: 72", "data.size: found 72"),
        ("layers: 2", "layers: !int [2, 6]", "discriminator patch .* needs 192 at least.*layers=6"),
    ],
)
def test_a_space_that_may_give_an_illegal_experiment_is_refused(small, old, new, message):
    with pytest.raises(ConfigError, match=rf"small\.yaml: (?s:.*){message}"):
        small((old, new)).validate()


def test_a_stage_that_freezes_a_part_that_one_branch_lacks_is_refused(small):
    frozen = ("epochs: 4}", "epochs: 4, freeze: [generator.encoder]}")
    with pytest.raises(ConfigError, match=r"no part 'generator\.encoder'"):
        small(frozen).validate()
    small(frozen, overrides=["model.generator.name=resnet_unet"]).validate()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("objective: {ab_mea: min}", "no score 'ab_mea'; scores: .*ab_mae"),
        ("objective: {ab_mae: less}", "'min' or 'max'"),
        ("trails: 3", "did you mean 'trials'"),
        ("first_trials: [resnet_gun]", "no recipe 'resnet_gun'; recipes: .*resnet_gan"),
        ("scheduler: {metric: psnr}", "scheduler.metric: found 'psnr'"),
    ],
)
def test_a_wrong_search_setting_names_what_is_right(small, search, message):
    with pytest.raises(ConfigError, match=rf"small\.yaml: search: (?s:.*){message}"):
        small(("trials: 5, first_trials: [resnet_gan]", search))


def test_a_model_without_a_space_is_told_the_nearest():
    with pytest.raises(ConfigError, match="no search space for 'gna'; did you mean 'gan'"):
        Space.read(None, "gna")


def test_a_space_of_another_family_is_refused(small):
    with pytest.raises(ConfigError, match=r"model\.name: found unet; gan is asked for"):
        Space.read(SPACES / "unet.yaml", "gan")


# --- recipes and older studies


def test_a_recipe_is_projected_onto_what_is_searched_and_clipped(small):
    assert small().project(read_experiment("resnet_gan")) == {
        "model.generator": "resnet_unet",
        "model.generator.resnet_unet.width": 32,  # 64 in the recipe
        "model.lambda_l1": 50,  # 100
        "train.learning_rate": 2e-4,
        "train.betas": "[0.5, 0.999]",
        "train.stages.head_start.epochs": 3,  # 20
    }  # its loss, bce, and its batch of 16 are not offered


def test_a_stage_that_a_recipe_does_not_have_takes_no_epochs(small):
    assert small().project(read_experiment("pix2pix"))["train.stages.head_start.epochs"] == 0


def test_what_belongs_to_a_kind_the_space_does_not_have_is_not_projected(small):
    space = small(overrides=["model.generator.name=unet"])
    found = space.project(read_experiment("resnet_gan"))
    assert not any(name.startswith("model.generator") for name in found)


@pytest.mark.parametrize(
    ("setting", "branch"), [("gradient_penalty=3", "penalty"), ("weight_clip=0.01", "clip")]
)
def test_branches_of_one_name_are_told_apart_by_their_settings(small, setting, branch):
    settings = ["model.adversarial.name=wasserstein", f"model.adversarial.{setting}"]
    if branch == "clip":
        settings.append("model.adversarial.gradient_penalty=0")
    found = small().project(read_experiment("resnet_gan", settings))
    assert found["model.adversarial"] == branch


def test_a_projected_recipe_is_a_trial_that_the_sampler_completes(small):
    space, study = small(), optuna.create_study()
    study.enqueue_trial(space.project(read_experiment("resnet_gan")))
    trial = study.ask()
    experiment = space.sample(trial)
    assert experiment.model.lambda_l1 == 50
    assert trial.params["model.adversarial"] in ("lsgan", "penalty", "clip")


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ("data.loader_workers=3", True),  # speed only
        ("search.trials=50", True),
        ("train.weight_decay=0", True),  # the default, spelled out
        ("model.lambda_l1=!loguniform [1, 50.0]", True),
        ("model.lambda_l1=!loguniform [1, 51]", False),
        ("model.lambda_l1=!uniform [1, 50]", False),
        ("search.objective={psnr: max}", False),
        ("train.weight_decay=0.1", False),
        ("model.adversarial.lsgan.label_smoothing=0.1", False),
    ],
)
def test_the_hash_stands_for_what_may_be_sampled(small, setting, same):
    assert (small(overrides=[setting]).hash == small().hash) is same


# --- the spaces that come with the project


@pytest.mark.parametrize("model", sorted(path.stem for path in SPACES.glob("*.yaml")))
def test_a_space_of_the_project_is_valid(model):
    space = Space.read(None, model)
    space.validate()
    for recipe in space.search.first_trials:
        assert space.project(read_experiment(recipe))


@pytest.mark.parametrize("model", sorted(path.stem for path in SPACES.glob("*.yaml")))
def test_the_command_in_a_spaces_comment_works(model, tmp_path):
    """The settings for a real data set, as the file's head gives them."""
    comment = (SPACES / f"{model}.yaml").read_text().split("search:\n")[0]
    command = comment.split(f"tune.py --model {model} --trials", 1)[1].split("\n#\n")[0]
    words = shlex.split(command.replace("\n#", "\n").replace("\\\n", ""))
    settings = [word for word in words if "=" in word]
    assert len(settings) > 4
    space = Space.read(None, model, settings)
    space.validate()
    assert space.typical().data.source.name == "folder"
    assert space.parameters() != Space.read(None, model).parameters()
