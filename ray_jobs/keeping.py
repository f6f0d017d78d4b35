"""Which checkpoints a study keeps when it may not hold as much as it likes."""

import math
from collections.abc import Callable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from past_study import is_final
from quota import Need, enforce, quota_message
from study import Study
from tracking import Tracker
from winner import candidates, pareto_front


class Keeper:
    """Holds a study's checkpoints within a quota."""

    def __init__(
        self,
        study: Study,
        folder: Path,
        tracker: Tracker,
        limit_bytes: int | None,
        report: Callable[[str], None],
    ) -> None:
        """Limit the bytes of the study's trials in `folder`; None keeps everything."""
        self._study, self._folder, self._tracker = study, folder, tracker
        self._limit, self._report = limit_bytes, report
        self._exceeded = self._failed = False  # what was said already

    def enforce(self) -> None:
        """Delete what is needed least until the study holds no more than its quota."""
        if self._limit is None:
            return
        try:
            freed = enforce(
                self._folder, self._limit, self._needs(), keep=self._tracker.waiting_paths()
            )
        except OSError as error:  # no reason to end a study
            if not self._failed:
                self._report(f"--keep-gb: cannot delete what is needed least: {error}")
            self._failed = True
            return
        exceeds = freed.held > self._limit
        message = quota_message(freed, self._limit)
        if message and (freed.trials or not self._exceeded):
            self._report(message)
        self._exceeded = exceeds

    def _needs(self) -> dict[int, Need]:
        """Say of each trial what it is kept for, the least wanted ones of a kind first."""
        found = candidates(self._study)
        directions = list(self._study.objective.values())
        front = {candidate.number for candidate in pareto_front(found, directions)}
        needs: dict[int, Need] = {}
        for trial in [*self._study.trials(), *self._study.finals()]:
            if trial.state == TrialState.RUNNING:
                needs[trial.number] = "running"
            elif trial.number in front or _may_be_registered(trial):
                needs[trial.number] = "front"
            elif trial.state == TrialState.COMPLETE:
                needs[trial.number] = "finished"
            else:
                needs[trial.number] = "stopped"

        def worth(number: int) -> float:
            scores = self._study.selected_scores(number)
            return -scores["against_gray"] if scores else -math.inf

        return {number: needs[number] for number in sorted(needs, key=worth)}


def _may_be_registered(trial: FrozenTrial) -> bool:
    """Tell whether a trial is a finalist's run: the winner is one of them, where there are any."""
    return is_final(trial) and trial.state == TrialState.COMPLETE
