"""What the command lines of tune.py and train.py have in common."""

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from console import StudyConsole
    from space import Space
    from study_job import Job


def add_study_flags(parser: argparse.ArgumentParser, what: str, default_name: str) -> None:
    """Add the flags of a job, and the `key=value` words of its experiment."""
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. model.lambda_l1=80")
    parser.add_argument("--workers", type=int, default=1, help="processes that train a trial (1)")
    parser.add_argument(
        "--gpus-per-worker", type=float, help="may be a fraction (1 where there are GPUs, else 0)"
    )
    parser.add_argument("--name", help=f"of the {what}; an existing one goes on ({default_name})")
    parser.add_argument("--storage", help="where everything is written (runs/ of the project)")
    parser.add_argument(
        "--promote",
        choices=["if-better", "always", "never"],
        default="if-better",
        help="when the registered model becomes the champion (if-better)",
    )


def study_name(given: str | None, model: str) -> str:
    """Return a study's name, after model and time where none is given."""
    from colorization.config import ConfigError

    name = given or f"{model}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(f"--name: found {name!r}; letters, digits, '.', '_' and '-' make a name")
    return name


def job_of(options: argparse.Namespace, space: "Space", name: str) -> "Job":
    """Turn flags into a job; raises ConfigError for numbers that cannot be."""
    from colorization.config import ConfigError
    from storage import storage_folder
    from study_job import Job

    for flag, least in (("workers", 1), ("concurrent", 1), ("gpus_per_worker", 0), ("seed", 0)):
        value = getattr(options, flag)
        if value is not None and value < least:
            raise ConfigError(f"--{flag.replace('_', '-')}: found {value}, {least} at least")
    return Job(
        space=space,
        name=name,
        storage=storage_folder(options.storage),
        workers=options.workers,
        gpus_per_worker=options.gpus_per_worker,
        concurrent=options.concurrent,
        promotion=options.promote,
        seed=options.seed or 0,
    )


def run_command(start: "Callable[[], Job]", run: "Callable[[Job, StudyConsole], int]") -> int:
    """Run a job of a study with its console; see `run_with_errors`."""

    def both() -> int:
        from rich.console import Console

        from console import StudyConsole

        job = start()
        with StudyConsole(Console()) as console:
            return run(job, console)

    return run_with_errors(both)


def run_with_errors(run: Callable[[], int]) -> int:
    """Run a command; a wrong setting is one message and exit status 2."""
    # Neither calls home: a closed network answers neither, and both wait for it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    from colorization.doctor import missing_libraries

    if faults := missing_libraries():
        print("\n".join(faults), file=sys.stderr)
        return 1
    from colorization.config import ConfigError

    try:
        return run()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
