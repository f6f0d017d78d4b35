from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from designs import grid_point, grid_size, sobol_point
from space import Space

Read = Callable[..., Space]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A function that reads a GAN's space from the lines of its model part."""

    def read_it(*lines: str) -> Space:
        file = tmp_path / "space.yaml"
        model = "".join(f"    {line}\n" for line in ("name: gan", *lines))
        file.write_text(f"experiment:\n  model:\n{model}")
        return Space.read(file, "gan")

    return read_it


def grid(space: Space, points: int, seed: int = 0) -> list[dict[str, Any]]:
    return [grid_point(space, points, seed, i) for i in range(grid_size(space, points))]


def values(points: list[dict[str, Any]], name: str) -> list[Any]:
    return sorted({point[name] for point in points if name in point})


# --- grid


def test_a_range_gives_its_ends_and_values_evenly_between(read: Read):
    points = grid(read("learning_rate_ratio: !uniform [1, 3]"), 5)
    found = values(points, "model.learning_rate_ratio")
    assert found == pytest.approx([1, 1.5, 2, 2.5, 3])
    assert (found[0], found[-1]) == (1.0, 3.0)


def test_a_log_range_is_divided_in_its_logarithm(read: Read):
    points = grid(read("lambda_l1: !loguniform [1, 1000]"), 4)
    assert values(points, "model.lambda_l1") == pytest.approx([1, 10, 100, 1000])


def test_whole_numbers_that_fall_together_count_once(read: Read):
    space = read("discriminator_steps: !int [1, 3]", "generator_every: !logint [1, 16]")
    points = grid(space, 5)
    assert values(points, "model.discriminator_steps") == [1, 2, 3]
    assert values(points, "model.generator_every") == [1, 2, 4, 8, 16]
    assert len(points) == 3 * 5
    assert all(type(value) is int for point in points for value in point.values())


CONDITIONAL = (
    "lambda_l1: !loguniform [1, 100]",
    "adversarial: !choice",
    "  bce: {name: bce, label_smoothing: !uniform [0, 0.2]}",
    "  lsgan: {name: lsgan}",
    "  hinge: {name: hinge, margin: !uniform [0.5, 1]}",
    "generator: !choice",
    "  - {name: unet, width: !logint [4, 16], normalization: !choice [batch, group]}",
    "  - {name: resnet_unet}",
)


def test_settings_of_a_branch_are_combined_within_that_branch_only(read: Read):
    points = grid(read(*CONDITIONAL), 3)
    assert len(points) == 3 * (3 + 1 + 3) * (3 * 2 + 1)
    for point in points:
        assert ("model.adversarial.bce.label_smoothing" in point) == (
            point["model.adversarial"] == "bce"
        )
        assert ("model.generator.unet.width" in point) == (point["model.generator"] == "unet")


def test_a_grid_visits_every_combination_once(read: Read):
    points = grid(read(*CONDITIONAL), 3)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points) == 147


def test_past_its_last_combination_a_grid_begins_again(read: Read):
    space = read(*CONDITIONAL)
    assert grid_point(space, 3, 5, 147 + 4) == grid_point(space, 3, 5, 4)


def test_the_seed_shuffles_a_grid_and_a_part_of_it_holds_every_option(read: Read):
    space = read(*CONDITIONAL)
    one, other = grid(space, 3), grid(space, 3, seed=1)
    assert one != other
    assert all(point in other for point in one)
    for part in (one[:30], other[:30]):
        assert values(part, "model.adversarial") == ["bce", "hinge", "lsgan"]
        assert values(part, "model.generator") == ["resnet_unet", "unet"]
        assert len(values(part, "model.lambda_l1")) == 3


def test_points_do_not_hang_on_the_order_in_the_file(read: Read):
    one = read(*CONDITIONAL)
    other = read(*CONDITIONAL[5:], *CONDITIONAL[:2], *reversed(CONDITIONAL[2:5]))
    assert list(one.parameters()) != list(other.parameters())
    assert grid(one, 3) == grid(other, 3)
    assert sobol_point(one, 0, 7) == sobol_point(other, 0, 7)


def test_without_distributions_there_is_one_point(read: Read):
    space = read("lambda_l1: 10")
    assert grid(space, 3) == [{}]
    assert sobol_point(space, 0, 3) == {}


# --- Sobol sequence


def test_a_sobol_sequence_fills_ranges_more_evenly_than_random_draws(read: Read):
    ranges = ("learning_rate_ratio", "lambda_l1")
    space = read(*(f"{name}: !uniform [1, 2]" for name in ranges))
    for seed in range(3):
        points = [sobol_point(space, seed, index) for index in range(50)]
        shares = np.array([[point[f"model.{name}"] - 1 for name in ranges] for point in points])
        drawn = np.random.default_rng(seed).random(shares.shape)
        assert qmc.discrepancy(shares) < qmc.discrepancy(drawn) / 2


def test_a_sobol_sequence_takes_options_and_whole_numbers_equally_often(read: Read):
    space = read(
        "discriminator_steps: !int [1, 8]",
        "generator: {name: unet, normalization: !choice [batch, group, instance, none]}",
    )
    points = [sobol_point(space, 3, index) for index in range(64)]
    steps = Counter(point["model.discriminator_steps"] for point in points)
    kinds = Counter(point["model.generator.normalization"] for point in points)
    assert steps == dict.fromkeys(range(1, 9), 8)
    assert kinds == dict.fromkeys(["batch", "group", "instance", "none"], 16)


def test_a_sobol_sequence_is_even_in_the_logarithm_of_a_log_range(read: Read):
    space = read("lambda_l1: !loguniform [1, 10000]", "generator_every: !logint [1, 16]")
    points = [sobol_point(space, 0, index) for index in range(64)]
    decades = Counter(int(np.log10(point["model.lambda_l1"])) for point in points)
    assert decades == dict.fromkeys(range(4), 16)
    assert [point["model.generator_every"] for point in points].count(1) > 64 / 16 * 2


def test_a_sobol_point_has_the_settings_of_every_branch(read: Read):
    space = read(*CONDITIONAL)
    point = sobol_point(space, 0, 0)
    assert point.keys() == space.parameters().keys()
    for name, distribution in space.parameters().items():
        assert distribution.contains(point[name])


def test_the_seed_scrambles_a_sobol_sequence(read: Read):
    space = read(*CONDITIONAL)
    assert sobol_point(space, 0, 9) == sobol_point(space, 0, 9)
    assert sobol_point(space, 0, 9) != sobol_point(space, 1, 9)
