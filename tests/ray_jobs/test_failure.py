import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
import torch.distributed as dist
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)
from ray.tune.experiment import Trial

from cause import Failure
from colorization import config
from colorization.config import ConfigError
from colorization.data import DataConfig, FolderSource, open_data
from colorization.loss_log import Diverged
from colorization.meeting import Unreachable
from colorization.pictures import read_rgb
from failure import StillWritten, failure_of, trial_failure
from out_of_memory import Memory, note_out_of_memory, note_saving, read_memory


def raised(error: Exception) -> RayTaskError:
    """What Ray makes of an error that a task raised."""
    return RayTaskError("train", "Traceback ...\nlast line of it", error).as_instanceof_cause()


def group(failures: dict[int, Exception]) -> RayTaskError:
    return raised(WorkerGroupError("Training failed", failures))


def caught(call) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_reason_is_the_error_itself_on_one_line():
    failure = failure_of(ValueError("stage x:\n  nothing to train"))
    assert failure == Failure("error", "ValueError: stage x: nothing to train")


def test_ray_is_not_named_in_the_reason_of_a_task():
    assert failure_of(raised(KeyError("x"))) == Failure("error", "KeyError: 'x'")


def test_where_an_error_was_raised_survives_ray():
    error = caught(lambda: config.flatten(3))  # pyright: ignore[reportArgumentType]
    text = "".join(traceback.format_exception(error))
    direct, task = failure_of(error), failure_of(RayTaskError("train", text, error))
    worker = failure_of(UserExceptionWithTraceback(error, text))
    assert direct.cause == "error"
    assert "(colorization/config.py:" in direct.reason
    assert " in flatten" in direct.reason
    assert direct == task == worker


def test_of_a_group_of_workers_the_first_rank_that_failed_is_named():
    failures: dict[int, Exception] = {
        1: raised(RuntimeError("shape")),
        0: raised(OSError("disk full")),
    }
    assert failure_of(group(failures)) == Failure("error", "rank 0: OSError: disk full")


@pytest.mark.parametrize(
    ("telling", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (Diverged("l1 is nan"), "diverged"),
        (ConfigError("data.source: all is damaged"), "bad data"),
        (ValueError("shape"), "error"),
    ],
)
def test_a_rank_that_lost_another_is_not_named_before_it(telling: Exception, cause: str):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:3")
    failure = failure_of(group({0: raised(lost), 1: raised(telling)}))
    assert failure.cause == cause
    assert failure.reason.startswith("rank 1: ")


def test_ranks_that_cannot_reach_each_other_failed_of_the_network_unless_one_died():
    unreachable = Unreachable("rank 1 (host b, 10.0.0.3) cannot be reached from ...: by gloo")
    failure = failure_of(group({0: raised(unreachable), 1: raised(unreachable)}))
    assert failure == Failure("network", f"rank 0: {unreachable}")
    assert failure_of(group({0: raised(unreachable), 1: RayActorError()})).cause == "worker lost"


@pytest.mark.parametrize("error", [RayActorError(), raised(RayActorError())])
def test_a_killed_process_is_said_to_have_died(error: Exception):
    assert failure_of(error).cause == "worker lost"
    assert failure_of(error).reason.startswith("its process died")


@pytest.mark.parametrize(
    "error",
    [
        WorkerCrashedError(),
        WorkerHealthCheckFailedError("unhealthy", RayActorError()),
        dist.DistNetworkError("The client socket has failed: connection was closed"),
        RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"),
        StillWritten("process 3 has worked on this trial"),
    ],
)
def test_workers_that_are_gone_are_lost(error: Exception):
    assert failure_of(error).cause == "worker lost"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        OSError(12, "Cannot allocate memory"),
        OutOfMemoryError("Task was killed due to the node running low on memory."),
        WorkerHealthCheckFailedError("unhealthy", OutOfMemoryError("killed")),
    ],
)
def test_lack_of_memory_is_known_however_it_is_said(error: Exception):
    assert failure_of(error).cause == "out of memory"
    assert failure_of(raised(error)).cause == "out of memory"


def test_lack_of_memory_behind_another_error_is_found():
    error = RuntimeError("cannot load the checkpoint")
    error.__cause__ = MemoryError()
    assert failure_of(error).cause == "out of memory"


def test_the_allocators_own_refusal_is_lack_of_memory():
    assert failure_of(caught(lambda: torch.empty(2**60))).cause == "out of memory"


def test_settings_and_pictures_are_told_apart(tmp_path: Path):
    missing = caught(lambda: open_data(DataConfig(source=FolderSource(path=str(tmp_path / "no")))))
    assert failure_of(missing).cause == "bad data"
    wrong = caught(lambda: config.parse(DataConfig, {"source": {"name": "sample", "crops": -1}}))
    assert isinstance(wrong, ConfigError)
    assert failure_of(wrong).cause == "bad settings"
    damaged = caught(lambda: read_rgb(b"no picture", short_side=8))
    assert failure_of(damaged).cause == "bad data"
    assert failure_of(ConfigError("train.batch_size: found 7")).cause == "bad settings"


def test_of_an_error_in_a_loaders_process_the_message_alone_is_told():
    message = (
        "Caught ConfigError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        'last):\n  File "x.py", line 1, in f\ncolorization.config.ConfigError: data.source: none '
        "of the 3 training pictures can be decoded: a, b, c\n"
    )
    assert failure_of(ConfigError(message)) == Failure(
        "bad data", "data.source: none of the 3 training pictures can be decoded: a, b, c"
    )


def test_an_attempt_counts_once_however_many_note_that_it_ran_out_of_memory(tmp_path: Path):
    assert read_memory(tmp_path) == Memory()
    note_out_of_memory(tmp_path, "rank 0")
    note_out_of_memory(tmp_path, "rank 1")
    assert read_memory(tmp_path) == Memory(first="rank 0")
    note_saving(tmp_path)
    note_out_of_memory(tmp_path, "again")
    note_out_of_memory(tmp_path, "and again")
    assert read_memory(tmp_path) == Memory("rank 0", saving=True, second="again")
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json"]


def test_a_process_that_the_nodes_memory_monitor_killed_ran_out_of_memory(tmp_path: Path):
    # Tune leaves no pickle of this error: it is neither an actor's nor a task's.
    monitor = "Task was killed due to the node running low on memory.\nMemory on the node: 7 GB"
    told = tmp_path / "error.txt"
    told.write_text(
        "Failure # 1 (occurred at 2020-01-01)\nsomething else\n"
        f"Failure # 2 (occurred at 2020-01-02)\n{OutOfMemoryError(monitor)}\n"
    )
    seen = SimpleNamespace(pickled_error_file=None, error_file=str(told))
    failure = trial_failure(cast(Trial, seen))
    assert failure.cause == "out of memory"
    assert "running low on memory" in failure.reason
    assert "something else" not in failure.reason
    told.write_text("Failure # 1 (occurred at 2020-01-01)\nsomething else\n")
    assert trial_failure(cast(Trial, seen)).cause == "error"
