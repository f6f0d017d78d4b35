"""Says what trials wait for, so that none waits for ever without a word."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread

import ray
from ray.tune.experiment import Trial

from cluster import Shape
from worker_groups import WorkerGroups

_PAUSE = 5.0  # seconds between two looks
_PATIENCE = 30.0  # seconds that anything may wait before it is said
_AGAIN = 600.0  # seconds until it is said again
_SILENCE = 600.0  # the least seconds without a report that are worth a word
_EPOCHS = 10  # times its longest epoch that a trial may go without a report


@dataclass
class _Life:
    """What is known of a trial that has not ended."""

    status: str
    since: float  # when its status changed
    heard: float  # when it began or last reported
    longest: float | None = None  # of its epochs, in seconds
    due: float = 0.0  # when the next word about it may be said


@dataclass
class _Round:
    """What one look found, for the thread that may wait for Ray's answers."""

    pending: list[int]
    running: list[int]
    due: list[int] = field(default_factory=list)  # of the pending, those to be spoken of
    silent: list[str] = field(default_factory=list)  # whole messages

    def take_over(self, earlier: "_Round") -> None:
        """Add what an earlier round, which nobody got to, had to say and still holds."""
        self.due += [n for n in earlier.due if n in self.pending and n not in self.due]
        self.silent[:0] = earlier.silent


Resources = Callable[[], Mapping[str, float]]


class Watchdog:
    """Watches a study's trials from Tune's loop, without ever holding it up.

    It says which trials wait for what, and which have fallen silent, after half a minute and then
    in growing pauses; and it frees what the workers of dead trials hold (see WorkerGroups). What
    asks Ray runs in a thread of its own.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        shape: Shape,
        *,
        clock: Callable[[], float] = time.monotonic,
        total: Resources = ray.cluster_resources,
        free: Resources = ray.available_resources,
    ) -> None:
        """`report` takes one-line messages for a person, from the watchdog's thread."""
        self._report, self._shape, self._clock = report, shape, clock
        self._total, self._free = total, free
        self._lives: dict[int, _Life] = {}
        self._next_look = 0.0
        self._most: Mapping[str, float] = {}
        self._faults: set[str] = set()
        self._groups = WorkerGroups(shape) if shape.workers > 1 else None
        self._changed = Condition()
        self._newest: _Round | None = None  # that waits for the thread
        self._closed = False
        self._thread = Thread(target=self._serve, name="watchdog", daemon=True)
        self._thread.start()

    def heard(self, number: int) -> None:
        """Note that a trial has reported an epoch; call it at each report."""
        now = self._clock()
        life = self._lives.setdefault(number, _Life(Trial.RUNNING, now, now))
        life.longest = max(life.longest or 0.0, now - life.heard)
        life.heard, life.due = now, 0.0

    def look(self, trials: Sequence[Trial]) -> None:
        """Look after the trials; call it as often as Tune's loop turns."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + _PAUSE
        alive = {
            t.config["number"]: t for t in trials if t.status in (Trial.PENDING, Trial.RUNNING)
        }
        self._lives = {number: life for number, life in self._lives.items() if number in alive}
        found = _Round([], [])
        for number, trial in sorted(alive.items()):
            life = self._lives.setdefault(number, _Life(trial.status, now, now))
            if life.status != trial.status:
                self._lives[number] = life = _Life(trial.status, now, now, life.longest)
            if trial.status == Trial.RUNNING:
                found.running.append(number)
                found.silent.extend(_silence(number, life, now, trial.config["directory"]))
            else:
                found.pending.append(number)
                if now - life.since >= _PATIENCE and now >= life.due:
                    life.due = now + _AGAIN
                    found.due.append(number)
        with self._changed:
            if self._newest is not None:
                found.take_over(self._newest)
            self._newest = found
            self._changed.notify()

    def close(self, timeout: float = 10.0) -> None:
        """Say and free what has been found so far, for so many seconds at most; stop watching."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _serve(self) -> None:
        while (found := self._next_round()) is not None:
            for message in self._messages(found):
                self._report(message)

    def _next_round(self) -> _Round | None:
        """Wait for a round; None once the last one was taken and there will be no other."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._closed)
            found, self._newest = self._newest, None
            return found

    def _messages(self, found: _Round) -> Iterator[str]:
        yield from found.silent
        try:
            total = self._total()
            if found.due:
                for number in found.due:
                    yield self._waits(f"trial {number}", found, total)
            self._most = {k: max(total.get(k, 0), self._most.get(k, 0)) for k in ("CPU", "GPU")}
            if self._groups is not None:
                look = self._groups.look(self._clock())
                yield from look.freed
                for _ in range(look.waiting):
                    yield self._waits("the workers of a trial", found, total)
        # Ray is starting anew or ending, or its dashboard answers nonsense. This thread must
        # outlive that; what lasts shows in the trials themselves.
        except Exception as error:
            if (kind := type(error).__name__) not in self._faults:
                self._faults.add(kind)
                yield f"cannot ask Ray what trials wait for: {kind}: {error}"

    def _waits(self, who: str, found: _Round, total: Mapping[str, float]) -> str:
        free = self._free()
        kinds = ("CPU", "GPU") if self._shape.gpus_per_worker else ("CPU",)
        parts = [f"{free.get(k, 0):g} of {total.get(k, 0):g} {k} free" for k in kinds]
        parts += [
            f"the cluster has {total.get(kind, 0):g} {kind} now, it had {self._most[kind]:g}"
            for kind in kinds
            if self._most.get(kind, 0) > total.get(kind, 0)
        ]
        parts.append(_runs(found.running))
        return f"{who} waits for {self._shape}: {', '.join(parts)}"


def _silence(number: int, life: _Life, now: float, directory: str) -> Iterator[str]:
    """Say that a running trial reports no more; each time after twice the silence."""
    silent = now - life.heard
    if silent < max(_SILENCE, _EPOCHS * (life.longest or 0.0)) or now < life.due:
        return
    life.due = now + silent
    epochs = f"its longest epoch took {_span(life.longest)}" if life.longest else "it never has yet"
    yield (
        f"trial {number} has not reported for {_span(silent)}; {epochs}; "
        f"what it last said is in {Path(directory) / 'trial.log'}"
    )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _runs(numbers: Sequence[int]) -> str:
    if not numbers:
        return "no trial of this study runs"
    if len(numbers) == 1:
        return f"trial {numbers[0]} runs"
    return f"trials {', '.join(map(str, numbers))} run"
