"""Make one model of an instance model and a scene model: python ray_jobs/pair.py --instance A
--scene B --register colorizer-instances (docs/instances.md)."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command_line import run_with_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pair; return the exit status."""
    parser = argparse.ArgumentParser(prog="pair.py", description=__doc__, allow_abbrev=False)
    models = "a run's directory, an export, models:/NAME/VERSION or models:/NAME@ALIAS"
    parser.add_argument("--instance", required=True, metavar="MODEL", help=models)
    parser.add_argument("--scene", required=True, metavar="MODEL", help="likewise")
    parser.add_argument("--out", type=Path, help="a folder to write it into")
    parser.add_argument("--register", metavar="NAME", help="make it a version in MLflow's registry")
    parser.add_argument(
        "--champion", action="store_true", help="and make that version the champion"
    )
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    options = parser.parse_args(arguments)
    return run_with_errors(lambda: _pair(options))


def _pair(options: argparse.Namespace) -> int:
    from colorization.config import ConfigError
    from mlflow_store import check_uri, default_tracking_uri
    from storage import storage_folder

    if not (options.out or options.register):
        raise ConfigError("--out or --register: say where the pair is to go")
    if options.champion and not options.register:
        raise ConfigError("--champion: only a version in the registry can be it: give --register")
    if options.out and options.out.is_file():
        raise ConfigError(f"--out: {options.out} is a file, a folder is needed")
    if options.out and options.out.exists() and any(options.out.iterdir()):
        raise ConfigError(f"--out: {options.out} is not empty; take another folder")
    uri = options.tracking_uri or default_tracking_uri(storage_folder(options.storage))
    if options.register or "models:/" in options.instance + options.scene:
        check_uri(uri)
    from pair_registration import Pair, make_pair, register_pair

    pair = Pair(options.instance, options.scene)
    with tempfile.TemporaryDirectory() as place:
        folder = make_pair(pair, uri, options.out or Path(place) / "pair")
        if options.out:
            print(f"wrote {options.out}")
        if options.register:
            name, champion = options.register, options.champion
            version = register_pair(
                folder, pair, model_name=name, tracking_uri=uri, champion=champion
            )
            print(f"registered {name} version {version}{' (champion)' if champion else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
