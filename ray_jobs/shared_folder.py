"""A meeting of machines in a folder that all of them are to share."""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def meeting_place(folder: Path) -> Iterator[tuple[Path, str]]:
    """Make a folder in another, with a file that says a word nobody else knows."""
    token = secrets.token_hex(16)
    place = folder / f".preflight-{token[:8]}"
    place.mkdir(parents=True)
    try:
        (place / "driver").write_text(token)
        yield place, token
    finally:
        shutil.rmtree(place, ignore_errors=True)


def meet(meeting: Path, token: str, me: str) -> str:
    """Look, on another machine, for what the driver wrote, and leave a file `me`.

    Returns why that cannot be, "" where all is well.
    """
    written = meeting / "driver"
    try:
        if not written.exists():
            return f"{meeting.parent} is not the driver's: what the driver wrote there is not here"
        if written.read_text() != token:
            return f"{written} holds something else than the driver wrote"
        (meeting / me).write_text(token)
    except OSError as error:
        return f"{meeting.parent}: {error.strerror or error}"
    return ""


def came(file: Path, token: str, patience: float = 5.0) -> bool:
    """Tell whether another machine's file is seen; a network's file system may lag behind."""
    deadline = time.monotonic() + patience
    while not _says(file, token):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _says(file: Path, token: str) -> bool:
    try:
        return file.read_text() == token
    except OSError:  # not there yet, or a network's file system is about to look again
        return False
