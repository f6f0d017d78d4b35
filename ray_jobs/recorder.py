"""Writes down what is heard of the trials: in the study, which is the truth, and in MLflow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from colorization import checkpoint
from colorization.config import dump, flatten
from colorization.training import read_history, repeat_report
from data_card import StudyData
from stopping_rules import StoppingRules
from storage import trial_folder
from study import ENDED, Study
from tracking import RunStatus, Tracker
from trial import report_row


class Recorder:
    """Records trials; every record may be repeated after a crash and is kept once."""

    def __init__(self, study: Study, folder: Path, tracker: Tracker, data: StudyData) -> None:
        self._study, self._folder = study, folder
        self._tracker, self._data = tracker, data
        self._metric = study.space.search.scheduler.metric

    def started(self, number: int) -> None:
        """Open a trial's MLflow run, or go on with it."""
        experiment = self._study.experiment(number)
        data = self._data.of_trial(experiment)
        tags = _tags(number) | {"directory": str(trial_folder(self._folder, number))}
        if self._study.epochs_trained(number):
            tags |= {"reason": "", "state": "RUNNING"}  # what it was interrupted by is over
        self._tracker.trial_started(
            number, f"trial-{number:04d}", flatten(dump(experiment)) | data.params, tags
        )
        self._tracker.inputs(number, data.inputs("train", "validation"))

    def epoch(self, number: int, row: Mapping[str, Any], stop: str | None) -> None:
        """Record an epoch that is not recorded yet, as the trial reported it.

        `stop` says why the trial is stopped after it.
        """
        scores, epoch = row["scores"], row["epoch"]
        if row["gray"]:
            if not self._study.gray:
                self._study.gray = row["gray"]
            gray = {f"gray/{name}": value for name, value in row["gray"].items()}
            self._tracker.epoch(number, 0, gray)  # kept once, whenever it is known first
        self._tracker.epoch(number, epoch, scores)
        if row.get("grid"):
            self._tracker.file(number, Path(row["grid"]), "pictures")
        self._study.record_memory_saving(number, row.get("memory_saving", ""))
        plain = {name: value for name, value in scores.items() if "/" not in name}
        self._study.record_epoch(number, epoch, row.get("selecting_epoch"), plain, stop)

    def refused(self, number: int) -> None:
        """Record a trial whose settings do not go together, so that it never ran."""
        trial = self._study.trial(number)
        self._tracker.trial_started(number, f"trial-{number:04d}", trial.params, _tags(number))
        self._tracker.trial_ended(number, *_in_mlflow(trial))

    def ended(self, number: int) -> None:
        """Tell MLflow how a trial ended, as the study knows it."""
        trial = self._study.trial(number)
        if trial.state == TrialState.COMPLETE:
            self._tracker.file(number, trial_folder(self._folder, number) / "model", "")
        self._tracker.trial_ended(number, *_in_mlflow(trial))

    def interrupted(self, number: int) -> None:
        """Close the MLflow run of a trial that is to go on in another session."""
        tags = {"state": "interrupted", "reason": "interrupted; --resume goes on with it"}
        self._tracker.trial_ended(number, "KILLED", tags)

    def settle(self) -> None:
        """Tell MLflow the ends of trials that it may not have heard before a process was killed."""
        ended = [*self._study.trials(*ENDED), *self._study.finals(*ENDED)]
        for trial in ended:
            model = trial_folder(self._folder, trial.number) / "model"
            if trial.state == TrialState.COMPLETE and model.exists():
                self._tracker.file(trial.number, model, "")
        # Settings that did not go together were never started.
        started = (trial for trial in ended if "experiment" in trial.user_attrs)
        self._tracker.reconcile({trial.number: _in_mlflow(trial) for trial in started})

    def catch_up(self, number: int, rules: StoppingRules) -> None:
        """Record the epochs that a trial finished but its driver did not live to hear of.

        Where the rules stop it after one of them, it is told as stopped.
        """
        run, experiment = trial_folder(self._folder, number), self._study.experiment(number)
        known, newest = self._study.epochs_trained(number), checkpoint.latest_epoch(run)
        history = read_history(run)
        for count, line in enumerate(history, start=1):
            # The newest of all is reported by the trial itself once more.
            if not known < line["epoch"] < newest:
                continue
            report = repeat_report(experiment, run, history[:count], self._study.gray)
            row = report_row(report, self._study.memory_saving(number))
            selecting, score = row.get("selecting_epoch"), row["scores"][self._metric]
            stop = rules.record(number, selecting, score) if selecting else None
            self.epoch(number, row, stop)
            if stop:
                self._study.prune(number, stop)
                self.ended(number)
                return


def _tags(number: int) -> dict[str, str]:
    return {"trial": str(number)}


def _in_mlflow(trial: FrozenTrial) -> tuple[RunStatus, dict[str, str]]:
    """Return the status and the tags of an ended trial's run."""
    status: RunStatus
    match trial.state:
        case TrialState.COMPLETE:
            status = "FINISHED"
        case TrialState.PRUNED:
            status = "KILLED"
        case _:
            status = "FAILED"
    tags = {"state": trial.state.name, "epochs": str(trial.user_attrs.get("epochs", 0))}
    for name in ("reason", "cause", "memory_saving"):
        if value := trial.user_attrs.get(name):
            tags[name] = value
    return status, tags
