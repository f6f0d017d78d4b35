import math
import warnings

import pytest

from rank_agreement import disagreement_note, rank_agreement


def trained(*finals: float, length: int = 6) -> dict[int, dict[int, float]]:
    """Trials whose scores fall to their final ones, all ranks the same from the first epoch on."""
    return {
        number: {epoch: final * (1 + 1 / epoch) for epoch in range(1, length)} | {length: final}
        for number, final in enumerate(finals)
    }


def turned_at(epoch: int, *finals: float, length: int = 6) -> dict[int, dict[int, float]]:
    """Trials of which the last before an epoch are the first from it on."""
    trials = trained(*finals, length=length)
    return {
        number: {at: score if at >= epoch else 2 - score / 10 for at, score in scores.items()}
        for number, scores in trials.items()
    }


def test_ranks_that_stay_agree_wholly():
    agreements = rank_agreement(trained(0.5, 0.6, 0.7, 0.8, 0.9), [2, 4])
    assert [(a.epoch, a.trials) for a in agreements] == [(2, 5), (4, 5)]
    assert [a.correlation for a in agreements] == pytest.approx([1, 1])


def test_ranks_that_turn_round_disagree_wholly():
    (agreement,) = rank_agreement(turned_at(4, 0.5, 0.6, 0.7, 0.8, 0.9), [2])
    assert agreement.correlation == pytest.approx(-1)


def test_the_best_epoch_counts_as_final_whichever_it_is():
    trials = trained(0.5, 0.6, 0.7, 0.8, 0.9)
    overfitted = {n: scores | {6: 2 - scores[6]} for n, scores in trials.items()}
    (agreement,) = rank_agreement(overfitted, [2])
    assert agreement.correlation == pytest.approx(1)


def test_of_four_trials_nothing_is_said():
    trials = turned_at(4, 0.5, 0.6, 0.7, 0.8)
    assert rank_agreement(trials, [2]) == []
    assert disagreement_note(trials, [2]) is None


def test_trials_without_a_score_at_a_rung_are_left_out_there():
    trials = trained(0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    trials[0] = {1: 0.9, 2: 0.5}
    assert [(a.epoch, a.trials) for a in rank_agreement(trials, [2, 4])] == [(2, 6), (4, 5)]


def test_scores_that_do_not_differ_say_nothing_and_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rank_agreement(trained(0.5, 0.5, 0.5, 0.5, 0.5), [2]) == []


def test_a_score_that_is_not_a_number_ranks_last():
    trials = trained(0.5, 0.6, 0.7, 0.8, 0.9)
    trials[0][2] = math.nan
    (agreement,) = rank_agreement(trials, [2])
    assert agreement.correlation == pytest.approx(0)  # ranks 5 1 2 3 4 against 1 2 3 4 5


def test_rungs_that_predicted_the_end_need_no_note():
    assert disagreement_note(trained(0.5, 0.6, 0.7, 0.8, 0.9), [2, 4]) is None


def test_a_rung_that_misled_is_named_with_the_epoch_from_which_on_ranks_held():
    note = disagreement_note(turned_at(4, 0.5, 0.6, 0.7, 0.8, 0.9), [2])
    assert note is not None
    assert "ranks after 2 epochs" in note
    assert "-1.00 over 5 trials" in note
    assert "search.scheduler.grace_period=4" in note


def test_where_no_epoch_predicts_the_end_no_stopping_is_proposed():
    note = disagreement_note(turned_at(6, 0.5, 0.6, 0.7, 0.8, 0.9), [1, 3])
    assert note is not None
    assert "search.scheduler.name=none" in note
