"""Whether the early scores that trials were stopped by told how trials would end."""

import math
from collections.abc import Mapping, Sequence
from statistics import correlation
from typing import NamedTuple

from scipy.stats import rankdata

LEAST_TRIALS = 5  # of fewer a rank correlation says nothing
LEAST_CORRELATION = 0.5


class Agreement(NamedTuple):
    """Spearman's rank correlation between scores after `epoch` epochs and final ones."""

    epoch: int
    correlation: float
    trials: int


def rank_agreement(
    epochs: Mapping[int, Mapping[int, float]], rungs: Sequence[int]
) -> list[Agreement]:
    """Compare the ranks of trials at each rung with their final ranks.

    `epochs`: of trials that were trained to their end, by number, the scores by selecting epoch;
    less is better, and the best epoch's is the final one, as trials are chosen by it. A rung is
    left out that fewer than five trials have a score at, or where scores do not differ.
    """
    found: list[Agreement] = []
    for rung in rungs:
        pairs = [
            (_last_if_nan(scores[rung]), min(map(_last_if_nan, scores.values())))
            for scores in epochs.values()
            if rung in scores
        ]
        early, final = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if len(pairs) >= LEAST_TRIALS and len(set(early)) > 1 and len(set(final)) > 1:
            of_ranks = correlation(rankdata(early), rankdata(final))
            found.append(Agreement(rung, of_ranks, len(pairs)))
    return found


def disagreement_note(
    epochs: Mapping[int, Mapping[int, float]], rungs: Sequence[int]
) -> str | None:
    """Return a sentence for the person where a rung did not predict the final ranks.

    Arguments are those of `rank_agreement`. None where every rung did, or too few trials were
    trained to their end to tell.
    """
    misled = [a for a in rank_agreement(epochs, rungs) if a.correlation < LEAST_CORRELATION]
    if not misled:
        return None
    worst = min(misled, key=lambda agreement: agreement.correlation)
    later = _first_that_tells(epochs, after=misled[-1].epoch)
    mend = (
        f"after {later} they did: search.scheduler.grace_period={later}"
        if later is not None
        else "no later epoch did much better: search.scheduler.name=none trains all to their end"
    )
    return (
        f"ranks after {worst.epoch} epochs did not predict the final ones (rank correlation "
        f"{worst.correlation:.2f} over {worst.trials} trials that were trained to their end), so "
        f"that good ones may have been stopped early; {mend}"
    )


def _first_that_tells(epochs: Mapping[int, Mapping[int, float]], after: int) -> int | None:
    """Return the first epoch from which on, up to the last but one, all predict the final ranks."""
    longest = max(map(max, epochs.values()))
    first = None
    for agreement in rank_agreement(epochs, range(longest - 1, after, -1)):
        if agreement.correlation < LEAST_CORRELATION:
            break
        first = agreement.epoch
    return first


def _last_if_nan(score: float) -> float:
    return math.inf if math.isnan(score) else score
