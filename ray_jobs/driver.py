"""Joins Tune's loop with the study, MLflow and the console; it never blocks that loop."""

import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster import Shape
from colorization.config import dump, flatten
from console import State, StudyConsole
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

    def __init__(self, study: Study, folder: Path, shape: Shape) -> None:
        super().__init__()
        self._study, self._folder, self._shape = study, folder, shape

    def suggest(self, trial_id: str) -> Any:
        """Return what `run_trial` needs to know of the next trial."""
        if self._study.remaining == 0:
            return self.FINISHED
        number, experiment, resumed = self._study.next()
        return {
            "number": number,
            "experiment": dump(experiment),
            "epochs": experiment.selecting_epochs or float("inf"),
            "directory": str(trial_folder(self._folder, number)),
            "resumed": resumed,
            **self._shape._asdict(),
        }

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
    ) -> None:
        self._study, self._folder, self._rule = study, folder, rule
        self._tracker, self._console = tracker, console
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
        settings = flatten(trial.config["experiment"])
        tags = {"trial": str(number), "directory": trial.config["directory"]}
        self._tracker.trial_started(number, f"trial-{number:04d}", settings, tags)
        self._console.trial_started(number, self._study.parameters(number))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Store, log and show an epoch."""
        number = trial.config["number"]
        if "failed" in result:
            self._failed[number] = result["failed"]
            return
        if "scores" not in result:
            return
        scores = result["scores"]
        if not self._study.gray:
            self._study.gray = result["gray"]
        if result["epoch"] == 1:
            gray = {f"gray/{name}": value for name, value in result["gray"].items()}
            self._tracker.epoch(number, 0, gray)
        self._tracker.epoch(number, result["epoch"], scores)
        if result.get("grid"):
            self._tracker.file(number, Path(result["grid"]), "pictures")
        if "selecting_epoch" in result:
            plain = {name: value for name, value in scores.items() if "/" not in name}
            self._study.record_epoch(number, result["selecting_epoch"], plain)
        self._console.epoch(
            number,
            result["epoch"],
            result["stage"],
            scores["against_gray"],
            {name: scores[name] for name in self._study.objective},
            time.monotonic() - self._running[number],
        )

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
        error = trial.get_error()
        lines = str(error).strip().splitlines() if error else []
        number = trial.config["number"]
        self._end(number, "failed", lines[-1] if lines else "its worker died")

    def _end(self, number: int, state: State, reason: str) -> None:
        self._running.pop(number, None)
        match state:
            case "finished":
                self._study.complete(number)
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

    def interrupt(self) -> list[int]:
        """Close what still runs as KILLED; the study keeps it as running, to go on with it."""
        left = list(self._running)
        for number in left:
            self._end(number, "killed", "interrupted; the same command goes on with it")
        return left
