"""Which trial wins: the knee of the Pareto front, among those that beat leaving pictures gray."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from optuna.trial import TrialState

if TYPE_CHECKING:
    from study import Study


class Candidate(NamedTuple):
    """A finished trial and its objective values."""

    number: int
    values: tuple[float, ...]


def candidates(study: "Study") -> list[Candidate]:
    """Return the trials of a study that may win, with their objective values.

    Those that were trained to their end; where the budget was spent before any was, those that were
    stopped, by the scores of their best epoch.
    """
    complete = study.trials(TrialState.COMPLETE)
    if complete:
        return [Candidate(trial.number, tuple(trial.values)) for trial in complete]
    found = []
    for trial in study.trials(TrialState.PRUNED):
        scores = study.selected_scores(trial.number) or {}
        values = tuple(scores.get(name, math.nan) for name in study.objective)
        if all(map(math.isfinite, values)):
            found.append(Candidate(trial.number, values))
    return found


def pareto_front(candidates: Sequence[Candidate], directions: Sequence[str]) -> list[Candidate]:
    """Return the candidates that no other beats or equals in all objectives and beats in one."""
    signs = [1 if direction == "min" else -1 for direction in directions]

    def dominates(a: Candidate, b: Candidate) -> bool:
        pairs = [(s * x, s * y) for s, x, y in zip(signs, a.values, b.values, strict=True)]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    return [c for c in candidates if not any(dominates(other, c) for other in candidates)]


def knee(front: Sequence[Candidate], directions: Sequence[str]) -> Candidate:
    """Return the member of a front nearest to the ideal point, scaled by the front's range.

    The ideal point has the front's best value of every objective. Of equals the earlier trial wins.
    """
    ideal, spans = [], []
    for column, direction in zip(
        zip(*(c.values for c in front), strict=True), directions, strict=True
    ):
        ideal.append(min(column) if direction == "min" else max(column))
        spans.append((max(column) - min(column)) or 1.0)

    def distance(candidate: Candidate) -> float:
        parts = zip(candidate.values, ideal, spans, strict=True)
        return math.hypot(*((value - best) / span for value, best, span in parts))

    return min(front, key=lambda c: (distance(c), c.number))


def winner(
    candidates: Sequence[Candidate], objective: Mapping[str, str], gray: Mapping[str, float]
) -> Candidate:
    """Choose the trial whose model is registered.

    The knee of the Pareto front of those that beat leave-gray in every objective it has a score
    in; of all of them where none does.
    """
    directions = list(objective.values())

    def beats_gray(candidate: Candidate) -> bool:
        return all(
            value < gray[name] if direction == "min" else value > gray[name]
            for value, (name, direction) in zip(candidate.values, objective.items(), strict=True)
            if name in gray
        )

    better = [candidate for candidate in candidates if beats_gray(candidate)]
    return knee(pareto_front(better or candidates, directions), directions)
