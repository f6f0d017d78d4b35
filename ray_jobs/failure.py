"""Why a trial failed, in one line for a person, from what Ray raises."""

import errno
import re
import tarfile
import traceback
import zipfile
import zlib
from pathlib import Path

import cloudpickle
import torch.distributed as dist
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)
from ray.tune.experiment import Trial

from cause import Cause, Failure
from colorization.config import ConfigError
from colorization.loss_log import Diverged
from colorization.meeting import Unreachable
from colorization.pictures import UnreadablePicture
from out_of_memory import is_out_of_memory

# Of several ranks' causes the first of these is the group's: when one ends, the others lose it.
_TELLING: tuple[Cause, ...] = (
    "out of memory",
    "diverged",
    "no disk",
    "bad data",
    "bad settings",
    "error",
    "worker lost",
    "network",  # met because another rank had died, if one has
)
_LOST = (RayActorError, WorkerCrashedError, NodeDiedError, LocalRayletDiedError)
_LOST_PEER = re.compile(
    r"\bgloo\b|\bnccl\b|connection (was )?(closed|reset)|broken pipe|"
    r"DataLoader worker .* (killed|exited)",
    re.IGNORECASE,
)
_DATA_SETTING = re.compile(r"\bdata\.(source|max_unreadable)\b")
# Nothing that a trial could help: no other one would do better.
_NO_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_DAMAGED = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
_IN_DATA = re.compile(r"colorization/(data/|pictures)")
_FRAME = re.compile(r'File "(.+?)", line (\d+), in (\S+)')
_OURS = re.compile(r".*/((?:colorization|ray_jobs)/(?:.*/)?[^/]+\.py)")


class StillWritten(RuntimeError):
    """An earlier attempt's process still writes into the trial's directory."""


def failure_of(error: BaseException) -> Failure:
    """Return the kind and the message of the error that a worker met, without what Ray puts around.

    Of a group of workers the rank that says most: the others often only lost it. What is of no kind
    that is known is an "error", whose reason ends with where it was raised.
    """
    inner, text = _unwrapped(error)
    if isinstance(inner, WorkerGroupError) and inner.worker_failures:
        failures = {rank: failure_of(one) for rank, one in inner.worker_failures.items()}
        rank = min(failures, key=lambda rank: (_TELLING.index(failures[rank].cause), rank))
        return failures[rank]._replace(reason=f"rank {rank}: {failures[rank].reason}")
    message = _message(inner)
    named = f"{type(inner).__name__}: {message}" if message else type(inner).__name__
    if is_out_of_memory(inner):
        return Failure("out of memory", _without_statistics(named))
    if is_no_disk(inner):
        return Failure("no disk", named)
    match inner:
        case Diverged():
            return Failure("diverged", message)
        case RayActorError():
            said = "its process died (killed, out of memory, or its machine was lost)"
            return Failure("worker lost", said)
        case Unreachable():
            return Failure("network", message)
        case StillWritten():
            return Failure("worker lost", message)
        case ConfigError():
            about_data = _DATA_SETTING.search(message) and "/config.py" not in _last_of(text)
            return Failure("bad data" if about_data else "bad settings", message)
    if isinstance(inner, _LOST) or (
        isinstance(inner, (RuntimeError, dist.DistError)) and _LOST_PEER.search(message)
    ):
        return Failure("worker lost", named)
    damaged = isinstance(inner, _DAMAGED) and _IN_DATA.search(_ours(text))
    if damaged or isinstance(inner, UnreadablePicture):
        return Failure("bad data", named)
    return Failure("error", f"{named} ({place})" if (place := _place(text)) else named)


def trial_failure(trial: Trial) -> Failure:
    """Return why Tune gave a trial up.

    Trial.get_error looks in the storage, where the error arrives only after the callbacks are told.
    """
    told = _last_told(trial.error_file)
    # Tune pickles errors of actors and tasks only: a node's memory monitor raises another kind, and
    # what lies there is then an earlier attempt's.
    if "low on memory" in told:
        return Failure("out of memory", told)
    file = trial.pickled_error_file
    if file is not None and Path(file).exists():
        return failure_of(cloudpickle.loads(Path(file).read_bytes()))
    return Failure("error", told or "Ray does not say why; see the trial's trial.log")


def is_no_disk(error: BaseException) -> bool:
    """Tell whether an error says that a disk is full or takes nothing any more."""
    return isinstance(error, OSError) and error.errno in _NO_DISK


def _last_told(file: str | None) -> str:
    """Return what Tune wrote of a trial's last failure."""
    if file is None or not Path(file).exists():
        return ""
    told = Path(file).read_text(encoding="utf-8", errors="replace")
    last = told[max(0, told.rfind("Failure #")) :]
    return _without_statistics(" ".join(last.split()))[:1000]


def _without_statistics(message: str) -> str:
    """Cut what Ray's memory monitor adds on its own stores, programs and settings."""
    return message.partition(" Object store memory usage")[0]


def _unwrapped(error: BaseException) -> tuple[BaseException, str]:
    """Return the error inside of what Ray put around it, and its traceback as text."""
    text = ""
    while True:
        match error:
            case RayTaskError():
                inner, told = error.cause, str(error)
            case UserExceptionWithTraceback():
                inner, told = error._base_exc, str(error)
            case WorkerHealthCheckFailedError():
                inner, told = error.health_check_failure, ""
            case ControllerError():
                inner, told = error.controller_failure, ""
            case _:
                return error, text or "".join(traceback.format_exception(error))
        error, text = inner, told or text


def _message(error: BaseException) -> str:
    """Return an error's message on one line; of one from a loader's process its last line."""
    lines = str(error).splitlines()
    if any(line.startswith("Original Traceback") for line in lines):
        return lines[-1].partition(": ")[2]
    return " ".join(" ".join(lines).split())


def _frames(text: str) -> list[str]:
    return [f"{path}:{line} in {function}" for path, line, function in _FRAME.findall(text)]


def _last_of(text: str) -> str:
    return frames[-1] if (frames := _frames(text)) else ""


def _ours(text: str) -> str:
    """Return the innermost line of this project."""
    ours = [match for frame in _frames(text) if (match := _OURS.sub(r"\1", frame)) != frame]
    return ours[-1] if ours else ""


def _place(text: str) -> str:
    """Return where an error was raised: this project's line, and the library's inside of it."""
    ours, last = _ours(text), re.sub(r".*/site-packages/", "", _last_of(text))
    return ours if not last or _OURS.sub(r"\1", last) == ours else f"{ours}; {last}".lstrip("; ")
