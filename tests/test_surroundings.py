import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import torch

from colorization import surroundings as module
from colorization.code_version import CodeVersion, library_hash
from colorization.distributed import current_ranks
from colorization.experiment import SPEED_ONLY, Experiment
from colorization.surroundings import (
    FOLDER,
    restore,
    sessions,
    surroundings,
    write_surroundings,
)
from colorization.training import Report, fit
from drift import differences
from rank_pool import RankPool
from rank_pool import fit as watched_fit

Make = Callable[..., Experiment]


class Enough(Exception):
    """Ends a run between two epochs."""


def stop(after: int) -> Callable[[Report], None]:
    def report(news: Report) -> None:
        if news.epoch >= after:
            raise Enough

    return report


def test_a_run_has_the_surroundings_of_each_session_that_trained(
    tiny: Make, tmp_path: Path
) -> None:
    with pytest.raises(Enough):
        fit(tiny(), tmp_path, report=stop(2), device="cpu")
    assert list(sessions(tmp_path / FOLDER)) == [1]
    fit(tiny(), tmp_path, device="cpu")
    assert list(sessions(tmp_path / FOLDER)) == [1, 3]
    fit(tiny(), tmp_path, device="cpu")  # trains nothing
    assert list(sessions(tmp_path / FOLDER)) == [1, 3]


def test_they_name_code_libraries_machine_and_settings(tiny: Make, tmp_path: Path) -> None:
    experiment = tiny("train.seed=7")
    fit(experiment, tmp_path, device="cpu")
    found = sessions(tmp_path / FOLDER)[1]
    assert found["seed"] == 7
    assert found["ranks"] == 1
    assert found["device"] == "cpu"
    assert found["precision"] == "float32"
    assert found["torch"]["threads"] == torch.get_num_threads()
    assert found["torch"]["version"] == torch.__version__
    (machine,) = found["machines"]
    assert machine["cpu_threads"] == psutil.cpu_count()
    assert machine["memory_gb"] == pytest.approx(psutil.virtual_memory().total / 1e9, abs=0.1)
    assert found["settings"].keys() <= set(SPEED_ONLY)
    assert found["settings"]["train.micro_batches"] == 1
    pins = (tmp_path / FOLDER / "epoch-00001.requirements.txt").read_text().splitlines()
    assert f"torch=={version('torch')}" in pins


def test_a_copy_that_git_knows_nothing_of_is_told_by_its_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "code_version", lambda: None)
    found = surroundings(current_ranks("cpu"))
    assert found["code"] == {"source": library_hash()}
    [difference] = differences(found, {**found, "code": {"source": "another"}})
    assert difference.what == "the library's files (hash)"


def test_the_environment_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("NCCL_TOKEN", "abc")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "abc")
    found = surroundings(current_ranks("cpu"))["environment"]
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["NCCL_TOKEN"] == "***"
    assert "MLFLOW_TRACKING_PASSWORD" not in found
    assert "abc" not in json.dumps(found)


def test_what_was_changed_in_the_checkout_lies_beside_them_and_an_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = surroundings(current_ranks("cpu"))
    for diff in ("+a change\n", ""):
        code = CodeVersion("1234", diff, "56" if diff else "", ("new.py",) if diff else ())
        monkeypatch.setattr(module, "code_version", lambda code=code: code)
        files = {path.name: path for path in write_surroundings(tmp_path, "x", found)}
        assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
        if diff:
            text = files["x.diff"].read_text()
            assert text == "# not in git, contents not kept: new.py\n+a change\n"
    assert sorted(files) == ["x.json", "x.requirements.txt"]


@pytest.mark.usefixtures("one_thread")
def test_what_torch_computes_with_can_be_restored() -> None:
    before = surroundings(current_ranks("cpu"))
    found = json.loads(json.dumps(before))
    found["torch"] |= {"threads": 2, "float32_matmul_precision": "high"}
    try:
        restore(found)
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "high"
        restore(found, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        restore(before)


def test_two_ranks_are_told_with_their_machine_once(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    two_ranks.run(watched_fit, tiny(), tmp_path)
    found = sessions(tmp_path / FOLDER)[1]
    assert found["ranks"] == 2
    assert [machine["host"] for machine in found["machines"]] == [os.uname().nodename]
