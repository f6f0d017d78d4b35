"""What a trial may fail of."""

from typing import Literal, NamedTuple

Cause = Literal[
    "diverged",
    "out of memory",
    "bad data",
    "bad settings",
    "network",  # of a group's workers some cannot be reached
    "worker lost",
    "no disk",
    "error",
]

MAY_PASS: tuple[Cause, ...] = ("worker lost", "network", "error")  # may go well another time

# So often a trial is started again after crashes within one epoch. With each epoch that it trains
# it has as many again: machines that are lent and taken away may be lost any number of times.
TRIES = 3


class Failure(NamedTuple):
    """Why a trial failed: of what kind it was, and what there is to read."""

    cause: Cause
    reason: str
