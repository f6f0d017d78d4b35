"""A trial that runs out of memory is tried once more with less, and a directory has one writer."""

import fcntl
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from colorization.config import dump
from colorization.experiment import Experiment
from directory_lock import sole_writer
from failure import StillWritten
from out_of_memory import note_out_of_memory, read_memory
from study_commands import ROOT, new_place
from trial import run_in_process

Make = Callable[..., Experiment]
SUPPORT = ROOT / "tests" / "support"
LESS = "activation checkpointing, 4 micro-batches"


def trial_config(experiment: Experiment, directory: Path, workers: int = 1) -> dict[str, Any]:
    return {
        "number": 0,
        "experiment": dump(experiment),
        "directory": str(directory),
        "workers": workers,
        "cpus_per_worker": 1,
        "gpus_per_worker": 0,
    }


def rows_of(config: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    run_in_process(config, rows.append, torch.device("cpu"))
    return rows


def in_a_process(script: str, config: dict[str, Any], *arguments: str) -> list[dict[str, Any]]:
    """Run a script beside the support modules with a trial's config; read the rows it prints."""
    done = subprocess.run(
        [sys.executable, SUPPORT / script, json.dumps(config), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]


def test_a_trial_reports_its_epochs_and_that_it_saves_no_memory(tiny: Make, tmp_path: Path):
    rows = rows_of(trial_config(tiny(), tmp_path))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {row["memory_saving"] for row in rows} == {""}
    assert not (tmp_path / "memory.json").exists()


def test_a_trial_noted_to_have_run_out_of_memory_goes_on_with_less(tiny: Make, tmp_path: Path):
    note_out_of_memory(tmp_path, "killed by the memory monitor")
    rows = rows_of(trial_config(tiny(), tmp_path))
    assert {row["memory_saving"] for row in rows} == {LESS}
    assert rows[-1]["last"]
    assert read_memory(tmp_path).saving


def test_a_trial_that_ran_out_of_memory_twice_is_infeasible_and_says_its_sizes(
    tiny: Make, tmp_path: Path
):
    note_out_of_memory(tmp_path, "first")
    rows_of(trial_config(tiny(), tmp_path))
    note_out_of_memory(tmp_path, "MemoryError: no more")
    (row,) = rows_of(trial_config(tiny(), tmp_path))
    assert row["cause"] == "out of memory"
    assert row["memory_saving"] == LESS
    assert row["failed"].startswith(f"infeasible: out of memory with {LESS} too, at ")
    for size in ("train.batch_size=8", "1 worker,", "data.size=32", "MemoryError: no more"):
        assert size in row["failed"]


def test_a_trial_that_saves_memory_already_is_not_tried_the_same_way_again(
    tiny: Make, tmp_path: Path
):
    saving = tiny("train.activation_checkpointing=true", "train.micro_batches=4")
    note_out_of_memory(tmp_path, "first")
    (row,) = rows_of(trial_config(saving, tmp_path))
    assert row["failed"].startswith("infeasible: ")


def impossible(tiny: Make) -> Experiment:
    """A linear layer of terabytes: no machine's allocator even begins."""
    return tiny(
        "model={name: cvae, network: {name: naive, width: 128}}",
        "data.size=1024",
        "train.batch_size=2",
        "data.source.crops=2",
        "data.source.scoring_crops=2",
        stages={"only": {"turns": "vae", "epochs": 1}},
    )


@pytest.mark.slow
def test_one_process_tries_twice_what_no_memory_holds(tiny: Make, tmp_path: Path):
    (row,) = rows_of(trial_config(impossible(tiny), tmp_path))
    assert row["cause"] == "out of memory"
    assert row["failed"].startswith("infeasible: ")
    assert "DefaultCPUAllocator" in row["failed"]
    assert read_memory(tmp_path).second


@pytest.mark.slow
def test_a_process_short_of_memory_trains_with_less(tiny: Make, tmp_path: Path):
    # Tried: 350 MB are enough without saving, 60 are too little with it.
    words = ("data.source.crops=64", "data.source.scoring_crops=2", "data.size=128")
    sizes = ("train.batch_size=64", "model.generator.width=16", "train.grid_pictures=1")
    experiment = tiny(*words, *sizes, stages={"only": {"turns": "l1", "epochs": 1}})
    (row,) = in_a_process("short_of_memory.py", trial_config(experiment, tmp_path), "250")
    assert row["memory_saving"] == LESS
    assert row["last"]


@pytest.mark.slow
def test_two_workers_out_of_memory_are_tried_once_more_and_fail_together(
    tiny: Make, tmp_path: Path
):
    with new_place(tmp_path / "place") as place:
        config = trial_config(impossible(tiny), tmp_path / "trial", workers=2)
        done = place.run("../tests/support/one_trial.py", json.dumps(config))
    rows = [json.loads(line) for line in done.output.splitlines() if line.startswith('{"')]
    assert done.code == 0, done.output
    assert len(rows) == 1, done.output
    assert rows[0]["cause"] == "out of memory"
    assert rows[0]["failed"].startswith("infeasible: ")
    assert "on 2 workers" in rows[0]["failed"]
    memory = read_memory(tmp_path / "trial")
    assert memory.first
    assert memory.second


@pytest.mark.slow
def test_two_workers_noted_to_have_run_out_of_memory_go_on_with_less(tiny: Make, tmp_path: Path):
    (tmp_path / "trial").mkdir()
    note_out_of_memory(tmp_path / "trial", "killed by the memory monitor")
    with new_place(tmp_path / "place") as place:
        config = trial_config(tiny(), tmp_path / "trial", workers=2)
        done = place.run("../tests/support/one_trial.py", json.dumps(config))
    rows = [json.loads(line) for line in done.output.splitlines() if line.startswith('{"')]
    assert done.code == 0, done.output
    assert [row["memory_saving"] for row in rows] == [LESS] * 3


@pytest.mark.slow
def test_two_workers_that_meet_bad_data_are_not_tried_again(tiny: Make, tmp_path: Path):
    gone = tiny("data.source={name: folder, path: /there/is/no/such/folder}")
    with new_place(tmp_path / "place") as place:
        config = trial_config(gone, tmp_path / "trial", workers=2)
        done = place.run("../tests/support/one_trial.py", json.dumps(config))
    rows = [json.loads(line) for line in done.output.splitlines() if line.startswith('{"')]
    assert done.code == 0, done.output
    (row,) = rows
    assert row["cause"] == "bad data"
    assert "/there/is/no/such/folder" in row["failed"]
    log = (tmp_path / "trial" / "trial.log").read_text()
    assert log.count("ERROR Traceback") <= 2, "each rank meets it once"


def test_a_directory_that_nobody_writes_into_is_free_at_once_and_again(tmp_path: Path):
    for _ in range(2):
        with sole_writer(tmp_path, patience=0):
            assert (tmp_path / "lock").read_text().startswith("process ")


def test_an_earlier_attempts_process_is_waited_for_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    entered = threading.Event()

    def second() -> None:
        with sole_writer(tmp_path):
            entered.set()

    class EndsWhenWaitedFor(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            fcntl.flock(lock, fcntl.LOCK_UN)

    said: list[str] = []
    logger, handler = logging.getLogger("colorization"), EndsWhenWaitedFor()
    with (tmp_path / "lock").open("w") as lock:
        lock.write("process 7 on elsewhere")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        logger.addHandler(handler)
        try:
            waiting = threading.Thread(target=second)
            waiting.start()
            waiting.join(60)
        finally:
            logger.removeHandler(handler)
    assert entered.is_set()
    assert said == [f"waits for an earlier attempt: process 7 on elsewhere writes into {tmp_path}"]


def test_a_process_that_does_not_end_is_named_in_the_refusal(tmp_path: Path):
    with (
        sole_writer(tmp_path),
        pytest.raises(StillWritten, match=r"process \d+ on .* has worked on this trial"),
        sole_writer(tmp_path, patience=0),
    ):
        pass


def test_a_trial_whose_directory_is_written_by_another_process_is_not_trained(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("directory_lock.PATIENCE", 0.0)
    with sole_writer(tmp_path), pytest.raises(StillWritten):
        rows_of(trial_config(tiny(), tmp_path))
    assert not (tmp_path / "metrics.jsonl").exists()
