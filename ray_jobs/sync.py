"""Send to MLflow what studies recorded while it was away: python ray_jobs/sync.py [STUDY]."""

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path

from command_line import run_with_errors


def main() -> int:
    """Send what waits; return 0 where nothing is left, 1 where something is, 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="sync.py", description=__doc__)
    parser.add_argument("study", nargs="?", metavar="STUDY", help="its name (all of the storage)")
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    options = parser.parse_args()
    return run_with_errors(lambda: sync(options.study, options.storage, options.tracking_uri))


def sync(
    study: str | None, storage: str | None, tracking_uri: str | None, patience: float = 10.0
) -> int:
    """Send what waits of one study or of all, and print what became of it.

    Goes on to the next study where nothing was taken for `patience` seconds. Returns 0 where
    nothing is left, else 1. Raises ConfigError for a study that there is not.
    """
    from colorization.config import ConfigError
    from storage import storage_folder

    place = storage_folder(storage)
    queues = sorted(place.glob("studies/*/mlflow-queue.jsonl"))
    folders = {queue.parent.name: queue.parent for queue in queues}
    if study is not None and study not in folders:
        raise ConfigError(
            f"STUDY: no records of {study!r} in {place / 'studies'}; there are those of "
            f"{', '.join(folders) or 'none'}"
        )
    from mlflow_store import check_uri, default_tracking_uri

    uri = tracking_uri or default_tracking_uri(place)
    check_uri(uri)
    is_given = tracking_uri is not None or "MLFLOW_TRACKING_URI" in os.environ
    chosen = folders if study is None else {study: folders[study]}
    if not chosen:
        print(f"no study in {place / 'studies'}")
    done = [_sync_one(name, folder, uri, is_given, patience) for name, folder in chosen.items()]
    return 0 if all(done) else 1


def _sync_one(name: str, folder: Path, uri: str, is_given: bool, patience: float) -> bool:
    """Send what waits of a study; tell whether nothing is left."""
    from colorization.config import ConfigError
    from mlflow_store import EXPERIMENT, without_password
    from storage import lock_folder
    from tracking import Tracker

    def say(message: str) -> None:
        print(f"{name}: {message}", flush=True)

    try:
        with lock_folder(folder, "its own job sends what waits"):
            tracker = Tracker(folder, uri, EXPERIMENT, name, say)
            with closing(tracker):
                if tracker.has_moved and not is_given:
                    say(
                        "its records went to MLflow at another address than "
                        f"{without_password(uri)}: give --tracking-uri or MLFLOW_TRACKING_URI"
                    )
                    return False
                sent, left, refused, gone, troubles = tracker.send(patience)
    except ConfigError as error:  # the other studies may do
        say(str(error))
        return False
    for trouble in troubles:
        say(trouble)
    parts = [f"{sent} events sent to {without_password(uri)}"]
    parts += [f"{number} {what}" for number, what in _failures(left, refused, gone) if number]
    say(", ".join(parts))
    return not (left or refused or gone)


def _failures(left: int, refused: int, gone: int) -> list[tuple[int, str]]:
    return [(left, "wait still"), (refused, "refused"), (gone, "files were gone")]


if __name__ == "__main__":
    sys.exit(main())
