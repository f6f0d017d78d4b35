"""Every recipe, published and small: it parses, trains on two ranks, resumes, scores, colorizes."""

import math
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colorization import checkpoint, config
from colorization.config import Data
from colorization.data import open_data
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment, count_players, read_experiment, recipes
from colorization.export import export, load_exported, load_run
from colorization.inference import PictureColorizer
from colorization.pictures import Picture
from colorization.score_names import BEST_OF
from colorization.training import read_history
from fingerprints import fit_for_fingerprints
from overfit import SETTINGS, Scores, experiment_of, main, meets_target
from rank_pool import RankPool
from recipe_data import odd_photograph, with_pictures, write_arrays
from small_recipe import SMALL, read_small_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

every_recipe = pytest.mark.parametrize("name", list(recipes()))
# A few for every day: a GAN, a transformer, a cVAE, a flow; a quarter of a minute each is too much.
DAILY = {"pix2pix", "vit_gan", "unet_cvae", "cinn"}
every_recipe_in_time = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in DAILY else pytest.mark.slow) for name in recipes()],
)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arrays(tmp_path_factory.mktemp("arrays"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for runs that is emptied at once: pytest keeps its own, these have gigabytes."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def small(name: str) -> Experiment:
    return config.parse(Experiment, read_small_recipe(name), name)


def of_few_steps(name: str, arrays: Path) -> Experiment:
    """A small recipe of two steps an epoch: two epochs of its first stage, one of the others."""
    data = read_small_recipe(name)
    batch = data["train"].setdefault("batch_size", 8)
    for index, stage in enumerate(data["train"]["stages"].values()):
        stage["steps"], stage["epochs"] = None, 2 if index == 0 else 1
    data["train"] |= {"precision": "float32", "grid_pictures": 2}
    return config.parse(Experiment, with_pictures(data, arrays, 2 * batch, 4), name)


@every_recipe_in_time
def test_a_small_recipe_trains_on_two_ranks_resumes_scores_exports_and_colorizes(
    name: str, arrays: Path, two_ranks: RankPool, folder: Path
) -> None:
    experiment = of_few_steps(name, arrays)
    straight = two_ranks.run(fit_for_fingerprints, experiment, folder / "straight")
    assert straight[0] == straight[1], "the ranks have drifted apart"
    assert len(straight[0]) == len(experiment.train.stages) + 1
    assert all(mine != theirs for mine, theirs in pairwise(straight[0])), "an epoch changed nothing"

    two_ranks.run(fit_for_fingerprints, experiment, folder / "resumed", 1)
    assert len(read_history(folder / "resumed")) == 1
    resumed = two_ranks.run(fit_for_fingerprints, experiment, folder / "resumed")
    assert resumed[0] == straight[0][1:], "resumed, it is another run"
    assert resumed[1] == straight[1][1:], "resumed, it is another run"

    run = folder / "resumed"
    model, trained = load_run(run)
    assert trained == experiment
    evaluation = Evaluation(trained, open_data(trained.data).validation, current_ranks("cpu"))
    scores = evaluation.scores(model, evaluation.leave_gray())
    assert all(map(math.isfinite, scores.values())), scores
    assert (f"best_of_{BEST_OF}_psnr" in scores) == model.stochastic
    best = read_history(run)[int(checkpoint.best(run).name[-5:]) - 1]
    for score in scores.keys() & {"psnr", "ab_mae", f"best_of_{BEST_OF}_psnr"}:
        assert scores[score] == pytest.approx(best[score], rel=1e-3)

    photograph = Picture(odd_photograph())
    (whole,) = PictureColorizer(model, trained.data.size)(photograph)
    slim, _ = load_exported(export(run, folder / "exported"))
    (colored,) = PictureColorizer(slim, trained.data.size)(photograph)
    assert colored.rgb.shape == photograph.rgb.shape
    assert np.array_equal(colored.rgb, whole.rgb)
    assert not np.array_equal(colored.rgb, photograph.rgb)


@every_recipe
def test_a_published_recipe_parses_and_its_networks_can_be_built(name: str) -> None:
    parameters = count_players(read_experiment(name))
    assert parameters
    assert min(parameters.values()) > 0


def kinds(part: Data) -> dict[str, Any]:
    """Every choice of a kind in a model's settings: of a network, of a loss, of a schedule."""
    return {key: value for key, value in config.flatten(part).items() if key.endswith("name")}


def weighed(part: Data) -> dict[str, bool]:
    """Which terms a model's loss has."""
    flat = config.flatten(part)
    return {k: v > 0 for k, v in flat.items() if k.startswith("lambda_") or k == "kl_weight"}


@every_recipe
def test_a_small_recipe_is_the_recipe_but_for_its_size(name: str) -> None:
    published, tiny = config.dump(read_experiment(name)), config.dump(small(name))
    assert kinds(tiny["model"]) == kinds(published["model"])
    assert weighed(tiny["model"]) == weighed(published["model"])
    assert list(tiny["train"]["stages"]) == list(published["train"]["stages"])
    for mine, theirs in zip(
        tiny["train"]["stages"].values(), published["train"]["stages"].values(), strict=True
    ):
        for setting in ("turns", "select", "freeze", "optimizers"):
            assert mine[setting] == theirs[setting]
        assert config.flatten(mine["change"]).keys() == config.flatten(theirs["change"]).keys()
        assert mine["epochs"] or mine["steps"]


@every_recipe
def test_a_small_recipe_is_small_and_needs_no_pretrained_weights(name: str) -> None:
    published, tiny = read_experiment(name), small(name)
    assert tiny.data.size < published.data.size
    assert sum(count_players(tiny).values()) < sum(count_players(published).values())
    assert tiny.model.weights() == []


def test_every_small_recipe_belongs_to_a_recipe() -> None:
    for folder in (SMALL, SETTINGS):
        assert {path.stem for path in folder.glob("*.yaml")} <= recipes().keys()


@every_recipe
def test_a_recipe_is_overfitted_on_the_same_pictures_in_every_stage(
    name: str, tmp_path: Path
) -> None:
    experiment = experiment_of(name, tmp_path)
    for stage in experiment.train.stages:
        data = experiment.at(stage).data
        assert config.dump(data.source)["path"] == str(tmp_path)
        assert (data.flip, data.crop_scale) == (False, (1.0, 1.0))


def test_the_overfitting_table_has_a_line_for_a_recipe_that_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("overfit.SETTINGS", tmp_path)
    (tmp_path / "resnet_gan.yaml").write_text("model: {lambda_l1: -1}")
    assert main(["--recipes", "resnet_gan,dynamic_unet", "--steps", "1"]) == 1
    table = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in table}) == 1
    failed, trained = table[2:]
    assert failed.startswith("| resnet_gan |")
    assert "lambda_l1: found -1" in failed
    assert trained.startswith("| dynamic_unet |")
    assert "failed" not in trained


@pytest.mark.parametrize(
    ("recipe", "scores", "met"),
    [
        ("resnet_gan", {"psnr": 26.1, "ab_jsd": 0.4}, True),
        ("resnet_gan", {"psnr": 25.9, "ab_jsd": 0.1}, False),
        ("resnet_gan", {"psnr": 25.9, "ab_jsd": 0.4, "best_of_8_psnr": 24.1}, True),
        ("resnet_gan", {"psnr": 26.1, "ab_jsd": 0.4, "best_of_8_psnr": 23.9}, False),
        ("no_pixel_loss", {"psnr": 15.0, "ab_jsd": 0.25}, True),
        ("no_pixel_loss", {"psnr": 26.1, "ab_jsd": 0.26}, False),
    ],
)
def test_a_target_is_what_the_loss_can_reach(
    recipe: str, scores: dict[str, float], met: bool
) -> None:
    changes = [] if recipe == "resnet_gan" else ["model.lambda_l1=0"]
    experiment = read_experiment("resnet_gan", changes)
    gray = {"psnr": 20.0, "ab_jsd": 0.5}
    assert meets_target(experiment, Scores(scores, gray))[1] == met
