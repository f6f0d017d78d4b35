"""How far the numbers of a replayed run are from those of the run, and what differs around it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from colorization.config import flatten
from colorization.score_names import is_of_the_machine
from colorization.surroundings import Surroundings

Numbers = Mapping[str, float]

# What tells when and where, and cannot change a number.
_ASIDE = ("time", "packages", "machines", "code", "settings", "seed", "environment")
_OF_A_MACHINE = ("host", "memory_gb")
_MISSING = "not there"


class Drift(NamedTuple):
    """A number of an epoch, then and now; NaN for one that was not computed now."""

    epoch: int
    name: str
    then: float
    now: float

    @property
    def absolute(self) -> float:
        """The distance of both; 0 of two NaN or two equal infinities."""
        if self.then == self.now or (math.isnan(self.then) and math.isnan(self.now)):
            return 0.0
        distance = abs(self.now - self.then)
        return math.inf if math.isnan(distance) else distance

    @property
    def relative(self) -> float:
        """The distance over the number then."""
        if self.absolute == 0:
            return 0.0
        return self.absolute / abs(self.then) if self.then else math.inf


def drifts(epoch: int, then: Numbers, now: Numbers) -> list[Drift]:
    """Compare the numbers of an epoch that tell of the model, as far as they were recorded."""
    return [
        Drift(epoch, name, value, now.get(name, math.nan))
        for name, value in then.items()
        if not is_of_the_machine(name)
    ]


def largest(found: list[Drift]) -> Drift | None:
    """Return the drift that is relatively the largest; None where all are zero."""
    drifted = [drift for drift in found if drift.absolute > 0]
    return max(drifted, key=lambda drift: (drift.relative, drift.absolute), default=None)


class Difference(NamedTuple):
    """Something of the surroundings that is not as it was."""

    what: str
    then: str
    now: str


def differences(then: Surroundings, now: Surroundings) -> list[Difference]:
    """List what differs of two runs' surroundings, that which may change a number."""
    before, after = _flat(then), _flat(now)
    return [
        Difference(key, _text(before.get(key)), _text(after.get(key)))
        for key in before | after
        if before.get(key) != after.get(key)
    ]


def _flat(found: Surroundings) -> dict[str, Any]:
    return dict(_parts(found))


def _parts(found: Surroundings) -> Iterator[tuple[str, Any]]:
    code = found["code"] or {}
    yield "commit", code.get("commit")
    yield "changes in the checkout (hash of the diff)", code.get("diff_hash") or None
    yield "the library's files (hash)", code.get("source")
    yield "files not in git", ", ".join(code.get("untracked", [])) or None
    yield from flatten({key: value for key, value in found.items() if key not in _ASIDE}).items()
    for name, value in found["environment"].items():
        yield f"environment.{name}", value
    for number, machine in enumerate(found["machines"]):
        place = f"machine {number}" if len(found["machines"]) > 1 else "machine"
        for key, value in machine.items():
            if key not in _OF_A_MACHINE:
                yield f"{place}.{key}", value
    for key, value in found.get("settings", {}).items():
        yield key, value
    for package, version in found["packages"].items():
        yield f"package {package}", version


def _text(value: Any) -> str:
    return _MISSING if value is None else str(value)
