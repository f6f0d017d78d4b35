"""Studies in a journal as if they had been trained, and models that were not."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from cause import Failure
from colorization import checkpoint
from colorization.config import dump, to_yaml
from colorization.experiment import Experiment, build_model
from colorization.export import EXPERIMENT, WEIGHTS
from space import Space
from storage import trial_folder
from study import Study

SPACE = """
search:
  first_trials: [resnet_gan]
experiment:
  data: {source: {name: sample, crops: 16, scoring_crops: 8}, size: 32}
  model:
    name: gan
    generator: {name: unet, width: !int [4, 8]}
    discriminator: {name: patch, width: 4, layers: 1}
    adversarial: !choice
      bce: {name: bce, label_smoothing: !uniform [0, 0.2]}
      lsgan: {name: lsgan}
    lambda_l1: !loguniform [1, 1000]
  train:
    batch_size: 8
    stages:
      adversarial: {turns: adversarial, epochs: 4}
"""
GRAY = {"ab_mae": 0.13, "ab_jsd": 0.58, "psnr": 21.1, "a_r2": -0.2, "b_r2": -0.1, "pictures": 8.0}


def open_planted(storage: Path, name: str = "planted", *overrides: str, trials: int = 8) -> Study:
    """Begin a study of small GANs."""
    storage.mkdir(parents=True, exist_ok=True)
    file = storage / "space.yaml"
    file.write_text(SPACE)
    space = Space.read(file, "gan", list(overrides))
    study = Study(storage / "studies" / name, name, space, 0, trials)
    study.shape = {"workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0.5}
    return study


def plant(study: Study, against_gray: float, epochs: int = 4, **others: float) -> int:
    """Add a trial that runs and has scores; return its number."""
    number, _ = study.next()
    if not study.gray:
        study.gray = GRAY
    for epoch in range(1, epochs + 1):
        level = against_gray + 0.1 * (epochs - epoch)
        study.record_epoch(number, epoch, epoch, scores(level) | others)
    study.record_seconds(number, 30.0, 20.0)
    return number


def scores(against_gray: float) -> dict[str, float]:
    """Return all scores that a report shows of a trial."""
    channels = {f"{c}_{n}": 0.1 for c in "ab" for n in ("mae", "median_ae", "mse", "r2")}
    explained = {f"{channel}_explained_variance": 0.25 for channel in "ab"}
    compared = {"against_gray": against_gray, "ab_mae": against_gray / 8, "ab_jsd": against_gray}
    return {**compared, "psnr": 25.0, "pictures": 8.0, **channels, **explained}


def plant_whole(storage: Path, name: str = "planted", reason: str = "its loss is inf") -> Study:
    """Make a study whose trials ended in all ways; the first two have models."""
    study = open_planted(storage, name)
    for against_gray in (0.8, 0.6, 0.7):
        assert study.complete(plant(study, against_gray)) is None
    study.prune(plant(study, 1.1, epochs=2), "stopped early after 2 epochs: place 4 of 4")
    study.fail(plant(study, 1.2, epochs=1), Failure("diverged", reason))
    for number in (0, 1):
        write_model(trial_folder(storage / "studies" / name, number), study.experiment(number))
    return study


def write_model(folder: Path, experiment: Experiment, data_hash: str | None = None) -> None:
    """Write an untrained model as a trial leaves it that was trained to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(experiment)
    unused = tuple(f"{part}." for part in model.training_only)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(unused)}
    out = folder / "model"
    out.mkdir()
    (out / EXPERIMENT).write_text(to_yaml(dump(experiment)))
    data: Mapping[str, str] = {"": data_hash} if data_hash else {}
    stage = next(iter(experiment.train.stages))
    checkpoint.save_tensors({"stage": stage, "weights": weights, "data": data}, out / WEIGHTS)


def make_white_noise(folder: Path) -> None:
    """Replace an exported model's weights by no numbers."""
    state = torch.load(folder / WEIGHTS, weights_only=True)
    broken = {
        key: torch.full_like(value, torch.nan) if value.is_floating_point() else value
        for key, value in state["weights"].items()
    }
    checkpoint.save_tensors({**state, "weights": broken}, folder / WEIGHTS)


def choose(study: Study, winner: int, **more: object) -> None:
    """Note a choice as the end of a study does."""
    choice = {
        "rule": "knee",
        "winner": winner,
        "run": winner,
        "why": f"trial {winner} is the best in ab_mae and ab_jsd at once",
        "ranking": [winner],
        **more,
    }
    study.choice = json.loads(json.dumps(choice))
