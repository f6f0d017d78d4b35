"""When a trial is stopped early: rules that can be rebuilt from the scores a study has stored."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from statistics import fmean, median
from typing import Annotated, Literal

from pydantic import Field

from colorization.config import Config


class StoppingRules(ABC):
    """Takes in scores as they come and says whom to stop; smaller scores are better.

    Ray's own schedulers forget what they saw with the driver, know trials by names that change with
    a restart, and do not tell whom they stopped; hence these.
    """

    def __init__(self) -> None:
        self._decisions: dict[tuple[int, int], str | None] = {}

    def record(self, number: int, epoch: int, score: float) -> str | None:
        """Take in a trial's score after its N-th epoch that selects, from 1.

        Returns why the trial should be stopped, if so. It hangs on what was recorded before, not on
        the order that it came in. An epoch that a trial repeats after a restart is decided as it
        was the first time.
        """
        key = number, epoch
        if key not in self._decisions:
            # NaN is below nothing, and would lead.
            self._decisions[key] = self._decide(
                number, epoch, math.inf if math.isnan(score) else score
            )
        return self._decisions[key]

    def remember(self, number: int, epoch: int, score: float) -> None:
        """Take in a score of an earlier session, after which the trial was let on or has ended."""
        self.record(number, epoch, score)
        self._decisions[number, epoch] = None

    @abstractmethod
    def rungs(self, longest: int) -> list[int]:
        """Return the epochs by whose scores trials of `longest` epochs are chosen to go on.

        Not their last one, where nobody is stopped; of a rule that judges every epoch, the first.
        """

    @abstractmethod
    def _decide(self, number: int, epoch: int, score: float) -> str | None: ...


class Rungs(StoppingRules):
    """Asynchronous successive halving (Li et al. 2020, algorithm 2, in its stopping form)."""

    def __init__(self, grace_period: int, reduction_factor: int) -> None:
        super().__init__()
        self._grace_period = grace_period
        self._factor = reduction_factor
        self._scores: dict[int, dict[int, float]] = {}  # rung -> trial number -> score

    def is_rung(self, epoch: int) -> bool:
        """Tell whether epochs from 1 are a rung: grace_period * reduction_factor^k."""
        rung = self._grace_period
        while rung < epoch:
            rung *= self._factor
        return rung == epoch

    def rungs(self, longest: int) -> list[int]:
        """Return the rungs before the last epoch."""
        return [epoch for epoch in range(1, longest) if self.is_rung(epoch)]

    def _decide(self, number: int, epoch: int, score: float) -> str | None:
        """At a rung the best 1/reduction_factor (rounded up) of those that came by go on."""
        if not self.is_rung(epoch):
            return None
        scores = self._scores.setdefault(epoch, {})
        scores[number] = score
        places = math.ceil(len(scores) / self._factor)
        place = sum(other < score for other in scores.values()) + 1
        if place <= places:
            return None
        return (
            f"stopped early after {epoch} epochs: place {place} of {len(scores)}, "
            f"the first {places} go on"
        )


class MedianRule(StoppingRules):
    """Median stopping (Golovin et al. 2017, section 3.2.1).

    A trial is stopped whose best score so far is worse than the median of the others' running
    averages up to the same epoch, be they stopped later, finished or running.
    """

    def __init__(self, grace_period: int, least_trials: int) -> None:
        super().__init__()
        self._grace_period = grace_period
        self._least_trials = least_trials
        self._scores: dict[int, dict[int, float]] = {}  # trial number -> epoch -> score

    def rungs(self, longest: int) -> list[int]:
        """Return the first epoch that is judged, where it is not the last."""
        return [self._grace_period] if self._grace_period < longest else []

    def _decide(self, number: int, epoch: int, score: float) -> str | None:
        own = self._scores.setdefault(number, {})
        own[epoch] = score
        if epoch < self._grace_period:
            return None
        averages = [
            fmean(_until(scores, epoch))
            for other, scores in self._scores.items()
            if other != number and min(scores) <= epoch <= max(scores)
        ]
        if len(averages) < self._least_trials:
            return None
        best, middle = min(_until(own, epoch)), median(averages)
        if best <= middle:
            return None
        return (
            f"stopped early after {epoch} epochs: best score {best:.4g}, worse than {middle:.4g}, "
            f"the median of the averages of {len(averages)} others until then"
        )


class Brackets(StoppingRules):
    """Hyperband (Li et al. 2018) in its asynchronous form (Li et al. 2020, section 3.3).

    Trials are spread over brackets, each with rungs of its own that begin at
    grace_period * reduction_factor^bracket, for the case that early scores mislead. A trial's
    bracket hangs on its number alone and is the same after a restart. Every bracket gets about the
    same compute: the share of trials of the one with s rungs before the last's first is
    proportional to reduction_factor^s / (s + 1), as in Hyperband.
    """

    def __init__(self, grace_period: int, reduction_factor: int, brackets: int) -> None:
        super().__init__()
        self._brackets = [
            Rungs(grace_period * reduction_factor**bracket, reduction_factor)
            for bracket in range(brackets)
        ]
        halvings = range(brackets - 1, -1, -1)
        weights = [reduction_factor**s / (s + 1) for s in halvings]
        self._shares = [weight / sum(weights) for weight in weights]

    def bracket(self, number: int) -> int:
        """Return a trial's bracket, from 0, the one that stops earliest.

        Multiples of the golden ratio fill [0, 1) evenly, so that also a few trials are shared out
        as they should be.
        """
        place = (number * (math.sqrt(5) - 1) / 2) % 1
        for bracket, share in enumerate(self._shares):
            place -= share
            if place < 0:
                return bracket
        return len(self._shares) - 1

    def rungs(self, longest: int) -> list[int]:
        """Return the rungs of the first bracket: they hold all others' too."""
        return self._brackets[0].rungs(longest)

    def _decide(self, number: int, epoch: int, score: float) -> str | None:
        bracket = self.bracket(number)
        reason = self._brackets[bracket].record(number, epoch, score)
        return f"{reason} (bracket {bracket})" if reason else None


class NoRules(StoppingRules):
    """Every trial is trained to its end."""

    def rungs(self, longest: int) -> list[int]:
        """Return none."""
        return []

    def _decide(self, number: int, epoch: int, score: float) -> str | None:
        return None


def _until(scores: Mapping[int, float], epoch: int) -> list[float]:
    return [score for at, score in scores.items() if at <= epoch]


class SchedulerConfig(Config, ABC):
    """What all schedulers have: the score that intermediate values are of."""

    metric: Literal["against_gray", "ab_mae", "ab_jsd", "ciede2000", "rmse"] = Field(
        default="against_gray", description="the score that trials are compared by; less is better"
    )

    @abstractmethod
    def build(self) -> StoppingRules:
        """Return the rules, with nothing recorded."""


Grace = Annotated[int, Field(ge=1, description="selecting epochs before a trial may be stopped")]
Factor = Annotated[int, Field(ge=2, description="one of so many goes on at each rung")]


class AshaConfig(SchedulerConfig):
    """Asynchronous successive halving: at each rung the best are let on."""

    name: Literal["asha"] = "asha"
    grace_period: Grace = 2
    reduction_factor: Factor = 3

    def build(self) -> Rungs:
        """Return the rules, with nothing recorded."""
        return Rungs(self.grace_period, self.reduction_factor)


class MedianConfig(SchedulerConfig):
    """Median stopping: at each epoch those worse than the middle of the others are stopped."""

    name: Literal["median"] = "median"
    grace_period: Grace = 2
    least_trials: int = Field(
        default=3, ge=1, description="how many others must have come that far"
    )

    def build(self) -> MedianRule:
        """Return the rules, with nothing recorded."""
        return MedianRule(self.grace_period, self.least_trials)


class HyperbandConfig(SchedulerConfig):
    """Asynchronous Hyperband: successive halving in brackets that begin later and later."""

    name: Literal["hyperband"] = "hyperband"
    grace_period: Grace = 1
    reduction_factor: Factor = 3
    brackets: int = Field(
        default=3, ge=1, le=8, description="each begins reduction_factor times later"
    )

    def build(self) -> Brackets:
        """Return the rules, with nothing recorded."""
        return Brackets(self.grace_period, self.reduction_factor, self.brackets)


class NoneConfig(SchedulerConfig):
    """No early stopping."""

    name: Literal["none"] = "none"

    def build(self) -> NoRules:
        """Return the rules: none."""
        return NoRules()


Scheduler = Annotated[
    AshaConfig | MedianConfig | HyperbandConfig | NoneConfig, Field(discriminator="name")
]
