from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from stopping import StoppingRule
from stopping_rules import Rungs


def decide(rule: StoppingRule, number: int, **result: float) -> str:
    trial = Trial("trainable", config={"number": number}, stub=True)
    result = {"last": False, **result}
    return rule.on_trial_result(None, trial, result)  # pyright: ignore[reportArgumentType]


def rule_that_saw(score: float) -> StoppingRule:
    rungs = Rungs(grace_period=2, reduction_factor=3)
    rungs.record(0, 2, score)
    return StoppingRule(rungs, "against_gray")


def test_the_rule_remembers_whom_it_stopped_and_why():
    rule = rule_that_saw(0.1)
    stop = decide(rule, 1, **{"epoch": 3, "selecting_epoch": 2, "scores/against_gray": 0.9})
    assert stop == TrialScheduler.STOP
    assert list(rule.stopped) == [1]
    assert "place 2 of 2" in rule.stopped[1]


def test_epochs_of_a_head_start_stop_nobody():
    rule = rule_that_saw(0.1)
    go_on = decide(rule, 1, **{"epoch": 2, "scores/against_gray": 0.9})
    assert go_on == TrialScheduler.CONTINUE
    assert rule.stopped == {}


def test_a_trial_in_its_last_epoch_counts_as_finished_and_not_as_stopped():
    rule = rule_that_saw(0.1)
    result = {"epoch": 2, "selecting_epoch": 2, "scores/against_gray": 0.9, "last": True}
    assert decide(rule, 1, **result) == TrialScheduler.CONTINUE
    assert rule.stopped == {}


def test_others_are_compared_with_a_trial_in_its_last_epoch():
    rule = rule_that_saw(0.9)
    result = {"epoch": 2, "selecting_epoch": 2, "scores/against_gray": 0.1}
    assert decide(rule, 1, **result, last=True) == TrialScheduler.CONTINUE
    result["scores/against_gray"] = 0.5  # worse than the second, better than the first
    assert decide(rule, 2, **result) == TrialScheduler.STOP
    assert "place 2 of 3" in rule.stopped[2]


def test_the_scores_of_the_metric_it_was_given_decide():
    rule = StoppingRule(Rungs(grace_period=1, reduction_factor=2), "ab_mae")
    for number, score in enumerate((0.2, 0.3)):
        result = {"scores/against_gray": 1 - score, "scores/ab_mae": score}
        decide(rule, number, **{"epoch": 1, "selecting_epoch": 1, **result})
    assert list(rule.stopped) == [1]
