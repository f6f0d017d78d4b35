"""Which study a command line means: a new one, or one that goes on or is known to it."""

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import train
import tune
from cause import Failure
from colorization.config import ConfigError
from past_study import PastStudy
from space import Space
from study import Study

WIDTHS = "model.generator={name: unet, width: !logint [8, 32]}"


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage with the study `old`, of which one trial ended and one did not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    space = Space.read(None, "unet", ["search.trials=5", WIDTHS])
    study = Study(tmp_path / "runs" / "studies" / "old", "old", space, 3, 5)
    study.flags = {"seed": 3, "concurrent": 1, "workers": 1, "time_budget": "2h"}
    study.next()
    study.fail(0, Failure("error", "x"))
    study.next()
    return tmp_path / "runs"


def refusal(words: list[str], storage: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run tune.py on a command line that it refuses; return what it says."""
    assert tune.main([*words, "--storage", str(storage)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_an_existing_name_without_resume_is_refused_with_both_choices(storage: Path, capsys):
    said = refusal(["--model", "unet", "--name", "old"], storage, capsys)
    assert "study 'old' exists in" in said
    assert "1 trials ended, 1 unfinished" in said
    assert "--name old --resume" in said
    assert "another --name" in said


def test_a_study_that_is_not_there_cannot_be_resumed(storage: Path, capsys):
    said = refusal(["--name", "odl", "--resume"], storage, capsys)
    assert re.search(r"--resume: no study 'odl' in .*; there is old", said)
    assert "give its --name" in refusal(["--resume"], storage, capsys)


def test_a_study_is_resumed_by_its_name_alone_with_all_that_it_was_started_with(
    storage: Path, capsys
):
    words = ["--name", "old", "--resume", "--dry-run", "--storage", str(storage)]
    assert tune.main(words) == 0
    printed = capsys.readouterr().out
    assert "model.generator.width: !logint [8, 32]" in printed
    assert "trial 1: goes on after 0 epochs" in printed
    assert "1 of 4 run at once" in printed


def test_a_dry_run_of_a_study_that_goes_on_draws_what_it_will_draw(storage: Path, capsys):
    folder = storage / "studies" / "old"
    before = (folder / "optuna.journal").read_bytes()
    assert tune.main(["--name", "old", "--resume", "--dry-run", "--storage", str(storage)]) == 0
    printed = capsys.readouterr().out
    assert (folder / "optuna.journal").read_bytes() == before
    said = dict(re.findall(r"^trial (\d) \(([0-9a-f]{12})\): ", printed, re.MULTILINE))
    assert said.keys() == {"2", "3", "4"}
    study = Study(folder, "old", Space.read(folder / "space.yaml"), 3, 5)
    assert study.next()[0] == 1
    number, experiment = study.next()
    assert said[str(number)] == experiment.hash


def test_what_is_said_anew_takes_the_place_of_what_was_said_before(storage: Path, capsys):
    words = ["--name", "old", "--resume", "--trials", "9", "--dry-run", "--storage", str(storage)]
    assert tune.main([*words, "search.scheduler.name=none", WIDTHS]) == 0
    assert "1 of 8 run at once" in capsys.readouterr().out


def test_a_changed_space_is_refused_with_the_command_that_begins_a_new_study_from_it(
    storage: Path, capsys
):
    change = "model.generator.width=!logint [8, 64]"
    script = str(Path(tune.__file__))
    words = ["--name", "old", "--resume", change, "--storage", str(storage)]
    said = refusal(words[:-2], storage, capsys)
    assert "model.generator.width: !logint [8, 32] there, !logint [8, 64] here" in said
    again = shlex.split(said[said.index("that fit: ") + len("that fit: ") :])
    assert Path(again[0]).resolve() == Path(sys.executable).resolve()
    assert Path(again[1]).resolve() == Path(script).resolve()
    assert again[-2:] == ["--from", "old"]
    assert again[again.index("--seed") + 1] == "3"
    assert tune.main([*again[2:], "--dry-run"]) == 0
    assert "width: !logint [8, 64]" in capsys.readouterr().out


def test_a_study_to_begin_from_must_be_there(storage: Path, capsys):
    words = ["--model", "unet", "--from", "odl"]
    assert "--from: no study 'odl'" in refusal(words, storage, capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--time-budget", "2"], "--time-budget: found '2'; a length of time is needed: 2h"),
        (["--gpu-hours", "0"], "--gpu-hours: found 0.0, more than 0"),
        (["--keep-gb", "-1"], "--keep-gb: found -1.0, more than 0"),
        (["--keep-gb", "nan"], "--keep-gb: found nan, more than 0"),
        (["--gpus-per-worker", "nan"], "--gpus-per-worker: found nan, 0 at least"),
        (["--time-budget", ""], "--time-budget: found nothing, a value is needed"),
        (["--from", ""], "--from: found nothing, a value is needed"),
        (["--name", "a" * 300], "up to 100 letters"),
        (["search.sampler.name=tpo"], "sampler.name: found 'tpo'; did you mean 'tpe'"),
        (["search.scheduler.grace_period=0"], "scheduler.grace_period: found 0"),
        (["search.sampler.name=cma_es"], "cma_es"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_budget_sampler_or_scheduler_that_cannot_be_is_refused(
    words: list[str], told: str, storage: Path, capsys
):
    said = refusal(["--model", "gan", *words], storage, capsys)
    assert told in said


def test_train_needs_an_experiment_or_a_run_to_go_on_with(storage: Path, capsys):
    with pytest.raises(SystemExit):
        train.main(["train.batch_size=8"])
    assert "one recipe or file is needed, found none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train.main(["pix2pix", "lab_gan"])
    assert "found pix2pix, lab_gan" in capsys.readouterr().err


def test_what_is_said_at_a_resume_holds_for_the_next_one_too(storage: Path):
    folder = storage / "studies" / "old"
    words = ["search.trials=9", "search.scheduler.name=none"]
    Study(folder, "old", Space.read(folder / "space.yaml", None, words), 3, 9)
    again = Space.read(folder / "space.yaml")
    assert again.search.trials == 9
    assert again.search.scheduler.name == "none"


def test_a_changed_run_of_train_is_offered_a_command_of_tune(storage: Path, capsys):
    words = ["--name", "old", "--resume", "train.batch_size=4", "--storage", str(storage)]
    assert train.main(words) == 2
    said = capsys.readouterr().err
    again = shlex.split(said[said.index("that fit: ") + len("that fit: ") :])
    assert Path(again[1]).name == "tune.py"
    assert tune.main([*again[2:], "--dry-run"]) == 0


def test_a_folder_with_another_name_than_its_study_is_refused(storage: Path, capsys):
    (storage / "studies" / "old").rename(storage / "studies" / "renamed")
    said = refusal(["--name", "renamed", "--resume"], storage, capsys)
    assert "holds the study 'old': give the folder that name back" in said


def test_trials_of_other_pictures_are_not_taken_over(storage: Path):
    past = PastStudy.open(storage, "old", "--from")
    seen = replace(past, attributes={**past.attributes, "data": {"": "abc1"}})
    seen.require_data({"": "abc1"})
    with pytest.raises(ConfigError, match="was abc1, here it is abc2"):
        seen.require_data({"": "abc2"})
