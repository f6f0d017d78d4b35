"""Score models on the same pictures: python ray_jobs/compare.py RUN_OR_MODEL... [data.*=...]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import run_with_errors, split_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare models; return 0, 1 where one failed, 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="compare.py", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN_OR_MODEL",
        help="a run's or an exported model's directory, an MLflow run's id, models:/NAME/VERSION, "
        "models:/NAME@ALIAS; settings data.*=... say on which pictures (those of the first)",
    )
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--pictures", type=int, default=6, help="photographs on the page (6)")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("compare.html"),
        help="the page (compare.html); its numbers as .json and .csv beside it",
    )
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    options = parser.parse_intermixed_args(arguments)
    return run_with_errors(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    from colorization.config import ConfigError

    words, settings = split_settings(options.words)
    if not words:
        raise ConfigError("RUN_OR_MODEL: found none; one at least is needed")
    if options.pictures < 1:
        raise ConfigError(f"--pictures: found {options.pictures}, 1 at least")
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out: found {options.out}; a name that ends in .html is needed")
    for setting in settings:
        if not setting.startswith("data."):
            raise ConfigError(f"{setting}: only data.* may be set; models stay as they are")
    from rich.console import Console

    from comparison import compare_models
    from comparison_page import comparison_tables, write_comparison
    from mlflow_store import check_uri, default_tracking_uri
    from storage import short_path, storage_folder

    uri = options.tracking_uri or default_tracking_uri(storage_folder(options.storage))
    check_uri(uri)
    console = Console(highlight=False)
    found = compare_models(
        words,
        settings,
        options.split,
        options.pictures,
        tracking_uri=uri,
        say=lambda text: console.print(text, markup=False, soft_wrap=True),
    )
    for table in comparison_tables(found, console.width):
        console.print(table)
    console.print(found.timing, markup=False)
    for path, size in write_comparison(found, options.out):
        console.print(f"{short_path(path)}: {size / 1e6:.2g} MB", markup=False, soft_wrap=True)
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
