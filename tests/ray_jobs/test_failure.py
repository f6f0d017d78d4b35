import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.train import WorkerGroupError

from failure import reason_of


def raised(error: Exception) -> RayTaskError:
    """What Ray makes of an error that a task raised."""
    return RayTaskError("train", "Traceback ...\nlast line of it", error).as_instanceof_cause()


def test_the_reason_is_the_error_itself_on_one_line():
    reason = reason_of(ValueError("stage x:\n  nothing to train"))
    assert reason == "ValueError: stage x: nothing to train"


def test_ray_is_not_named_in_the_reason_of_a_task():
    assert reason_of(raised(KeyError("x"))) == "KeyError: 'x'"


def test_of_a_group_of_workers_the_first_rank_that_failed_is_named():
    failures = {1: raised(RuntimeError("connection lost")), 0: raised(OSError("disk full"))}
    error = raised(WorkerGroupError("Training failed", failures))  # pyright: ignore
    assert reason_of(error) == "rank 0: OSError: disk full"


@pytest.mark.parametrize("error", [RayActorError(), raised(RayActorError())])
def test_a_killed_process_is_said_to_have_died(error):
    assert reason_of(error).startswith("its process died")
