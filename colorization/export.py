"""A run's model without what only training needs: to be used, served or registered."""

from pathlib import Path
from typing import Any

import torch

from colorization import checkpoint
from colorization.checkpoint import CheckpointError, save_tensors
from colorization.config import ConfigError, dump, parse, read_yaml, to_yaml
from colorization.experiment import Experiment, build_model, without_pretrained
from colorization.models.colorizer import Colorizer

EXPERIMENT = "experiment.yaml"
WEIGHTS = "weights.pt"


def load_run(run: Path, device: torch.device | str = "cpu") -> tuple[Colorizer, Experiment]:
    """Load the model of a run's directory: its best checkpoint, averaged weights in place.

    The model is in evaluation mode and whole, the discriminator included. No pretrained weights are
    looked for: the checkpoint holds them all.

    Raises ConfigError for a directory without a run or a checkpoint, CheckpointError for damage.
    """
    experiment, stage, weights, _ = _best(run)
    return _load(experiment, stage, weights, run).to(device), experiment


def export(run: Path, out: Path) -> Path:
    """Write what colorizing needs of a run into the folder `out`; return it.

    `experiment.yaml` is the run's experiment and `weights.pt` the weights of its best checkpoint,
    averaged ones in place, without optimizer states and without the parts that only training needs
    (the discriminator). It loads with `weights_only=True`.

    Raises ConfigError and CheckpointError as `load_run` does.
    """
    experiment, stage, weights, data = _best(run)
    model = _load(experiment, stage, weights, run)
    unused = tuple(f"{part}." for part in model.training_only)
    kept = {key: value for key, value in weights.items() if not key.startswith(unused)}
    out.mkdir(parents=True, exist_ok=True)
    (out / EXPERIMENT).write_text(to_yaml(dump(experiment)), encoding="utf-8")
    save_tensors({"stage": stage, "weights": kept, "data": data}, out / WEIGHTS)
    return out


def load_exported(folder: Path, device: torch.device | str = "cpu") -> tuple[Colorizer, Experiment]:
    """Load what `export` wrote: a model in evaluation mode that colorizes and cannot be trained.

    Parts that only training needs are taken out of it. Raises ConfigError for a folder that holds
    no export, CheckpointError for damage or weights that are not the experiment's.
    """
    file = folder / WEIGHTS
    if not file.exists():
        raise ConfigError(f"{folder} holds no exported model: it has no {WEIGHTS}")
    experiment = parse(Experiment, read_yaml(folder / EXPERIMENT), str(folder / EXPERIMENT))
    state = _read(file)
    model = _load(experiment, state["stage"], state["weights"], file, slim=True)
    return model.to(device), experiment


def load_model(folder: Path, device: torch.device | str = "cpu") -> tuple[Colorizer, Experiment]:
    """Load the model of a run's directory, or of a folder that such a model was exported into."""
    return (load_exported if (folder / WEIGHTS).exists() else load_run)(folder, device)


def trained_on(folder: Path) -> dict[str, str]:
    """Return what `checkpoint.trained_on` does of a run's best checkpoint or of an export.

    Raises ConfigError for a directory without a checkpoint, CheckpointError for damage.
    """
    exported = folder / WEIGHTS
    state = _read(exported) if exported.exists() else checkpoint.load(checkpoint.best(folder))
    return checkpoint.trained_on(state)


def _read(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return {"stage": state["stage"], "weights": state["weights"], **state}
    # torch.load raises whatever the damage leads to.
    except Exception as error:
        raise CheckpointError(f"cannot load the exported model {file}: {error}") from error


def _best(run: Path) -> tuple[Experiment, str, dict[str, Any], dict[str, str]]:
    """Read a run's experiment, the stage its best checkpoint was saved in, the weights, and what
    they were trained on."""
    experiment = checkpoint.read_run(run)
    state = checkpoint.load(checkpoint.best(run))
    averages = state["averages"]["averages"] if state["averages"] else {}
    # Keys of averaged weights are "player.key", which is what they are in the model's own state.
    weights = {**state["model"], **averages}
    stage = _stage(experiment, state["position"])
    return experiment, stage, weights, checkpoint.trained_on(state)


def _stage(experiment: Experiment, position: dict[str, Any]) -> str:
    """Name the stage that a checkpoint was saved in; its position says what comes next."""
    stages = list(experiment.train.stages.items())
    index = position["stage"]
    if position["stage_epoch"] == 0:
        index -= 1
        while 0 in (stages[index][1].epochs, stages[index][1].steps):  # left out, never saved in
            index -= 1
    return stages[index][0]


def _load(
    experiment: Experiment,
    stage: str,
    weights: dict[str, Any],
    origin: Path,
    *,
    slim: bool = False,
) -> Colorizer:
    # A stage may change settings of the model: as it was when the weights were saved.
    model = build_model(without_pretrained(experiment.at(stage)))
    if slim:
        for part in model.training_only:
            parent, _, name = part.rpartition(".")
            delattr(model.get_submodule(parent), name)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {origin} do not fit its experiment: {error}"
        ) from error
    return model.eval()
