import pytest

from winner import Candidate, knee, pareto_front, winner

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
    assert winner([soft, sharp], {"psnr": "max"}, {"psnr": 10.0}) == sharp


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
    assert winner([colorful_and_wrong, modest], BOTH, gray) == modest


def test_where_no_trial_beats_leaving_gray_the_knee_of_all_wins():
    candidates = [Candidate(0, (0.30, 0.90)), Candidate(1, (0.20, 0.80))]
    assert winner(candidates, BOTH, {"ab_mae": 0.1, "ab_jsd": 0.6}).number == 1


def test_a_score_that_leave_gray_does_not_have_refuses_nobody():
    candidates = [Candidate(0, (0.05, 9.0)), Candidate(1, (0.09, 8.0))]
    gray = {"ab_mae": 0.1}
    assert winner(candidates, {"ab_mae": "min", "fid": "min"}, gray).number == 0
