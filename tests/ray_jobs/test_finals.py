"""Finalists: who they are, what they are trained with, and what their scores tell."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console

from cause import Failure
from chosen import chosen
from finals import Finalist, FinalRound, best_recipe, compare, finalists, inseparable, qualified
from finals_table import finals_table
from past_study import PastStudy
from space import Space
from study import Study

SPACE = """
search:
  first_trials: [resnet_gan]
experiment:
  data: {source: {name: sample, crops: 16, scoring_crops: 8}, size: 32}
  model:
    name: gan
    generator: {name: unet, width: !logint [4, 64]}
    discriminator: {name: patch, width: 4, layers: 1}
    lambda_l1: !loguniform [1, 1000]
  train:
    batch_size: 8
    seed: 5
    stages:
      adversarial: {turns: adversarial, epochs: 4}
"""
GRAY = {"ab_mae": 0.2, "ab_jsd": 0.9}

Open = Callable[[], Study]


@pytest.fixture
def open_study(tmp_path: Path) -> Open:
    """A function that opens a study of one folder, as each start of a command does."""
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)

    def open_it() -> Study:
        study = Study(tmp_path / "studies" / "gan-1", "gan-1", Space.read(file, "gan"), 0, 4)
        study.gray = GRAY
        return study

    return open_it


@pytest.fixture
def searched(open_study: Open) -> Study:
    """A study whose four trials have ended; by the rule the best is 2, then 1, 3 and the recipe."""
    study = open_study()
    for values in ((0.19, 0.80), (0.12, 0.50), (0.10, 0.40), (0.15, 0.60)):
        end(study, study.next()[0], values)
    return study


def end(study: Study, number: int, values: tuple[float, float]) -> None:
    """Tell that a trial was trained to its end."""
    mae, jsd = values
    scores = {"against_gray": (mae / 0.2 + jsd / 0.9) / 2, "ab_mae": mae, "ab_jsd": jsd}
    study.record_epoch(number, 1, 1, scores)
    assert study.complete(number) is None


def train(study: Study, numbers: Sequence[int], seeds: int, values: dict[int, list[float]]) -> None:
    """Train finalists: `values` has a trial's ab_mae for each seed; NaN stands for a failure."""
    study.qualified = numbers
    final = FinalRound(study, numbers, seeds)
    while final.unasked:
        run, experiment = final.next()
        of = study.trial(run).user_attrs["finalist_of"]
        mae = values[of][experiment.train.seed - 6]
        if math.isnan(mae):
            study.fail(run, Failure("diverged", "planted"))
        else:
            end(study, run, (mae, 4 * mae))


def winner_of(study: Study) -> int:
    choice = chosen(study)
    assert choice is not None
    return choice.winner


def test_the_best_trials_qualify_and_the_best_recipe_beside_them(searched: Study):
    assert qualified(searched, 2) == [2, 1, 0]
    assert qualified(searched, 4) == [2, 1, 3, 0]
    assert searched.trial(0).user_attrs["recipe"] == "resnet_gan"


def test_a_recipe_that_was_stopped_early_qualifies_where_none_was_finished(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, 1, {"against_gray": 0.9, "ab_mae": 0.19, "ab_jsd": 0.8})
    study.prune(0, "place 3 of 3")
    end(study, study.next()[0], (0.1, 0.4))
    assert best_recipe(study, study.trials()) == 0
    assert qualified(study, 1) == [1, 0]


def test_each_finalist_is_trained_with_the_same_fresh_seeds_seed_by_seed(searched: Study):
    final = FinalRound(searched, [2, 1], 3)
    asked = [final.next() for _ in range(final.unasked)]
    plan = [(searched.trial(n).user_attrs["finalist_of"], e.train.seed) for n, e in asked]
    assert plan == [(2, 6), (1, 6), (2, 7), (1, 7), (2, 8), (1, 8)]
    assert [number for number, _ in asked] == [4, 5, 6, 7, 8, 9]
    before = searched.experiment(2).model_dump()
    again = asked[0][1].model_dump()
    assert before["train"].pop("seed") == 5
    assert again["train"].pop("seed") == 6
    assert again == before


def test_finalists_are_no_trials_of_the_search(searched: Study, open_study: Open):
    train(searched, [2, 1], 2, {2: [0.11, 0.12], 1: [0.10, 0.11]})
    again = open_study()
    assert [trial.number for trial in again.trials()] == [0, 1, 2, 3]
    assert [trial.number for trial in again.finals()] == [4, 5, 6, 7]
    assert again.remaining == again.unasked == 0
    assert len(list(again.past_scores("ab_mae"))) == 4


def test_a_search_that_is_made_longer_after_its_finals_draws_what_it_would_have(
    searched: Study, open_study: Open, tmp_path: Path
):
    train(searched, [2], 1, {2: [0.1]})
    longer = Study(tmp_path / "studies" / "gan-1", "gan-1", searched.space, 0, 5)
    number, drawn = longer.next()
    assert number == 5  # behind the finalist's run, whose number is 4
    (tmp_path / "studies" / "gan-1").rename(tmp_path / "studies" / "moved")
    straight = open_study()
    for values in ((0.19, 0.80), (0.12, 0.50), (0.10, 0.40), (0.15, 0.60)):
        end(straight, straight.next()[0], values)
    straight.wanted = 5
    assert straight.next()[1] == drawn


def test_finals_that_were_interrupted_go_on_where_they_were(searched: Study, open_study: Open):
    final = FinalRound(searched, [2, 1], 2)
    end(searched, final.next()[0], (0.1, 0.4))
    left = final.next()
    again = FinalRound(open_study(), [2, 1], 2)
    assert (again.remaining, again.unasked, again.left) == (3, 3, [5])
    assert again.next() == left
    assert again.next()[0] == 6


def test_a_study_that_begins_from_another_takes_no_finalists_over(searched: Study, tmp_path: Path):
    train(searched, [2], 2, {2: [0.1, 0.1]})
    past = PastStudy.find(tmp_path, "gan-1")
    assert past is not None
    assert past.progress == "4 trials ended, 0 unfinished"
    other = Study(tmp_path / "studies" / "gan-2", "gan-2", searched.space, 0, 4)
    assert other.adopt(past) == 4


def test_the_winner_is_chosen_on_the_means_over_seeds_and_its_best_run_registered(searched: Study):
    train(searched, [2, 1], 3, {2: [0.140, 0.141, 0.1395], 1: [0.120, 0.121, 0.119]})
    choice = chosen(searched)
    assert choice is not None
    assert choice.winner == 1
    assert choice.ranking == [1, 2]
    assert searched.trial(choice.run).user_attrs["seed"] == 8
    assert choice.why == "trial 1, by means over 3 seeds, is the best in ab_mae and ab_jsd at once"


def test_without_finalists_the_search_itself_decides(searched: Study):
    choice = chosen(searched)
    assert choice is not None
    assert (choice.winner, choice.run, choice.ranking) == (2, 2, [2, 1, 3, 0])


def test_finalists_that_differ_less_than_their_seeds_are_said_to_be_inseparable(searched: Study):
    train(searched, [2, 1, 3], 3, {2: [0.1, 0.12, 0.11], 1: [0.12, 0.1, 0.115], 3: [0.16] * 3})
    first, second, third = finalists(searched)
    assert (first.number, second.number, third.number) == (2, 1, 3)
    assert inseparable(searched, first, second)
    assert not inseparable(searched, first, third)
    choice = chosen(searched)
    assert choice is not None
    assert choice.why.endswith("it cannot be told apart from trial 1")
    console = Console(width=140)
    with console.capture() as capture:
        console.print(finals_table(searched, [first, second, third]))
    text = capture.get()
    assert "0.1100 ± 0.0100" in text
    assert "cannot be told apart" in text
    assert "trial 3 against 2: ab_mae +0.0500 (95%: +0.0252 to +0.0748)" in text


def test_pairs_of_one_seed_tell_apart_what_varies_more_from_seed_to_seed():
    def finalist(number: int, values: list[float]) -> Finalist:
        return Finalist(number, {}, {s: {"ab_mae": v} for s, v in enumerate(values)}, 0)

    noisy = [0.10, 0.14, 0.18]
    better = finalist(0, noisy)
    worse = finalist(1, [0.1101, 0.1500, 0.1899])
    found = compare(worse, better, "ab_mae")
    assert found.difference == pytest.approx(0.01)
    assert found.tells_apart
    assert better.deviation("ab_mae") > 0.03  # far more than the difference


def test_one_seed_tells_nothing_apart(searched: Study):
    train(searched, [2, 1], 1, {2: [0.1], 1: [0.19]})
    first, second = finalists(searched)
    assert math.isnan(first.deviation("ab_mae"))
    assert not compare(second, first, "ab_mae").tells_apart


def test_a_finalist_one_of_whose_runs_failed_comes_behind_those_that_train_each_time(
    searched: Study,
):
    train(searched, [2, 1], 2, {2: [0.09, math.nan], 1: [0.12, 0.12]})
    assert [(f.number, f.failed) for f in finalists(searched)] == [(1, 0), (2, 1)]


def test_where_the_budget_ends_in_between_means_are_over_the_seeds_that_all_have(searched: Study):
    searched.qualified = [2, 1]
    final = FinalRound(searched, [2, 1], 2)
    for mae in (0.12, 0.11, 0.09):  # trial 2's second seed was lucky; trial 1 never had one
        end(searched, final.next()[0], (mae, 4 * mae))
    run, _ = final.next()
    searched.prune(run, "stopped after 0 epochs: the time budget is spent")
    assert [(f.number, f.mean("ab_mae")) for f in finalists(searched)] == [(1, 0.11), (2, 0.12)]
    assert [t.state for t in searched.finals()][-1] == TrialState.PRUNED


def test_a_run_that_a_budget_cut_off_is_trained_anew_when_there_is_more_to_spend(searched: Study):
    final = FinalRound(searched, [2, 1], 1)
    end(searched, final.next()[0], (0.1, 0.4))
    cut_off, asked = final.next()
    searched.prune(cut_off, "stopped after 0 epochs: the time budget is spent")
    again = FinalRound(searched, [2, 1], 1)
    assert (again.remaining, again.unasked) == (1, 1)
    number, experiment = again.next()
    assert number != cut_off
    assert experiment == asked


def test_finalists_without_a_common_seed_do_not_decide(searched: Study):
    searched.qualified = [2, 1]
    end(searched, searched.add_final(2, 6)[0], (0.12, 0.4))
    end(searched, searched.add_final(1, 7)[0], (0.09, 0.3))
    assert finalists(searched) == []
    choice = chosen(searched)
    assert choice is not None
    assert choice.run == choice.winner == 2


def test_finalists_that_are_let_go_decide_no_more(searched: Study):
    train(searched, [2, 1], 1, {2: [0.19], 1: [0.10]})
    assert winner_of(searched) == 1
    searched.qualified = []
    assert winner_of(searched) == 2
