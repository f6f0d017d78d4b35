"""A limit on the disk space of a study's checkpoints: what is given up first, and what never."""

import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from colorization import checkpoint
from storage import trial_folder

# running: all of it is needed to go on; front: its best checkpoint and its model are what the study
# was for; finished: trained to its end, off the front; stopped: pruned or failed.
Need = Literal["running", "front", "finished", "stopped"]

_MODEL = "model"  # a run's exported model, beside its checkpoints
_DELETED = ".deleted-"


class Freed(NamedTuple):
    """What `enforce` did: bytes deleted, of which trials, and how many bytes all still hold."""

    freed: int
    trials: tuple[int, ...]
    held: int


def enforce(
    folder: Path, limit: int, needs: Mapping[int, Need], keep: Collection[Path] = ()
) -> Freed:
    """Delete what a study's trials need least until they hold at most `limit` bytes.

    Checkpoints and exported models count, by the lengths of their files. `folder` is the study's;
    `needs` says for each trial what it is, within a kind the least wanted first. Deleted are, in
    this order: what stopped trials hold, checkpoints of finished trials, their exported models,
    checkpoints of the front but for the best. Nothing else is, nor what is, holds or lies in a path
    in `keep`.

    A directory is renamed before it is deleted, so that a killed process leaves no half of a
    checkpoint; such a remainder goes at the next call. Raises OSError.
    """
    runs = {number: trial_folder(folder, number) for number in needs}
    freed = 0
    for run in runs.values():
        for remainder in [*run.glob(f"{_DELETED}*"), *run.glob(f"{checkpoint.FOLDER}/{_DELETED}*")]:
            freed += _size(remainder)
            shutil.rmtree(remainder)
    held = sum(_size(run / checkpoint.FOLDER) + _size(run / _MODEL) for run in runs.values())
    kept = [path.resolve() for path in keep]
    touched: dict[int, None] = {}
    for number, path in _least_needed(runs, needs):
        if held <= limit:
            break
        place = path.resolve()
        if any(place.is_relative_to(other) or other.is_relative_to(place) for other in kept):
            continue
        size = _size(path)
        # What a stopped trial's dying process has just deleted itself is gone all the same.
        with suppress(FileNotFoundError):
            _delete(path)
        freed, held = freed + size, held - size
        touched[number] = None
    return Freed(freed, tuple(touched), held)


def quota_message(done: Freed, limit: int) -> str | None:
    """Say what was deleted, and that it was not enough; None where there is nothing to say."""
    parts = []
    if done.trials:
        whose = "trial" if len(done.trials) == 1 else "trials"
        numbers = ", ".join(map(str, done.trials))
        parts.append(f"{_gigabytes(done.freed)} of {whose} {numbers} deleted")
    if done.held > limit:
        parts.append(
            f"checkpoints hold {_gigabytes(done.held)} of {_gigabytes(limit)}, and what is left is "
            "needed to resume, for the Pareto front or for MLflow: allow more"
        )
    return f"--keep-gb: {'; '.join(parts)}" if parts else None


def _least_needed(
    runs: Mapping[int, Path], needs: Mapping[int, Need]
) -> Iterator[tuple[int, Path]]:
    """Yield what may be deleted, with its trial, the least needed first."""

    def of(kind: Need) -> list[tuple[int, Path]]:
        return [(number, runs[number]) for number, need in needs.items() if need == kind]

    def models(kind: Need) -> list[tuple[int, Path]]:
        return [(number, run / _MODEL) for number, run in of(kind) if (run / _MODEL).is_dir()]

    for number, run in of("stopped"):
        yield from ((number, path) for path in _oldest_first(run))
    yield from models("stopped")  # one that failed only after it was trained has one
    for number, run in of("finished"):
        yield from ((number, path) for path in _oldest_first(run))
    yield from models("finished")
    for number, run in of("front"):
        paths = _oldest_first(run)
        if checkpoint.latest(run) is not None:
            best = checkpoint.best(run)
            yield from ((number, path) for path in paths if path != best)


def _oldest_first(run: Path) -> list[Path]:
    """List a run's checkpoints, before them what a killed process left of one."""
    return sorted((run / checkpoint.FOLDER).glob("*epoch-*"))


def _delete(path: Path) -> None:
    doomed = path.with_name(f"{_DELETED}{uuid.uuid4().hex[:8]}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a trial that runs deletes its own old checkpoints
            size += path.lstat().st_size if not path.is_dir() else 0
    return size


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
