import pytest

from colorization.schedules import Constant, Cosine, Schedule, Step


def test_constant_leaves_the_learning_rate_alone() -> None:
    assert [Constant().factor(step, 10) for step in (0, 5, 9)] == [1, 1, 1]


def test_cosine_falls_from_one_over_a_half_in_the_middle_to_the_floor() -> None:
    assert Cosine().factor(0, 100) == pytest.approx(1)
    assert Cosine().factor(50, 100) == pytest.approx(0.5)
    assert Cosine().factor(100, 100) == pytest.approx(0)
    assert Cosine(floor=0.2).factor(50, 100) == pytest.approx(0.6)
    assert Cosine(floor=0.2).factor(100, 100) == pytest.approx(0.2)


def test_step_falls_by_gamma_each_time_its_share_has_passed() -> None:
    schedule = Step(every=0.25, gamma=0.1)
    found = [schedule.factor(step, 8) for step in range(8)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_step_falls_where_its_share_is_reached_in_spite_of_round_off() -> None:
    # 0.3 * 10 is 3 in arithmetic, and 3 / (0.3 * 10) is 1.0000000000000002 or 0.99... in floats
    for steps in range(1, 200):
        falls = [Step(every=0.1, gamma=0.5).factor(step, steps * 10) for step in range(steps * 10)]
        assert falls == [0.5 ** (step // steps) for step in range(steps * 10)]


@pytest.mark.parametrize(
    "schedule", [Constant(warmup_steps=4), Cosine(warmup_steps=4), Step(warmup_steps=4)]
)
def test_a_warm_up_grows_linearly_and_never_starts_at_zero(schedule: Schedule) -> None:
    found = [schedule.factor(step, 1000) for step in range(5)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_warm_up_as_long_as_the_stage_is_no_division_by_zero() -> None:
    assert Cosine(warmup_steps=5).factor(4, 5) == pytest.approx(5 / 6)
    assert Cosine(warmup_steps=0).factor(0, 1) == pytest.approx(1)
