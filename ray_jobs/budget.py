"""What a study may spend: hours on the clock, hours of GPUs; and what it is likely to take."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from colorization.config import ConfigError

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Budget:
    """The limits of a study, over all its sessions; None: no limit."""

    seconds: float | None = None  # on the clock, while the study is worked on
    gpu_hours: float | None = None  # of all GPUs of all workers


class Spending:
    """Adds up what a study spends and tells when its budget is spent.

    Trials are known by their numbers; what earlier sessions spent is handed over.
    """

    def __init__(
        self,
        budget: Budget,
        gpus_a_trial: float,
        *,
        seconds_before: float = 0.0,
        trial_seconds_before: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self._gpus = gpus_a_trial
        self._before, self._trials_before = seconds_before, trial_seconds_before
        self._clock, self._began = clock, clock()
        self._running: dict[int, float] = {}

    def trial_started(self, number: int) -> None:
        """Begin to count a trial."""
        self._running[number] = self._clock()

    def trial_ended(self, number: int) -> None:
        """Count a trial no longer; what it took stays counted."""
        if number in self._running:
            self._trials_before += self.trial_seconds(number)
            del self._running[number]

    def trial_seconds(self, number: int) -> float:
        """Return for how long a trial has run in this session."""
        return self._clock() - self._running[number] if number in self._running else 0.0

    @property
    def seconds(self) -> float:
        """How long the study was worked on, sessions before included."""
        return self._before + self._clock() - self._began

    @property
    def gpu_hours(self) -> float:
        """What all trials together held, running ones included."""
        running = sum(map(self.trial_seconds, self._running))
        return (self._trials_before + running) * self._gpus / 3600

    def spent(self, share: float = 1.0) -> str | None:
        """Say which limit, or which `share` of one, is reached; None while something is left."""
        limit = self.budget
        part = "" if share == 1 else f"the search's share of {share:.0%} of "
        if limit.seconds is not None and self.seconds >= share * limit.seconds:
            return f"{part}the time budget of {duration(limit.seconds)} is spent"
        if limit.gpu_hours is not None and self.gpu_hours >= share * limit.gpu_hours:
            return f"{part}the budget of {limit.gpu_hours:g} GPU-hours is spent"
        return None

    def forecast(self, seconds_a_trial: float, trials_left: int, at_once: int) -> str:
        """Say what the trials that are left will take if they go on like those that ended."""
        left = seconds_a_trial * trials_left / at_once
        text = (
            f"forecast: {trials_left} more trials at {duration(seconds_a_trial)} each, "
            f"{at_once} at once, take about {duration(left)}"
        )
        gpus = seconds_a_trial * trials_left * self._gpus / 3600
        if gpus:
            text += f" and {gpus:.3g} GPU-hours"
        limit = self.budget
        short = []
        if limit.seconds is not None and self.seconds + left > limit.seconds:
            short.append(f"the time budget of {duration(limit.seconds)}")
        if limit.gpu_hours is not None and self.gpu_hours + gpus > limit.gpu_hours:
            short.append(f"the {limit.gpu_hours:g} GPU-hours")
        return f"{text}; {' and '.join(short)} will be spent before" if short else text


def parse_duration(text: str, flag: str) -> float:
    """Read `2h`, `90m`, `1h30m`, `1.5d` or `45s` as seconds; raises ConfigError that names flag."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"{flag}: found {text!r}; a length of time is needed: 2h, 90m, 1h30m, 2d")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds == 0:
        raise ConfigError(f"{flag}: found {text!r}; more than nothing is needed")
    return seconds


def duration(seconds: float) -> str:
    """Write a length of time for a person: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
