"""A run is trained again from what MLflow has of it, and any drift is said."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from mlflow_store import default_tracking_uri

# isort: split
from mlflow import MlflowClient

from colorization import training
from colorization.checkpoint import latest_epoch
from colorization.config import override, parse, parse_overrides
from colorization.experiment import Experiment
from recorded import recorded_study, runs_of
from replay import main
from tiny_experiment import TINY
from written_pictures import write_pictures

WORDS = ("model.generator.dropout=0.2", "train.seed=3")  # dropout is drawn in every step


@dataclass(frozen=True)
class Replayable:
    """Two trials of one experiment on a folder of pictures: one ended, one stopped early."""

    storage: Path
    pictures: Path
    ended: str
    stopped: str
    parent: str

    def replay(self, *words: str) -> int:
        return main([*words, "--storage", str(self.storage)])


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Replayable:
    storage = tmp_path_factory.mktemp("replay")
    pictures = storage / "pictures"
    write_pictures(pictures, 48)
    uri = new_store(storage)
    words = (*WORDS, f"data.source={{name: folder, path: {pictures}}}")
    data = override(yaml.safe_load(TINY), parse_overrides(words))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in an actor of Ray with one CPU
    try:
        folder = storage / "studies" / "small"
        with recorded_study(folder, uri, parse(Experiment, data), trials=2) as study:
            study.train()
            study.train(stop_after=2)
    finally:
        torch.set_num_threads(threads)
    runs = runs_of(uri)
    ids = [runs[key].info.run_id for key in ("0", "1", "study")]
    return Replayable(storage, pictures, *ids)


@pytest.fixture(autouse=True)
def other_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads before a replay, which has to take those of its run; no server of anybody's."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_a_replay_on_the_cpu_does_not_drift(
    past: Replayable, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert past.replay(past.ended, "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "no drift: " in printed
    assert "numbers of 3 epochs are equal bit for bit" in printed
    assert "last epoch, 3" in printed
    assert "ab_mae" in printed
    assert latest_epoch(tmp_path / "out") == 3


def test_a_run_that_was_stopped_early_is_replayed_as_far_as_it_came(
    past: Replayable, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert past.replay(past.stopped, "--out", str(tmp_path / "out")) == 0
    assert "numbers of 2 epochs are equal bit for bit" in capsys.readouterr().out
    assert latest_epoch(tmp_path / "out") == 2


def test_other_threads_are_said_to_differ(past: Replayable, capsys: pytest.CaptureFixture[str]):
    code = past.replay(past.ended, "--threads", "2")
    printed = capsys.readouterr().out
    assert "torch.threads" in printed
    assert ("no drift: " in printed) == (code == 0)
    assert ("drift: " in printed.replace("no drift: ", "")) == (code == 1)


def test_drift_is_said_with_its_size_and_first_epoch(
    past: Replayable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    seed = training._seed

    def other(experiment: Experiment, position: training.Position, ranks: training.Ranks) -> int:
        return seed(experiment, position, ranks) + (position.epoch == 1)  # of the second epoch

    monkeypatch.setattr(training, "_seed", other)
    assert past.replay(past.ended) == 1
    printed = capsys.readouterr().out
    assert "from epoch 2 on; the largest: " in printed
    assert "epoch 1 of 3 (head_start): 0 of " in printed


def test_pictures_may_lie_elsewhere(
    past: Replayable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(past.pictures, tmp_path / "moved")
    assert past.replay(past.stopped, f"data.source.path={tmp_path / 'moved'}") == 0
    assert "no drift" in capsys.readouterr().out


def test_other_pictures_are_refused_with_both_hashes(
    past: Replayable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_pictures(tmp_path / "others", 40)
    assert past.replay(past.ended, f"data.source.path={tmp_path / 'others'}") == 2
    told = capsys.readouterr().err
    then = MlflowClient(default_tracking_uri(past.storage)).get_run(past.ended).data.params
    assert f"was trained on {then['data.hash']}" in told
    assert past.replay(past.ended, "data.source.path=/no/such/place") == 2
    told = capsys.readouterr().err
    assert "/no/such/place" in told
    assert "data.source.path=/PATH" in told


def test_a_studys_run_names_its_trials(past: Replayable, capsys: pytest.CaptureFixture[str]):
    assert past.replay(past.parent) == 2
    told = capsys.readouterr().err
    assert "replay one of its trials" in told
    assert f"{past.ended}  trial-0000 gan unet patch lsgan  COMPLETE" in told
    assert past.stopped in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["0123456789abcdef0123456789abcdef"], "0123456789abcdef0123456789abcdef cannot be read"),
        (["RUN", "model.lambda_l1=5"], "model.lambda_l1: a replay trains the same experiment"),
        (["RUN", "train.seed=5"], "train.seed: a replay"),
        (["RUN", "data.source.pth=5"], "data.source.pth: unknown setting"),
    ],
)
def test_wrong_words_are_one_message(
    past: Replayable, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
):
    assert past.replay(*(past.ended if word == "RUN" else word for word in words)) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_a_storage_without_records_is_refused_and_nothing_is_written(
    past: Replayable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([past.ended, "--storage", str(tmp_path / "empty")]) == 2
    assert "no MLflow database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_trained_in(
    past: Replayable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    assert past.replay(past.ended, "--out", str(tmp_path)) == 2
    assert "an empty or a new folder is needed" in capsys.readouterr().err


def test_a_replay_that_is_interrupted_leaves_nothing(
    past: Replayable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def interrupted(*arguments: object, **more: object) -> None:
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("replaying.fit", interrupted)
    assert past.replay(past.ended) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_recorded_surroundings_is_said_to_be_before_it_is_trained(
    past: Replayable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    client = MlflowClient(default_tracking_uri(past.storage))
    trial = client.get_run(past.ended)
    tags = {"mlflow.parentRunId": past.parent, "colorization.study": "older"}
    other = client.create_run(trial.info.experiment_id, tags=tags).info.run_id
    client.log_metric(other, "psnr", 20.0, step=1)
    client.log_artifact(
        other, client.download_artifacts(past.ended, "experiment.yaml", str(tmp_path))
    )

    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("replaying.fit", interrupted)
    assert past.replay(other, "--threads", "1") == 130
    said = capsys.readouterr().out
    assert "of study older in" in said
    assert "is not recorded" in said
    assert "on cpu with 1 threads (--threads)" in said or torch.cuda.is_available()
    client.delete_run(other)


def test_what_changes_speed_alone_may_differ_and_is_said(
    past: Replayable, capsys: pytest.CaptureFixture[str]
):
    assert past.replay(past.stopped, "train.channels_last=false") in (0, 1)
    assert "train.channels_last" in capsys.readouterr().out


def test_an_experiment_of_other_code_is_refused_with_its_commit(
    past: Replayable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    client = MlflowClient(default_tracking_uri(past.storage))
    trial = client.get_run(past.ended)
    tags = {"mlflow.parentRunId": past.parent, "mlflow.source.git.commit": "1234abcd"}
    other = client.create_run(trial.info.experiment_id, tags=tags).info.run_id
    client.log_metric(other, "psnr", 20.0, step=1)
    (tmp_path / "experiment.yaml").write_text("model: {name: gan, no_such_setting: 1}\n")
    client.log_artifact(other, str(tmp_path / "experiment.yaml"))
    assert past.replay(other) == 2
    told = capsys.readouterr().err
    assert "check out 1234abcd" in told
    assert "no_such_setting" in told
    client.delete_run(other)
