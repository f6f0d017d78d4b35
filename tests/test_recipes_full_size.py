"""Every recipe at its published picture size and width: two steps of each stage, then a picture."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest

from colorization import config
from colorization.experiment import Experiment, recipes, without_pretrained
from colorization.export import load_run
from colorization.inference import PictureColorizer
from colorization.pictures import Picture
from colorization.training import fit
from recipe_data import odd_photograph, with_pictures, write_arrays
from small_recipe import read_recipe

BATCH, STEPS = 2, 2


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arrays(tmp_path_factory.mktemp("arrays"))


def of_two_steps(name: str, arrays: Path) -> Experiment:
    data = read_recipe(name)
    for stage in data["train"]["stages"].values():
        stage["steps"], stage["epochs"] = STEPS, None
    data["train"] |= {"batch_size": BATCH, "grid_pictures": 1}
    data = with_pictures(data, arrays, crops=BATCH * STEPS, scoring_crops=2)
    return without_pretrained(config.parse(Experiment, data, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(recipes()))
def test_a_recipe_trains_at_its_published_size(name: str, arrays: Path) -> None:
    experiment = of_two_steps(name, arrays)
    # Not in tmp_path, which pytest keeps: a checkpoint of the largest recipe has over 4 GB.
    with tempfile.TemporaryDirectory() as folder:
        outcome = fit(experiment, Path(folder))
        model, _ = load_run(Path(folder))
    stages = list(experiment.train.stages)
    assert [entry["stage"] for entry in outcome.history] == stages
    for entry in outcome.history:
        numbers = {key: value for key, value in entry.items() if key != "stage"}
        assert all(map(math.isfinite, numbers.values())), numbers
        assert any(key.startswith(f"train/{player}/") for player in model.players for key in entry)
    photograph = Picture(odd_photograph())
    (colored,) = PictureColorizer(model, experiment.data.size)(photograph)
    assert colored.rgb.shape == photograph.rgb.shape
    assert not np.array_equal(colored.rgb, photograph.rgb)
