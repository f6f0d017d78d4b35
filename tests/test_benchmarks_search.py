"""The benchmark of the search: what it simulates and how it measures."""

from pathlib import Path

import pytest

from colorization.config import ConfigError
from search_simulation import simulate
from search_surfaces import Scores, SyntheticSurface, TableSurface, hypervolume
from search_tables import Point, Table, read_space
from space import Space

BUDGET = 5 * 27


def test_hypervolume_is_the_area_that_points_dominate():
    reference = Scores(4, 4)
    assert hypervolume([], reference) == 0
    assert hypervolume([Scores(1, 3), Scores(3, 1)], reference) == 5
    assert hypervolume([Scores(1, 3), Scores(3, 1), Scores(3, 3)], reference) == 5  # dominated
    assert hypervolume([Scores(0, 5), Scores(5, 0), Scores(4, 4)], reference) == 0  # beyond it


@pytest.mark.parametrize("crossing", [False, True])
def test_the_synthetic_surface_rewards_its_best_settings(crossing):
    surface = SyntheticSurface(crossing)
    best = {
        "model.adversarial": "wasserstein",
        "model.adversarial.wasserstein.gradient_penalty": 0.1 * 1000**0.526,
        "model.discriminator_steps": 4,
        "model.lambda_l1": 1.0,
        "train.learning_rate": 1e-5 * 1000**0.7,
    }
    found = surface.curve(best, "0")[-1]
    assert found["ab_mae"] == pytest.approx(0.090, rel=0.1)
    assert found["ab_jsd"] == pytest.approx(0.15, rel=0.15)
    assert surface.curve(best, "0") == surface.curve(best, "0") != surface.curve(best, "1")
    worse = surface.curve({**best, "train.learning_rate": 1e-5}, "0")[-1]
    assert worse["against_gray"] > found["against_gray"]
    assert len(surface.curve({**best, "train.learning_rate": 1e-2}, "0")) == 2  # it diverges


@pytest.mark.parametrize("workers", [1, 4])
def test_stopping_early_tries_more_settings_at_equal_compute(workers):
    surface = SyntheticSurface(crossing=False)
    random = ["search.sampler.name=random"]
    stopped = Space.read(Path(surface.space.origin), None, random)
    unstopped = Space.read(
        Path(surface.space.origin), None, [*random, "search.scheduler.name=none"]
    )
    early = simulate(surface, stopped, 0, BUDGET, workers)
    whole = simulate(surface, unstopped, 0, BUDGET, workers)
    assert whole.complete <= 5 < early.begun
    assert whole.begun < early.begun
    assert all(spent <= BUDGET for spent, _ in [*early.steps, *whole.steps])
    assert early == simulate(surface, stopped, 0, BUDGET, workers)


def test_a_trial_takes_the_curve_of_the_nearest_point_in_logarithms(tmp_path):
    space = read_space("gan")
    curves = [[{"ab_mae": x, "ab_jsd": x, "against_gray": x}] * 9 for x in (0.1, 0.2)]
    table = Table(
        space.to_yaml(),
        "sample",
        {"ab_mae": 0.3, "ab_jsd": 0.3},
        [
            Point({"model.lambda_l1": 10.0, "train.learning_rate": 1e-3}, curves[0]),
            Point({"model.lambda_l1": 1000.0, "train.learning_rate": 1e-3}, curves[1]),
        ],
    )
    table.write(tmp_path / "gan.json")
    read = Table.read(tmp_path / "gan.json", space.to_yaml(), "sample")
    assert read == table
    surface = TableSurface("gan", space, read)
    at = {"train.learning_rate": 1e-3}
    assert surface.curve({**at, "model.lambda_l1": 90.0}, "") == curves[0]
    assert surface.curve({**at, "model.lambda_l1": 110.0}, "") == curves[1]
    assert surface.share([Scores(0.1, 0.1)]) == pytest.approx(1)
    with pytest.raises(ConfigError, match="other photographs"):
        Table.read(tmp_path / "gan.json", space.to_yaml(), "/photos")
