"""Points that are laid out in a space before anything is known: a grid, a Sobol sequence."""

import math
import random
from collections.abc import Mapping
from typing import Any

from scipy.stats import qmc

from distributions import Choice, Distribution, Floats, Integers
from space import Space
from space_tree import resolve


def grid_size(space: Space, points: int) -> int:
    """Return how many combinations there are of options and of `points` values of each range."""
    return _size(space.tree, points)


def grid_point(space: Space, points: int, seed: int, index: int) -> dict[str, Any]:
    """Return the parameters of a grid's index-th combination, from 0.

    A range gives `points` values, its ends among them, evenly apart (in the logarithm of a log
    range); whole numbers are rounded, and those that fall together count once. What lies in a
    branch of a choice is combined within that branch only. The order is shuffled by the seed, so
    that a part of the grid is a fair sample of it; past the last combination it begins again.
    """
    tree = _in_order(space.tree)
    order = list(range(_size(tree, points)))
    random.Random(seed).shuffle(order)
    left = order[index % len(order)]  # a number whose digits, of mixed base, are the combination
    found: dict[str, Any] = {}

    def suggest(name: str, distribution: Distribution) -> Any:
        nonlocal left
        if isinstance(distribution, Choice):
            left, place = divmod(left, _size(distribution, points))
            for key, option in distribution.options.items():
                size = _size(option, points)
                if place < size:
                    left = left * size + place  # the branch's digits come next
                    found[name] = key
                    break
                place -= size
        else:
            values = _values(distribution, points)
            left, place = divmod(left, len(values))
            found[name] = values[place]
        return found[name]

    resolve(tree, "", suggest)
    return found


def sobol_point(space: Space, seed: int, index: int) -> dict[str, Any]:
    """Return all parameters, of every branch, at the index-th point of a Sobol sequence, from 0.

    The sequence is scrambled by the seed (Owen 1998); each parameter has a dimension of its own.
    Optuna's own QMC sampler counts points in the study's attributes, which are off by one after a
    process was killed, and draws choices at random.
    """
    searched = sorted(space.parameters().items())
    if not searched:
        return {}
    sequence = qmc.Sobol(len(searched), scramble=True, rng=seed)
    if index:  # SciPy cannot go forward by nothing
        sequence.fast_forward(index)
    shares = sequence.random(1)[0].tolist()
    return {
        name: _at(distribution, share)
        for (name, distribution), share in zip(searched, shares, strict=True)
    }


def _size(tree: Any, points: int) -> int:
    match tree:
        case Floats() | Integers():
            return len(_values(tree, points))
        case Choice():
            return sum(_size(option, points) for option in tree.options.values())
        case Mapping():
            return math.prod(_size(part, points) for part in tree.values())
        case list():
            return math.prod(_size(part, points) for part in tree)
        case _:
            return 1


def _in_order(tree: Any) -> Any:
    """Sort a tree, whose order in the file says nothing and may change between two starts."""
    match tree:
        case Choice():
            return Choice({key: _in_order(tree.options[key]) for key in tree.extremes})
        case Mapping():
            return {key: _in_order(tree[key]) for key in sorted(tree, key=str)}
        case list():
            return [_in_order(part) for part in tree]
        case _:
            return tree


def _values(distribution: Floats | Integers, points: int) -> list[float]:
    low, high = distribution.low, distribution.high
    steps = [step / (points - 1) for step in range(1, points - 1)]
    between = [_between(low, high, distribution.log, step) for step in steps]
    return sorted({low, *map(distribution.clip, between), high})


def _at(distribution: Distribution, share: float) -> Any:
    """Return the value below which `share` of the draws from a distribution lie; share < 1."""
    match distribution:
        case Choice():
            return distribution.extremes[int(share * len(distribution.options))]
        case Integers(low, high, log):  # each number as wide as it is when drawn at random
            return distribution.clip(_between(low - 0.5, high + 0.5, log, share))
        case Floats(low, high, log):
            return distribution.clip(_between(low, high, log, share))


def _between(low: float, high: float, log: bool, share: float) -> float:
    return low * (high / low) ** share if log else low + (high - low) * share
