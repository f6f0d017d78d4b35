"""Curate pictures and pack them for training: `python ray_jobs/prepare.py SOURCE... --out DIR`.

A SOURCE is a folder, an archive (.zip, .tar), or a data source as in an experiment:
'{name: coco, pictures: DIR, annotations: FILE}'. Settings are `key=value` words (size=128
split=0.9/0.05/0.05 min_width=256 wanted=[person] min_share=0.2); `--settings` prints them all.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import run_with_errors


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
        return prepare(
            Preparation(
                [read_source(word, options.licence) for word in sources],
                settings,
                options.out.expanduser().absolute(),
                options.workers,
            )
        )

    return run_with_errors(run)


def _is_setting(word: str) -> bool:
    return re.match(r"[a-z_]+=", word) is not None and not Path(word).exists()


if __name__ == "__main__":
    sys.exit(main())
