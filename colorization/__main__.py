"""The library on the command line, without Ray: train, evaluate, colorize, show, doctor."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0 done, 1 failed in part, 2 wrong settings."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from colorization.doctor import missing_libraries

    everything = ("cv2", "torch", "torchvision")
    if faults := missing_libraries(everything if options.command == "doctor" else ("cv2",)):
        print("\n".join(faults), file=sys.stderr)
        return 1
    if options.command == "doctor":
        return 0
    from colorization import commands
    from colorization.checkpoint import CheckpointError
    from colorization.config import ConfigError
    from colorization.loss_log import Diverged

    try:
        match options.command:
            case "train":
                return commands.train(options.experiment, options.settings, options.run)
            case "evaluate":
                return commands.evaluate(options.run, options.settings, options.split)
            case "colorize":
                return commands.colorize(options.run, options.pictures, options.out)
            case _:
                return commands.show(options.experiment, options.settings)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (Diverged, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m colorization", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser(
        "train", help="train an experiment; under torchrun on all its ranks"
    )
    _add_experiment(train)
    train.add_argument(
        "--run", type=Path, help="directory of the run (runs/plain/NAME-HASH); goes on if it exists"
    )

    evaluate = commands.add_parser("evaluate", help="score a run's best checkpoint")
    evaluate.add_argument("run", type=Path, metavar="RUN_DIR")
    evaluate.add_argument(
        "settings", nargs="*", metavar="key=value", help="e.g. data.source.path=..."
    )
    evaluate.add_argument("--split", choices=["validation", "test"], default="validation")

    colorize = commands.add_parser("colorize", help="colorize pictures of any size")
    colorize.add_argument("run", type=Path, metavar="RUN_DIR")
    colorize.add_argument("pictures", type=Path, metavar="PICTURE_OR_FOLDER")
    colorize.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")

    show = commands.add_parser("show", help="print an experiment, its size and what may be set")
    _add_experiment(show)
    commands.add_parser("doctor", help="check that the machine has what is needed")
    return parser


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="RECIPE_OR_FILE")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. model.lambda_l1=80")


if __name__ == "__main__":
    sys.exit(main())
