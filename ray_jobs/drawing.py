"""Where a study's trials come from: a sampler, a recipe, or an earlier study."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from colorization.config import ConfigError, dump
from colorization.experiment import Experiment
from past_study import PastStudy, best_scores, scores_of
from samplers import build_sampler
from space import Space

_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}


class Drawn(NamedTuple):
    """A trial to be stored: RUNNING, or FAIL where what was drawn does not go together."""

    trial: FrozenTrial
    experiment: Experiment | None
    fault: ConfigError | None  # in place of an experiment


def directions(space: Space) -> list[StudyDirection]:
    """Return which way each objective is to go."""
    return [_DIRECTIONS[direction] for direction in space.search.objective.values()]


def draw(
    space: Space,
    seed: int,
    index: int,
    known: Sequence[FrozenTrial],
    first: Mapping[str, Any] | None = None,
    recipe: str | None = None,
) -> Drawn:
    """Draw the index-th trial of a study, from 0, that knows the trials `known`.

    `first` are parameters that are given, those of `recipe` where they come from one; what is
    missing of them is sampled. A sampler writes what
    it draws into its study bit by bit: it draws into a copy in memory, so that the trial can be
    stored at once, whole or not at all.
    """
    mirror = _mirror(space, seed, index, known)
    if first is not None:
        mirror.enqueue_trial(dict(first))
    trial = mirror.ask()
    experiment = fault = None
    try:
        experiment = space.sample(trial)
        notes = {"experiment": json.dumps(dump(experiment))}
    except ConfigError as error:
        fault, notes = error, {"reason": str(error), "cause": "bad settings"}
    if recipe is not None:
        notes["recipe"] = recipe
    found = mirror.get_trials(deepcopy=False)[-1]
    stored = create_trial(
        state=TrialState.FAIL if fault else TrialState.RUNNING,
        params=found.params,
        distributions=found.distributions,
        system_attrs=found.system_attrs,
        user_attrs=notes,
    )
    return Drawn(stored, experiment, fault)


def adopted(space: Space, past: PastStudy, trial: FrozenTrial) -> FrozenTrial | None:
    """Return another study's trial as one of this space; None where it cannot be one.

    Its experiment must be one that the space may give, with a score for each objective where it was
    trained to its end.
    """
    experiment = past.experiment(trial)
    found = space.parameters_of(experiment) if experiment else None
    if found is None or trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return None
    values = None
    if trial.state == TrialState.COMPLETE:
        best = best_scores(scores_of(trial)) or {}
        values = [best.get(name, math.nan) for name in space.search.objective]
        if not all(map(math.isfinite, values)):
            return None
    drawn = draw(space, 0, 0, [], found).trial
    return create_trial(
        state=trial.state,
        values=values,
        params=drawn.params,
        distributions=drawn.distributions,
        user_attrs={**trial.user_attrs, "adopted": f"{past.name}/{trial.number}"},
        intermediate_values=trial.intermediate_values,
    )


def _mirror(space: Space, seed: int, index: int, known: Sequence[FrozenTrial]) -> optuna.Study:
    """Return a copy of the study in memory, with a sampler for this one trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it tells of each copy
    sampler = build_sampler(space.search, space, seed, index)
    mirror = optuna.create_study(directions=directions(space), sampler=sampler)
    for trial in known:
        mirror.add_trial(trial if _informs(space) else _by_best_epoch(space, trial))
    return mirror


def _informs(space: Space) -> bool:
    """Tell whether samplers may look at the intermediate values of trials that were stopped.

    They take them for values of the only objective, and smaller ones are better here.
    """
    return list(space.search.objective.values()) == ["min"]


def _by_best_epoch(space: Space, trial: FrozenTrial) -> FrozenTrial:
    """Return a trial with what it scored until it was stopped as if it had ended so.

    Of several objectives samplers know finished trials alone, and fail at intermediate values. What
    was stopped early would have become better, and still tells where not to search: most trials are
    stopped, and without them a sampler would hardly learn (benchmarks/search.py).
    """
    values, state = trial.values, trial.state
    if state == TrialState.PRUNED:
        best = best_scores(scores_of(trial)) or {}
        found = [best.get(name, math.nan) for name in space.search.objective]
        if all(map(math.isfinite, found)):
            values, state = found, TrialState.COMPLETE
    return create_trial(
        state=state,
        values=values,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
    )
