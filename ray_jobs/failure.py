"""Why a trial failed, in one line for a person, from what Ray raises."""

from pathlib import Path

import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.train import WorkerGroupError
from ray.tune.experiment import Trial


def reason_of(error: BaseException) -> str:
    """Return the type and message of the error that a worker met, without what Ray put around it.

    Of a group of workers that of the first rank that met one; the others often only lost it.
    """
    match error:
        case RayTaskError():
            return reason_of(error.cause)
        case WorkerGroupError() if error.worker_failures:
            rank, first = min(error.worker_failures.items())
            return f"rank {rank}: {reason_of(first)}"
        case RayActorError():
            return "its process died (killed, out of memory, or its machine was lost)"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def trial_failure(trial: Trial) -> str:
    """Return why Tune gave a trial up.

    Trial.get_error looks in the storage, where the error arrives only after the callbacks are told.
    """
    file = trial.pickled_error_file
    if file is None or not Path(file).exists():
        return "Ray does not say why; see the trial's trial.log"
    return reason_of(cloudpickle.loads(Path(file).read_bytes()))
