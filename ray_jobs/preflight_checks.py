"""The checks of a preflight that the driver makes by itself."""

import shutil
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from cluster import Node, Shape, at_once
from colorization.config import ConfigError
from colorization.experiment import Experiment, count_players
from mlflow_store import MlflowClient, database_file, without_password

CheckState = Literal["ok", "warning", "failed", "skipped"]

_LITTLE = 100_000_000  # bytes of free disk below which MLflow's records are in danger
_PATIENCE = 10.0  # seconds for an answer of MLflow's server
_WAITS = "training goes on without it, records wait on disk; ray_jobs/sync.py sends them"


class Check(NamedTuple):
    """What one check of a preflight found."""

    name: str
    state: CheckState
    found: str
    mend: str = ""  # of a warning or a failure: what to type or to change


def check_place(nodes: Sequence[Node], shape: Shape, concurrent: int | None) -> Check:
    """Tell whether a trial fits onto the machines, and how many at once."""
    try:
        fits = at_once([*nodes], shape, concurrent)
    except ConfigError as error:
        found, _, mend = str(error).rpartition("; ")
        return Check("trial shape", "failed", found, mend)
    machines = "1 machine" if len(nodes) == 1 else f"{len(nodes)} machines"
    return Check("trial shape", "ok", f"{shape}, {fits} at once on {machines}")


def check_mlflow(tracking_uri: str) -> Check:
    """Tell whether MLflow would take records: in an SQLite file by a write that is taken back.

    Never raises: clients, drivers of databases and plugins raise what they like.
    """
    shown = without_password(tracking_uri)
    try:
        if urlsplit(tracking_uri).scheme == "sqlite":
            return _check_database(database_file(tracking_uri))
        _await_answer(tracking_uri)
    except TimeoutError:
        found = f"{shown} has not answered for {_PATIENCE:g} s"
    except Exception as error:
        first_line = without_password(str(error)).partition("\n")[0] or type(error).__name__
        found = f"{shown}: {first_line}"
    else:
        return Check("MLflow", "ok", f"{shown} answers; no write was tried")
    return Check(
        "MLflow", "warning", found, f"start the server, or set MLFLOW_TRACKING_URI: {_WAITS}"
    )


def _await_answer(tracking_uri: str) -> None:
    answer: Future[None] = Future()
    # Its client tries again for longer than anybody would wait here.
    Thread(target=_ask, args=(tracking_uri, answer), daemon=True).start()
    answer.result(_PATIENCE)


def _ask(tracking_uri: str, answer: "Future[None]") -> None:
    try:
        MlflowClient(tracking_uri).search_experiments(max_results=1)
    except BaseException as error:
        answer.set_exception(error)
    else:
        answer.set_result(None)


def _check_database(database: Path) -> Check:
    try:
        # As an address, for a plain path would create the file where there is none.
        address = f"{database.as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(address, timeout=5, isolation_level=None, uri=True)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE preflight (written TEXT)")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        mend = f"make {database} writable for this user, close what locks it: {_WAITS}"
        return Check("MLflow", "warning", f"{database}: {error}", mend)
    free = shutil.disk_usage(database.parent).free
    if free < _LITTLE:
        mend = f"free some space on the disk of {database.parent}: {_WAITS}"
        return Check("MLflow", "warning", f"{database}: {size_text(free)} of disk left", mend)
    return Check("MLflow", "ok", f"{database} is writable")


def check_disk(folder: Path, largest: Experiment, trials: int) -> Check:
    """Compare the disk's free space with what the checkpoints of so many large trials take.

    A checkpoint: weights and Adam's two moments, averaged weights where there are some; a trial
    keeps `train.keep` of them and one exported model.
    """
    weights = 4 * sum(count_players(largest).values())
    states = 4 if largest.train.ema else 3
    needed = trials * weights * (states * largest.train.keep + 1)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = (
        f"{size_text(free)} free for checkpoints in {folder}; {trials} trials of the largest "
        f"models would take {size_text(needed)}"
    )
    if needed < free:
        return Check("disk", "ok", found)
    gigabytes = max(1, int(0.8 * free / 1e9))
    return Check("disk", "warning", found, f"--keep-gb {gigabytes}, or a --storage with more room")


def size_text(size: float) -> str:
    """Write bytes for a person: `1.2 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
