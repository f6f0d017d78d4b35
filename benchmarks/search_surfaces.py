"""What a simulated search finds at given settings: a learning curve, synthetic or of a table."""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from colorization.config import ConfigError
from distributions import Distribution, Floats, Integers
from search_tables import SPACES, Curve, Table
from space import Space

_START = 1.1  # scores of untrained networks, times leave-gray's
_TOO_FAST = 0.95  # place of the learning rate in its range beyond which training diverges


class Scores(NamedTuple):
    """Both objectives; less is better."""

    ab_mae: float
    ab_jsd: float


_GRAY = Scores(0.095, 0.5)  # leave-gray's on the synthetic surface


class Surface(ABC):
    """A space and the learning curve at each of its points."""

    name: str
    space: Space
    epochs: int  # of a trial that is not stopped
    reference: Scores  # hypervolumes are of what lies below it
    best: float  # hypervolume of the best front that can be found

    @abstractmethod
    def curve(self, parameters: Mapping[str, Any], seed: str) -> Curve:
        """Return the scores after each epoch, fewer where training diverges.

        `seed` stands for the weights and the order of pictures that a trial begins with.
        """

    def share(self, found: Iterable[Scores]) -> float:
        """Return the hypervolume of what was found as a share of the best possible."""
        return hypervolume(found, self.reference) / self.best


class SyntheticSurface(Surface):
    """A GAN's two scores as a formula of six settings, with learning curves.

    With u, v, g in [0, 1] for log learning_rate, log lambda_l1 and log gradient_penalty, s for
    label_smoothing / 0.2 and k for discriminator_steps, the shortfall of the settings is

        q = 1.5 (u - 0.7 + 0.3 v)^2 + |k - k*| / 40 + of the adversarial loss:
            wasserstein (g - 0.4 - 0.2 u)^2, lsgan 0.03 + (s - 0.3)^2 / 5, hinge 0.06

    with k* = 4 for wasserstein, else 2, and training ends at

        ab_mae = (0.075 + 0.015 (1 - v)^2 + 0.1 q) (1 + e),  ab_jsd = (0.15 + 0.2 v^2 + q) (1 + e')

    where e, e' of deviation 0.01 are a trial's luck: a trade-off in lambda_l1 whose best learning
    rate moves with it. An epoch t scores end + (start - end) exp(-t / tau) (1% of noise for ab_mae,
    2% for ab_jsd), start being 1.1 of leave-gray, and tau = 1.5 * 10^(0.9 (1 - u)) epochs: slow
    rates rank worse early than they end. Where `crossing`, tau is 1.6 times as long for
    wasserstein, which ends best, and 0.6 times for hinge, which ends worst. u > 0.95 diverges in
    the third epoch.
    """

    def __init__(self, crossing: bool) -> None:
        self.name = "synthetic, curves that cross" if crossing else "synthetic"
        self.space = Space.read(SPACES / "synthetic.yaml")
        self.epochs = _epochs(self.space)
        self._ranges = self.space.parameters()
        self.reference = _GRAY
        self._crossing = crossing
        front = [self._end(0, step / 1000) for step in range(1001)]
        self.best = hypervolume(front, self.reference)

    def curve(self, parameters: Mapping[str, Any], seed: str) -> Curve:
        """Return what the formula gives, with the noise that belongs to the seed."""
        noise = random.Random(seed)
        at = {key: _place(self._ranges[key], value) for key, value in parameters.items()}
        u, v = at["train.learning_rate"], at["model.lambda_l1"]
        kind = parameters["model.adversarial"]
        aim, steps = (4 if kind == "wasserstein" else 2), parameters["model.discriminator_steps"]
        q = 1.5 * (u - 0.7 + 0.3 * v) ** 2 + abs(steps - aim) / 40
        match kind:
            case "wasserstein":
                place = at["model.adversarial.wasserstein.gradient_penalty"]
                q += (place - 0.4 - 0.2 * u) ** 2
                slowness = 1.6
            case "lsgan":
                place = at["model.adversarial.lsgan.label_smoothing"]
                q += 0.03 + (place - 0.3) ** 2 / 5
                slowness = 1.0
            case _:
                q += 0.06
                slowness = 0.6
        tau = 1.5 * 10 ** (0.9 * (1 - u)) * (slowness if self._crossing else 1)
        ends = [end * (1 + noise.gauss(0, 0.01)) for end in self._end(q, v)]
        curve: Curve = []
        for epoch in range(1, self.epochs + 1):
            if u > _TOO_FAST and epoch == 3:
                break
            left = math.exp(-epoch / tau)
            mae, jsd = (
                (end + (_START * gray - end) * left) * (1 + noise.gauss(0, deviation))
                for end, gray, deviation in zip(ends, _GRAY, (0.01, 0.02), strict=True)
            )
            both = (mae / _GRAY.ab_mae + jsd / _GRAY.ab_jsd) / 2
            curve.append({"ab_mae": mae, "ab_jsd": jsd, "against_gray": both})
        return curve

    def _end(self, q: float, v: float) -> Scores:
        return Scores(0.075 + 0.015 * (1 - v) ** 2 + 0.1 * q, 0.15 + 0.2 * v**2 + q)


class TableSurface(Surface):
    """The curves of a table's points, each in the cell of what lies nearest to it.

    The reference is the worst that any point, or leave-gray, ends with.
    """

    def __init__(self, name: str, space: Space, table: Table) -> None:
        """Raises ConfigError where none of the settings was trained to its end."""
        self.name, self.space, self.epochs = name, space, _epochs(space)
        self._ranges = space.parameters()
        ends = [end_of(point.curve) for point in table.points if len(point.curve) == self.epochs]
        if not ends:
            raise ConfigError(f"{name}: the training of all settings diverged")
        gray = Scores(table.gray["ab_mae"], table.gray["ab_jsd"])
        worst = [max(scores) for scores in zip(gray, *ends, strict=True)]
        self.reference = Scores(*worst)
        self._points = [(self._place(point.parameters), point.curve) for point in table.points]
        self.best = hypervolume(ends, self.reference)

    def curve(self, parameters: Mapping[str, Any], seed: str) -> Curve:
        """Return the curve of the nearest point, which has one seed."""
        at = self._place(parameters)
        return min(self._points, key=lambda found: math.dist(at, found[0]))[1]

    def _place(self, parameters: Mapping[str, Any]) -> list[float]:
        return [_place(self._ranges[key], value) for key, value in sorted(parameters.items())]


def end_of(curve: Curve) -> Scores:
    """Return the scores of a curve's best epoch, as a study does: that of least `against_gray`."""
    best = min(curve, key=lambda scores: scores["against_gray"])
    return Scores(best["ab_mae"], best["ab_jsd"])


def hypervolume(found: Iterable[Scores], reference: Scores) -> float:
    """Return the area that points dominate below a reference point."""
    area, lowest = 0.0, reference.ab_jsd
    for point in sorted(found):
        if point.ab_mae < reference.ab_mae and point.ab_jsd < lowest:
            area += (reference.ab_mae - point.ab_mae) * (lowest - point.ab_jsd)
            lowest = point.ab_jsd
    return area


def _place(distribution: Distribution, value: Any) -> float:
    """Return where in its range a value lies, from 0 to 1; 0 for what is chosen."""
    match distribution:
        case Floats(low, high, True) | Integers(low, high, True):
            return math.log(value / low) / math.log(high / low)
        case Floats(low, high) | Integers(low, high):
            return (value - low) / (high - low)
    return 0.0


def _epochs(space: Space) -> int:
    (stage,) = space.typical().train.stages.values()
    return stage.epochs or 0
