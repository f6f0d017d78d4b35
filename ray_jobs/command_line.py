"""What the command lines of tune.py and train.py have in common."""

import argparse
import logging
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from console import StudyConsole
    from past_study import PastStudy
    from space import Space
    from study_job import Job

# What a study that is resumed goes on with, where its command line does not say it again.
_KEPT = {
    "workers": 1,
    "gpus_per_worker": None,
    "concurrent": None,
    "promote": "if-better",
    "seed": 0,
    "finalists": 0,
    "seeds": 3,
    "time_budget": None,
    "gpu_hours": None,
    "keep_gb": None,
    "from_study": None,
}


def add_study_flags(parser: argparse.ArgumentParser, what: str, default_name: str) -> None:
    """Add the flags of a job."""
    parser.add_argument("--workers", type=int, help="processes that train a trial (1)")
    parser.add_argument(
        "--gpus-per-worker", type=float, help="may be a fraction (1 where there are GPUs, else 0)"
    )
    parser.add_argument("--name", help=f"of the {what} ({default_name})")
    parser.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with the {what} --name, as it was started but for what is said anew",
    )
    parser.add_argument("--storage", help="where everything is written (runs/ of the project)")
    parser.add_argument(
        "--promote",
        choices=["if-better", "always", "never"],
        help="when the registered model becomes the champion (if-better)",
    )
    parser.add_argument(
        "--keep-gb",
        type=float,
        help=f"most that the {what}'s checkpoints may hold, in GB (inf: all)",
    )
    parser.add_argument(
        "--preflight",
        choices=["on", "off"],
        default="on",
        help="whether to check memory, data, storage and MLflow before the first trial (on)",
    )


def study_name(given: str | None, model: str) -> str:
    """Return a study's name, after model and time where none is given."""
    from colorization.config import ConfigError

    name = given or f"{model}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", name):
        raise ConfigError(
            f"--name: found {name!r}; up to 100 letters, digits, '.', '_' and '-' make a name"
        )
    return name


def past_of(options: argparse.Namespace) -> "PastStudy | None":
    """Return the study that is resumed, None where none is asked for.

    Raises ConfigError where there is none of that name.
    """
    from colorization.config import ConfigError
    from past_study import PastStudy
    from storage import storage_folder

    if not options.resume:
        return None
    if not options.name:
        raise ConfigError("--resume: which one? give its --name")
    return PastStudy.open(storage_folder(options.storage), study_name(options.name, ""), "--resume")


def job_of(
    options: argparse.Namespace, space: "Space", name: str, past: "PastStudy | None"
) -> "Job":
    """Turn flags into a job; raises ConfigError for what cannot be."""
    from budget import Budget, parse_duration
    from colorization.config import ConfigError
    from past_study import PastStudy
    from storage import storage_folder
    from study_job import Job

    for flag in ("storage", "name", "time_budget", "from_study"):
        if getattr(options, flag, None) == "":
            raise ConfigError(f"{_word(flag)}: found nothing, a value is needed")
    if past and getattr(options, "from_study", None) is not None:
        raise ConfigError("--from: begins a new study; leave out --resume, and give another --name")
    storage = storage_folder(options.storage)
    flags: dict[str, Any] = {}
    for flag, default in _KEPT.items():
        given = getattr(options, flag, None)
        before = past.flags.get(flag, default) if past else default
        flags[flag] = before if given is None else given
    least = {"workers": 1, "concurrent": 1, "gpus_per_worker": 0, "seed": 0}
    least |= {"finalists": 0, "seeds": 1}
    for flag, lowest in least.items():
        if flags[flag] is not None and not lowest <= flags[flag] < math.inf:
            raise ConfigError(f"{_word(flag)}: found {flags[flag]}, {lowest} at least")
    for flag in ("gpu_hours", "keep_gb"):
        if flags[flag] is not None and not flags[flag] > 0:
            raise ConfigError(f"{_word(flag)}: found {flags[flag]}, more than 0 (inf: no limit)")
        if flags[flag] == math.inf:
            flags[flag] = None
    if flags["time_budget"] == "none":
        flags["time_budget"] = None
    budget = flags["time_budget"]
    seconds = None if budget is None else parse_duration(budget, _word("time_budget"))
    if past:
        past.require_space(space, _restart(past, options, flags))
    else:
        _refuse_existing(storage, name)
    adopted = flags["from_study"]
    return Job(
        space=space,
        name=name,
        storage=storage,
        workers=flags["workers"],
        gpus_per_worker=flags["gpus_per_worker"],
        concurrent=flags["concurrent"],
        promotion=flags["promote"],
        seed=flags["seed"],
        finalists=flags["finalists"],
        seeds=flags["seeds"],
        budget=Budget(seconds, flags["gpu_hours"]),
        keep_bytes=None if flags["keep_gb"] is None else int(flags["keep_gb"] * 1e9),
        preflight=options.preflight == "on",
        adopted=None if adopted is None else PastStudy.open(storage, adopted, "--from"),
        flags=flags,
    )


def _refuse_existing(storage: Path, name: str) -> None:
    from colorization.config import ConfigError
    from past_study import PastStudy

    there = PastStudy.find(storage, name)
    if there:
        raise ConfigError(
            f"study {name!r} exists in {there.folder} ({there.progress}): go on with it by "
            f"--name {name} --resume, or give this one another --name"
        )


def _restart(past: "PastStudy", options: argparse.Namespace, flags: Mapping[str, Any]) -> str:
    """Return the command that begins a new study of a changed space from a past one's trials."""
    from storage import short_path

    number = 2
    while (past.folder.parent / f"{past.name}-{number}").exists():
        number += 1
    space = getattr(options, "space", None) or past.space_file
    words = [short_path(Path(sys.executable)), short_path(Path(__file__).with_name("tune.py"))]
    words += ["--model", past.family, "--space", str(space), "--name", f"{past.name}-{number}"]
    for flag, default in _KEPT.items():
        if flags[flag] != default and flag != "from_study":
            words += [_word(flag), str(flags[flag])]
    if options.storage is not None:
        words += ["--storage", options.storage]
    words += getattr(options, "settings", None) or split_settings(getattr(options, "words", []))[1]
    return shlex.join([*words, "--from", past.name])


def _word(flag: str) -> str:
    return "--from" if flag == "from_study" else f"--{flag.replace('_', '-')}"


def run_command(start: "Callable[[], Job]", run: "Callable[[Job, StudyConsole], int]") -> int:
    """Run a job of a study with its console; see `run_with_errors`."""

    def both() -> int:
        from rich.console import Console

        from console import StudyConsole

        job = start()
        with StudyConsole(Console()) as console:
            return run(job, console)

    return run_with_errors(both)


def split_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell the words of a command line that are no `key=value` settings from those that are."""

    def is_setting(word: str) -> bool:
        key, equals, _ = word.partition("=")
        return bool(equals) and "/" not in key

    return [w for w in words if not is_setting(w)], [w for w in words if is_setting(w)]


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
