"""Exported models that were never trained, for benchmarks and tests."""

from pathlib import Path

import torch

from colorization.checkpoint import save_tensors
from colorization.config import dump, to_yaml
from colorization.experiment import Experiment, build_model
from colorization.export import EXPERIMENT, WEIGHTS


def write_export(experiment: Experiment, folder: Path, seed: int = 0) -> Path:
    """Write what `export` does of an experiment's model with random weights."""
    stage = next(iter(experiment.train.stages))
    torch.manual_seed(seed)
    model = build_model(experiment.at(stage))
    unused = tuple(f"{part}." for part in model.training_only)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(unused)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXPERIMENT).write_text(to_yaml(dump(experiment)), encoding="utf-8")
    save_tensors({"stage": stage, "weights": weights, "data": {}}, folder / WEIGHTS)
    return folder
