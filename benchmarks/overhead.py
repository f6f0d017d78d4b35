"""What a study costs beside its training: per trial, per report, and once, beside barer ways.

Run it on a quiet machine: `python benchmarks/overhead.py`. The same tiny trials, short and long
ones, are trained by tune.py, by Ray Tune and by Optuna without what tune.py adds, and by bare
fit(); the ways take turns, so that whatever else the machine does meets them alike. Of the medians
of what short and long trials take, the difference gives the cost of a report and the rest that of a
trial; what fit() alone costs is taken off both. A trial lasts from the end of the one before it to
its own; the first one counts with the start and the end of the command.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from overhead_ways import EXPERIMENT, End, Way

ALONE: Way = "fit alone"
HERE = Path(__file__).parent
OURS = {"tune.py": 1, "tune.py, 2 workers": 2}  # way -> workers
GROUPS = ("Ray Tune and Train, 2 workers", "tune.py, 2 workers")
SLOW = ("Ray Tune", *GROUPS)  # a new process or three a trial: fewer trials are trained


class Plan(NamedTuple):
    """Epochs of short and of long trials, and how many of each."""

    short: int
    long: int
    each: int

    @property
    def epochs(self) -> list[int]:
        """List the epochs of all trials, in turn."""
        return [self.short, self.long] * self.each


class Cost(NamedTuple):
    """Seconds."""

    trial: float
    report: float
    once: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table; return the exit status."""
    ways = [*get_args(Way)[:-1], "tune.py", *GROUPS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="commands a way (3)")
    parser.add_argument("--trials", type=int, default=6, help="short ones a command, and long (6)")
    parser.add_argument("--ways", nargs="+", choices=ways, default=ways, help="those measured")
    options = parser.parse_args(arguments)
    console = Console()
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start")
    plans = {way: Plan(2, 12, options.trials) for way in ways}
    plans |= {way: Plan(2, 12, max(2, options.trials // 3)) for way in SLOW}
    chosen = [ALONE, *(way for way in options.ways if way != ALONE)]
    seconds: dict[str, list[float]] = {way: [] for way in chosen}
    samples: dict[str, dict[int, list[float]]] = {way: {} for way in chosen}
    for _, way in itertools.product(range(options.rounds), chosen):
        with tempfile.TemporaryDirectory() as place:
            took, ends = _run(way, Path(place), plans[way])
        seconds[way].append(took)
        for epochs, interval in _intervals(ends):
            samples[way].setdefault(epochs, []).append(interval)
    costs = {
        way: _cost(found, plans[way], statistics.median(seconds[way]))
        for way, found in samples.items()
    }
    console.print(_table(costs, options.rounds))
    console.print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0


def _run(way: str, folder: Path, plan: Plan) -> tuple[float, list[End]]:
    """Run a command; return how long it took, and the ends of its trials in their order."""
    ours = way in OURS
    words = _our_command(folder, plan, OURS[way]) if ours else _other_command(way, folder, plan)
    # What Ray gives to the process of a trial with one CPU, given to all.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    started = time.time()
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    took = time.time() - started
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    if ours:
        return took, _our_ends(folder)
    return took, [End(*end) for end in json.loads((folder / "ends.json").read_text())]


def _other_command(way: str, folder: Path, plan: Plan) -> list[str]:
    return [
        str(HERE / "overhead_ways.py"),
        way,
        str(folder),
        *("--epochs", *map(str, plan.epochs)),
    ]


def _our_command(folder: Path, plan: Plan, workers: int) -> list[str]:
    """Write a search space whose grid is the plan's trials, in a random order."""
    space = folder / "space.yaml"
    stages = f"{{l1: {{turns: l1, epochs: !choice [{plan.short}, {plan.long}]}}}}"
    plain = yaml.safe_dump(dict(EXPERIMENT), default_flow_style=True, width=10_000).strip()
    train = f"train: {{seed: !choice {[*range(plan.each)]}, stages: {stages}, "
    space.write_text(
        f"search: {{trials: {len(plan.epochs)}, sampler: {{name: grid}}, "
        "scheduler: {name: none}}\n"
        f"experiment: {plain.replace('train: {', train)}\n",
        encoding="utf-8",
    )
    flags = {"model": "unet", "space": str(space), "storage": str(folder), "name": "study"}
    flags |= {"workers": str(workers), "concurrent": "1", "preflight": "off"}
    script = HERE.parent / "ray_jobs" / "tune.py"
    return [str(script), *(f"--{flag}={value}" for flag, value in flags.items())]


def _our_ends(folder: Path) -> list[End]:
    journal = folder / "studies" / "study" / "optuna.journal"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.load_study(study_name="study", storage=storage)
    ends: list[End] = []
    for trial in study.trials:
        if trial.state != TrialState.COMPLETE or trial.datetime_complete is None:
            raise SystemExit(f"trial {trial.number} is {trial.state.name}: {trial.user_attrs}")
        ends.append(End(trial.user_attrs["epochs"], trial.datetime_complete.timestamp()))
    return sorted(ends, key=lambda end: end.time)


def _intervals(ends: Sequence[End]) -> Iterator[tuple[int, float]]:
    """Yield the epochs and the seconds of all trials but the first."""
    for before, end in itertools.pairwise(ends):
        yield end.epochs, end.time - before.time


def _cost(samples: dict[int, list[float]], plan: Plan, took: float) -> Cost:
    """Split what trials took: once a command, once a trial, once a report."""
    short, long = (statistics.median(samples[epochs]) for epochs in (plan.short, plan.long))
    report = (long - short) / (plan.long - plan.short)
    trial = short - plan.short * report
    return Cost(trial, report, took - plan.each * (short + long))


def _table(costs: dict[str, Cost], rounds: int) -> Table:
    alone = costs[ALONE]
    table = Table(
        "way",
        title=f"beyond fit() alone ({alone.trial:.2f} s a run, {1000 * alone.report:.0f} ms an "
        f"epoch), medians of {rounds} commands",
    )
    for heading in ("s a trial", "ms a report", "s once"):
        table.add_column(heading, justify="right")
    for way, cost in costs.items():
        if way != ALONE:
            table.add_row(
                way,
                f"{cost.trial - alone.trial:.2f}",
                f"{1000 * (cost.report - alone.report):.0f}",
                f"{cost.once - alone.once:.1f}",
            )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
