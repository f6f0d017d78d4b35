"""Which trial wins: chosen by a stated rule, among those that beat leaving pictures gray."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from optuna.trial import TrialState

from winner_rule import BestWithin, parse_rule

if TYPE_CHECKING:
    from study import Study

_ALIKE = 1e-9  # of distances in units of a front's range


class Candidate(NamedTuple):
    """A finished trial and its objective values."""

    number: int
    values: tuple[float, ...]


class Choice(NamedTuple):
    """A winner, and in a sentence why this one."""

    winner: Candidate
    why: str


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
    if not candidates:
        return []
    signs = [1 if direction == "min" else -1 for direction in directions]
    values = np.array([candidate.values for candidate in candidates]) * signs
    no_worse = (values[:, None] <= values).all(2)
    better = (values[:, None] < values).any(2)
    unbeaten = np.flatnonzero(~np.any(no_worse & better, axis=0))
    return [candidates[index] for index in unbeaten.tolist()]


def knee(
    front: Sequence[Candidate],
    directions: Sequence[str],
    gray: Sequence[float | None] = (),
) -> Candidate:
    """Return the member of a front nearest to the ideal point, scaled by the front's range.

    The ideal point has the front's best value of every objective. Of those as near, which two
    members of a front always are, the one wins that scores best as shares of leave-gray's `gray`
    (None: leave-gray has no such score), then the earlier trial.
    """
    nearest = _nearest(front, directions)
    signs = [1 if direction == "min" else -1 for direction in directions]

    def shares(candidate: Candidate) -> float:
        rows = zip(signs, candidate.values, gray, strict=True)
        return sum(sign * value / abs(base) for sign, value, base in rows if base)

    return min(nearest, key=lambda c: (shares(c) if gray else 0.0, c.number))


def _nearest(front: Sequence[Candidate], directions: Sequence[str]) -> list[Candidate]:
    ideal, spans = [], []
    for column, direction in zip(
        zip(*(c.values for c in front), strict=True), directions, strict=True
    ):
        ideal.append(min(column) if direction == "min" else max(column))
        spans.append((max(column) - min(column)) or 1.0)

    def distance(candidate: Candidate) -> float:
        parts = zip(candidate.values, ideal, spans, strict=True)
        return math.hypot(*((value - best) / span for value, best, span in parts))

    least = min(map(distance, front))
    return [candidate for candidate in front if distance(candidate) <= least + _ALIKE]


def beats_gray(
    scores: Mapping[str, float], objective: Mapping[str, str], gray: Mapping[str, float]
) -> bool:
    """Tell whether scores are better than leave-gray's in every objective that it has one in."""
    return all(
        scores[name] < gray[name] if direction == "min" else scores[name] > gray[name]
        for name, direction in objective.items()
        if name in gray
    )


def choose(
    candidates: Sequence[Candidate],
    objective: Mapping[str, str],
    gray: Mapping[str, float],
    rule: str = "knee",
    basis: str = "",
) -> Choice:
    """Return the trial to register, and why.

    Chosen by `rule` among the candidates that beat leave-gray in every objective that it has a
    score in; among all of them where none does. `basis` says what the values are, where they are
    finalists' means.
    """

    better = [
        candidate
        for candidate in candidates
        if beats_gray(dict(zip(objective, candidate.values, strict=True)), objective, gray)
    ]
    pool = better or list(candidates)
    within = parse_rule(rule)
    if within is None:
        front_name = "the finalists' Pareto front" if basis else "the Pareto front"
        choice = _by_knee(pool, objective, gray, front_name)
    else:
        choice = _by_best_within(pool, objective, within)
    named = f"trial {choice.winner.number}"
    choice = choice._replace(why=choice.why.replace(named, f"{named}{basis}", 1))
    if not better and gray:
        why = f"{choice.why}; but no trial beats leaving pictures gray in every objective"
        return choice._replace(why=why)
    if left_out := len(candidates) - len(better):
        many = "1 trial is" if left_out == 1 else f"{left_out} trials are"
        why = f"{choice.why}; {many} left out, no better than gray in every objective"
        return choice._replace(why=why)
    return choice


def ranking(
    candidates: Sequence[Candidate],
    objective: Mapping[str, str],
    gray: Mapping[str, float],
    rule: str = "knee",
) -> list[Candidate]:
    """Order candidates: the winner, then whoever would win without it, and so on."""
    left, ordered = list(candidates), []
    while left:
        ordered.append(choose(left, objective, gray, rule).winner)
        left.remove(ordered[-1])
    return ordered


def _by_knee(
    pool: Sequence[Candidate],
    objective: Mapping[str, str],
    gray: Mapping[str, float],
    front_name: str,
) -> Choice:
    directions = list(objective.values())
    front = pareto_front(pool, directions)
    best = knee(front, directions, [gray.get(name) for name in objective])
    if len(objective) == 1:
        (name,) = objective
        return Choice(best, f"trial {best.number} has the best {name}, {best.values[0]:.4g}")
    if len(front) == 1:
        every = " and ".join(objective)
        return Choice(best, f"trial {best.number} is the best in {every} at once")
    ideal = [
        f"{name} ({_best_of(front, index, direction):.4g})"
        for index, (name, direction) in enumerate(objective.items())
    ]
    others = _numbers(c for c in front if c != best)
    why = (
        f"trial {best.number} is the knee of {front_name}: of its {len(front)} trials, which "
        f"are better in one score each (the others: {others}), it lies nearest to the best "
        f"{' and '.join(ideal)} at once, scaled by the front's range"
    )
    alike = [c for c in _nearest(front, directions) if c != best]
    if alike:
        why += (
            f"; as near lies {_numbers(alike)}, and the decision fell by the scores as shares of "
            "leave-gray's"
        )
    return Choice(best, why)


def _numbers(candidates: Iterable[Candidate]) -> str:
    return ", ".join(str(candidate.number) for candidate in sorted(candidates))


def _by_best_within(
    pool: Sequence[Candidate], objective: Mapping[str, str], rule: BestWithin
) -> Choice:
    names = list(objective)
    score, anchor = names.index(rule.score), names.index(rule.anchor)
    best_anchor = _best_of(pool, anchor, objective[rule.anchor])
    room = abs(best_anchor) * rule.percent / 100
    near = [c for c in pool if abs(c.values[anchor] - best_anchor) <= room]

    def order(candidate: Candidate) -> tuple[float, float, int]:
        signs = [1 if objective[name] == "min" else -1 for name in (rule.score, rule.anchor)]
        values = candidate.values
        return signs[0] * values[score], signs[1] * values[anchor], candidate.number

    best = min(near, key=order)
    many = "the only trial" if len(near) == 1 else f"the {len(near)} trials"
    return Choice(
        best,
        f"trial {best.number} has the best {rule.score}, {best.values[score]:.4g}, of {many} whose "
        f"{rule.anchor} is within {rule.percent:g}% of the best, {best_anchor:.4g}",
    )


def _best_of(pool: Sequence[Candidate], index: int, direction: str) -> float:
    column = [candidate.values[index] for candidate in pool]
    return min(column) if direction == "min" else max(column)
