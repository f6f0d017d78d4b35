"""What a study's storage says of its trials, for a report: read only, also while it runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState

from colorization.experiment import Experiment
from finals import Finalist, best_recipe, finalists
from past_study import PastStudy, best_scores, is_adopted, is_final, scores_of
from search_config import SearchConfig
from space import Space
from storage import trial_folder
from winner import Candidate, beats_gray, pareto_front

_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it stands in the storage."""

    trial: FrozenTrial

    @property
    def number(self) -> int:
        """Its number in the study."""
        return self.trial.number

    @property
    def state(self) -> str:
        """How it ended, in the words of the console."""
        return _STATES.get(self.trial.state, self.trial.state.name.lower())

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end."""
        return self.trial.state == TrialState.COMPLETE

    @property
    def recipe(self) -> str | None:
        """The recipe whose settings it was given, if it was."""
        return self._attributes.get("recipe")

    @property
    def finalist_of(self) -> int | None:
        """The trial whose settings it trains again with another seed, if it does."""
        return self._attributes.get("finalist_of")

    @property
    def seed(self) -> int | None:
        """The seed of a finalist."""
        return self._attributes.get("seed")

    @property
    def epochs(self) -> int:
        """How many epochs it was trained."""
        return self._attributes.get("epochs", 0)

    @cached_property
    def curve(self) -> Mapping[int, Mapping[str, float]]:
        """The scores after each epoch that selects, from 1."""
        return dict(sorted(scores_of(self.trial).items()))

    @cached_property
    def scores(self) -> Mapping[str, float]:
        """The scores of its best epoch; empty where there is none."""
        return best_scores(self.curve) or {}

    @property
    def why(self) -> str:
        """Why it was stopped or failed, or what was done that it fits into memory."""
        said = [self._attributes.get(key, "") for key in ("cause", "reason", "memory_saving")]
        return ": ".join(part for part in said[:2] if part) or said[2]

    @property
    def cause(self) -> str:
        """Of which kind its failure is."""
        return self._attributes.get("cause", "")

    @property
    def reason(self) -> str:
        """Why it was stopped or failed."""
        return self._attributes.get("reason", "")

    @property
    def running(self) -> float:
        """For how many seconds it held its place on the machines."""
        return self._attributes.get("seconds", {}).get("running", 0.0)

    @property
    def training(self) -> float:
        """For how many of these seconds its epochs were trained and scored."""
        return min(self._attributes.get("seconds", {}).get("training", 0.0), self.running)

    @property
    def began(self) -> datetime | None:
        """When it was drawn."""
        return self.trial.datetime_start

    @property
    def ended(self) -> datetime | None:
        """When it ended."""
        return self.trial.datetime_complete

    @property
    def _attributes(self) -> Mapping[str, Any]:
        return self.trial.user_attrs


@dataclass(frozen=True)
class StudyRecord:
    """A study as it stands in its folder."""

    past: PastStudy
    space: Space
    typical: Experiment

    @classmethod
    def open(cls, storage: Path, name: str) -> Self:
        """Read a study; raises ConfigError that lists those that there are."""
        past = PastStudy.open(storage, name, "STUDY")
        space = Space.read(past.space_file)
        return cls(past, space, space.typical())

    @property
    def name(self) -> str:
        """The study's name."""
        return self.past.name

    @property
    def folder(self) -> Path:
        """The study's directory."""
        return self.past.folder

    @property
    def storage(self) -> Path:
        """Where all studies lie."""
        return self.folder.parent.parent

    @property
    def family(self) -> str:
        """The family of its models."""
        return self.typical.model.name

    @property
    def search(self) -> SearchConfig:
        """How it searches."""
        return self.space.search

    @property
    def objective(self) -> Mapping[str, str]:
        """What the search improves, and which way."""
        return self.search.objective

    @property
    def gray(self) -> Mapping[str, float]:
        """Leave-gray's scores on the validation pictures; empty before the first epoch."""
        return self.past.attributes.get("gray", {})

    @property
    def choice(self) -> Mapping[str, Any]:
        """What was chosen at the end, and why; empty before that."""
        return self.past.attributes.get("choice", {})

    @property
    def qualified(self) -> list[int]:
        """The trials of the search that are trained again as finalists."""
        return self.past.attributes.get("qualified", [])

    def finals(self, *states: TrialState) -> list[FrozenTrial]:
        """List the trials that train finalists again, of some states or all."""
        found = [trial for trial in self.past.trials if is_final(trial)]
        return [trial for trial in found if not states or trial.state in states]

    def selected_scores(self, number: int) -> dict[str, float] | None:
        """Return the scores of a trial's best epoch, if it has any."""
        return best_scores(scores_of(self.past.trials[number]))

    @property
    def shape(self) -> Mapping[str, float]:
        """What a trial asks of the machines; empty in studies that did not note it."""
        return self.past.attributes.get("shape", {})

    @property
    def seconds(self) -> float:
        """For how long the study was worked on."""
        return self.past.attributes.get("seconds", 0.0)

    @cached_property
    def everyone(self) -> list[TrialRecord]:
        """All trials that were trained here, finalists too."""
        return [TrialRecord(trial) for trial in self.past.trials if not is_adopted(trial)]

    @cached_property
    def trials(self) -> list[TrialRecord]:
        """The trials of the search."""
        return [trial for trial in self.everyone if trial.finalist_of is None]

    @cached_property
    def ranked(self) -> list[TrialRecord]:
        """The trials of the search that have scores: by the study's own ranking, else the best
        `against_gray` first."""
        order = {number: place for place, number in enumerate(self.choice.get("ranking", []))}

        def place(trial: TrialRecord) -> tuple[int, float]:
            return order.get(trial.number, len(order)), self.compared(trial)

        return sorted((trial for trial in self.trials if trial.scores), key=place)

    @cached_property
    def front(self) -> set[int]:
        """The numbers of the finished trials that none beats in all objectives."""
        found = [
            Candidate(trial.number, tuple(trial.trial.values))
            for trial in self.trials
            if trial.is_finished
        ]
        return {member.number for member in pareto_front(found, list(self.objective.values()))}

    @cached_property
    def gray_as_good(self) -> set[int]:
        """The numbers of the finished trials that do not beat leave-gray in every objective."""
        return {
            trial.number
            for trial in self.trials
            if trial.is_finished and not beats_gray(trial.scores, self.objective, self.gray)
        }

    @property
    def best(self) -> TrialRecord | None:
        """The winner; before there is one, the first of the ranking that finished, or of all."""
        chosen = self.choice.get("winner")
        found = [trial for trial in self.ranked if trial.number == chosen]
        finished = [trial for trial in self.ranked if trial.is_finished]
        return next(iter(found or finished or self.ranked), None)

    @property
    def registered(self) -> TrialRecord | None:
        """The run whose model is registered: the winner's, or that of its best seed."""
        run = self.choice.get("run")
        found = [trial for trial in self.everyone if trial.number == run]
        return found[0] if found else self.best

    @cached_property
    def best_recipe(self) -> TrialRecord | None:
        """The best of the trials with a recipe's settings, the one that takes part in finals."""
        number = best_recipe(self, (trial.trial for trial in self.trials if trial.scores))
        return next((trial for trial in self.trials if trial.number == number), None)

    @cached_property
    def finalists(self) -> list[Finalist]:
        """The finalists, the best first; none where none were trained."""
        return finalists(self)

    def compared(self, trial: TrialRecord) -> float:
        """Return how a trial compares with leave-gray, infinity where it has no score."""
        return trial.scores.get("against_gray", math.inf)

    def run_of(self, trial: TrialRecord) -> Path:
        """Return a trial's directory."""
        return trial_folder(self.folder, trial.number)
