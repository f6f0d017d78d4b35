"""Tiny models in a real registry, and scores planted on real versions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from champion import ALIAS
from promotion import Scoring
from registry import Rescored, register

# isort: split
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel

from colorization.color import render, rgb_to_lab
from colorization.config import override, parse, parse_overrides
from colorization.data import open_data
from colorization.experiment import Experiment
from colorization.metrics import against_gray
from colorization.paired_scores import PictureScores
from colorization.training import fit

NAME = "colorizer-gan"

EXPERIMENT = """
data: {source: {name: sample, crops: 16, scoring_crops: 8}, size: 32}
model:
  name: gan
  generator: {name: unet, width: 4}
  discriminator: {name: patch, width: 4, layers: 1}
train:
  batch_size: 8
  learning_rate: 0.005
  ema: 0.9
  stages:
    adversarial: {turns: adversarial, epochs: 2}
"""


@dataclass(frozen=True)
class Trained:
    """A tiny model, really trained, and a store to register it in."""

    experiment: Experiment
    run: Path
    scores: dict[str, float]
    uri: str
    run_id: str
    folder: Path


def train(folder: Path, new_store: Callable[[Path], str], *overrides: str) -> Trained:
    """Train the model in a folder of its own, with an MLflow run that was killed long ago."""
    data = override(yaml.safe_load(EXPERIMENT), parse_overrides(overrides))
    experiment = parse(Experiment, data)
    outcome = fit(experiment, folder / "trial-0003", device="cpu")
    assert outcome.best_epoch is not None
    scores = outcome.history[outcome.best_epoch - 1]
    uri = new_store(folder / "store")
    client = MlflowClient(uri)
    artifacts = (folder / "store" / "mlartifacts").as_uri()
    run_id = client.create_run(client.create_experiment("gan", artifacts)).info.run_id
    client.set_terminated(run_id, "KILLED", end_time=1_700_000_000_000)
    return Trained(experiment, outcome.run, scores, uri, run_id, folder)


def register_again(trained: Trained, run_id: str | None = None, **tags: str) -> str:
    """Register the model as a new version, on the killed run or on another."""
    names = ("ab_mae", "ab_jsd", "against_gray")
    scores = {name: trained.scores[name] for name in names}
    return register(
        trained.run,
        model_name=NAME,
        tracking_uri=trained.uri,
        run_id=run_id or trained.run_id,
        scores=scores,
        test_scores={"ab_mae": 0.125},
        gray={"ab_mae": 0.25},
        test_gray={"ab_mae": 0.5},
        data_description=open_data(trained.experiment.data).description,
        tags={"study": "gan-1", **tags},
    )


def bare_versions(uri: str, count: int) -> MlflowClient:
    """Make versions that hold no model, where only the alias matters."""
    client = MlflowClient(uri)
    client.create_registered_model(NAME)
    for number in range(count):
        client.create_model_version(NAME, source=f"file:///nowhere/{number}")
    return client


def champion_of(client: MlflowClient) -> str | None:
    """Return the version that is champion."""
    version = client.get_registered_model(NAME).aliases.get(ALIAS)
    return None if version is None else str(version)


def planted(error: float, seed: int = 1, pictures: int = 24) -> Rescored:
    """Score pictures whose colors are off by about `error` (scaled ab), differently each."""
    generator = torch.Generator().manual_seed(0)
    lightness = torch.rand(pictures, 1, 12, 12, generator=generator) * 0.6 - 0.3
    ab = (torch.rand(pictures, 2, 1, 1, generator=generator) - 0.5).expand(-1, -1, 12, 12) * 0.6
    truth = render(lightness, ab)
    generator.manual_seed(seed)
    lab = rgb_to_lab(truth)
    noise = torch.randn(pictures, 2, 1, 1, generator=generator) * error
    found, gray = PictureScores(), PictureScores()
    found.update_rendered(render(lab[:, :1], lab[:, 1:] + noise), truth)
    gray.update_gray(truth)
    scores, baseline = found.compute(), gray.compute()
    share = against_gray(scores, baseline)
    return Rescored({"against_gray": share, **scores}, baseline, found, gray)


def planted_scoring(by_run: Mapping[str, Rescored]) -> Scoring:
    """Score real loaded versions with planted numbers, told apart by the runs they are from."""

    def score(model: PyFuncModel) -> Rescored:
        return by_run[str(model.metadata.run_id)]

    return Scoring(score, "12ab", "test")
