"""The library on the command line, without Ray: train, evaluate, colorize, export, show, doctor."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from colorization.colorize_arguments import add_colorize
from colorization.worker_pool import start_early

if TYPE_CHECKING:
    from colorization.process_group import Group

_GOES_ON = {
    "train": "; the same command goes on from the last checkpoint",
    "colorize": "; the same command goes on with the pictures that are left",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0 done, 1 failed in part, 2 wrong settings."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from colorization.doctor import missing_libraries

    everything = ("cv2", "torch", "torchvision")
    if faults := missing_libraries(everything if options.command == "doctor" else ("cv2",)):
        print("\n".join(faults), file=sys.stderr)
        return 1
    if options.command == "doctor":
        return 0
    if options.command == "colorize" and options.workers > 1:
        start_early(["colorization.colorize_command"])
    from colorization.config import ConfigError
    from colorization.meeting import Unreachable
    from colorization.process_group import process_group

    try:
        with process_group() as group:
            return _run_in_group(options, group)
    except (Unreachable, ConfigError) as error:  # before there is a group
        print(error, file=sys.stderr, flush=True)
        return 2 if isinstance(error, ConfigError) else 1


def _run_in_group(options: argparse.Namespace, group: "Group") -> int:
    try:
        return _run(options)
    except (Exception, KeyboardInterrupt) as error:
        if group.lost_another_rank(error):
            return 1
        message, status = _explain(error, options.command)
        group.say_once(lambda: print(message, file=sys.stderr, flush=True))
        return status


def _run(options: argparse.Namespace) -> int:
    from colorization import commands

    match options.command:
        case "train":
            return commands.train(options.experiment, options.settings, options.run_dir)
        case "evaluate":
            return commands.evaluate(options.run, options.settings, options.split)
        case "colorize":
            from colorization.colorize_command import colorize

            return colorize(options)
        case "export":
            return commands.export_graph(options.run, options.out, options.format)
        case _:
            return commands.show(options.experiment, options.settings)


def _explain(error: BaseException, command: str) -> tuple[str, int]:
    """Return what the user is told and the exit status; what is no user's affair is raised on."""
    from colorization.checkpoint import CheckpointError
    from colorization.config import ConfigError
    from colorization.loss_log import Diverged

    match error:
        case ConfigError():
            return str(error), 2
        case Diverged() | CheckpointError():
            return str(error), 1
        case OSError(filename=str() | Path() as file) if error.strerror:
            return f"{file}: {error.strerror}", 2
        case KeyboardInterrupt():
            return f"stopped{_GOES_ON.get(command, '')}", 130
    from colorization.inference import DamagedModel  # takes seconds, of which errors have some

    if isinstance(error, DamagedModel):
        return str(error), 1
    raise error


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m colorization", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser(
        "train", help="train an experiment; under torchrun on all its ranks"
    )
    _add_experiment(train)
    # Not --run: torchrun, which has a --run-path, would take that for its own.
    train.add_argument(
        "--run-dir", type=Path, help="of the run (runs/plain/NAME-HASH); goes on if it exists"
    )

    evaluate = commands.add_parser("evaluate", help="score a run's best checkpoint")
    evaluate.add_argument("run", type=Path, metavar="RUN_DIR")
    evaluate.add_argument(
        "settings", nargs="*", metavar="key=value", help="e.g. data.source.path=..."
    )
    evaluate.add_argument("--split", choices=["validation", "test"], default="validation")

    colorize = commands.add_parser("colorize", help="colorize pictures of any size")
    add_colorize(colorize)

    export = commands.add_parser("export", help="write a model as a graph for other programs")
    export.add_argument("run", type=Path, metavar="RUN_DIR_OR_EXPORT")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    export.add_argument("--format", choices=["torch", "onnx"], default="torch", help="(torch)")

    show = commands.add_parser("show", help="print an experiment, its size and what may be set")
    _add_experiment(show)
    commands.add_parser("doctor", help="check that the machine has what is needed")

    options, rest = parser.parse_known_args(arguments)
    # argparse takes the words of one row only: here are those that stand behind a flag.
    strange = [word for word in rest if word.startswith("-") or "=" not in word]
    if strange or (rest and "settings" not in options):
        parser.error(f"unrecognized arguments: {' '.join(strange or rest)}")
    if rest:
        options.settings = [*options.settings, *rest]
    return options


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="RECIPE_OR_FILE")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. model.lambda_l1=80")


if __name__ == "__main__":
    sys.exit(main())
