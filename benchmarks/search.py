"""What the default search (TPE + ASHA) saves against random search, at equal compute.

Searches are simulated with the project's own samplers and stopping rules: on synthetic learning
curves and on tables of real ones, trained first (`--photos FOLDER --tables FOLDER`; without them
short ones of sample photographs, too few to say anything). Compute is counted in epochs, of equal
cost, and ends with what `--full-trials` unstopped trials take. What a search has found is the
hypervolume of its complete trials' front as a share of the best possible, below leave-gray's
scores or, of a table, the worst in it. `reached` is the compute after which a search had what
random search has at the end in the median. All are medians over the repeats, quartiles in brackets.
"""

import argparse
import math
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent / "ray_jobs"))

from colorization.config import ConfigError
from search_simulation import Course, simulate
from search_surfaces import Surface, SyntheticSurface, TableSurface
from search_tables import read_space, train_table
from space import Space

RANDOM, DEFAULT = "random", "TPE + ASHA (default)"
ARMS = {
    RANDOM: ["search.sampler.name=random", "search.scheduler.name=none"],
    "random + ASHA": ["search.sampler.name=random"],
    "TPE": ["search.scheduler.name=none"],
    DEFAULT: [],
}
SURFACES = ("synthetic", "cvae", "gan")
FRACTIONS = (0.25, 0.5, 1.0)
SHORT_POINTS, SHORT_EPOCHS = 8, 6  # of a table that is not kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing of the tables, simulate searches, print how they went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder to train on (sample photographs)")
    parser.add_argument("--tables", type=Path, help="folder that keeps the tables, to go on with")
    parser.add_argument("--points", type=int, default=48, help="settings in a kept table (48)")
    parser.add_argument("--surfaces", default=",".join(SURFACES), help="of %(default)s")
    parser.add_argument("--repeats", type=int, default=20, help="searches an arm (20)")
    parser.add_argument("--full-trials", type=int, default=20, help="compute is for so many (20)")
    parser.add_argument("--workers", type=_counts, default=[1, 4], help="trials at once (1,4)")
    parser.add_argument("words", nargs="*", help="search.KEY=VALUE changes the default arm")
    options = parser.parse_args(arguments)
    names = options.surfaces.split(",")
    if unknown := [name for name in names if name not in SURFACES]:
        parser.error(f"--surfaces: no {', '.join(unknown)}; there is {', '.join(SURFACES)}")
    for flag in ("points", "repeats", "full_trials"):
        if getattr(options, flag) < 2:
            parser.error(f"--{flag.replace('_', '-')}: at least 2 are needed")
    if min(options.workers) < 1:
        parser.error("--workers: at least 1 is needed")
    if wrong := [word for word in options.words if not word.startswith("search.")]:
        parser.error(f"{wrong[0]}: only search.KEY=VALUE can be changed")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    arms = {**ARMS, DEFAULT: options.words}
    print(f"{platform.machine()}, one thread, Optuna {optuna.__version__}", flush=True)
    try:
        for name in names:
            for surface, most in _surfaces(name, options):
                full = min(options.full_trials, most)
                for workers in options.workers:
                    _compare(surface, arms, full, workers, options.repeats)
    except ConfigError as error:
        parser.error(str(error))
    return 0


def _counts(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _surfaces(name: str, options: argparse.Namespace) -> Iterator[tuple[Surface, int]]:
    """Yield surfaces and the most unstopped trials that compare searches on them."""
    if name == "synthetic":
        yield SyntheticSurface(crossing=False), sys.maxsize
        yield SyntheticSurface(crossing=True), sys.maxsize
        return
    with tempfile.TemporaryDirectory() as place:
        short = options.tables is None
        file = Path(place if short else options.tables) / f"{name}.json"
        points = SHORT_POINTS if short else options.points
        epochs = SHORT_EPOCHS if short else None
        table = train_table(name, file, points, epochs, options.photos, _say)
        found = len(table.points)
    # With more, random search would have seen nearly all of the table.
    yield TableSurface(f"{name}, {found} settings", read_space(name), table), found // 2


def _compare(
    surface: Surface, arms: dict[str, list[str]], full: int, workers: int, repeats: int
) -> None:
    """Print a table of how the arms did."""
    budget = full * surface.epochs
    print(
        f"\n{surface.name}: {budget} epochs of compute, for {full} trials of {surface.epochs}; "
        f"{workers} at once, {repeats} repeats\n"
    )
    shares = [f"after {fraction:.0%}" for fraction in FRACTIONS]
    headings = ["search", *shares, "reached", "trials", "complete"]
    print(f"| {' | '.join(headings)} |")
    print(f"| --- |{' ---: |' * (len(headings) - 1)}")
    wanted = math.inf
    for arm, words in arms.items():
        space = Space.read(Path(surface.space.origin), None, words)
        courses = [simulate(surface, space, seed, budget, workers) for seed in range(repeats)]
        if arm == RANDOM:
            wanted = statistics.median(course.share_after(budget) for course in courses)
        print(f"| {' | '.join([arm, *_cells(courses, budget, wanted)])} |", flush=True)


def _cells(courses: Sequence[Course], budget: int, wanted: float) -> list[str]:
    shares = [[course.share_after(part * budget) for course in courses] for part in FRACTIONS]
    reached = [course.reaches(wanted) / budget for course in courses]
    counts = [[course.begun for course in courses], [course.complete for course in courses]]
    return [
        *(_spread(found) for found in shares),
        _spread(reached),
        *(f"{statistics.median(found):.0f}" for found in counts),
    ]


def _spread(found: Sequence[float]) -> str:
    """Write a median and quartiles, which may be infinite, so that none lies between two values."""
    ordered = sorted(found)
    low, middle, high = (ordered[(len(ordered) - 1) * part // 4] for part in (1, 2, 3))
    text = [f"{value:.2f}" if math.isfinite(value) else "never" for value in (low, middle, high)]
    return f"{text[1]} [{text[0]}, {text[2]}]"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
