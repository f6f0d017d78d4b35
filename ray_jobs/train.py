"""Train one experiment on the cluster and register it: a study of one trial."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import add_study_flags, job_of, run_command, study_name
from study_job import Job, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and train; return the exit status."""
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__)
    parser.add_argument(
        "experiment", metavar="RECIPE_OR_FILE", help="a recipe, a YAML file, a study's best.yaml"
    )
    add_study_flags(parser, "run", "RECIPE-TIME")
    parser.set_defaults(concurrent=1, seed=None)
    options = parser.parse_intermixed_args(arguments)

    def start() -> Job:
        from colorization.config import dump
        from colorization.experiment import read_experiment
        from search_config import SearchConfig
        from space import Space

        experiment = read_experiment(options.experiment, options.settings)
        stem = Path(options.experiment).stem
        space = Space(SearchConfig(trials=1), dump(experiment), options.experiment)
        return job_of(options, space, study_name(options.name, re.sub(r"[^\w.-]", "-", stem)))

    return run_command(start, run)


if __name__ == "__main__":
    sys.exit(main())
