import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from cause import Failure
from colorization.config import ConfigError
from colorization.experiment import read_experiment
from colorization.models.gan import GANConfig
from full_disk import full_disk
from past_study import PastStudy, cut_half_line
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
    adversarial: !choice
      bce: {name: bce, label_smoothing: !uniform [0, 0.2]}
      lsgan: {name: lsgan}
    lambda_l1: !loguniform [1, 1000]
  train:
    batch_size: 8
    stages:
      adversarial: {turns: adversarial, epochs: 4}
"""

Open = Callable[..., Study]


@pytest.fixture
def open_study(tmp_path: Path) -> Open:
    """A function that opens the study kept in one folder, as each start of a command does."""
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)

    def open_it(*overrides: str, trials: int = 8, seed: int = 0, name: str = "gan-1") -> Study:
        space = Space.read(file, "gan", list(overrides))
        return Study(tmp_path / "studies" / name, name, space, seed, trials)

    return open_it


def scores(against_gray: float, **others: float) -> dict[str, float]:
    return {"against_gray": against_gray, "ab_mae": 0.1, "ab_jsd": 0.5, **others}


def attributes(study: Study, number: int) -> dict[str, Any]:
    return study.trials()[number].user_attrs


def test_the_recipe_comes_first_and_then_sampled_experiments(open_study: Open):
    study = open_study()
    (first, recipe), (second, sampled) = study.next(), study.next()
    assert (first, second) == (0, 1)
    asked_for = read_experiment("resnet_gan").model
    assert isinstance(asked_for, GANConfig)
    assert study.parameters(0)["model.lambda_l1"] == asked_for.lambda_l1
    assert study.parameters(0)["model.adversarial"] == asked_for.adversarial.name
    assert sampled != recipe


def test_a_finished_trial_is_complete_with_the_scores_of_its_best_epoch(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 2, 1, scores(0.8, ab_mae=0.08, ab_jsd=0.4))
    study.record_epoch(0, 3, 2, scores(0.9, ab_mae=0.07, ab_jsd=0.6))
    assert study.complete(0) is None
    (trial,) = study.trials(TrialState.COMPLETE)
    assert trial.values == [0.08, 0.4]


def test_a_stopped_trial_is_pruned_with_its_reason_and_how_far_it_came(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, None, scores(1.0))
    study.record_epoch(0, 2, 1, scores(0.9))
    study.prune(0, "stopped early after 1 epochs")
    (trial,) = study.trials(TrialState.PRUNED)
    assert trial.user_attrs["reason"] == "stopped early after 1 epochs"
    assert trial.user_attrs["epochs"] == 2
    assert study.epochs(0).keys() == {1}


def test_a_failed_trial_is_told_as_failed_with_its_reason(open_study: Open):
    study = open_study()
    study.next()
    study.fail(0, Failure("diverged", "loss is nan"))
    (trial,) = study.trials(TrialState.FAIL)
    assert trial.user_attrs["cause"] == "diverged"
    assert trial.user_attrs["reason"] == "loss is nan"
    assert study.remaining == 7


def test_an_epoch_whose_score_is_not_a_number_is_not_the_best(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, 1, scores(math.nan, ab_mae=math.nan))
    study.record_epoch(0, 2, 2, scores(0.9, ab_mae=0.09))
    study.record_epoch(0, 3, 3, scores(math.inf))
    assert study.complete(0) is None
    assert study.trials(TrialState.COMPLETE)[0].values == [0.09, 0.5]


def test_a_trial_without_a_scored_epoch_fails_and_says_so(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, 1, scores(math.nan))
    refusal = study.complete(0)
    assert refusal == ("diverged", "it ended without an epoch whose score is a number")
    assert attributes(study, 0)["cause"] == "diverged"
    assert [t.state for t in study.trials()] == [TrialState.FAIL]


def test_an_objective_that_is_not_a_number_makes_a_failure_that_names_it(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, 1, scores(0.9, ab_jsd=math.nan))
    assert study.complete(0) == ("diverged", "not a number in its best epoch: ab_jsd")
    assert [t.state for t in study.trials()] == [TrialState.FAIL]


def test_an_unfinished_trial_is_handed_out_first_and_as_it_was(open_study: Open):
    study = open_study()
    study.next()
    left = study.next()
    study.record_epoch(0, 1, 1, scores(0.9))
    study.complete(0)
    study.record_epoch(1, 1, 1, scores(0.8))
    again = open_study()
    assert again.next() == left
    assert again.epochs_trained(1) == 1
    again.record_epoch(1, 2, 2, scores(0.7))
    again.complete(1)
    assert again.epochs(1).keys() == {1, 2}
    assert again.next()[0] == 2
    assert len(again.trials(TrialState.COMPLETE)) == 2


def test_recipes_are_not_queued_twice_by_a_second_start(open_study: Open):
    _, recipe = open_study().next()
    again = open_study()
    assert again.next() == (0, recipe)
    assert again.next()[1] != recipe


def test_a_restart_does_not_draw_the_same_trials_again(open_study: Open):
    for number in range(4):  # the recipe, and three draws of the sampler, each by another process
        study = open_study()
        assert study.next()[0] == number
        study.fail(number, Failure("error", "x"))
    drawn = {str(trial.params) for trial in open_study().trials()}
    assert len(drawn) == 4


def test_a_study_with_the_same_seed_draws_the_same_and_with_another_seed_not(open_study: Open):
    def draw(name: str, seed: int) -> list[dict[str, Any]]:
        study = open_study(name=name, seed=seed)
        return [study.parameters(study.next()[0]) for _ in range(3)]

    assert draw("a", 1) == draw("b", 1)
    assert draw("c", 2) != draw("a2", 1)


def test_what_remains_counts_unfinished_trials_and_may_be_raised(open_study: Open):
    study = open_study(trials=3)
    study.next()
    study.next()
    study.fail(0, Failure("error", "x"))
    assert open_study(trials=3).remaining == 2
    assert open_study(trials=5).remaining == 4
    assert open_study(trials=1).remaining == 0


def test_trials_that_run_remain_but_are_not_handed_out_again(open_study: Open):
    study = open_study(trials=2)
    study.next()
    assert (study.remaining, study.unasked) == (2, 1)
    study.next()
    assert (study.remaining, study.unasked) == (2, 0)
    assert open_study(trials=2).unasked == 2


def test_another_space_under_the_same_name_is_refused(open_study: Open):
    open_study().next()
    with pytest.raises(ConfigError, match=r"study 'gan-1'.*searches another space"):
        open_study("model.lambda_l1=!loguniform [1, 10]")


def test_a_study_whose_pictures_changed_is_refused_with_both_hashes(open_study: Open):
    open_study().use_data({"": "abc1", "head_start": "abc2"})
    open_study().use_data({"": "abc1", "head_start": "abc2"})
    with pytest.raises(ConfigError, match=r"'gan-1'.*was abc1, now it is abc3.*another --name"):
        open_study().use_data({"": "abc3", "head_start": "abc2"})
    with pytest.raises(ConfigError, match=r"of stage head_start .*was abc2, now it is abc3"):
        open_study().use_data({"": "abc1", "head_start": "abc3"})
    open_study(name="gan-2").use_data({"": "abc3"})


def test_another_number_of_trials_or_loader_processes_goes_on_with_the_study(open_study: Open):
    begun = open_study().next()
    again = open_study("search.trials=20", "data.loader_workers=2", trials=20)
    assert again.next() == begun


def test_scores_of_the_past_are_listed_for_the_stopping_rule(open_study: Open):
    study = open_study()
    study.next()
    study.next()
    study.record_epoch(1, 1, 1, scores(0.7))
    study.record_epoch(0, 1, 1, scores(0.9))
    study.record_epoch(0, 2, 2, scores(0.8))
    past = list(open_study().past_scores("against_gray"))
    assert past == [(0, 1, 0.9), (0, 2, 0.8), (1, 1, 0.7)]


def test_the_scores_of_leave_gray_are_kept_with_the_study(open_study: Open):
    study = open_study()
    assert study.gray == {}
    study.gray = {"ab_mae": 0.125}
    assert open_study().gray == {"ab_mae": 0.125}


def test_a_trial_killed_between_its_stop_and_its_end_is_stopped_and_not_gone_on_with(
    open_study: Open,
):
    study = open_study()
    study.next()
    study.record_epoch(0, 2, 2, scores(0.9), stop="place 4 of 4")
    again = open_study()
    (trial,) = again.trials(TrialState.PRUNED)
    assert trial.user_attrs["reason"] == "place 4 of 4"
    assert again.next()[0] == 1


def test_an_epoch_that_was_stored_by_half_does_not_count(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, 1, scores(0.9))
    study._set(0, "epoch-2", {**scores(0.8), "epoch": 2})  # killed before the rest was written
    again = open_study()
    assert list(again.past_scores("against_gray")) == [(0, 1, 0.9)]
    assert again.epochs_trained(0) == 1
    again.next()
    again.record_epoch(0, 2, 2, scores(0.8))
    assert again.epochs(0).keys() == {1, 2}


def test_every_selecting_epoch_is_an_intermediate_value_for_optunas_pages(open_study: Open):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, None, scores(1.0))
    study.record_epoch(0, 2, 1, scores(0.9))
    study.record_epoch(0, 3, 2, scores(0.7))
    assert open_study().trials()[0].intermediate_values == {1: 0.9, 2: 0.7}


def test_stopped_trials_with_scores_do_not_disturb_a_sampler_of_two_objectives(open_study: Open):
    study = open_study(trials=40)
    for number in range(15):  # beyond the trials that are drawn at random
        study.next()
        study.record_epoch(number, 1, 1, scores(0.9, ab_mae=number / 100))
        study.prune(number, "slow") if number % 2 else study.complete(number)
    assert study.next()[0] == 15


def test_trials_drawn_by_one_process_equal_those_drawn_by_a_process_each(open_study: Open):
    def search(name: str, processes: bool) -> list[dict[str, Any]]:
        study = open_study(name=name, trials=14)
        for number in range(14):
            study = open_study(name=name, trials=14) if processes else study
            study.next()
            width = study.parameters(number)["model.generator.width"]
            study.record_epoch(number, 1, 1, scores(0.9, ab_mae=width / 64))
            study.complete(number)
        return [trial.params for trial in study.trials()]

    assert search("one", processes=False) == search("many", processes=True)


def test_what_the_sampler_draws_is_stored_whole_or_not_at_all(open_study: Open, tmp_path: Path):
    study = open_study()
    study.next()
    journal = (tmp_path / "studies" / "gan-1" / "optuna.journal").read_text().splitlines()
    before = len(journal)
    study.next()
    added = (tmp_path / "studies" / "gan-1" / "optuna.journal").read_text().splitlines()[before:]
    assert len(added) == 1
    assert "model.lambda_l1" in added[0]
    assert "experiment" in added[0]


@pytest.fixture
def past(open_study: Open, tmp_path: Path) -> PastStudy:
    """A study with a finished, a stopped and a failed trial, of three different widths."""
    study = open_study(name="old")
    for number in range(3):
        study.next()
        study.record_epoch(number, 1, 1, scores(0.9, ab_mae=number / 10))
    study.complete(0)
    study.prune(1, "slow")
    study.fail(2, Failure("error", "x"))
    return PastStudy.open(tmp_path, "old", "--from")


def test_a_study_knows_the_trials_of_another_one_that_its_space_may_give(
    open_study: Open, past: PastStudy
):
    study = open_study("model.lambda_l1=!loguniform [0.5, 2000]")
    assert study.adopt(past) == 2
    assert study.trials() == []
    assert (study.remaining, study.unasked) == (8, 8)
    assert list(study.past_scores("ab_mae")) == [(0, 1, 0.0), (1, 1, 0.1)]
    number, _ = study.next()
    assert number == 2
    again = open_study("model.lambda_l1=!loguniform [0.5, 2000]")
    assert [trial.number for trial in again.trials()] == [2]


def test_trials_that_a_space_would_never_give_are_not_taken_over(open_study: Open, past: PastStudy):
    assert open_study("train.batch_size=4", name="a").adopt(past) == 0
    narrow = past.trials[1].params["model.lambda_l1"]
    changed = f"model.lambda_l1=!loguniform [{narrow / 2}, {narrow * 2}]"
    found = open_study(changed, name="b")
    inside = [t for t in past.trials[:2] if narrow / 2 <= t.params["model.lambda_l1"] <= narrow * 2]
    assert found.adopt(past) == len(inside)


def test_half_a_record_at_the_journals_end_is_cut_off_and_the_study_goes_on(
    open_study: Open, tmp_path: Path
):
    study = open_study()
    study.next()
    study.record_epoch(0, 1, 1, scores(0.9))
    folder = tmp_path / "studies" / "gan-1"
    whole = (folder / "optuna.journal").read_bytes()
    with (folder / "optuna.journal").open("ab") as journal:
        journal.write(b'{"op_code": 8, "work')
    assert cut_half_line(folder) == 20
    assert (folder / "optuna.journal").read_bytes() == whole
    again = open_study()
    again.record_epoch(0, 2, 2, scores(0.8))
    assert open_study().epochs(0).keys() == {1, 2}


def test_a_disk_that_fills_amid_a_record_leaves_none_of_it(open_study: Open, tmp_path: Path):
    study = open_study()
    study.next()
    journal = tmp_path / "studies" / "gan-1" / "optuna.journal"
    before = journal.read_bytes()
    with full_disk(len(before) + 20), pytest.raises(OSError, match="File too large"):
        study.record_epoch(0, 1, 1, scores(0.9))
    assert journal.read_bytes() == before
    study.record_epoch(0, 1, 1, scores(0.9))
    assert open_study().epochs(0).keys() == {1}


def test_what_is_told_together_is_stored_at_once_and_in_order(open_study: Open, tmp_path: Path):
    study, apart = open_study(), open_study(name="apart")
    journals = [tmp_path / "studies" / name / "optuna.journal" for name in ("gan-1", "apart")]
    study.next()
    apart.next()
    before = journals[0].read_bytes()
    with study.together():
        study.record_epoch(0, 1, 1, scores(0.9), "slow")
        study.record_seconds(0, 2.0, 1.0)
        assert journals[0].read_bytes() == before
        assert study.epochs_trained(0) == 0
    assert study.epochs_trained(0) == 1
    apart.record_epoch(0, 1, 1, scores(0.9), "slow")
    apart.record_seconds(0, 2.0, 1.0)
    kinds = [re.findall(r'"op_code":(\d+)', journal.read_text()) for journal in journals]
    assert kinds[0] == kinds[1]
    assert open_study().seconds_of(0) == (2.0, 1.0)


def test_what_was_told_until_an_error_is_stored(open_study: Open):
    study = open_study()
    study.next()

    def fail_amid() -> None:
        with study.together():
            study.record_epoch(0, 1, 1, scores(0.9))
            raise KeyError

    with pytest.raises(KeyError):
        fail_amid()
    assert open_study().epochs_trained(0) == 1


def test_a_stopped_trial_has_no_value_of_another_score(tmp_path: Path, open_study: Open):
    study = open_study("search.objective={ab_mae: min}")
    study.next()
    study.record_epoch(0, 1, 1, scores(0.97, ab_mae=0.12))
    study.prune(0, "slow")
    (trial,) = open_study("search.objective={ab_mae: min}").trials(TrialState.PRUNED)
    assert trial.values is None
    assert trial.intermediate_values == {1: 0.97}
    assert trial.datetime_complete is not None
