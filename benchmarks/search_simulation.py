"""A search simulated with the project's own samplers and stopping rules, and no training."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState, create_trial

from drawing import draw
from past_study import EPOCH
from search_surfaces import Scores, Surface, end_of
from search_tables import Curve
from space import Space


@dataclass
class Course:
    """How a search went: `shares` of the best hypervolume had after so many epochs of compute."""

    steps: list[tuple[int, float]] = field(default_factory=lambda: [(0, 0.0)])
    begun: int = 0
    complete: int = 0

    def share_after(self, epochs: float) -> float:
        """Return the share of the best hypervolume that was had after so many epochs."""
        return max(share for spent, share in self.steps if spent <= epochs)

    def reaches(self, share: float) -> float:
        """Return after how many epochs a share was had; infinity where it never was."""
        return min((spent for spent, had in self.steps if had >= share), default=float("inf"))


@dataclass
class _Running:
    trial: FrozenTrial
    curve: Curve
    epoch: int = 0


def simulate(surface: Surface, space: Space, seed: int, budget: int, workers: int) -> Course:
    """Search a surface until `budget` epochs were trained in all, and return how it went.

    As in a study: a trial's scores are those of its best epoch, only trials that came to their end
    count, and the sampler knows all trials, running ones too. Workers are asynchronous: each takes
    an hour an epoch, and they begin one after another within the first.
    """
    scheduler = space.search.scheduler
    rules = scheduler.build()
    trials: list[FrozenTrial] = []
    running: dict[int, _Running] = {}  # by trial number
    found: list[Scores] = []
    course = Course()
    idle = [worker / workers for worker in range(workers)]
    queue: list[tuple[float, int | None]] = [(time, None) for time in idle]
    spent = 0
    while spent < budget:
        time, number = heapq.heappop(queue)
        if number is None:
            number = len(trials)
            drawn = draw(space, seed, number, trials)
            assert drawn.experiment is not None, drawn.fault
            trials.append(_without_experiment(drawn.trial, TrialState.RUNNING))
            curve = surface.curve(drawn.trial.params, f"{seed}/{number}")
            running[number] = _Running(drawn.trial, curve)
            course.begun += 1
            heapq.heappush(queue, (time + 1, number))
            continue
        run = running[number]
        spent += 1
        run.epoch += 1
        state, values = TrialState.RUNNING, None
        if run.epoch > len(run.curve):
            state = TrialState.FAIL
        else:
            score = run.curve[run.epoch - 1][scheduler.metric]
            stop = rules.record(number, run.epoch, score)
            if run.epoch == surface.epochs:
                state, values = TrialState.COMPLETE, end_of(run.curve)
                found.append(values)
                course.complete += 1
                course.steps.append((spent, surface.share(found)))
            elif stop:
                state = TrialState.PRUNED
        if state == TrialState.RUNNING:
            heapq.heappush(queue, (time + 1, number))
        else:
            trials[number] = _without_experiment(run.trial, state, values, run.curve[: run.epoch])
            del running[number]
            heapq.heappush(queue, (time, None))
    return course


def _without_experiment(
    drawn: FrozenTrial,
    state: TrialState,
    values: Scores | None = None,
    curve: Sequence[Mapping[str, float]] = (),
) -> FrozenTrial:
    """Return a trial as a study stores it, with the scores of the epochs that it was trained."""
    scores = {
        f"epoch-{epoch}": {**found, EPOCH: epoch} for epoch, found in enumerate(curve, start=1)
    }
    return create_trial(
        user_attrs={"epochs": len(curve), **scores},
        state=state,
        values=values,
        params=drawn.params,
        distributions=drawn.distributions,
        system_attrs=drawn.system_attrs,
    )
