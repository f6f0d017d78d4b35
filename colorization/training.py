"""fit(): the stages of an experiment, their epochs, checkpoints and reports."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from colorization import checkpoint
from colorization.config import ConfigError, dump
from colorization.data import PictureSets, open_data
from colorization.data.in_memory import TrainingSets
from colorization.distributed import Ranks, barrier, current_ranks
from colorization.equal_ranks import require_equal_weights
from colorization.evaluation import Evaluation, grid_path
from colorization.experiment import Experiment, check
from colorization.stage import StageRun
from colorization.stage_data import has_length, open_stage_data
from colorization.surroundings import note_session
from colorization.system_metrics import SystemMonitor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What is known after an epoch; `scores` and terms alike are in `metrics`."""

    epoch: int  # of the run, from 1
    stage: str
    selecting_epoch: int | None  # of the stages that select, from 1; None in the others
    metrics: dict[str, float]
    checkpoint: Path | None  # on the first rank
    grid: Path | None  # picture grid, where one was made
    gray: dict[str, float]  # the leave-gray baseline's scores
    last: bool  # whether the run ends with this epoch


@dataclass
class Position:
    """How far a run has come."""

    stage: int = 0
    stage_epoch: int = 0  # epochs of this stage that are done
    epoch: int = 0
    selecting_epochs: int = 0
    best_epoch: int | None = None
    best_against_gray: float = float("inf")


@dataclass
class Outcome:
    """What a finished run leaves."""

    run: Path
    epochs: int
    best_epoch: int | None
    history: list[dict[str, Any]] = field(default_factory=list)


def fit(
    experiment: Experiment,
    run: Path,
    *,
    report: Callable[[Report], None] | None = None,
    device: torch.device | str | None = None,
) -> Outcome:
    """Train an experiment in a run's directory; go on from its last checkpoint where it has one.

    Every rank calls it; the first one writes: `experiment.yaml`, `metrics.jsonl` (a line an epoch),
    `checkpoints/`, `best.json`, `grids/`, `surroundings/`. `report` is called on every rank after
    each epoch. A resumed run equals an uninterrupted one: order, augmentation and noise are drawn
    from the seed, the stage, the epoch and the rank alone. It reports its last epoch once more, for
    who was to hear of it may have died before.

    Raises ConfigError for settings that cannot work and where the pictures are others than those
    that a resumed run was trained on, Diverged for losses that are not finite.
    """
    ranks = current_ranks(device)
    check(experiment)
    if ranks.first:
        checkpoint.write_experiment(run, experiment)
    barrier(ranks)
    sets = open_data(experiment.data)
    stage_sets = open_stage_data(experiment)
    if ranks.first:
        for name in sets.unreadable:
            log.warning("left out: %s", name)
    newest = checkpoint.latest(run)
    state = checkpoint.load(newest, ranks.device) if newest else None
    data = _fingerprints(sets, stage_sets)
    if state:
        _refuse_other_data(run, state, data)
    validation = Evaluation(
        experiment, sets.validation, ranks, perceptual=experiment.train.perceptual
    )
    position = Position(**state["position"]) if state else Position()
    gray = state["gray"] if state else validation.leave_gray()
    if ranks.first:
        _mend(run, position)
    barrier(ranks)
    if report and (history := read_history(run)):
        over = _is_over(experiment, position)
        report(repeat_report(experiment, run, history, gray, saved=newest, last=over))

    if not _is_over(experiment, position):
        note_session(run, position.epoch + 1, ranks, experiment)
    training_sets = TrainingSets()
    stages = list(experiment.train.stages.items())
    with SystemMonitor(run, ranks) as monitor:
        while position.stage < len(stages):
            name, stage = stages[position.stage]
            if not has_length(stage):
                position.stage += 1
                continue
            at_stage = experiment.at(name)
            opened = stage_sets.get(name, sets)
            pictures = training_sets.of_stage(opened.train, at_stage.data)
            stage_run = StageRun(
                at_stage,
                name,
                stage,
                pictures,
                ranks,
                state,
                resumed=position.stage_epoch > 0,
                statistics=opened.statistics,
            )
            while position.stage_epoch < stage_run.epochs:
                started = time.perf_counter()
                torch.manual_seed(_seed(experiment, position, ranks))
                terms = stage_run.train_epoch(position.stage_epoch, position.epoch)
                trained = time.perf_counter() - started
                require_equal_weights(stage_run.model, ranks, f"after epoch {position.epoch + 1}")
                position.stage_epoch += 1
                position.epoch += 1
                position.selecting_epochs += stage.select
                with stage_run.colorizing_weights():
                    scores = validation.scores(stage_run.model, gray)
                    grid = validation.write_grid(stage_run.model, run, position.epoch)
                if stage.select and scores["against_gray"] < position.best_against_gray:
                    position.best_against_gray = scores["against_gray"]
                    position.best_epoch = position.epoch
                metrics = {
                    **scores,
                    **terms,
                    "pictures_per_second": stage_run.pictures_last_epoch / trained,
                    "seconds": time.perf_counter() - started,
                    **monitor.epoch(),
                }
                if position.stage_epoch == stage_run.epochs:
                    position.stage, position.stage_epoch = position.stage + 1, 0
                state = {
                    "experiment": dump(experiment),
                    "data": data,
                    "epoch": position.epoch,
                    "best_epoch": position.best_epoch,
                    "position": vars(position).copy(),
                    "gray": gray,
                    **stage_run.state(),
                }
                saved = _save(run, experiment, state, name, metrics) if ranks.first else None
                barrier(ranks)
                if report:
                    selecting = position.selecting_epochs if stage.select else None
                    last = _is_over(experiment, position)
                    report(
                        Report(position.epoch, name, selecting, metrics, saved, grid, gray, last)
                    )
                if position.stage_epoch == 0:
                    break
    return Outcome(run, position.epoch, position.best_epoch, read_history(run))


def read_history(run: Path) -> list[dict[str, Any]]:
    """Read a run's `metrics.jsonl`: one mapping an epoch; a line half written is none."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _save(
    run: Path, experiment: Experiment, state: dict[str, Any], stage: str, metrics: dict[str, float]
) -> Path:
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"epoch": state["epoch"], "stage": stage, **metrics}) + "\n")
        file.flush()
        os.fsync(file.fileno())  # before the checkpoint, which says that it is there
    saved = checkpoint.save(run, state, keep=experiment.train.keep)
    _write_best(run, state["best_epoch"])
    return saved


def repeat_report(
    experiment: Experiment,
    run: Path,
    history: Sequence[Mapping[str, Any]],
    gray: dict[str, float],
    *,
    saved: Path | None = None,
    last: bool = False,
) -> Report:
    """Return the report of the last epoch of a run's history, or of the first part of one."""
    metrics = dict(history[-1])
    epoch, name = metrics.pop("epoch"), metrics.pop("stage")
    stages = experiment.train.stages
    selecting = sum(stages[line["stage"]].select for line in history)
    grid = grid_path(run, epoch)
    return Report(
        epoch,
        name,
        selecting if stages[name].select else None,
        metrics,
        saved,
        grid if grid.exists() else None,
        gray,
        last,
    )


def _is_over(experiment: Experiment, position: Position) -> bool:
    return not any(map(has_length, [*experiment.train.stages.values()][position.stage :]))


def _fingerprints(sets: PictureSets, stage_sets: Mapping[str, PictureSets]) -> dict[str, str]:
    """Return what stands for the run's pictures, under "", and for those of stages by name."""
    return {name: opened.fingerprint for name, opened in {"": sets, **stage_sets}.items()}


def _refuse_other_data(run: Path, state: checkpoint.State, data: Mapping[str, str]) -> None:
    """Raise ConfigError where the pictures are not those that a checkpoint was trained on."""
    before = checkpoint.trained_on(state)
    for name, found in data.items():
        if (trained := before.get(name, found)) != found:
            whose = f"train.stages.{name}.change: its data" if name else "data.source: the data"
            raise ConfigError(
                f"{whose} has the hash {found}, {run} was trained on {trained}: pictures changed, "
                "or their split; bring the earlier ones back, or train in another run directory"
            )


def _write_best(run: Path, epoch: int | None) -> None:
    if epoch is not None:
        _replace(run / "best.json", json.dumps({"epoch": epoch}))


def _mend(run: Path, position: Position) -> None:
    """Bring the files beside the checkpoints to what the newest checkpoint knows.

    A run may have been killed between writing the one and the other: the lines of epochs that will
    be trained again would be there twice.
    """
    known = [line for line in read_history(run) if line["epoch"] <= position.epoch]
    if (run / "metrics.jsonl").exists():
        _replace(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in known))
    _write_best(run, position.best_epoch)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _seed(experiment: Experiment, position: Position, ranks: Ranks) -> int:
    """Draw dropout and noise anew for each epoch and rank, whatever was drawn before."""
    text = f"{experiment.train.seed}/{position.stage}/{position.stage_epoch}/{ranks.rank}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
