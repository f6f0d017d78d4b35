"""Joins Tune's loop with the study, its records and the console; it never blocks that loop."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from budget import Spending
from cause import TRIES, Failure
from cluster import Shape
from colorization.config import ConfigError, dump
from colorization.experiment import Experiment
from console import State, StudyConsole
from failure import trial_failure
from keeping import Keeper
from out_of_memory import note_out_of_memory
from recorder import Recorder
from stopping import StoppingRule
from storage import trial_folder
from study import Study
from watchdog import Watchdog

_FORECAST_AFTER = (2, 5)  # ended trials after which a forecast is said; then after each tenth


class Round(Protocol):
    """Trials that are to be trained, one after the other: a study's search, or its finalists."""

    @property
    def ended(self) -> Sequence[FrozenTrial]: ...
    @property
    def remaining(self) -> int: ...
    @property
    def unasked(self) -> int: ...
    def next(self) -> tuple[int, Experiment]: ...
    def parameters(self, number: int) -> Mapping[str, Any]: ...


class _NeverRestored:
    """What Tune may pickle into its own snapshot empty: studies do not go on from there."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: connections and threads cannot be pickled."""
        return {}


class StudySearcher(_NeverRestored, Searcher):
    """Hands the study's trials to Tune; how they end, the callback tells the study."""

    def __init__(
        self,
        study: Study,
        trials: Round,
        folder: Path,
        shape: Shape,
        stopper: "StudyStopper",
        recorder: Recorder,
        console: StudyConsole,
    ) -> None:
        super().__init__()
        self._study, self._trials, self._folder, self._shape = study, trials, folder, shape
        self._stopper, self._recorder, self._console = stopper, recorder, console

    def suggest(self, trial_id: str) -> Any:
        """Return what `run_trial` or `run_group` needs to know of the next trial."""
        while self._trials.unasked and not self._stopper.stop_all():
            try:
                number, experiment = self._trials.next()
            except ConfigError as error:  # settings that do not go together; told as failed
                self._recorder.refused(self._study.trials()[-1].number)
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


class StudyStopper(_NeverRestored, tune.Stopper):
    """Ends Tune's loop, running trials and all, when the budget is spent or no disk is left.

    `fault` says what no trial can go on without.
    """

    def __init__(self, spending: Spending, share: float) -> None:
        """Stop when so large a share of the budget is spent."""
        self._spending, self._share = spending, share
        self.fault: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Tell whether no trial is to be trained any more."""
        return bool(self.fault or self.spent())

    def spent(self) -> str | None:
        """Say which limit is reached; None while there is something left."""
        return self._spending.spent(self._share)


class StudyCallback(_NeverRestored, tune.Callback):
    """Tells the study, MLflow and the console what happens to the trials."""

    def __init__(
        self,
        study: Study,
        trials: Round,
        recorder: Recorder,
        rule: StoppingRule,
        spending: Spending,
        stopper: StudyStopper,
        watchdog: Watchdog,
        keeper: Keeper,
        console: StudyConsole,
        at_once: int,
    ) -> None:
        self._study, self._trials = study, trials
        self._recorder, self._rule = recorder, rule
        self._spending, self._stopper, self._watchdog = spending, stopper, watchdog
        self._keeper, self._console, self._at_once = keeper, console, at_once
        self._running: dict[int, tuple[float, float]] = {}  # number -> its seconds before
        self._failed: dict[int, Failure] = {}

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look after trials that wait; Tune comes here all the time."""
        self._watchdog.look(trials)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Open a trial's MLflow run; a trial that is tried again after a crash comes here twice."""
        number = trial.config["number"]
        if number in self._running:
            return
        self._running[number] = self._study.seconds_of(number)
        self._spending.trial_started(number)
        self._recorder.started(number)
        self._console.trial_started(number, self._trials.parameters(number))

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say why a trial is started again."""
        number, failure = trial.config["number"], trial_failure(trial)
        if failure.cause == "out of memory":  # its process was killed, and could not note it
            note_out_of_memory(Path(trial.config["directory"]), failure.reason)
        self._console.message(
            f"trial {number} goes on from its last checkpoint after a crash "
            f"({failure.cause}: {failure.reason})"
        )

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Store, log and show an epoch; one that a resumed trial repeats is only shown."""
        number = trial.config["number"]
        self._watchdog.heard(number)
        if "failed" in result:
            self._failed[number] = Failure(result["cause"], result["failed"])
            if result["cause"] == "no disk":
                self._stopper.fault = result["failed"]
            return
        if "scores" not in result:
            return
        scores = result["scores"]
        if result["epoch"] > self._study.epochs_trained(number):
            trial.max_failures = trial.num_failures + TRIES
            with self._study.together():
                self._recorder.epoch(number, result, self._rule.stopped.get(number))
                self._count(number, scores.get("seconds", 0.0))
        self._console.epoch(
            number,
            result["epoch"],
            result["stage"],
            scores["against_gray"],
            {name: scores.get(name, math.nan) for name in self._study.objective},
            self._spending.trial_seconds(number),
        )

    def _count(self, number: int, trained: float = 0.0) -> None:
        """Store what the trial and the study have taken so far."""
        running, training = self._running.get(number, self._study.seconds_of(number))
        self._running[number] = running, training + trained
        seconds = running + self._spending.trial_seconds(number)
        self._study.record_seconds(number, seconds, training + trained)
        self._study.seconds = self._spending.seconds

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close a trial that ended by itself or was stopped early."""
        number = trial.config["number"]
        if not self._stopper.fault:  # else it is to go on another time
            self._end(number, self._failed.get(number), self._rule.stopped.get(number))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close a trial that crashed again and again in one epoch, or could never start."""
        failure = trial_failure(trial)
        if failure.cause == "no disk":
            self._stopper.fault = failure.reason
        else:
            self._end(trial.config["number"], failure, None)

    def _end(self, number: int, failure: Failure | None, stop: str | None) -> None:
        self._count(number)
        self._spending.trial_ended(number)
        del self._running[number]
        if failure:
            self._study.fail(number, failure)
        elif stop:
            self._study.prune(number, stop)
        else:
            failure = self._study.complete(number)
        self._recorder.ended(number)
        state: State = "failed" if failure else "stopped early" if stop else "finished"
        reason = f"{failure.cause}: {failure.reason}" if failure else stop or ""
        self._console.trial_ended(number, state, reason)
        self._keeper.enforce()
        self._forecast()

    def _forecast(self) -> None:
        """Say now and then how long the rest will take."""
        ended = self._trials.ended
        ran = [trial.number for trial in ended if trial.user_attrs.get("epochs")]
        took = [self._study.seconds_of(number)[0] for number in ran]
        left = self._trials.remaining
        if left and took and (len(ended) in _FORECAST_AFTER or len(ended) % 10 == 0):
            at_once = min(self._at_once, left)
            mean = sum(took) / len(took)
            self._console.message(self._spending.forecast(mean, left, at_once))

    def close(self) -> None:
        """Close what still runs, Tune having ended: the budget is spent, or it was interrupted."""
        spent = None if self._stopper.fault else self._stopper.spent()
        for number in list(self._running):
            if spent:
                epochs = self._study.epochs_trained(number)
                self._end(number, None, f"stopped after {epochs} epochs: {spent}")
                continue
            self._count(number)
            self._spending.trial_ended(number)
            del self._running[number]
            self._recorder.interrupted(number)
            self._console.trial_ended(number, "killed", "interrupted; --resume goes on with it")
        self._study.seconds = self._spending.seconds
