"""Write the report of a study, ended or not, as one page: python ray_jobs/report.py STUDY."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import run_with_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a report; return 0, or 2 for a study that there is not."""
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("study", metavar="STUDY", help="its name; it may still run")
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument("--price-per-hour", type=float, metavar="X", help="of a GPU or a worker")
    parser.add_argument(
        "-o", "--out", type=Path, help="the page (report.html in the study's folder)"
    )
    options = parser.parse_args(arguments)
    return run_with_errors(
        lambda: report(options.study, options.storage, options.price_per_hour, options.out)
    )


def report(name: str, storage: str | None, price_per_hour: float | None, out: Path | None) -> int:
    """Write the report of a study and say where it is. Raises ConfigError."""
    from colorization.config import ConfigError
    from report_page import REPORT, write_report
    from storage import short_path, storage_folder
    from study_record import StudyRecord

    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise ConfigError(f"--price-per-hour: found {price_per_hour}, a price of 0 or more")
    study = StudyRecord.open(storage_folder(storage), name)
    page = out or study.folder / REPORT
    try:
        size = write_report(study, page, price_per_hour)
    except OSError as error:
        raise ConfigError(f"{page} cannot be written: {error.strerror or error}") from error
    print(f"{short_path(page)}: {size / 1e6:.1f} MB, opens in any browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
