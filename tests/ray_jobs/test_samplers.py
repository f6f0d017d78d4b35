import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from colorization.config import ConfigError
from distributions import Choice
from samplers import build_sampler, check_sampler, most_trials
from space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.filterwarnings("error")  # a search's output is no place for Optuna's

CONDITIONAL = """
search: {objective: {ab_mae: min}, trials: 12, sampler: {startup_trials: 3}}
experiment:
  data: {size: 32}
  model:
    name: gan
    adversarial: !choice
      bce: {name: bce, label_smoothing: !uniform [0, 0.2]}
      lsgan: {name: lsgan}
    lambda_l1: !loguniform [1, 1000]
    generator: {name: unet, width: !logint [4, 64]}
  train: {stages: {adversarial: {turns: adversarial, epochs: 4}}}
"""
RANGES = """
search: {objective: {ab_mae: min}, trials: 12, sampler: {startup_trials: 3}}
experiment:
  data: {size: 32}
  model: {name: gan, lambda_l1: !loguniform [1, 1000], learning_rate_ratio: !uniform [1, 3]}
  train:
    batch_size: !choice [8]
    learning_rate: !loguniform [1e-5, 1e-2]
    stages: {adversarial: {turns: adversarial, epochs: 4}}
"""
BOTH = "search.objective={ab_mae: min, ab_jsd: min}"
MODEL_BASED, MODEL_FREE = ["tpe", "gp", "cma_es"], ["random", "grid", "qmc"]
EVERYWHERE = [name for name in MODEL_BASED + MODEL_FREE if name != "cma_es"]

Read = Callable[..., Space]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A function that reads a space with a sampler and overrides."""

    def read_it(text: str, sampler: str, *overrides: str) -> Space:
        file = tmp_path / "space.yaml"
        if sampler in MODEL_FREE:
            text = text.replace(", sampler: {startup_trials: 3}", "")
        named = text.replace("sampler: {", f"sampler: {{name: {sampler}, ")
        file.write_text(named)
        words = [f"search.sampler.name={sampler}"] if sampler in MODEL_FREE else []
        return Space.read(file, "gan", [*words, *overrides])

    return read_it


def draw(space: Space, seed: int, index: int, known: list[FrozenTrial]) -> FrozenTrial:
    """What a study does for its index-th trial: a sampler of its own, in a copy of the study."""
    mirror = optuna.create_study(
        sampler=build_sampler(space.search, space, seed, index),
        directions=[StudyDirection.MINIMIZE] * len(space.search.objective),
    )
    mirror.add_trials(known)
    space.sample(mirror.ask())
    return mirror.get_trials(deepcopy=False)[-1]


def ended(drawn: FrozenTrial, state: TrialState, *values: float, **others: Any) -> FrozenTrial:
    return create_trial(
        state=state,
        values=values or None,
        params=drawn.params,
        distributions=drawn.distributions,
        system_attrs=drawn.system_attrs,
        **others,
    )


def sphere(space: Space, params: Mapping[str, Any], middle: float = 0.7) -> float:
    """How far from one point of the space parameters are; each range counts as [0, 1]."""
    total = 0.0
    for name, found in space.parameters().items():
        if name in params and not isinstance(found, Choice):
            scale = math.log if found.log else float
            low, high = scale(found.low), scale(found.high)
            total += ((scale(params[name]) - low) / (high - low) - middle) ** 2
    return total


def search(space: Space, trials: int, seed: int = 0) -> list[FrozenTrial]:
    """A study whose trials end in all ways, the last of them still running."""
    known: list[FrozenTrial] = []
    for index in range(trials):
        drawn = draw(space, seed, index, known)
        scores = [sphere(space, drawn.params, goal) for goal in (0.7, 0.2)]
        match index % 6:
            case 3:
                trial = ended(drawn, TrialState.PRUNED)
            case 4:
                trial = ended(drawn, TrialState.FAIL)
            case _ if index >= trials - 2:
                trial = ended(drawn, TrialState.RUNNING)
            case _:
                values = scores[: len(space.search.objective)]
                trial = ended(drawn, TrialState.COMPLETE, *values)
        known.append(trial)
    return known


def parameters(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    return [trial.params for trial in trials]


@pytest.mark.parametrize("objectives", [(), (BOTH,)], ids=["one objective", "two objectives"])
@pytest.mark.parametrize("sampler", EVERYWHERE)
def test_a_conditional_space_is_searched(read: Read, sampler: str, objectives: tuple[str, ...]):
    space = read(CONDITIONAL, sampler, *objectives)
    check_sampler(space.search, space)
    known = search(space, 7)
    for params in parameters(known):
        assert all(space.parameters()[name].contains(value) for name, value in params.items())
        branch = params["model.adversarial"] == "bce"
        assert ("model.adversarial.bce.label_smoothing" in params) == branch
    assert {params["model.adversarial"] for params in parameters(known)} == {"bce", "lsgan"}


def test_cma_es_searches_ranges(read: Read):
    space = read(RANGES, "cma_es")
    check_sampler(space.search, space)
    for params in parameters(search(space, 9)):
        assert all(space.parameters()[name].contains(value) for name, value in params.items())


@pytest.mark.parametrize("sampler", MODEL_BASED + MODEL_FREE)
def test_a_draw_hangs_on_seed_index_and_the_trials_so_far_alone(read: Read, sampler: str):
    space = read(RANGES, sampler)
    known = search(space, 7)
    assert parameters(search(space, 7)) == parameters(known)
    drawn = draw(space, 3, 8, known).params
    assert draw(space, 3, 8, known).params == drawn
    assert draw(space, 4, 8, known).params != drawn
    assert draw(space, 3, 9, known).params != drawn


@pytest.mark.parametrize("sampler", MODEL_BASED)
def test_a_sampler_begins_to_learn_after_its_startup_trials(read: Read, sampler: str):
    space = read(RANGES, sampler)
    known = search(space, 7)
    complete = sum(trial.state == TrialState.COMPLETE for trial in known)
    tells = {"gp": complete, "cma_es": complete, "tpe": complete + 1}[sampler]  # TPE: stopped too
    by_chance, last, first = (
        read(RANGES, sampler, f"search.sampler.startup_trials={n}") for n in (99, tells + 1, tells)
    )
    drawn = draw(by_chance, 0, 7, known).params
    assert draw(last, 0, 7, known).params == drawn
    assert draw(first, 0, 7, known).params != drawn


def test_tpe_draws_nearer_than_chance(read: Read):
    space = read(RANGES, "tpe")
    late = [sphere(space, params) for params in parameters(search(space, 40)[-10:])]
    assert sum(late) / 10 < 0.2  # of independent draws 3 * (1/12 + 0.2^2) = 0.37


def test_gp_finds_a_nearer_point_than_chance(read: Read):
    space = read(RANGES, "gp")
    best = min(sphere(space, params) for params in parameters(search(space, 20)))
    assert best < 0.004  # of 20 independent draws one is that near in 2% of cases


def evolve(space: Space, trials: int, fresh: bool) -> list[FrozenTrial]:
    """Search the sphere, by a sampler of its own for each trial or by one for all."""
    one = optuna.create_study(sampler=build_sampler(space.search, space, 0, 0))
    known: list[FrozenTrial] = []
    for index in range(trials):
        if fresh:
            drawn = draw(space, 0, index, known)
        else:
            trial = one.ask()
            space.sample(trial)
            drawn = one.trials[-1]
            one.tell(trial, sphere(space, drawn.params))
        known.append(ended(drawn, TrialState.COMPLETE, sphere(space, drawn.params)))
    return known


def test_the_evolution_of_cma_es_goes_on_from_trial_to_trial(read: Read):
    space = read(RANGES, "cma_es")
    fresh, one = (evolve(space, 120, fresh=kind) for kind in (True, False))
    generations = [
        [trial.system_attrs.get("cma:generation", -1) for trial in trials]
        for trials in (fresh, one)
    ]
    assert generations[0] == generations[1]
    assert max(generations[0]) > 10
    late = [
        sorted(sphere(space, params) for params in parameters(trials[-20:]))[10]
        for trials in (fresh, one)
    ]
    assert late[0] < 10 * late[1]
    assert late[0] < 0.005  # 0.19 where the evolution begins anew with each trial


def test_a_grid_is_walked_to_its_end(read: Read):
    space = read(CONDITIONAL, "grid")
    size = most_trials(space.search, space)
    assert size == (3 + 1) * 3 * 3
    drawn = [draw(space, 0, index, []).params for index in range(size)]
    assert len({tuple(sorted(params.items())) for params in drawn}) == size


@pytest.mark.parametrize("sampler", [name for name in EVERYWHERE if name != "grid"])
def test_only_a_grid_has_an_end(read: Read, sampler: str):
    space = read(CONDITIONAL, sampler)
    assert most_trials(space.search, space) is None


def with_scores(known: list[FrozenTrial]) -> list[FrozenTrial]:
    """Give stopped trials what they were stopped by."""
    return [
        ended(trial, trial.state, intermediate_values={1: 0.9, 2: 0.8})
        if trial.state == TrialState.PRUNED
        else trial
        for trial in known
    ]


def test_tpe_takes_no_scores_of_stopped_trials_where_there_are_several_objectives(read: Read):
    space = read(CONDITIONAL, "tpe", BOTH)
    known = search(space, 8)
    draw(space, 0, 8, known)
    with pytest.raises(RuntimeError, match="single direction"):
        draw(space, 0, 8, with_scores(known))


def test_gp_does_not_mind_scores_of_stopped_trials(read: Read):
    space = read(CONDITIONAL, "gp", BOTH)
    known = search(read(CONDITIONAL, "random", BOTH), 6)
    assert draw(space, 0, 6, with_scores(known)).params == draw(space, 0, 6, known).params


# --- what a sampler cannot search


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (CONDITIONAL, [], r"model\.adversarial is !choice \[bce, lsgan\].*tpe, gp"),
        (RANGES, [BOTH], r"one score; search\.objective has ab_mae, ab_jsd"),
        (RANGES, ["model.lambda_l1=1", "train.learning_rate=1e-3"], "model.learning_rate_ratio:"),
    ],
)
def test_cma_es_is_refused_where_it_cannot_search(read: Read, text, overrides, message):
    space = read(text, "cma_es", *overrides)
    with pytest.raises(ConfigError, match=f"search.sampler.name: found cma_es.*{message}"):
        check_sampler(space.search, space)


def test_a_choice_of_one_option_is_in_nobodys_way(read: Read):
    space = read(RANGES, "cma_es")
    assert isinstance(space.parameters()["train.batch_size"], Choice)
    check_sampler(space.search, space)


def test_a_grid_that_nobody_can_walk_is_refused_with_its_size(read: Read):
    space = read(CONDITIONAL, "grid", "search.sampler.points=50")
    check_sampler(space.search, space)
    space = read(CONDITIONAL, "grid", "search.sampler.points=80")
    with pytest.raises(ConfigError, match=r"317,520 combinations.*search\.sampler\.points"):
        check_sampler(space.search, space)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.sampler.name=tep"], "sampler.name: found 'tep'; did you mean 'tpe'"),
        (["search.sampler.points=4"], "points: unknown setting; it belongs to grid"),
        (["search.sampler.multivariate=false"], "group=true needs multivariate=true"),
        (["search.sampler={name: grid, points: 1}"], "sampler.points: found 1"),
    ],
)
def test_a_wrong_setting_of_a_sampler_names_what_is_right(read: Read, overrides, message):
    with pytest.raises(ConfigError, match=message):
        read(CONDITIONAL, "tpe", *overrides)
