"""Curate pictures and pack them for training: `python ray_jobs/prepare.py SOURCE... --out DIR`.

A SOURCE is a folder, an archive (.zip, .tar), or a data source as in an experiment:
'{name: coco, pictures: DIR, annotations: FILE}'. Settings are `key=value` words (size=128
split=0.9/0.05/0.05 min_width=256 wanted=[person] min_share=0.2); `--settings` prints them all.
With instances=crops the things in pictures are packed, with instances=colored the pictures and what
--instance-model makes of the things in them (docs/instances.md).
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from command_line import run_with_errors

if TYPE_CHECKING:
    from preparation_settings import PainterModel


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and prepare a set; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="prepare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="SOURCE | key=value")
    parser.add_argument("--out", type=Path, help="the folder to write; an interrupted one goes on")
    parser.add_argument(
        "--licence",
        default="not given",
        help="of sources that are paths; it goes into the manifest",
    )
    parser.add_argument("--workers", type=int, help="processes that look at pictures (all CPUs)")
    parser.add_argument(
        "--instance-model",
        metavar="MODEL",
        help="of instances=colored: a run's directory, an export, or models:/NAME@ALIAS",
    )
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    parser.add_argument("--settings", action="store_true", help="print the settings and stop")
    options = parser.parse_intermixed_args(arguments)

    def run() -> int:
        from colorization.config import ConfigError, parse, parse_overrides
        from preparation import prepare
        from preparation_settings import Preparation, Settings, print_settings, read_source

        words = [word for word in options.words if _is_setting(word)]
        settings = parse(Settings, parse_overrides(words))
        if options.settings:
            print_settings(settings)
            return 0
        sources = [word for word in options.words if not _is_setting(word)]
        if not sources:
            raise ConfigError("no SOURCE: a folder, a .zip or .tar, or {name: coco, ...} is needed")
        if options.out is None:
            raise ConfigError("--out: the folder to write is needed")
        if options.workers is not None and options.workers < 1:
            raise ConfigError(f"--workers: found {options.workers}, 1 at least")
        painter = None
        if (settings.instances == "colored") != (options.instance_model is not None):
            raise ConfigError(
                "--instance-model: is what instances=colored colors with: give both or neither"
            )
        if options.instance_model is not None:
            painter = _painter(options.instance_model, options.storage, options.tracking_uri)
        return prepare(
            Preparation(
                [read_source(word, options.licence) for word in sources],
                settings,
                options.out.expanduser().absolute(),
                options.workers,
                painter,
            )
        )

    return run_with_errors(run)


def _painter(word: str, storage: str | None, tracking_uri: str | None) -> "PainterModel":
    """Find the instance model that a word names; raises ConfigError as `exported_model` does."""
    from colorization.pair import exported_files, load_colorizer, refuse_scene_model
    from mlflow_store import check_uri, default_tracking_uri
    from preparation_settings import PainterModel
    from storage import storage_folder
    from stored_models import exported_model

    uri = tracking_uri or default_tracking_uri(storage_folder(storage))
    if word.startswith("models:/"):
        check_uri(uri)
    with tempfile.TemporaryDirectory() as place:
        folder = exported_model(word, uri, Path(place))
        colorizer = load_colorizer(folder)
        refuse_scene_model(colorizer.model, f"--instance-model: {word}")
        return PainterModel(exported_files(folder), colorizer.digest)


def _is_setting(word: str) -> bool:
    return re.match(r"[a-z_]+=", word) is not None and not Path(word).exists()


if __name__ == "__main__":
    sys.exit(main())
