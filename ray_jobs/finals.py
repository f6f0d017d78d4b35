"""Finalists: the best trials of a search trained again with several seeds, and what that tells."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple, Protocol

from optuna.trial import FrozenTrial, TrialState
from scipy.stats import t as student

from colorization.experiment import Experiment
from space import Space
from study import ENDED, Study
from winner import Candidate, candidates, ranking

CONFIDENCE = 0.95
_SETTLED = (TrialState.COMPLETE, TrialState.FAIL)


class Stored(Protocol):
    """What finalists are read from: a study that is open, or one as it lies on disk."""

    @property
    def space(self) -> Space: ...
    @property
    def objective(self) -> Mapping[str, str]: ...
    @property
    def gray(self) -> Mapping[str, float]: ...
    @property
    def qualified(self) -> Sequence[int]: ...
    def finals(self, *states: TrialState) -> list[FrozenTrial]: ...
    def selected_scores(self, number: int) -> Mapping[str, float] | None: ...


class Finalist(NamedTuple):
    """A trial of the search whose settings were trained again, and how that ended."""

    number: int
    runs: Mapping[int, int]  # seed -> number of the trial that came to its end
    scores: Mapping[int, Mapping[str, float]]  # seed -> validation scores of its best epoch
    failed: int  # seeds whose trial failed

    def mean(self, name: str) -> float:
        """Return a score's mean over the seeds."""
        return fmean(scores.get(name, math.nan) for scores in self.scores.values())

    @property
    def means(self) -> dict[str, float]:
        """The means of all scores that every run has."""
        names = set.intersection(*(set(scores) for scores in self.scores.values()))
        first = next(iter(self.scores.values()))
        return {name: self.mean(name) for name in first if name in names}

    def deviation(self, name: str) -> float:
        """Return a score's standard deviation over the seeds (n - 1); NaN for a single one."""
        values = [scores.get(name, math.nan) for scores in self.scores.values()]
        return stdev(values) if len(values) > 1 else math.nan

    @property
    def best_run(self) -> int:
        """The run with the least `against_gray` on the validation pictures."""
        seed = min(self.scores, key=lambda seed: (self.scores[seed]["against_gray"], seed))
        return self.runs[seed]


class Comparison(NamedTuple):
    """How a score differs between two finalists, from seed to seed.

    Runs of one seed see the pictures in the same order: the differences vary less than the scores.
    """

    difference: float  # mean over the seeds that both have
    low: float  # ends of its 95% interval (Student's t); NaN where it takes more than one seed
    high: float

    @property
    def tells_apart(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def compare(a: Finalist, b: Finalist, name: str) -> Comparison:
    """Compare a score of two finalists: a's minus b's, seed by seed."""
    seeds = sorted(a.scores.keys() & b.scores.keys())
    differences = [a.scores[seed][name] - b.scores[seed][name] for seed in seeds]
    if len(differences) < 2:
        return Comparison(differences[0] if differences else math.nan, math.nan, math.nan)
    mean, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    reach = float(student.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return Comparison(mean, mean - reach, mean + reach)


def inseparable(study: Stored, best: Finalist, other: Finalist) -> bool:
    """Tell whether two finalists cannot be told apart in any objective."""
    return not any(compare(other, best, name).tells_apart for name in study.objective)


def finalists(study: Stored) -> list[Finalist]:
    """Return the finalists that were trained with at least one seed, the best first.

    Ordered by the study's rule on the means over the seeds; one whose runs failed comes behind
    those with fewer failures, for its mean is that of the luckier seeds. None where the sound ones
    share no seed, so that their means would not compare.
    """
    found = _over_equal_seeds(list(_trained(study)))
    ordered: list[Finalist] = []
    for failed in sorted({finalist.failed for finalist in found}):
        alike = {f.number: f for f in found if f.failed == failed}
        means = [as_candidate(study, finalist) for finalist in alike.values()]
        rule = study.space.search.winner
        ordered += [alike[c.number] for c in ranking(means, study.objective, study.gray, rule)]
    return ordered


def _trained(study: Stored) -> Iterator[Finalist]:
    runs: dict[int, list[FrozenTrial]] = {number: [] for number in study.qualified}
    for trial in study.finals(TrialState.COMPLETE, TrialState.FAIL):
        runs.get(trial.user_attrs["finalist_of"], []).append(trial)
    for number, trials in runs.items():
        ended = {t.user_attrs["seed"]: t.number for t in trials if t.state == TrialState.COMPLETE}
        scores = {seed: study.selected_scores(run) or {} for seed, run in sorted(ended.items())}
        if scores:
            yield Finalist(number, ended, scores, len(trials) - len(ended))


def _over_equal_seeds(found: list[Finalist]) -> list[Finalist]:
    """Compare the sound ones over the seeds that all of them have: a budget may end in between."""
    sound = [set(finalist.scores) for finalist in found if not finalist.failed]
    common = set.intersection(*sound) if sound else set()
    if sound and not common:
        return []
    return [
        f._replace(scores={seed: f.scores[seed] for seed in sorted(common)})
        if common and common <= f.scores.keys()
        else f
        for f in found
    ]


def as_candidate(study: Stored, finalist: Finalist) -> Candidate:
    """Return a finalist with its mean objective values."""
    return Candidate(finalist.number, tuple(finalist.mean(name) for name in study.objective))


def qualified(study: Study, count: int) -> list[int]:
    """Return the trials of a search that are to be trained again: the best `count`.

    The best of those that tried a recipe's settings comes along, so that what the search has
    brought is measured over the same seeds.
    """
    rule = study.space.search.winner
    best = ranking(candidates(study), study.objective, study.gray, rule)
    numbers = [candidate.number for candidate in best[:count]]
    recipe = best_recipe(study, study.trials(*ENDED))
    return numbers if recipe is None or recipe in numbers else [*numbers, recipe]


def best_recipe(study: Stored, trials: Iterable[FrozenTrial]) -> int | None:
    """Return the best of those of a search's trials that tried a recipe's settings, if any did.

    One that was trained to its end before one that was stopped.
    """
    tried = [trial for trial in trials if "recipe" in trial.user_attrs]
    complete = [
        Candidate(trial.number, tuple(trial.values))
        for trial in tried
        if trial.state == TrialState.COMPLETE
    ]
    if complete:
        rule = study.space.search.winner
        return ranking(complete, study.objective, study.gray, rule)[0].number
    scored = {trial.number: study.selected_scores(trial.number) for trial in tried}
    values = {number: scores["against_gray"] for number, scores in scored.items() if scores}
    return min(values, key=values.__getitem__, default=None)


class FinalRound:
    """Hands out the runs of finalists, as the study does those of its search."""

    def __init__(self, study: Study, numbers: Sequence[int], seeds: int) -> None:
        """Prepare to train trials `numbers` again with `seeds` seeds each.

        None of them is the search's own, whose scores are those of the luckiest of many trials.
        """
        self._study = study
        first = study.experiment(numbers[0]).train.seed + 1 if numbers else 0
        # Seed by seed: when a budget is spent before the end, pairs can be compared.
        self._plan = [(n, seed) for seed in range(first, first + seeds) for n in numbers]
        self._left = [trial.number for trial in self._of_plan(TrialState.RUNNING)]

    def _of_plan(self, *states: TrialState) -> list[FrozenTrial]:
        plan = set(self._plan)
        return [
            trial
            for trial in self._study.finals(*states)
            if (trial.user_attrs["finalist_of"], trial.user_attrs["seed"]) in plan
        ]

    def _missing(self) -> Iterator[tuple[int, int]]:
        # One that a budget cut off is trained anew where there is more to spend now.
        states = (TrialState.RUNNING, *_SETTLED)
        there = {
            (t.user_attrs["finalist_of"], t.user_attrs["seed"]) for t in self._of_plan(*states)
        }
        return (pair for pair in self._plan if pair not in there)

    @property
    def ended(self) -> list[FrozenTrial]:
        """The runs that have ended."""
        return self._of_plan(*_SETTLED)

    @property
    def remaining(self) -> int:
        """How many runs are still to be trained, unfinished ones among them."""
        return len(self._plan) - len(self.ended)

    @property
    def unasked(self) -> int:
        """How many runs `next` is still to hand out."""
        return len(list(self._missing())) + len(self._left)

    @property
    def left(self) -> list[int]:
        """The unfinished runs of an earlier session that were not handed out yet."""
        return list(self._left)

    def next(self) -> tuple[int, Experiment]:
        """Return the next run: unfinished ones first."""
        if self._left:
            return self._study.again(self._left.pop(0))
        return self._study.add_final(*next(self._missing()))

    def parameters(self, number: int) -> dict[str, int]:
        """Say what a run is, for the console."""
        attributes = self._study.trial(number).user_attrs
        return {"settings_of_trial": attributes["finalist_of"], "seed": attributes["seed"]}
