import math

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from stopping import Rungs, StoppingRule


def rungs_of_scores(epoch: int, scores: list[float], factor: int = 3) -> Rungs:
    rungs = Rungs(grace_period=2, reduction_factor=factor)
    for number, score in enumerate(scores):
        rungs.record(number, epoch, score)
    return rungs


def decide(rule: StoppingRule, number: int, **result: float) -> str:
    trial = Trial("trainable", config={"number": number}, stub=True)
    result = {"last": False, **result}
    return rule.on_trial_result(None, trial, result)  # pyright: ignore[reportArgumentType]


def test_rungs_are_the_grace_period_times_powers_of_the_reduction_factor():
    rungs = Rungs(grace_period=2, reduction_factor=3)
    assert [epoch for epoch in range(1, 60) if rungs.is_rung(epoch)] == [2, 6, 18, 54]


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


def test_a_trial_whose_score_is_not_a_number_is_stopped():
    assert rungs_of_scores(2, [0.5]).record(1, 2, math.nan) is not None


def test_a_score_that_is_not_a_number_stops_no_better_trial():
    assert rungs_of_scores(2, [math.nan]).record(1, 2, 0.9) is None


def test_rungs_rebuilt_in_another_order_decide_like_those_that_saw_the_scores_come():
    came = [(0, 2, 0.3), (1, 2, 0.5), (0, 6, 0.2), (2, 2, 0.25), (2, 6, 0.1)]
    live, rebuilt = Rungs(2, 3), Rungs(2, 3)
    for entry in came:
        live.record(*entry)
    for entry in sorted(came):
        rebuilt.record(*entry)
    for entry in [(3, 2, 0.26), (4, 2, 0.4), (3, 6, 0.05), (5, 6, 0.3)]:
        assert live.record(*entry) == rebuilt.record(*entry)


def test_the_rule_remembers_whom_it_stopped_and_why():
    rule = StoppingRule(rungs_of_scores(2, [0.1]), "against_gray")
    stop = decide(rule, 1, **{"epoch": 3, "selecting_epoch": 2, "scores/against_gray": 0.9})
    assert stop == TrialScheduler.STOP
    assert list(rule.stopped) == [1]
    assert "place 2 of 2" in rule.stopped[1]


def test_epochs_of_a_head_start_stop_nobody():
    rule = StoppingRule(rungs_of_scores(2, [0.1]), "against_gray")
    go_on = decide(rule, 1, **{"epoch": 2, "scores/against_gray": 0.9})
    assert go_on == TrialScheduler.CONTINUE
    assert rule.stopped == {}


def test_a_trial_in_its_last_epoch_counts_as_finished_and_not_as_stopped():
    rule = StoppingRule(Rungs(4, 3), "against_gray")
    for number, score in enumerate((0.1, 0.9)):
        result = {"epoch": 4, "selecting_epoch": 4, "scores/against_gray": score, "last": True}
        assert decide(rule, number, **result) == TrialScheduler.CONTINUE
    assert rule.stopped == {}
