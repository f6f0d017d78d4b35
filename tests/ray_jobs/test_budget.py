import re

import pytest

from budget import Budget, Spending, duration, parse_duration
from colorization.config import ConfigError


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1.5h", 5400), ("1d12h", 129600)],
)
def test_lengths_of_time_are_read(text: str, seconds: float):
    assert parse_duration(text, "--time-budget") == seconds


@pytest.mark.parametrize("text", ["", "2", "2 h", "h", "2x", "-1h", "1h-", "0s", "2hours"])
def test_what_is_no_length_of_time_is_refused_with_the_flag_and_an_example(text: str):
    with pytest.raises(ConfigError, match=rf"--time-budget: found {re.escape(repr(text))}"):
        parse_duration(text, "--time-budget")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4, "4 s"), (300, "5 min"), (3600, "1 h"), (12000, "3 h 20 min"), (187200, "2 d 4 h")],
)
def test_lengths_of_time_are_written_for_a_person(seconds: float, text: str):
    assert duration(seconds) == text


def test_time_is_spent_over_all_sessions():
    clock = Clock()
    spending = Spending(Budget(seconds=60), 0, seconds_before=50, clock=clock)
    clock.now += 9
    assert spending.spent() is None
    clock.now += 1
    assert spending.spent() == "the time budget of 60 s is spent"


def test_gpu_hours_are_those_of_all_workers_of_running_and_ended_trials():
    clock = Clock()
    spending = Spending(Budget(gpu_hours=3), gpus_a_trial=2, trial_seconds_before=1800, clock=clock)
    spending.trial_started(0)
    clock.now += 1800
    spending.trial_started(1)
    spending.trial_ended(0)
    assert spending.gpu_hours == pytest.approx(2)
    assert spending.spent() is None
    clock.now += 1800
    assert spending.trial_seconds(1) == 1800
    assert spending.spent() == "the budget of 3 GPU-hours is spent"


def test_without_limits_nothing_is_ever_spent():
    clock = Clock()
    spending = Spending(Budget(), 8, clock=clock)
    spending.trial_started(0)
    clock.now += 1e9
    assert spending.spent() is None


def test_the_forecast_says_what_is_left_and_which_limit_comes_before():
    spending = Spending(Budget(seconds=3600, gpu_hours=100), gpus_a_trial=1, clock=Clock())
    said = spending.forecast(seconds_a_trial=600, trials_left=20, at_once=2)
    assert "20 more trials at 10 min each, 2 at once, take about 1 h 40 min" in said
    assert "3.33 GPU-hours" in said
    assert said.endswith("the time budget of 1 h will be spent before")
    assert "before" not in Spending(Budget(), 0, clock=Clock()).forecast(600, 20, 2)


def test_a_search_may_be_given_a_share_of_the_budget():
    clock = Clock()
    spending = Spending(Budget(seconds=60), 0, seconds_before=44, clock=clock)
    assert spending.spent(0.75) is None
    clock.now += 1
    assert spending.spent(0.75) == "the search's share of 75% of the time budget of 60 s is spent"
    assert spending.spent() is None
