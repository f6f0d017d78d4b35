"""Colorize pictures on a cluster: python ray_jobs/colorize.py --model MODEL INPUT OUTPUT."""

import argparse
import sys
from collections.abc import Sequence

from command_line import run_with_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Colorize; return 0, 1 where pictures were left out, 2 for wrong words."""
    from colorization.colorize_arguments import add_color_flags

    parser = argparse.ArgumentParser(prog="colorize.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("input", metavar="INPUT", help="a picture, a folder, or a URL (s3://...)")
    parser.add_argument("output", metavar="OUTPUT", help="a folder or a URL")
    parser.add_argument(
        "--model",
        required=True,
        help="models:/NAME/VERSION, models:/NAME@ALIAS, or the directory of a run or an export",
    )
    add_color_flags(parser)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--compare", choices=["before-after", "split"], help="write such a picture beside each"
    )
    files.add_argument("--overwrite", action="store_true", help="make all files anew")
    cluster = parser.add_argument_group("cluster")
    cluster.add_argument("--actors", type=int, help="processes that color (as many as fit)")
    cluster.add_argument(
        "--gpus-per-actor",
        type=float,
        help="may be a fraction (1 where the cluster has GPUs, else 0)",
    )
    cluster.add_argument("--batch", type=int, default=1, help="pictures at once (1)")
    cluster.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    cluster.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    options = parser.parse_args(arguments)
    return run_with_errors(lambda: _colorize(options))


def _colorize(options: argparse.Namespace) -> int:
    from colorization.color_flags import read_color_flags
    from colorization.config import ConfigError

    for flag, least in (("actors", 1), ("gpus_per_actor", 0), ("batch", 1)):
        value = getattr(options, flag)
        if value is not None and not least <= value < 1000:
            raise ConfigError(f"--{flag.replace('_', '-')}: found {value}, {least} at least")
    for word in ("input", "output"):
        if not getattr(options, word):  # would be the folder that one is in
            raise ConfigError(f"{word.upper()}: found nothing, a path or a URL is needed")
    color = read_color_flags(options)
    from coloring_job import ColoringJob, colorize
    from mlflow_store import check_uri, default_tracking_uri
    from storage import storage_folder

    uri = options.tracking_uri or default_tracking_uri(storage_folder(options.storage))
    if options.model.startswith("models:/"):
        check_uri(uri)
    return colorize(
        ColoringJob(
            model=options.model,
            tracking_uri=uri,
            source=options.input,
            out=options.output,
            options=color,
            compare=options.compare,
            overwrite=options.overwrite,
            actors=options.actors,
            gpus=options.gpus_per_actor,
            batch=options.batch,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
