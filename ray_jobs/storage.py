"""Where a study and its runs are written."""

import fcntl
import os
from pathlib import Path
from typing import TextIO

from colorization.config import ConfigError

ROOT = Path(__file__).resolve().parent.parent
_VARIABLE = "COLORIZATION_STORAGE"


def storage_folder(given: str | None) -> Path:
    """Return where everything is written: `--storage`, else COLORIZATION_STORAGE, else `runs/`.

    A cluster's machines set the variable, so that jobs need not say it; `runs/` lies at the
    project's root. Raises ConfigError for an address that is no folder.
    """
    flag = "--storage"
    if given is None:
        flag, given = _VARIABLE, os.environ.get(_VARIABLE)
    if not given:
        return ROOT / "runs"
    if given.startswith("file://"):
        given = given.removeprefix("file://")
    if "://" in given:
        raise ConfigError(
            f"{flag}: found {given}; a directory is needed, on a cluster one that all its "
            "machines share (NFS, or a bucket mounted as one)"
        )
    folder = Path(given).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{flag}: {folder} is a file, a directory is needed")
    return folder


def short_path(path: Path) -> str:
    """Write a path for a command to copy: as seen from here, where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def lock_folder(folder: Path, way_out: str) -> TextIO:
    """Keep other processes out of a folder until the returned file is closed.

    The system opens the lock when its holder dies, however it does. Raises ConfigError, which ends
    with the way out, where another process holds it: two of them would do the same work; and for
    a file system without locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigError(f"another process works in {folder}; {way_out}") from None
    except OSError as error:
        lock.close()
        raise ConfigError(
            f"{folder}: its file system has no locks (flock): {error.strerror or error}; choose "
            "another --storage"
        ) from error
    return lock


def trial_folder(study: Path, number: int) -> Path:
    """Return the directory of a trial: all about it hangs on its number in the study."""
    return study / f"trial-{number:04d}"
