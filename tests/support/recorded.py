"""A study of trials that this process trains itself, recorded as a study's driver records them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_store import EXPERIMENT

# isort: split
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from colorization.config import dump
from colorization.experiment import Experiment
from data_card import open_study_data
from provenance import tell_driver
from recorder import Recorder
from search_config import SearchConfig
from space import Space
from storage import trial_folder
from study import Study
from tracking import Tracker
from trial import run_in_process


class Stopped(BaseException):
    """A trial that its driver ends after an epoch; no fault of the trial's."""


@dataclass
class Recorded:
    """A study with its records in an MLflow store."""

    study: Study
    folder: Path
    tracker: Tracker
    recorder: Recorder

    def train(self, stop_after: int | None = None, interrupt_after: int | None = None) -> int:
        """Train the next trial, or an unfinished one; return its number.

        It is stopped early after an epoch, or its session ends there.
        """
        number, experiment = self.study.next()
        config = {
            "number": number,
            "experiment": dump(experiment),
            "directory": str(trial_folder(self.folder, number)),
            "workers": 1,
            "gpus_per_worker": 0,
        }

        def report(row: dict[str, Any]) -> None:
            if row["epoch"] > self.study.epochs_trained(number):
                stop = "stopped early" if row["epoch"] == stop_after else None
                self.recorder.epoch(number, row, stop)
                if stop:
                    raise Stopped
                if row["epoch"] == interrupt_after:
                    raise KeyboardInterrupt

        self.recorder.started(number)
        try:
            run_in_process(config, report, torch.device("cpu"))
        except KeyboardInterrupt:
            self.recorder.interrupted(number)
            return number
        except Stopped:
            self.study.prune(number, "stopped early")
        else:
            self.study.complete(number)
        self.recorder.ended(number)
        return number


@contextmanager
def recorded_study(
    folder: Path, tracking_uri: str, experiment: Experiment, trials: int = 1
) -> Iterator[Recorded]:
    """Open a study of an experiment whose learning rate is searched, or go on with it."""
    tree = dump(experiment)
    space = Space(SearchConfig(trials=trials), tree, "recorded")
    study = Study(folder, folder.name, space, 0, trials)
    _, data = open_study_data(experiment)
    tracker = Tracker(folder, tracking_uri, EXPERIMENT, folder.name, print)
    with tracker:
        tracker.parent({"seed": 0} | data.params, {"study": folder.name})
        tell_driver(tracker, folder)
        yield Recorded(study, folder, tracker, Recorder(study, folder, tracker, data))
        tracker.parent_ended("FINISHED", {"state": "FINISHED"})
        assert tracker.close()


def runs_of(tracking_uri: str) -> dict[str, Run]:
    """Return the runs of a store by the trial's number, "study" for a study's own."""
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags["colorization.trial"]: run for run in found}
