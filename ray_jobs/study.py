"""The Optuna study: the only truth about which trials there are and how they ended."""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from colorization.config import ConfigError, dump, parse
from colorization.experiment import Experiment
from space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """Asks for experiments and is told the truth about them.

    Attributes of a trial: `experiment` (JSON), `epochs` (how many it was trained), `epoch-N` (its
    scores after the N-th epoch that selects), `reason` (why it was stopped or failed). Of the
    study: `space`, `gray` (leave-gray's scores), `data` (hashes of the pictures).
    """

    def __init__(self, folder: Path, name: str, space: Space, seed: int, trials: int) -> None:
        """Open or create the study kept in `folder`/optuna.journal.

        Raises ConfigError where it exists with another space: what was found there would mislead
        the sampler.
        """
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
        known = [found for found in storage.get_all_studies() if found.study_name == name]
        self.space = space
        self.objective: dict[str, str] = dict(space.search.objective)
        self._seed, self._trials = seed, trials
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["minimize" if d == "min" else "maximize" for d in self.objective.values()],
            sampler=self._sampler(0),
            load_if_exists=True,
        )
        if known:
            before = self._study.user_attrs.get("space")
            if before != space.hash:
                raise ConfigError(
                    f"study {name!r} in {folder} searches another space or other settings; "
                    "give this one another --name"
                )
        else:
            self._study.set_user_attr("space", space.hash)
            for parameters in space.first_parameters():
                self._study.enqueue_trial(parameters, skip_if_exists=True)
        self._left = [t.number for t in self.trials(TrialState.RUNNING)]
        self._asked: dict[int, Trial] = {}

    def use_data(self, hashes: Mapping[str, str]) -> None:
        """Note by their hashes which pictures the trials use: "" the run's, else a stage's own.

        Raises ConfigError where the study was begun with others: its trials would not compare.
        """
        before: dict[str, str] = self._study.user_attrs.get("data", {})
        for stage in before.keys() & hashes.keys():
            if before[stage] != hashes[stage]:
                whose = f" of stage {stage}" if stage else ""
                raise ConfigError(
                    f"the pictures{whose} have changed since study {self._study.study_name!r} was "
                    f"begun: their hash was {before[stage]}, now it is {hashes[stage]}, so that "
                    "trials would not compare; restore them, or give this study another --name"
                )
        self._study.set_user_attr("data", dict(hashes))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """List the trials, of some states or of all but those that only wait in the queue."""
        wanted = states or tuple(s for s in TrialState if s != TrialState.WAITING)
        return self._study.get_trials(deepcopy=False, states=wanted)

    @property
    def remaining(self) -> int:
        """How many trials are still to be trained, unfinished ones among them."""
        ended = len(self.trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
        return max(0, self._trials - ended)

    @property
    def unasked(self) -> int:
        """How many trials `next` is still to hand out; others of the remaining ones run."""
        return max(0, self._trials - len(self.trials())) + len(self._left)

    def _sampler(self, number: int) -> TPESampler:
        digest = hashlib.sha256(f"{self._seed}/{number}".encode()).digest()
        with warnings.catch_warnings():
            # multivariate, group and constant_liar are what a conditional space searched by
            # several trials at once needs, and what Optuna still calls experimental.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=max(4, min(10, self._trials // 3)),
                seed=int.from_bytes(digest[:4]),
            )

    def next(self) -> tuple[int, Experiment]:
        """Return the next trial: unfinished ones first, then recipes, then what is sampled.

        A seeded sampler repeats its first draws after a restart, hence a seed of its own for each
        trial. Raises ConfigError for sampled settings that do not go together, after the trial was
        told as failed.
        """
        if self._left:
            number = self._left.pop(0)
            frozen = self._frozen(number)
            self._asked[number] = Trial(self._study, frozen._trial_id)
            if "experiment" in frozen.user_attrs:
                return number, self.experiment(number)
            self._study.sampler = self._sampler(number)
            trial = self._asked[number]
        else:
            trials = self._study.get_trials(deepcopy=False)
            waiting = (t.number for t in trials if t.state == TrialState.WAITING)
            self._study.sampler = self._sampler(next(waiting, len(trials)))
            trial = self._study.ask()
            self._asked[trial.number] = trial
        try:
            experiment = self.space.sample(trial)
        except ConfigError as error:
            self.fail(trial.number, str(error))
            raise
        trial.set_user_attr("experiment", json.dumps(dump(experiment)))
        return trial.number, experiment

    def epochs_trained(self, number: int) -> int:
        """Return how many epochs of a trial are stored, those that do not select among them."""
        return self._frozen(number).user_attrs.get("epochs", 0)

    def record_epoch(
        self, number: int, epoch: int, selecting_epoch: int | None, scores: Mapping[str, float]
    ) -> None:
        """Store an epoch of a trial, from 1, and its scores if it is the N-th that selects."""
        if selecting_epoch is not None:
            self._asked[number].set_user_attr(f"epoch-{selecting_epoch}", dict(scores))
        self._asked[number].set_user_attr("epochs", epoch)

    def epochs(self, number: int) -> dict[int, dict[str, float]]:
        """Return the stored scores of a trial's epochs that select."""
        attributes = self._frozen(number).user_attrs
        return {
            int(key.removeprefix("epoch-")): value
            for key, value in attributes.items()
            if key.startswith("epoch-")
        }

    def selected_scores(self, number: int) -> dict[str, float] | None:
        """Return the scores of a trial's best epoch (least `against_gray`), if it has any.

        It is the epoch of the best checkpoint; one whose score is not a number is never that.
        """
        epochs = [s for s in self.epochs(number).values() if math.isfinite(s["against_gray"])]
        return min(epochs, key=lambda scores: scores["against_gray"], default=None)

    @property
    def gray(self) -> dict[str, float]:
        """Leave-gray's scores on the validation pictures; empty before the first epoch."""
        return self._study.user_attrs.get("gray", {})

    @gray.setter
    def gray(self, scores: Mapping[str, float]) -> None:
        self._study.set_user_attr("gray", dict(scores))

    def experiment(self, number: int) -> Experiment:
        """Return the experiment of a trial."""
        stored = self._frozen(number).user_attrs["experiment"]
        return parse(Experiment, json.loads(stored), f"trial {number}")

    def parameters(self, number: int) -> dict[str, Any]:
        """Return what was drawn for a trial."""
        return self._frozen(number).params

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def past_scores(self, name: str) -> list[tuple[int, int, float]]:
        """List (trial, epoch, score) of all epochs so far, in the order of the trials."""
        return [
            (trial.number, epoch, scores[name])
            for trial in self.trials()
            for epoch, scores in sorted(self.epochs(trial.number).items())
        ]

    def complete(self, number: int) -> str | None:
        """Tell that a trial was trained to its end; return why it counts as failed, if it does.

        Optuna itself would turn a NaN among the objective's values silently into a failure.
        """
        scores = self.selected_scores(number)
        if scores is None:
            refusal = "it ended without an epoch whose score is a number"
        elif bad := [n for n in self.objective if not math.isfinite(scores.get(n, math.nan))]:
            refusal = f"not a number in its best epoch: {', '.join(bad)}"
        else:
            self._study.tell(number, [scores[name] for name in self.objective])
            return None
        self.fail(number, refusal)
        return refusal

    def prune(self, number: int, reason: str) -> None:
        """Tell that a trial was stopped early."""
        self._asked[number].set_user_attr("reason", reason)
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """Tell that a trial failed, and why."""
        self._asked[number].set_user_attr("reason", reason)
        self._study.tell(number, state=TrialState.FAIL)
