"""Train one experiment on the cluster and register it: a study of one trial."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import (
    add_study_flags,
    job_of,
    past_of,
    run_command,
    split_settings,
    study_name,
)
from study_job import Job, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and train; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__,
        allow_abbrev=False,
        usage="%(prog)s RECIPE_OR_FILE [key=value ...] [flags]\n"
        "       %(prog)s --name RUN --resume [flags]",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RECIPE_OR_FILE key=value",
        help="a recipe, a YAML file or a study's best.yaml; settings, e.g. train.batch_size=8",
    )
    add_study_flags(parser, "run", "RECIPE-TIME")
    options = parser.parse_intermixed_args(arguments)
    named, settings = split_settings(options.words)
    if len(named) > 1 or not (named or options.resume):
        parser.error(
            f"one recipe or file is needed, found {', '.join(named) or 'none'} "
            "(none is needed with --name and --resume)"
        )

    def start() -> Job:
        from colorization.config import dump
        from colorization.experiment import read_experiment
        from search_config import SearchConfig
        from space import Space

        past = past_of(options)
        if past and not named:
            return job_of(options, Space.read(past.space_file, None, settings), past.name, past)
        experiment = read_experiment(named[0], settings)
        space = Space(SearchConfig(trials=1), dump(experiment), named[0])
        stem = re.sub(r"[^\w.-]", "-", Path(named[0]).stem)
        return job_of(options, space, study_name(options.name, stem), past)

    return run_command(start, run)


if __name__ == "__main__":
    sys.exit(main())
