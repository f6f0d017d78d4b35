import pytest

from winner import Candidate, choose, knee, pareto_front, ranking

BOTH = {"ab_mae": "min", "ab_jsd": "min"}
MIN_MIN = ["min", "min"]


def test_the_front_leaves_out_what_another_trial_beats_or_equals_in_everything():
    good, other, beaten, equalled = (
        Candidate(0, (0.10, 0.50)),
        Candidate(1, (0.20, 0.30)),
        Candidate(2, (0.20, 0.60)),
        Candidate(3, (0.20, 0.50)),
    )
    assert pareto_front([beaten, good, equalled, other], MIN_MIN) == [good, other]


def test_two_equal_trials_both_stay_on_the_front_and_the_earlier_one_wins():
    twins = [Candidate(5, (0.1, 0.2)), Candidate(2, (0.1, 0.2))]
    assert pareto_front(twins, MIN_MIN) == twins
    assert knee(twins, MIN_MIN).number == 2


def test_a_maximized_score_is_better_when_it_is_larger():
    sharp, soft = Candidate(0, (30.0,)), Candidate(1, (20.0,))
    assert pareto_front([soft, sharp], ["max"]) == [sharp]
    assert choose([soft, sharp], {"psnr": "max"}, {"psnr": 10.0}).winner == sharp


def test_the_knee_is_the_trial_nearest_to_the_ideal_point_and_not_an_extreme():
    front = [Candidate(0, (0.0, 1.0)), Candidate(1, (0.2, 0.2)), Candidate(2, (1.0, 0.0))]
    assert knee(front, MIN_MIN).number == 1


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_knee_does_not_depend_on_the_unit_of_a_score(unit):
    values = [(0.0, 0.9), (0.3, 0.5), (0.9, 0.0)]
    front = [Candidate(number, (a, b * unit)) for number, (a, b) in enumerate(values)]
    assert knee(front, MIN_MIN).number == 1


def test_a_score_that_is_the_same_in_all_trials_does_not_decide():
    front = [Candidate(0, (0.2, 0.7)), Candidate(1, (0.1, 0.7))]
    assert knee(front, MIN_MIN).number == 1


def test_a_trial_that_is_worse_than_leaving_gray_in_one_score_cannot_win_on_the_other():
    gray = {"ab_mae": 0.10, "ab_jsd": 0.60}
    colorful_and_wrong, modest = Candidate(0, (0.30, 0.01)), Candidate(1, (0.09, 0.59))
    assert choose([colorful_and_wrong, modest], BOTH, gray).winner == modest


def test_where_no_trial_beats_leaving_gray_the_knee_of_all_wins():
    candidates = [Candidate(0, (0.30, 0.90)), Candidate(1, (0.20, 0.80))]
    assert choose(candidates, BOTH, {"ab_mae": 0.1, "ab_jsd": 0.6}).winner.number == 1


def test_a_score_that_leave_gray_does_not_have_refuses_nobody():
    candidates = [Candidate(0, (0.05, 9.0)), Candidate(1, (0.09, 8.0))]
    gray = {"ab_mae": 0.1}
    assert choose(candidates, {"ab_mae": "min", "fid": "min"}, gray).winner.number == 0


WITHIN = "best ab_jsd within 10% of ab_mae"


def test_the_other_rule_takes_the_best_score_among_those_nearly_best_in_the_first():
    precise, near, colorful = (
        Candidate(0, (0.100, 0.50)),
        Candidate(1, (0.109, 0.30)),
        Candidate(2, (0.120, 0.10)),
    )
    choice = choose([precise, near, colorful], BOTH, {}, WITHIN)
    assert choice.winner == near
    assert choice.why == (
        "trial 1 has the best ab_jsd, 0.3, of the 2 trials whose ab_mae is within 10% of the best, "
        "0.1"
    )


def test_of_equals_in_the_score_the_better_in_the_anchor_wins():
    worse, better = Candidate(0, (0.109, 0.30)), Candidate(1, (0.100, 0.30))
    assert choose([worse, better], BOTH, {}, WITHIN).winner == better


def test_within_a_share_of_a_score_that_is_better_when_larger():
    objective = {"psnr": "max", "ab_jsd": "min"}
    best, near, far = Candidate(0, (30.0, 0.9)), Candidate(1, (28.0, 0.5)), Candidate(2, (20.0, 0))
    rule = "best ab_jsd within 10% of psnr"
    assert choose([best, near, far], objective, {}, rule).winner == near


def test_the_reason_names_the_front_and_its_best_values():
    front = [Candidate(0, (0.0, 1.0)), Candidate(1, (0.2, 0.2)), Candidate(2, (1.0, 0.0))]
    why = choose(front, BOTH, {}).why
    assert why.startswith("trial 1 is the knee of the Pareto front: of its 3 trials")
    assert "the others: 0, 2" in why
    assert "the best ab_mae (0) and ab_jsd (0) at once" in why


def test_the_reason_says_when_nobody_beats_gray_and_who_was_left_out_for_it():
    gray = {"ab_mae": 0.10, "ab_jsd": 0.60}
    bad, good = Candidate(0, (0.30, 0.01)), Candidate(1, (0.09, 0.59))
    assert "no trial beats leaving pictures gray" in choose([bad], BOTH, gray).why
    assert "1 trial is left out, no better than gray" in choose([bad, good], BOTH, gray).why


def test_a_ranking_is_who_would_win_without_those_before():
    front = [Candidate(0, (0.0, 1.0)), Candidate(1, (0.2, 0.2)), Candidate(2, (1.0, 0.0))]
    beaten = Candidate(3, (2.0, 2.0))
    order = [candidate.number for candidate in ranking([beaten, *front], BOTH, {})]
    assert order[0] == 1
    assert order[-1] == 3
    assert sorted(order) == [0, 1, 2, 3]


def test_of_two_trials_which_are_always_as_near_the_better_one_beside_gray_wins():
    gray = {"ab_mae": 0.09, "ab_jsd": 0.50}
    precise, colorful = Candidate(0, (0.082, 0.34)), Candidate(2, (0.085, 0.31))
    choice = choose([precise, colorful], BOTH, gray)
    assert choice.winner == colorful  # 0.94 + 0.62 against 0.91 + 0.68
    assert "as near lies 0, and the decision fell by the scores as shares of leave-gray's" in (
        choice.why
    )


def test_where_leave_gray_has_no_score_equals_are_decided_by_the_others():
    twins = [Candidate(3, (0.30, 20.0)), Candidate(5, (0.31, 25.0))]
    objective = {"fid": "min", "psnr": "max"}
    assert choose(twins, objective, {"psnr": 15.0}).winner.number == 5
