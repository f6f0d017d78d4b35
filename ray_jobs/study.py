"""The Optuna study: the only truth about which trials there are and how they ended."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from cause import Failure
from colorization.config import ConfigError, dump, parse
from colorization.experiment import Experiment
from drawing import adopted, directions, draw
from past_study import (
    EPOCH,
    SPACE_FILE,
    PastStudy,
    best_scores,
    is_adopted,
    is_final,
    is_own,
    open_storage,
    scores_of,
)
from samplers import most_trials
from space import Space

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Study:
    """Asks for experiments and is told the truth about them.

    Attributes of a trial: `experiment` (JSON), `epochs` (how many it was trained), `epoch-N` (its
    scores after the N-th epoch that selects), `stop` (why it is to be stopped early, before it is),
    `reason` and `cause` (why it was stopped or failed), `seconds` (how long it ran, and how much of
    that it trained), `memory_saving`, `recipe` (whose settings it tries), `finalist_of` and `seed`
    (the trial whose settings it trains again). Of the study: `space`, `flags` (how it was started),
    `shape` (of a trial on the machines), `gray` (leave-gray's scores), `data` (hashes of the
    pictures), `seconds`, `qualified` (its finalists), `choice`. `wanted` is how many trials there
    are to be, finalists' not among them.
    """

    def __init__(self, folder: Path, name: str, space: Space, seed: int, trials: int) -> None:
        """Open or create the study kept in `folder`/optuna.journal.

        Trials that were to be stopped when their process was killed are told as stopped. Raises
        ConfigError where the study exists with another space: what was found there would mislead
        the sampler.
        """
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name, self.space = name, space
        self.objective: dict[str, str] = dict(space.search.objective)
        self._seed = seed
        self.wanted = min(trials, most_trials(space.search, space) or trials)
        self._storage = open_storage(folder)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=directions(space),
            sampler=RandomSampler(),  # is never asked: each trial is drawn by a sampler of its own
            load_if_exists=True,
        )
        before = self._study.user_attrs.get("space")
        if before not in (None, space.hash):
            raise ConfigError(f"study {name!r} in {folder} searches another space")
        # Each time: a session may change how the space is searched, and the next goes on so.
        partial = folder / f".{SPACE_FILE}"
        partial.write_text(space.to_yaml(), encoding="utf-8")
        partial.replace(folder / SPACE_FILE)
        if before is None:
            with warnings.catch_warnings():  # names of objectives, for Optuna's dashboard
                warnings.simplefilter("ignore", ExperimentalWarning)
                self._study.set_metric_names(list(self.objective))
            self._study.set_user_attr("space", space.hash)
        self._first = space.first_trials()
        for trial in self.trials(TrialState.RUNNING):
            if stop := trial.user_attrs.get("stop"):
                self.prune(trial.number, stop)
        self._left = [trial.number for trial in self.trials(TrialState.RUNNING)]

    def use_data(self, hashes: Mapping[str, str]) -> None:
        """Note by their hashes which pictures the trials use: "" the run's, else a stage's own.

        Raises ConfigError where the study was begun with others: its trials would not compare.
        """
        before: dict[str, str] = self._study.user_attrs.get("data", {})
        for stage in before.keys() & hashes.keys():
            if before[stage] != hashes[stage]:
                whose = f" of stage {stage}" if stage else ""
                raise ConfigError(
                    f"the pictures{whose} have changed since study {self.name!r} was "
                    f"begun: their hash was {before[stage]}, now it is {hashes[stage]}, so that "
                    "trials would not compare; restore them, or give this study another --name"
                )
        self._study.set_user_attr("data", dict(hashes))

    def adopt(self, past: PastStudy) -> int:
        """Take over what another study found out about experiments that this one may sample too.

        The sampler and the stopping rules know these trials; they are neither counted nor ranked
        here. A study that has trials of its own takes no more. Returns how many it has taken over.
        """
        if not self.trials():
            known = {trial.user_attrs["adopted"] for trial in self._all()}
            for trial in past.trials:
                if is_final(trial):
                    continue  # the same settings count once
                taken = adopted(self.space, past, trial)
                if taken and taken.user_attrs["adopted"] not in known:
                    self._study.add_trial(taken)
        return sum(map(is_adopted, self._all()))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """List the trials of the study's own search, of some states or all."""
        own = (trial for trial in self._all() if is_own(trial))
        return [trial for trial in own if not states or trial.state in states]

    def finals(self, *states: TrialState) -> list[FrozenTrial]:
        """List the trials that train finalists again, of some states or all."""
        found = (trial for trial in self._all() if is_final(trial))
        return [trial for trial in found if not states or trial.state in states]

    def _all(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    @property
    def remaining(self) -> int:
        """How many trials are still to be trained, unfinished ones among them."""
        return max(0, self.wanted - len(self.ended))

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials of the search that have ended."""
        return self.trials(*ENDED)

    @property
    def unasked(self) -> int:
        """How many trials `next` is still to hand out; others of the remaining ones run."""
        return max(0, self.wanted - len(self.trials())) + len(self._left)

    @property
    def left(self) -> list[int]:
        """The unfinished trials of an earlier session that were not handed out yet."""
        return list(self._left)

    def next(self) -> tuple[int, Experiment]:
        """Return the next trial: unfinished ones first, then recipes, then what is sampled.

        A trial enters the storage at once with all that was drawn for it: a process that is killed
        leaves a whole trial or none. Raises ConfigError for sampled settings that do not go
        together, after the trial was told as failed.
        """
        if self._left:
            return self.again(self._left.pop(0))
        there = self._all()
        known = [trial for trial in there if not is_final(trial)]
        index = len(known) - sum(map(is_adopted, known))
        if index < len(self._first):
            recipe, given = self._first[index]
            drawn = draw(self.space, self._seed, index, known, given, recipe)
        else:
            drawn = draw(self.space, self._seed, index, known)
        self._study.add_trial(drawn.trial)
        if drawn.experiment is None:
            raise drawn.fault or ConfigError("nothing was drawn")
        return len(there), drawn.experiment

    def again(self, number: int) -> tuple[int, Experiment]:
        """Return a trial that is to go on."""
        for key in self._frozen(number).user_attrs.keys() & {"reason", "cause"}:
            self._set(number, key, "")  # why it was interrupted, or tried again, is over
        return number, self.experiment(number)

    def add_final(self, number: int, seed: int) -> tuple[int, Experiment]:
        """Add a trial that trains the settings of trial `number` again, with another seed."""
        there = self._all()
        asked = self.experiment(number)
        experiment = asked.model_copy(
            update={"train": asked.train.model_copy(update={"seed": seed})}
        )
        again = create_trial(
            state=TrialState.RUNNING,
            params=there[number].params,
            distributions=there[number].distributions,
            user_attrs={
                "experiment": json.dumps(dump(experiment)),
                "finalist_of": number,
                "seed": seed,
            },
        )
        self._study.add_trial(again)
        return len(there), experiment

    def together(self) -> AbstractContextManager[None]:
        """Store what is told meanwhile at once at its end; what is asked meanwhile is without it.

        All of it, or after the loss of the process or of a disk its first part.
        """
        return self._storage.together()

    def epochs_trained(self, number: int) -> int:
        """Return how many epochs of a trial are stored, those that do not select among them."""
        return self._frozen(number).user_attrs.get("epochs", 0)

    def record_epoch(
        self,
        number: int,
        epoch: int,
        selecting_epoch: int | None,
        scores: Mapping[str, float],
        stop: str | None = None,
    ) -> None:
        """Store an epoch of a trial, from 1, and its scores if it is the N-th that selects.

        `stop` says why the trial is to be stopped after it. The epoch counts only once all of it is
        stored.
        """
        if selecting_epoch is not None:
            self._set(number, f"epoch-{selecting_epoch}", {**scores, EPOCH: epoch})
            self._storage.set_trial_intermediate_value(
                self._id(number), selecting_epoch, scores[self.space.search.scheduler.metric]
            )
        if stop is not None:
            self._set(number, "stop", stop)
        self._set(number, "epochs", epoch)

    def record_seconds(self, number: int, running: float, training: float) -> None:
        """Store for how long a trial has run in all, and how much of that it trained."""
        self._set(number, "seconds", {"running": running, "training": training})

    def seconds_of(self, number: int) -> tuple[float, float]:
        """Return for how long a trial has run, and how much of that it trained."""
        found = self._frozen(number).user_attrs.get("seconds", {})
        return found.get("running", 0.0), found.get("training", 0.0)

    def record_memory_saving(self, number: int, how: str) -> None:
        """Store by what means a trial that ran out of memory was made to fit."""
        if self.memory_saving(number) != how:
            self._set(number, "memory_saving", how)

    def memory_saving(self, number: int) -> str:
        """Return by what means a trial was made to fit; nothing where it did by itself."""
        return self._frozen(number).user_attrs.get("memory_saving", "")

    def epochs(self, number: int) -> dict[int, dict[str, float]]:
        """Return the stored scores of a trial's epochs that select."""
        return scores_of(self._frozen(number))

    def selected_scores(self, number: int) -> dict[str, float] | None:
        """Return the scores of a trial's best epoch (least `against_gray`), if it has any.

        It is the epoch of the best checkpoint; one whose score is not a number is never that.
        """
        return best_scores(self.epochs(number))

    @property
    def gray(self) -> dict[str, float]:
        """Leave-gray's scores on the validation pictures; empty before the first epoch."""
        return self._study.user_attrs.get("gray", {})

    @gray.setter
    def gray(self, scores: Mapping[str, float]) -> None:
        self._study.set_user_attr("gray", dict(scores))

    @property
    def qualified(self) -> list[int]:
        """The trials of the search that are trained again as finalists."""
        return self._study.user_attrs.get("qualified", [])

    @qualified.setter
    def qualified(self, numbers: Sequence[int]) -> None:
        self._study.set_user_attr("qualified", list(numbers))

    @property
    def choice(self) -> dict[str, Any]:
        """What was chosen last and why, see `chosen.Chosen`; empty before that."""
        return self._study.user_attrs.get("choice", {})

    @choice.setter
    def choice(self, choice: Mapping[str, Any]) -> None:
        self._study.set_user_attr("choice", dict(choice))

    @property
    def flags(self) -> dict[str, Any]:
        """What the command line of the study's last session said, but for the space."""
        return self._study.user_attrs.get("flags", {})

    @flags.setter
    def flags(self, flags: Mapping[str, Any]) -> None:
        self._study.set_user_attr("flags", dict(flags))

    @property
    def shape(self) -> dict[str, float]:
        """What a trial of the last session asked of the machines, see `cluster.Shape`."""
        return self._study.user_attrs.get("shape", {})

    @shape.setter
    def shape(self, shape: Mapping[str, float]) -> None:
        self._study.set_user_attr("shape", dict(shape))

    @property
    def seconds(self) -> float:
        """For how long the study was worked on."""
        return self._study.user_attrs.get("seconds", 0.0)

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._study.set_user_attr("seconds", seconds)

    def experiment(self, number: int) -> Experiment:
        """Return the experiment of a trial."""
        stored = self._frozen(number).user_attrs["experiment"]
        return parse(Experiment, json.loads(stored), f"trial {number}")

    def parameters(self, number: int) -> dict[str, Any]:
        """Return what was drawn for a trial."""
        return self._frozen(number).params

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial as Optuna has it."""
        return self._frozen(number)

    def past_scores(self, name: str) -> Iterator[tuple[int, int, float]]:
        """Yield (trial, epoch, score) of the search's epochs so far, adopted trials' too."""
        for trial in self._all():
            if is_final(trial):
                continue
            for epoch, scores in sorted(scores_of(trial).items()):
                yield trial.number, epoch, scores[name]

    def complete(self, number: int) -> Failure | None:
        """Tell that a trial was trained to its end; return why it counts as failed, if it does.

        Optuna itself would turn a NaN among the objective's values silently into a failure.
        """
        scores = self.selected_scores(number)
        if scores is None:
            reason = "it ended without an epoch whose score is a number"
        elif bad := [n for n in self.objective if not math.isfinite(scores.get(n, math.nan))]:
            reason = f"not a number in its best epoch: {', '.join(bad)}"
        else:
            self._study.tell(number, [scores[name] for name in self.objective])
            return None
        failure = Failure("diverged", reason)
        self.fail(number, failure)
        return failure

    def prune(self, number: int, reason: str) -> None:
        """Tell that a trial was stopped early."""
        self._set(number, "reason", reason)
        # Study.tell would take the last intermediate value, of another score, for the objective's.
        self._storage.set_trial_state_values(self._id(number), TrialState.PRUNED, None)

    def fail(self, number: int, failure: Failure) -> None:
        """Tell that a trial failed, and why."""
        self._set(number, "cause", failure.cause)
        self._set(number, "reason", failure.reason)
        self._study.tell(number, state=TrialState.FAIL)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._all()[number]

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
