"""What a group of workers failed of decides, before it is started again, whether it is."""

import errno
from pathlib import Path
from unittest import mock

import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from cause import TRIES
from colorization.config import ConfigError
from failure import failure_of
from group_trial import Witness
from out_of_memory import read_memory

LOST = RayActorError()
WRONG = UserExceptionWithTraceback(ConfigError("train.stages: cannot be"), "Traceback ...")
ERROR = UserExceptionWithTraceback(KeyError("x"), "Traceback ...")


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path)


def test_settings_that_cannot_be_end_the_job_at_once_whatever_the_other_ranks_met(witness):
    with pytest.raises(ControllerError) as raised:
        witness.after_exception(None, {0: LOST, 1: WRONG})
    failure = failure_of(raised.value)
    assert failure.cause == "bad settings"
    assert failure.reason == "rank 1: train.stages: cannot be"


def test_a_full_disk_ends_the_job_at_once(witness):
    full = UserExceptionWithTraceback(OSError(errno.ENOSPC, "No space left"), "Traceback ...")
    with pytest.raises(ControllerError):
        witness.after_exception(None, {0: full})


def test_workers_may_be_lost_any_number_of_times_while_epochs_are_trained(witness, tmp_path):
    for epoch in range(1, 9):
        witness.after_exception(None, {0: LOST})
        (tmp_path / "checkpoints" / f"epoch-{epoch:04d}").mkdir(parents=True)


def test_a_group_that_fails_again_and_again_in_one_epoch_is_given_up(witness):
    for _ in range(TRIES):
        witness.after_exception(None, {0: LOST, 1: ERROR})
    with pytest.raises(ControllerError):
        witness.after_exception(None, {0: LOST})


def test_a_machine_that_is_taken_back_counts_as_no_failure_however_often_ray_tells(witness):
    preempted = RayActorError()
    monkeypatched = mock.patch.object(RayActorError, "preempted", property(lambda _: True))
    with monkeypatched:
        for _ in range(10):
            witness.after_exception(None, {0: preempted, 1: LOST})
    for _ in range(TRIES):
        witness.after_exception(None, {0: LOST})


def test_want_of_memory_is_noted_and_the_group_started_again(witness, tmp_path):
    short = UserExceptionWithTraceback(MemoryError("of rank 1"), "Traceback ...")
    for _ in range(2):
        witness.after_exception(None, {0: LOST, 1: short})
    assert "of rank 1" in (read_memory(tmp_path).first or "")
