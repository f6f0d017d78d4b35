"""MLflow stores for the tests, made once and copied for each; a finished study for several."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_store import prepare
from study_commands import Done, Place, new_place

# A learning rate trains, one is too small to learn and gets stopped early, and one diverges: with a
# weight decay of 1 the critic's weights grow a hundredfold at each of its moves. Seed 51 draws the
# first, the diverging one, the small one and the first again.
SPACE = """
search:
  trials: 4
  scheduler: {grace_period: 1, reduction_factor: 3}
experiment:
  data: {source: {name: sample, crops: 32, scoring_crops: 8}, size: 32}
  model:
    name: gan
    generator: {name: unet, width: 8, dropout: 0}
    discriminator: {name: patch, width: 4, layers: 1}
    lambda_l1: !loguniform [100, 1000]
    discriminator_steps: 10
    learning_rate_ratio: 100
  train:
    batch_size: 8
    weight_decay: 1
    learning_rate: !choice [0.005, 0.00001, 1]
    precision: float32
    grid_pictures: 2
    stages:
      head_start: {turns: l1, epochs: 1, select: false}
      adversarial: {turns: adversarial, epochs: 4}
"""


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Make a store in a folder and return its tracking URI; MLflow's migrations take seconds."""
    empty = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    prepare(f"sqlite:///{empty}")

    def copy(folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(empty, folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    return copy


@dataclass(frozen=True)
class Finished:
    """A study whose trials ended in all ways, and the training of its winner on top of it."""

    place: Place
    space: Path
    tuned: Done


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """The study `small`, run once for all tests: tune.py takes half a minute."""
    with new_place(tmp_path_factory.mktemp("finished")) as place:
        space = place.folder / "space.yaml"
        space.write_text(SPACE)
        flags = ["--space", str(space), "--name", "small", "--seed", "51", "--concurrent", "1"]
        tuned = place.run("tune.py", "--model", "gan", *flags, "--storage", str(place.storage))
        yield Finished(place, space, tuned)
