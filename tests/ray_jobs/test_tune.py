import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import yaml
from mlflow.entities import Run
from optuna.trial import TrialState

from colorization.config import flatten
from colorization.data import open_data
from colorization.experiment import read_experiment
from registry import load_registered, rescore
from study_commands import ROOT
from tune import main

NAME = "colorizer-gan"
DATA = (
    "data.hash",
    "data.counts.train",
    "data.counts.validation",
    "data.counts.test",
    "data.split",
)


def folder_of(finished, number: int) -> Path:
    return finished.place.storage / "studies" / "small" / f"trial-{number:04d}"


@pytest.fixture(scope="module")
def runs(finished) -> tuple[Run, dict[int, Run]]:
    return finished.place.runs("small")


@pytest.fixture(scope="module")
def version(finished):
    # By number: a training on top of the study may have become the champion since.
    return finished.place.client().get_model_version(NAME, "1")


# One study, run once, whose trials ended in all ways.


def test_a_study_ends_well_and_leaves_no_process(finished):
    assert finished.tuned.code == 0, finished.tuned.output
    assert "Traceback" not in finished.tuned.output
    assert finished.place.processes() == {}


def test_optuna_is_told_how_each_trial_ended_why_and_how_far_it_came(finished):
    trials = finished.place.trials("small")
    states = [trial.state for trial in trials]
    assert len(trials) == 4
    assert states[:3] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED]
    assert states[3] in (TrialState.COMPLETE, TrialState.PRUNED)
    assert trials[0].user_attrs["epochs"] == 5
    assert trials[1].user_attrs["epochs"] == 1
    assert "of the discriminator is inf" in trials[1].user_attrs["reason"]
    assert trials[2].user_attrs["epochs"] in (2, 4)  # the rungs, one epoch of head start before
    assert trials[2].user_attrs["reason"].startswith("stopped early after")


def test_the_objective_of_a_finished_trial_is_that_of_its_best_epoch(finished):
    trial = finished.place.trials("small")[0]
    epochs = [value for key, value in trial.user_attrs.items() if key.startswith("epoch-")]
    best = min(epochs, key=lambda scores: scores["against_gray"])
    assert len(epochs) == 4  # the head start does not compete
    assert trial.values == [best["ab_mae"], best["ab_jsd"]]


def test_mlflow_has_a_parent_run_and_a_nested_run_per_trial_in_the_true_states(finished, runs):
    parent, children = runs
    states = {number: run.info.status for number, run in children.items()}
    assert parent.info.status == "FINISHED"
    assert states.keys() == {0, 1, 2, 3}
    assert (states[0], states[1], states[2]) == ("FINISHED", "FAILED", "KILLED")
    for number, trial in enumerate(finished.place.trials("small")):
        tags = children[number].data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["state"] == trial.state.name
        assert tags.get("reason") == trial.user_attrs.get("reason")


def test_a_run_has_all_settings_under_dotted_names(finished, runs):
    experiment = yaml.safe_load((folder_of(finished, 0) / "experiment.yaml").read_text())
    params = runs[1][0].data.params
    assert {key for key in params if key not in DATA} == flatten(experiment).keys()
    assert params["train.learning_rate"] == "0.005"
    assert params["train.seed"] == "51"
    assert runs[0].data.params["search.scheduler.reduction_factor"] == "3"
    assert runs[0].data.params["trial_shape"] == "1 worker x (1 CPU)"


def test_every_run_says_which_pictures_it_used_by_hash_counts_and_split(finished, runs):
    experiment = read_experiment(str(folder_of(finished, 0) / "experiment.yaml"))
    sets = open_data(experiment.data)
    for run in (runs[0], *runs[1].values()):
        found = [run.data.params[key] for key in DATA]
        assert found == [sets.fingerprint, "32", "8", "8", sets.description]
        assert {digest for digest, _ in datasets(run)} == {sets.fingerprint}
    contexts = [sorted(context for _, context in datasets(run)) for run in (runs[0], runs[1][0])]
    assert contexts == [["test", "training", "validation"], ["training", "validation"]]


def datasets(run: Run) -> list[tuple[str, str]]:
    found = run.inputs.dataset_inputs if run.inputs else []
    return [(one.dataset.digest, tag.value) for one in found for tag in one.tags]


def test_a_run_has_every_epoch_once_and_leave_gray_beside_it(finished, runs):
    for number, trial in enumerate(finished.place.trials("small")):
        run = runs[1][number]
        epochs = list(range(1, trial.user_attrs["epochs"] + 1))
        for metric in ("ab_mae", "against_gray", "train/generator/l1", "seconds"):
            assert finished.place.steps(run, metric) == epochs
        assert finished.place.steps(run, "gray/ab_mae") == [0]


def test_a_run_has_pictures_of_each_epoch_and_a_finished_one_its_model(finished, runs):
    client = finished.place.client()
    for number in runs[1]:
        run_id = runs[1][number].info.run_id
        grids = [file.path for file in client.list_artifacts(run_id, "pictures")]
        assert len(grids) == finished.place.trials("small")[number].user_attrs["epochs"]
        assert all(grid.endswith(".png") for grid in grids)
    top = [file.path for file in client.list_artifacts(runs[1][0].info.run_id)]
    assert {"experiment.yaml", "weights.pt"} <= set(top)
    of_the_study = {file.path for file in client.list_artifacts(runs[0].info.run_id)}
    assert {"best.yaml", "space.yaml", "provenance"} <= of_the_study


def test_a_run_says_from_which_commit_it_was_started(runs):
    asked = ["git", "-C", str(ROOT), "log", "--format=%H"]
    commits = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    if not commits:
        pytest.skip("not a git checkout")
    for run in (runs[0], *runs[1].values()):
        assert run.data.tags["mlflow.source.git.commit"] in commits


def test_the_winner_is_the_champion_with_its_test_scores(finished, runs, version):
    assert version.run_id == runs[1][int(version.tags["trial"])].info.run_id
    assert version.tags["study"] == "small"
    assert version.tags["data.hash"] == runs[0].data.params["data.hash"]
    assert version.tags["promotion.decision"] == "promoted"
    assert {"validation.ab_mae", "test.ab_mae", "gray.test.ab_mae"} <= version.tags.keys()
    assert version.tags["test.ab_mae"] != version.tags["validation.ab_mae"]
    test_score = runs[0].data.metrics["test/ab_mae"]
    assert float(version.tags["test.ab_mae"]) == pytest.approx(test_score, rel=1e-4)


def test_scores_through_the_registry_equal_those_of_the_trial(finished, version):
    winner = int(version.tags["trial"])
    experiment = read_experiment(str(folder_of(finished, winner) / "experiment.yaml"))
    uri = f"sqlite:///{finished.place.storage}/mlflow.db"
    sets = open_data(experiment.data)
    loaded = load_registered(f"models:/{NAME}/1", uri)
    served = rescore(loaded, experiment, sets.validation).scores
    trial = finished.place.trials("small")[winner]
    assert [served["ab_mae"], served["ab_jsd"]] == pytest.approx(trial.values, abs=1e-3)
    tested = rescore(loaded, experiment, sets.test).scores
    assert tested["ab_mae"] == pytest.approx(float(version.tags["test.ab_mae"]), abs=1e-3)


def test_no_trial_has_a_score_on_the_test_pictures(finished, runs):
    for number, trial in enumerate(finished.place.trials("small")):
        assert not [name for name in runs[1][number].data.metrics if name.startswith("test")]
        assert "test" not in str(trial.user_attrs)


def test_best_yaml_is_the_experiment_of_the_winner(finished, version):
    best = read_experiment(str(finished.place.storage / "studies" / "small" / "best.yaml"))
    of_trial = folder_of(finished, int(version.tags["trial"])) / "experiment.yaml"
    assert best == read_experiment(str(of_trial))


def test_the_console_tells_of_every_trial_and_ranks_them_with_leave_gray(finished):
    output = finished.tuned.output
    for number in range(4):
        assert f"trial {number} started: lambda_l1=" in output
    assert re.search(r"trial 0 epoch 5 adversarial: against gray \d\.\d{4}, ab_mae", output)
    assert re.search(r"trial 1 failed: .* is inf in step 0 of stage adversarial", output)
    assert re.search(r"trial 2 stopped early: after \d epochs: place \d of \d", output)
    ranking = output[output.index("Ranking") :]
    assert re.search(r"^ leave gray +1\.0000", ranking, re.MULTILINE)
    assert re.search(r"^ 0 .* (winner, )?front", ranking, re.MULTILINE)
    assert "train.learning_rate=" in ranking


def test_the_study_leaves_a_report_beside_it_and_in_mlflow_with_a_description(finished, runs):
    parent, _ = runs
    page = folder_of(finished, 0).parent / "report.html"
    assert page.stat().st_size < 15_000_000
    assert f"report: {page}" in finished.tuned.output
    artifacts = finished.place.client().list_artifacts(parent.info.run_id)
    assert "report.html" in {artifact.path for artifact in artifacts}
    described = parent.data.tags["mlflow.note.content"]
    best = (folder_of(finished, 0).parent / "best.yaml").read_text(encoding="utf-8")
    (winner,) = re.findall(r"^# The winner of study small: trial (\d)\.$", best, re.MULTILINE)
    assert f"The winner: trial {winner} is" in described
    assert 'load_model("models:/colorizer-gan/1")' in described


def test_each_of_the_next_commands_is_one_that_exists(finished):
    commands = finished.tuned.output.split("Next:")[1].splitlines()
    ui, colorize, compare, longer = [
        shlex.split(line) for line in commands if line.startswith("    ")
    ]
    for command in (ui, colorize, compare, longer):
        assert Path(command[0]).resolve() == Path(sys.executable).resolve()
    assert Path(ui[1]).name == "ui.py"
    assert ui[-2:] == ["--storage", str(finished.place.storage)]
    assert colorize[1:4] == ["-m", "colorization", "colorize"]
    assert (Path(colorize[4]) / "experiment.yaml").exists()
    assert Path(compare[1]).name == "compare.py"
    assert all((Path(run) / "checkpoints").exists() for run in compare[2:-2])
    assert Path(longer[1]).name == "train.py"
    assert read_experiment(longer[2], [longer[3]]).train.stages["adversarial"].epochs == 40


def test_everything_lies_in_the_storage(finished):
    assert finished.place.strays() == []
    assert sorted(os.listdir(finished.place.storage)) == ["mlartifacts", "mlflow.db", "studies"]


# What cannot work is told before anything is started or written.


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A clean current folder, and no cluster of this machine to be joined."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "typo.yaml").write_text(
        "experiment:\n"
        "  model: {name: gan, lamda_l1: 3}\n"
        "  train: {stages: {adversarial: {turns: adversarial, epochs: 1}}}\n"
    )
    return tmp_path


FOLDER = "data.source={name: folder, path: %s}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "gna"], "no search space for 'gna'; did you mean 'gan'"),
        (["--model", "gan", "model.lamda_l1=3"], "model.lamda_l1.*lambda_l1"),
        (["--model", "gan", "train.batch_size=0"], "train.batch_size.*0"),
        (["--model", "gan", FOLDER % "nowhere"], "nowhere"),
        (["--model", "gan", FOLDER % "empty"], "empty"),
        (["--model", "gan", "--space", "typo.yaml"], "typo.yaml.*lamda_l1.*lambda_l1"),
        (["--model", "gan", "--space", "none.yaml"], "no file none.yaml"),
        (["--model", "gan", "--workers", "512"], "512 workers .* never fits: 512 needed"),
        (["--model", "gan", "--workers", "0"], "--workers: found 0, 1 at least"),
        (["--model", "gan", "--name", "a/b"], "--name: found 'a/b'"),
        (["--model", "gan", "--trials", "0"], "trials: found 0"),
        (["--model", "gan", "--concurrent", "0"], "--concurrent: found 0, 1 at least"),
        (["--model", "gan", "--finalists", "-1"], "--finalists: found -1, 0 at least"),
        (["--model", "gan", "--seeds", "0"], "--seeds: found 0, 1 at least"),
        (["--model", "gan", "search.winner=best"], "winner: found 'best'; 'knee' is needed"),
        (
            ["--model", "gan", "search.winner=best psnr within 5% of ab_mae"],
            "psnr is none of the objectives: ab_mae, ab_jsd",
        ),
        (["--model", "gan", "--gpus-per-worker", "-1"], "--gpus-per-worker: found -1"),
        (["--model", "gan", "--storage", "s3://x"], "--storage: found s3://x; a directory"),
    ],
    ids=lambda value: " ".join(value[2:] or value) if isinstance(value, list) else "",
)
def test_a_wrong_setting_is_one_message_and_nothing_is_started(place, capsys, arguments, told):
    storage = [] if "--storage" in arguments else ["--storage", str(place / "runs")]
    assert main([*arguments, *storage]) == 2
    printed = capsys.readouterr()
    assert re.search(told, printed.err, re.DOTALL)
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not ray.is_initialized()
    assert sorted(os.listdir(place)) == ["empty", "typo.yaml"]


def test_a_wrong_setting_ends_the_command_with_status_2(tmp_path):
    script = str(ROOT / "ray_jobs" / "tune.py")
    command = [sys.executable, script, "--model", "gan", "model.lamda_l1=3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "lambda_l1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_what_would_happen_and_starts_and_writes_nothing(place, capsys):
    searched = ["model.lambda_l1", "model.adversarial", "train.learning_rate"]
    assert main(["--model", "gan", "--trials", "3", "--dry-run", "--storage", "runs"]) == 0
    printed = capsys.readouterr().out
    for name in searched:
        assert re.search(rf"^{name}: ", printed, re.MULTILINE)
    assert re.findall(r"^trial (\d) \([0-9a-f]{12}\): .*lambda_l1=", printed, re.MULTILINE) == [
        "0",
        "1",
        "2",
    ]
    assert re.search(r"^a trial: 1 worker x \(1 CPU.*\); \d+ of 3 run at once", printed, re.M)
    assert printed.endswith("nothing was started\n")
    assert not ray.is_initialized()
    assert sorted(os.listdir(place)) == ["empty", "typo.yaml"]
