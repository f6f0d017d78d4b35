"""A trial of several workers: its Tune actor starts a Ray Train job and waits for it.

The actor and Train's controller import neither the library nor what it needs: each would take the
start of every trial as long as a worker does.
"""

import os
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError
from ray.train import ControllerError, ScalingConfig, UserCallback, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from cause import MAY_PASS, TRIES
from shared_memory import clear_shared_memory

# Train's controller and workers take these from this process, which on a cluster has the
# environment of `ray start` and not of the driver.
_PATIENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # a report waits for it
    # For machines that the autoscaler starts, or one that comes back: three minutes in three tries,
    # Ray's own, and the trial would have failed. The study says what waits.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "3600",
}


def run_group(config: dict[str, Any]) -> None:
    """Train a trial by a group of workers; Tune calls this.

    A worker or a machine may die: the group goes on from the run's last checkpoint. What would fail
    again in the same way is reported as `failed`, with its `cause`, and not tried again.
    """
    from ray import tune
    from ray.train import FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from introduction import OwnProcessGroup

    clear_shared_memory()  # of trials that were killed on this machine
    for name, value in _PATIENT.items():
        os.environ.setdefault(name, value)
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config=config,
        torch_config=OwnProcessGroup(),
        scaling_config=scaling(config),
        run_config=RunConfig(
            name="ray-train",
            storage_path=config["directory"],
            callbacks=[TuneReportCallback(), Witness(Path(config["directory"]))],
            failure_config=FailureConfig(max_failures=-1, controller_failure_limit=2),
        ),
    )
    try:
        trainer.fit()
    except (WorkerGroupError, ControllerError) as error:
        if isinstance(error, ControllerError) and not _is_of_workers(error):
            raise
        from failure import failure_of
        from trial import failed_row

        # It was tried again as often as it may be: Tune need not multiply that by its own tries.
        tune.report(failed_row(failure_of(error), ""))


def scaling(config: dict[str, Any]) -> ScalingConfig:
    """Return how many workers a trial has, and what Ray reserves for each.

    Ray reserves for all of them or for none, so that no two trials wait for what the other holds;
    packed: on one machine where they fit, else on as few as it can.
    """
    resources = {"CPU": config["cpus_per_worker"]}
    if config["gpus_per_worker"]:
        resources["GPU"] = config["gpus_per_worker"]
    return ScalingConfig(
        num_workers=config["workers"],
        use_gpu=config["gpus_per_worker"] > 0,
        resources_per_worker=resources,
        placement_strategy="PACK",
    )


def _is_of_workers(error: ControllerError) -> bool:
    return isinstance(error.controller_failure, WorkerGroupError)


def _is_preempted(error: BaseException) -> bool:
    """Tell whether a worker's machine was drained: it was lent, and is taken back."""
    if isinstance(error, WorkerHealthCheckFailedError):
        error = error.health_check_failure
    return isinstance(error, RayActorError) and error.preempted


class Witness(UserCallback):
    """Looks, in Train's controller, at what workers failed of, before the group is started again.

    Notes that they ran out of memory, also those that were killed; ends the job where another try
    would end in the same way: of its cause, or because some have ended within the same epoch.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._epoch = 0  # in which the last failure was, and
        self._failures = 0  # how many there were in it

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise ControllerError, which Train does not try again after, where it is of no use."""
        from colorization.checkpoint import latest_epoch
        from failure import failure_of
        from out_of_memory import note_out_of_memory

        # Ray comes here with one and the same loss many times a second, until all ranks have ended.
        if any(_is_preempted(one) for one in worker_exceptions.values()):
            return
        error = WorkerGroupError("not tried again", worker_exceptions)
        failure = failure_of(error)
        if failure.cause == "out of memory":
            note_out_of_memory(self._directory, failure.reason)
            return
        epoch = latest_epoch(self._directory)
        self._failures = self._failures + 1 if epoch == self._epoch else 1
        self._epoch = epoch
        if failure.cause not in MAY_PASS or self._failures > TRIES:
            raise ControllerError(error)


def _run_worker(config: dict[str, Any]) -> None:
    import ray.train
    import torch
    from ray.train.torch import get_device

    from colorization.process_group import process_group
    from trial import run_in_process, trial_log

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with trial_log(config), process_group(device):
        run_in_process(config, ray.train.report, device)
