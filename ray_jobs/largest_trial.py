"""Which of a space's experiments take most memory, and least, by estimate."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from colorization.config import dump
from colorization.experiment import Experiment
from colorization.rehearsal import activation_bytes

_SECONDS = 2.0  # that estimating may take: each one does a tenth of a second to a second


class Largest(NamedTuple):
    """The experiment whose training step is the largest of those that were estimated."""

    experiment: Experiment
    size: int  # bytes, by estimate
    smallest: Experiment  # of those that were estimated
    smallest_size: int
    estimated: int  # how many were
    kinds: int  # how many there are


def find_largest(
    tried: Sequence[Experiment], typical: Experiment, seconds: float = _SECONDS
) -> Largest:
    """Estimate experiments for so many seconds of computing; return the largest and the smallest.

    Of those that differ in numbers alone one is estimated, the one with the largest; options of
    choices that were not met before come first. The typical one and the one with the smallest
    numbers always are among them: on a slow machine, too, the largest is not taken for the smallest
    and a study refused for it.
    """
    kinds: dict[str, Experiment] = {}
    for experiment in (typical, *tried):
        kind = json.dumps(sorted(_named(experiment)))
        if kind not in kinds or _extent(experiment) > _extent(kinds[kind]):
            kinds[kind] = experiment
    deadline = time.thread_time() + seconds
    sizes = [(activation_bytes(typical), typical)]
    others = [experiment for experiment in kinds.values() if experiment != typical]
    count = len(others) + 1
    if others:
        small = min(others, key=_extent)
        sizes.append((activation_bytes(small), small))
        others.remove(small)
    for experiment in _most_new_first(others, typical):
        if time.thread_time() > deadline:
            break
        sizes.append((activation_bytes(experiment), experiment))
    size, largest = max(sizes, key=lambda found: found[0])
    least, smallest = min(sizes, key=lambda found: found[0])
    return Largest(largest, size, smallest, least, len(sizes), count)


def _most_new_first(experiments: list[Experiment], typical: Experiment) -> Iterator[Experiment]:
    met = {*_named(typical)}
    left = [(experiment, {*_named(experiment)}) for experiment in experiments]
    left.sort(key=lambda pair: _extent(pair[0]), reverse=True)
    while left:
        chosen = max(left, key=lambda pair: len(pair[1] - met))
        left.remove(chosen)
        met |= chosen[1]
        yield chosen[0]


def _named(experiment: Experiment) -> Iterator[str]:
    """Yield the settings that are no numbers, and of the numbers whether they are 0."""
    for key, value in _leaves(dump(experiment), ""):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        yield f"{key}={value != 0 if number else value}"


def _extent(experiment: Experiment) -> float:
    """Add the logarithms of the whole numbers: widths, depths, sizes of batches."""
    leaves = (value for _, value in _leaves(dump(experiment), ""))
    return sum(
        math.log(value)
        for value in leaves
        if isinstance(value, int) and not isinstance(value, bool) and value > 0
    )


def _leaves(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    match part:
        case Mapping():
            for key, inner in part.items():
                yield from _leaves(inner, f"{path}.{key}")
        case list():
            for index, inner in enumerate(part):
                yield from _leaves(inner, f"{path}.{index}")
        case _:
            yield path, part
