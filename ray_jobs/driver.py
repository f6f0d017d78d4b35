"""Joins Tune's loop with the study, MLflow and the console; it never blocks that loop."""

import math
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster import Shape
from colorization.config import ConfigError, dump, flatten
from console import State, StudyConsole
from data_card import StudyData
from failure import trial_failure
from stopping import StoppingRule
from storage import trial_folder
from study import Study
from tracking import Tracker


class _NeverRestored:
    """What Tune may pickle into its own snapshot empty: studies do not go on from there."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: connections and threads cannot be pickled."""
        return {}


class StudySearcher(_NeverRestored, Searcher):
    """Hands the study's trials to Tune; how they end, the callback tells the study."""

    def __init__(self, study: Study, folder: Path, shape: Shape, console: StudyConsole) -> None:
        super().__init__()
        self._study, self._folder, self._shape = study, folder, shape
        self._console = console

    def suggest(self, trial_id: str) -> Any:
        """Return what `run_trial` needs to know of the next trial."""
        while self._study.unasked:
            try:
                number, experiment = self._study.next()
            except ConfigError as error:  # settings that do not go together; told as failed
                self._console.message(str(error))
                continue
            return {
                "number": number,
                "experiment": dump(experiment),
                "directory": str(trial_folder(self._folder, number)),
                **self._shape._asdict(),
            }
        return self.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: Tune cannot say here whether a trial was stopped or finished."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study's storage is the only truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see save."""


class StudyCallback(_NeverRestored, tune.Callback):
    """Tells the study, MLflow and the console what happens to the trials."""

    def __init__(
        self,
        study: Study,
        folder: Path,
        rule: StoppingRule,
        tracker: Tracker,
        console: StudyConsole,
        data: StudyData,
    ) -> None:
        self._study, self._folder, self._rule = study, folder, rule
        self._tracker, self._console = tracker, console
        self._data = data
        self._running: dict[int, float] = {}  # number -> when it started
        self._failed: dict[int, str] = {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Open a trial's MLflow run; a trial that is tried again after a crash comes here twice."""
        number = trial.config["number"]
        if number in self._running:
            self._console.message(f"trial {number} goes on from its last checkpoint after a crash")
            return
        self._running[number] = time.monotonic()
        data = self._data.of_trial(self._study.experiment(number))
        params = flatten(trial.config["experiment"]) | data.params
        tags = {"trial": str(number), "directory": trial.config["directory"]}
        if self._study.epochs_trained(number):
            tags["reason"] = ""  # why it was interrupted holds no longer
        self._tracker.trial_started(number, f"trial-{number:04d}", params, tags)
        self._tracker.inputs(number, data.inputs("train", "validation"))
        self._console.trial_started(number, self._study.parameters(number))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Store, log and show an epoch; one that a resumed trial repeats is only shown."""
        number = trial.config["number"]
        if "failed" in result:
            self._failed[number] = result["failed"]
            return
        if "scores" not in result:
            return
        scores = result["scores"]
        if result["epoch"] > self._study.epochs_trained(number):
            self._record(number, result)
        self._console.epoch(
            number,
            result["epoch"],
            result["stage"],
            scores["against_gray"],
            {name: scores.get(name, math.nan) for name in self._study.objective},
            time.monotonic() - self._running[number],
        )

    def _record(self, number: int, result: dict[str, Any]) -> None:
        scores, epoch = result["scores"], result["epoch"]
        if not self._study.gray:
            self._study.gray = result["gray"]
        if epoch == 1:
            gray = {f"gray/{name}": value for name, value in result["gray"].items()}
            self._tracker.epoch(number, 0, gray)
        self._tracker.epoch(number, epoch, scores)
        if result.get("grid"):
            self._tracker.file(number, Path(result["grid"]), "pictures")
        plain = {name: value for name, value in scores.items() if "/" not in name}
        self._study.record_epoch(number, epoch, result.get("selecting_epoch"), plain)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close a trial that ended by itself or was stopped early."""
        number = trial.config["number"]
        if number in self._failed:
            self._end(number, "failed", self._failed[number])
        elif number in self._rule.stopped:
            self._end(number, "stopped early", self._rule.stopped[number])
        else:
            self._end(number, "finished", "")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close a trial that crashed more often than it is tried again."""
        self._end(trial.config["number"], "failed", trial_failure(trial))

    def _end(self, number: int, state: State, reason: str) -> None:
        self._running.pop(number, None)
        if state == "finished" and (refusal := self._study.complete(number)):
            state, reason = "failed", refusal
        match state:
            case "finished":
                status, tags = "FINISHED", {"state": "COMPLETE"}
                self._tracker.file(number, trial_folder(self._folder, number) / "model", "")
            case "stopped early":
                self._study.prune(number, reason)
                status, tags = "KILLED", {"state": "PRUNED", "reason": reason}
            case "failed":
                self._study.fail(number, reason)
                status, tags = "FAILED", {"state": "FAIL", "reason": reason}
            case _:
                status, tags = "KILLED", {"state": "interrupted", "reason": reason}
        self._tracker.trial_ended(number, status, tags)
        self._console.trial_ended(number, state, reason)

    def interrupt(self) -> None:
        """Close what still runs as KILLED; the study keeps it as running, to go on with it."""
        for number in list(self._running):
            self._end(number, "killed", "interrupted; the same command goes on with it")
