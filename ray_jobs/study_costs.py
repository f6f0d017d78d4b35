"""Where the time of a study went, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from study_record import StudyRecord, TrialRecord

_SLACK = 60.0  # seconds between trials that no session of its own explains


@dataclass(frozen=True)
class Spent:
    """The seconds of a trial, or of several together."""

    training: float  # epochs, their scores and checkpoints included
    starting: float  # processes, pictures and networks, and whatever else is no epoch
    waiting: float | None  # for a place on the machines; None where pauses would count as such

    @property
    def running(self) -> float:
        """Seconds that places on machines were held."""
        return self.training + self.starting


@dataclass(frozen=True)
class Costs:
    """What trials held, and its price where one was given."""

    spent: Spent
    unit: str  # GPU-hours, or worker-hours where no GPU was asked for
    hours: float
    price: float | None  # in the currency of the price per hour


class CostCounter:
    """Counts what the trials of a study took."""

    def __init__(self, study: StudyRecord, price_per_hour: float | None) -> None:
        self._price = price_per_hour
        gpus = study.shape.get("gpus_per_worker") or study.past.flags.get("gpus_per_worker") or 0.0
        workers = study.shape.get("workers") or study.past.flags.get("workers") or 1
        self.unit = "GPU-hours" if gpus else "worker-hours"
        self._units = workers * (gpus or 1)
        self._is_one_session = _was_not_paused(study)

    def of(self, trials: Sequence[TrialRecord]) -> Costs:
        """Add up what some trials took."""
        parts = [self._spent(trial) for trial in trials]
        waits = [part.waiting for part in parts if part.waiting is not None]
        spent = Spent(
            sum(part.training for part in parts),
            sum(part.starting for part in parts),
            sum(waits) if len(waits) == len(parts) else None,
        )
        hours = spent.running * self._units / 3600
        price = None if self._price is None else hours * self._price
        return Costs(spent, self.unit, hours, price)

    def _spent(self, trial: TrialRecord) -> Spent:
        waiting = None
        if self._is_one_session and trial.began:
            # What waits still does so until now, as far as this can be known.
            end = trial.ended or trial.began
            waiting = max(0.0, (end - trial.began).total_seconds() - trial.running)
        return Spent(trial.training, trial.running - trial.training, waiting)


def _was_not_paused(study: StudyRecord) -> bool:
    """Tell whether the study was worked on all the time from its first trial to its last."""
    begins = [trial.began for trial in study.everyone if trial.began]
    ends = [trial.ended for trial in study.everyone if trial.ended]
    if not begins or not ends:
        return True
    return _seconds(min(begins), max(ends)) <= study.seconds + _SLACK


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
