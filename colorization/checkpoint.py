"""A run's checkpoints: one directory each, written atomically, loaded without running code."""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch

from colorization.config import ConfigError, dump, flatten, parse, read_yaml, to_yaml
from colorization.experiment import Experiment

State = dict[str, Any]

FOLDER = "checkpoints"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or that belongs to another experiment."""


def save(run: Path, state: State, *, keep: int) -> Path:
    """Write a checkpoint of `state["epoch"]` into a run's directory; return its path.

    It appears whole or not at all. `keep` of them stay (at least two): the best, whose epoch is
    `state["best_epoch"]`, and the newest. Raises OSError where the disk does not take it.
    """
    folder = run / FOLDER
    path = folder / f"epoch-{state['epoch']:05d}"
    partial = folder / f".{path.name}-{uuid.uuid4().hex[:8]}"
    partial.mkdir(parents=True)
    try:
        save_tensors(state, partial / "state.pt")
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)  # other files need the room
        raise
    if path.exists():  # written by an attempt that was resumed from before it
        shutil.rmtree(path)
    partial.rename(path)
    _delete_old(folder, keep, state["best_epoch"])
    return path


def save_tensors(state: State, path: Path) -> None:
    """Write what `torch.save` writes and wait until the disk has it.

    Raises OSError where the disk does not take it; torch alone raises a RuntimeError then, which
    does not say so.
    """
    try:
        torch.save(state, path)
    except RuntimeError:
        with path.open("ab") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        raise  # it was not the disk
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _delete_old(folder: Path, keep: int, best_epoch: int | None) -> None:
    for leftover in folder.glob(".epoch-*"):
        shutil.rmtree(leftover)
    paths = _checkpoints(folder.parent)
    best = [path for path in paths if _epoch(path) == best_epoch]
    others = [path for path in paths if path not in best]
    for path in others[: -(keep - len(best))]:
        shutil.rmtree(path)


def _checkpoints(run: Path) -> list[Path]:
    found = (run / FOLDER).glob("epoch-*")
    return sorted((path for path in found if path.name[6:].isdecimal()), key=_epoch)


def _epoch(path: Path) -> int:
    return int(path.name.removeprefix("epoch-"))


def latest(run: Path) -> Path | None:
    """Return a run's newest checkpoint, None where there is none."""
    paths = _checkpoints(run)
    return paths[-1] if paths else None


def latest_epoch(run: Path) -> int:
    """Return the epoch of a run's newest checkpoint, 0 where there is none."""
    newest = latest(run)
    return _epoch(newest) if newest else 0


def best(run: Path) -> Path:
    """Return the checkpoint a run's model is taken from: its best, else its last.

    Raises ConfigError where the directory holds no checkpoint.
    """
    newest = latest(run)
    if newest is None:
        raise ConfigError(f"{run} holds no checkpoint; the directory of a run is needed")
    summary = run / "best.json"
    if summary.exists():
        path = run / FOLDER / f"epoch-{json.loads(summary.read_text())['epoch']:05d}"
        if path.exists():
            return path
    return newest


def load(path: Path, device: torch.device | str = "cpu") -> State:
    """Load a checkpoint's state; raises CheckpointError that names the file where it is damaged."""
    file = path / "state.pt"
    try:
        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot load the checkpoint {file}: {error}") from error


def trained_on(state: State) -> dict[str, str]:
    """Return the fingerprints of the pictures that a state was trained on.

    Those of the run stand under "", those of stages that have their own under the stage's name;
    there are none in a state that was saved before they were noted.
    """
    return state.get("data", {})


def write_experiment(run: Path, experiment: Experiment) -> None:
    """Write a run's experiment beside its checkpoints; refuse a directory of another experiment.

    Without a checkpoint nothing of the other one is lost, and it is replaced: it may have ended at
    the wrong setting that is now put right. Raises ConfigError that names the settings in which the
    two differ.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / "experiment.yaml"
    if path.exists() and latest(run):
        before = read_run(run)
        if before.hash != experiment.hash:
            raise ConfigError(
                f"{run} holds a run with other settings ({_difference(before, experiment)}); "
                "give this one another name or directory"
            )
        return
    partial = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
    partial.write_text(to_yaml(dump(experiment)), encoding="utf-8")
    partial.replace(path)


def read_run(run: Path) -> Experiment:
    """Read the experiment of a run's directory."""
    if not (run / "experiment.yaml").exists():
        raise ConfigError(f"{run} is no directory of a run: it has no experiment.yaml")
    return parse(Experiment, read_yaml(run / "experiment.yaml"), str(run / "experiment.yaml"))


def _difference(before: Experiment, after: Experiment) -> str:
    old, new = flatten(dump(before)), flatten(dump(after))
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    return ", ".join(f"{key}: {old.get(key)} there, {new.get(key)} here" for key in keys[:5])
