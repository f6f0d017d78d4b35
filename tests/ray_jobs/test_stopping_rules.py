import math
import random

import pytest

from colorization.config import parse
from search_config import SearchConfig
from stopping_rules import (
    AshaConfig,
    Brackets,
    HyperbandConfig,
    MedianConfig,
    MedianRule,
    NoneConfig,
    Rungs,
    Scheduler,
    StoppingRules,
)

SCHEDULERS = [
    AshaConfig(grace_period=1, reduction_factor=2),
    MedianConfig(grace_period=2, least_trials=2),
    HyperbandConfig(grace_period=1, reduction_factor=2, brackets=3),
    NoneConfig(),
]


def name(scheduler: Scheduler) -> str:
    return scheduler.name


def scheduler_of(data: dict[str, object]) -> Scheduler:
    return parse(SearchConfig, {"scheduler": data}).scheduler


def curves(trials: int, epochs: int, seed: int = 0) -> list[tuple[int, int, float]]:
    """What trials one at a time would record: noisy scores that fall to ends of their own."""
    draw = random.Random(seed)
    return [
        (number, epoch, end + 1 / epoch + draw.gauss(0, 0.1))
        for number, end in enumerate(draw.random() for _ in range(trials))
        for epoch in range(1, epochs + 1)
    ]


def record(rules: StoppingRules, entries: list[tuple[int, int, float]]) -> list[str | None]:
    return [rules.record(*entry) for entry in entries]


def rungs_of_scores(epoch: int, scores: list[float], factor: int = 3) -> Rungs:
    rungs = Rungs(grace_period=2, reduction_factor=factor)
    for number, score in enumerate(scores):
        rungs.record(number, epoch, score)
    return rungs


def median_of_curves(*scores: list[float], grace: int = 2, least: int = 3) -> MedianRule:
    rule = MedianRule(grace, least)
    for number, curve in enumerate(scores):
        for epoch, score in enumerate(curve, start=1):
            rule.record(number, epoch, score)
    return rule


# --- all rules


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=name)
def test_rules_rebuilt_in_another_order_decide_like_those_that_saw_the_scores_come(scheduler):
    came, to_come = curves(12, 8), [(n + 12, e, s) for n, e, s in curves(12, 8, seed=1)]
    live, rebuilt = scheduler.build(), scheduler.build()
    record(live, came)
    shuffled = random.Random(2).sample(came, len(came))
    record(rebuilt, shuffled)
    decisions = record(live, to_come)
    assert record(rebuilt, to_come) == decisions
    assert any(decisions) == (scheduler.name != "none")


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=name)
def test_an_epoch_that_is_repeated_after_a_restart_is_decided_as_it_was(scheduler):
    came = curves(12, 8)
    rules = scheduler.build()
    decisions = record(rules, came)
    assert record(rules, came) == decisions
    rebuilt = scheduler.build()
    record(rebuilt, came)
    assert record(rebuilt, came) == decisions


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=name)
def test_a_repeated_epoch_changes_nothing_for_others(scheduler):
    once, twice = scheduler.build(), scheduler.build()
    for entry in curves(12, 8):
        assert once.record(*entry) == twice.record(*entry)
        twice.record(*entry)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=name)
def test_scores_of_an_earlier_session_count_but_stop_nobody_who_was_let_on(scheduler):
    came, to_come = curves(12, 8), [(n + 12, e, s) for n, e, s in curves(12, 8, seed=1)]
    live, rebuilt = scheduler.build(), scheduler.build()
    record(live, came)
    for entry in came:
        rebuilt.remember(*entry)
    assert not any(record(rebuilt, came))
    assert record(rebuilt, to_come) == record(live, to_come)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=name)
def test_nobody_is_stopped_in_the_grace_period(scheduler):
    longer = parse(type(scheduler), {**scheduler.model_dump(), **late(scheduler)})
    assert not any(record(longer.build(), curves(12, 8)))


def late(scheduler: Scheduler) -> dict[str, int]:
    return {} if isinstance(scheduler, NoneConfig) else {"grace_period": 9}


@pytest.mark.parametrize("scheduler", SCHEDULERS[:2], ids=name)
def test_a_score_that_is_not_a_number_stops_its_trial_and_no_better_one(scheduler):
    rules = scheduler.build()
    record(rules, [(number, epoch, 0.5) for number in range(3) for epoch in (1, 2)])
    rules.record(3, 1, math.nan)
    assert rules.record(3, 2, math.nan) is not None
    assert not any(record(rules, [(4, 1, 0.5), (4, 2, 0.5)]))


def test_one_setting_of_the_default_scheduler_may_be_changed_alone():
    assert scheduler_of({"grace_period": 8}) == AshaConfig(grace_period=8)


def test_another_scheduler_is_taken_by_its_name():
    assert scheduler_of({"name": "median", "grace_period": 4}) == MedianConfig(grace_period=4)
    assert scheduler_of({"name": "none", "metric": "ab_mae"}) == NoneConfig(metric="ab_mae")


# --- asynchronous successive halving


def test_rungs_are_the_grace_period_times_powers_of_the_reduction_factor():
    rungs = Rungs(grace_period=2, reduction_factor=3)
    assert [epoch for epoch in range(1, 60) if rungs.is_rung(epoch)] == [2, 6, 18, 54]
    assert rungs.rungs(19) == [2, 6, 18]


def test_the_last_epoch_is_no_rung():
    assert Rungs(grace_period=2, reduction_factor=3).rungs(18) == [2, 6]


def test_the_first_trial_at_a_rung_goes_on_and_a_worse_second_is_stopped():
    rungs = Rungs(grace_period=2, reduction_factor=3)
    assert rungs.record(0, 2, 0.9) is None
    reason = rungs.record(1, 2, 0.95)
    assert reason is not None
    assert "2 epochs" in reason
    assert "place 2 of 2" in reason


def test_the_best_third_at_a_rung_goes_on():
    others = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert rungs_of_scores(2, others).record(9, 2, 0.15) is None  # the second of six
    assert rungs_of_scores(2, others).record(9, 2, 0.25) is not None  # the third


def test_between_rungs_nobody_is_stopped_however_bad():
    rungs = rungs_of_scores(2, [0.1, 0.1, 0.1])
    for epoch in (1, 3, 4, 5):
        assert rungs.record(9, epoch, 1e9) is None


def test_trials_are_compared_at_the_same_rung_only():
    rungs = rungs_of_scores(2, [0.1, 0.2, 0.3])
    assert rungs.record(7, 6, 0.9) is None


def test_a_trial_that_reports_a_rung_again_after_a_crash_does_not_compete_with_itself():
    rungs = rungs_of_scores(2, [0.5])
    assert rungs.record(0, 2, 0.5) is None


# --- median stopping


def test_a_trial_worse_than_the_median_of_the_others_averages_is_stopped():
    rule = median_of_curves([0.8, 0.4], [0.9, 0.5], [1.0, 0.6])  # averages 0.6, 0.7, 0.8
    rule.record(3, 1, 0.9)
    reason = rule.record(3, 2, 0.71)
    assert reason is not None
    assert "2 epochs" in reason
    assert "0.71, worse than 0.7" in reason
    rule.record(4, 1, 0.9)
    assert rule.record(4, 2, 0.69) is None


def test_the_best_score_so_far_counts_and_not_the_last():
    rule = median_of_curves([0.7, 0.7], [0.7, 0.7], [0.7, 0.7])
    rule.record(3, 1, 0.6)
    assert rule.record(3, 2, 5.0) is None


def test_averages_of_others_end_at_the_same_epoch():
    rule = median_of_curves(*[[1.0, 1.0, 0.0, 0.0]] * 3)
    rule.record(3, 1, 0.9)
    assert rule.record(3, 2, 0.9) is None  # 1.0 on average by then, and 0.5 in the end


def test_others_count_only_if_they_have_come_that_far():
    rule = median_of_curves([0.1, 0.1], [0.1, 0.1], [0.1])
    assert rule.record(3, 2, 0.9) is None
    rule.record(2, 2, 0.1)
    assert rule.record(4, 2, 0.9) is not None


def test_median_stopping_judges_every_epoch_from_the_grace_period_on():
    rule = median_of_curves(*[[0.1] * 5] * 3, grace=3)
    assert [bool(rule.record(3, epoch, 0.9)) for epoch in range(1, 6)] == [False] * 2 + [True] * 3
    assert rule.rungs(6) == [3]
    assert rule.rungs(3) == []


# --- Hyperband


def test_brackets_begin_each_a_reduction_factor_later():
    brackets = Brackets(grace_period=2, reduction_factor=3, brackets=3)
    first = [next(n for n in range(100) if brackets.bracket(n) == b) for b in range(3)]
    for bracket, number in enumerate(first):
        others = [n for n in range(200, 400) if brackets.bracket(n) == bracket][:5]
        for epoch in range(1, 19):
            record(brackets, [(other, epoch, 0.1) for other in others])
        stops = [epoch for epoch in range(1, 19) if brackets.record(number, epoch, 0.9)]
        assert stops[0] == 2 * 3**bracket
    assert brackets.rungs(19) == [2, 6, 18]


def test_trials_of_different_brackets_are_not_compared():
    brackets = Brackets(grace_period=2, reduction_factor=3, brackets=2)
    early, late = (
        [number for number in range(60) if brackets.bracket(number) == bracket]
        for bracket in (0, 1)
    )
    record(brackets, [(number, 6, 0.1) for number in early])
    assert brackets.record(late[0], 6, 0.9) is None
    reason = brackets.record(late[1], 6, 0.95)
    assert reason is not None
    assert "place 2 of 2" in reason
    assert "bracket 1" in reason


@pytest.mark.parametrize("trials", [13, 300])
def test_every_bracket_gets_the_share_of_trials_that_makes_compute_equal(trials: int):
    brackets = Brackets(grace_period=1, reduction_factor=3, brackets=3)
    drawn = [brackets.bracket(number) for number in range(trials)]
    # A trial with s halvings before the last rung takes (s + 1) / 3^s of a whole one's epochs.
    weights = [9 / 3, 3 / 2, 1]
    for bracket, weight in enumerate(weights):
        assert drawn.count(bracket) == pytest.approx(trials * weight / sum(weights), abs=2)


def test_a_trials_bracket_hangs_on_its_number_alone():
    one, other = (Brackets(2, 3, 4) for _ in range(2))
    drawn = {number: one.bracket(number) for number in range(50)}
    assert {number: other.bracket(number) for number in reversed(range(50))} == drawn
    assert set(drawn.values()) == {0, 1, 2, 3}
