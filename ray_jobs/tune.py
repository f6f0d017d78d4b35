"""Search the settings of a model family: `python ray_jobs/tune.py --model gan`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import add_study_flags, job_of, past_of, run_command, study_name
from dry_run import dry_run
from study_job import Job, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run the study; return its exit status."""
    parser = argparse.ArgumentParser(prog="tune.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. model.lambda_l1=80")
    parser.add_argument("--model", help="the family: a space in search_spaces/")
    parser.add_argument(
        "--space", type=Path, help="another search space (search_spaces/MODEL.yaml)"
    )
    parser.add_argument("--trials", type=int, help="how many experiments (the space's)")
    parser.add_argument(
        "--time-budget",
        metavar="2h",
        help="time that the study may take, all sessions together (none: no limit)",
    )
    parser.add_argument(
        "--gpu-hours",
        type=float,
        help="hours that all GPUs of all trials may be held together (inf: no limit)",
    )
    parser.add_argument("--concurrent", type=int, help="trials at once (what the cluster holds)")
    parser.add_argument("--seed", type=int, help="of sampling (0) and of training (the space's)")
    parser.add_argument(
        "--finalists",
        type=int,
        metavar="K",
        help="the best K trials, and the best recipe, are trained again and the winner is chosen "
        "on their means (0: on the search's own scores)",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="S", help="with how many seeds finalists are trained (3)"
    )
    parser.add_argument(
        "--from",
        dest="from_study",
        metavar="STUDY",
        help="an earlier study: those of its trials that this space may sample too are known",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print sampled experiments; start nothing"
    )
    add_study_flags(parser, "study", "MODEL-TIME")
    options = parser.parse_intermixed_args(arguments)
    if not (options.model or options.resume):
        parser.error("the following arguments are required: --model (or --name and --resume)")

    def start() -> Job:
        from space import Space

        settings = list(options.settings)
        if options.seed is not None:
            settings.insert(0, f"train.seed={options.seed}")
        if options.trials is not None:
            settings.append(f"search.trials={options.trials}")
        past = past_of(options)
        file = options.space or (past.space_file if past else None)
        space = Space.read(file, options.model, settings)
        return job_of(options, space, study_name(options.name, options.model), past)

    return run_command(start, dry_run if options.dry_run else run)


if __name__ == "__main__":
    sys.exit(main())
