"""Early stopping: asynchronous successive halving whose rungs can be rebuilt from stored scores."""

import math
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class Rungs:
    """ASHA's memory (Li et al. 2020, algorithm 2, in its stopping form): scores at each rung.

    Ray's own scheduler forgets its rungs with the driver, knows trials by names that change with a
    restart, and does not tell whom it stopped; hence this one. Smaller scores are better.
    """

    def __init__(self, grace_period: int, reduction_factor: int) -> None:
        self._grace_period = grace_period
        self._factor = reduction_factor
        self._scores: dict[int, dict[int, float]] = {}  # rung -> trial number -> score

    def is_rung(self, epoch: int) -> bool:
        """Tell whether epochs from 1 are a rung: grace_period * reduction_factor^k."""
        rung = self._grace_period
        while rung < epoch:
            rung *= self._factor
        return rung == epoch

    def record(self, number: int, epoch: int, score: float) -> str | None:
        """Take in a trial's score; return why it should be stopped, if so.

        At a rung the best 1/reduction_factor (rounded up) of those that came by so far go on.
        """
        if not self.is_rung(epoch):
            return None
        scores = self._scores.setdefault(epoch, {})
        if number in scores:
            return None  # it was let on, and repeats its last report after a restart
        score = math.inf if math.isnan(score) else score  # NaN is below nothing, and would lead
        scores[number] = score
        places = math.ceil(len(scores) / self._factor)
        place = sum(other < score for other in scores.values()) + 1
        if place <= places:
            return None
        return (
            f"stopped early after {epoch} epochs: place {place} of {len(scores)}, "
            f"the first {places} go on"
        )


class StoppingRule(FIFOScheduler):
    """Tune's scheduler over Rungs; it remembers whom it stopped and why."""

    def __init__(self, rungs: Rungs, metric: str) -> None:
        super().__init__()
        self.stopped: dict[int, str] = {}  # trial number -> reason
        self._rungs = rungs
        self._rung_metric = metric

    def on_trial_result(
        self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]
    ) -> str:
        """Decide after an epoch; epochs of stages that do not select carry no `selecting_epoch`."""
        epoch = result.get("selecting_epoch")
        number = trial.config["number"]
        if epoch is None or result["last"]:
            return self.CONTINUE
        reason = self._rungs.record(number, epoch, result[f"scores/{self._rung_metric}"])
        if reason is None:
            return self.CONTINUE
        self.stopped[number] = reason
        return self.STOP
