"""`python -m colorization colorize`: picture files by a model, with options, over processes."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from colorization.color_flags import read_color_flags
from colorization.coloring import ColorOptions
from colorization.colorize_files import FileColorizer, Outcome, Summary
from colorization.config import ConfigError
from colorization.distributed import current_ranks
from colorization.instances import check_names
from colorization.outputs import Compare, Job, plan_files
from colorization.pair import load_colorizer
from colorization.worker_pool import Died, work_off

MAX_WORKERS = 64
_BATCH_ON_CPU, _BATCH_ON_GPU = 8, 32  # of `--batch auto`


class Settings(NamedTuple):
    """How files are made, beside the options of their colors."""

    run: Path
    compare: Compare | None
    overwrite: bool


def colorize(arguments: argparse.Namespace) -> int:
    """Colorize a picture or all pictures of a folder; 1 where some could not be."""
    options = read_color_flags(arguments)
    batch = _batch(arguments.batch)
    if not 1 <= arguments.workers <= MAX_WORKERS:
        raise ConfigError(f"--workers: found {arguments.workers}; 1 to {MAX_WORKERS} are allowed")
    settings = Settings(arguments.run, arguments.compare, arguments.overwrite)
    if arguments.workers == 1:
        color = _begin(settings, options)
    else:  # what is wrong is to be known before processes are started
        load_colorizer(settings.run).prepare(options)
        color = None
    jobs = plan_files(arguments.pictures, arguments.out, options.samples, settings.compare)
    check_names(options.instances, [job.name for job in jobs])
    console = Console(highlight=False, soft_wrap=True)
    summary = Summary()
    try:
        with ColoringProgress(console, len(jobs)) as progress:
            tasks = _tasks(jobs, batch, arguments.workers)
            if color is None:
                outcomes = _by_workers(settings, options, tasks, arguments.workers)
            else:
                outcomes = (outcome for task in tasks for outcome in color(task))
            for outcome in outcomes:
                summary.add(outcome)
                progress.show(outcome)
    finally:  # after Ctrl-C and on a full disk too
        _report(console, summary, len(jobs))
    return 1 if summary.failed else 0


def _batch(text: str) -> int | None:
    """Return the size of batches, None where it is to be chosen."""
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ConfigError(f"--batch: found {text}; auto or 1 to 256 are allowed")
    return int(text)


def _tasks(jobs: Sequence[Job], batch: int | None, workers: int) -> list[tuple[Job, ...]]:
    """Part the pictures into those that are read and colored together."""
    if batch is None:
        batch = _BATCH_ON_CPU if current_ranks().device.type == "cpu" else _BATCH_ON_GPU
    # No process is to wait while another works off a last long row.
    batch = max(1, min(batch, -(-len(jobs) // workers)))
    return [tuple(jobs[start : start + batch]) for start in range(0, len(jobs), batch)]


def _by_workers(
    settings: Settings, options: ColorOptions, tasks: list[tuple[Job, ...]], workers: int
) -> Iterator[Outcome]:
    """Yield what becomes of each picture; one whose process dies is told apart from its batch."""
    left = {job: task for task in tasks for job in task}
    again: list[tuple[Job, ...]] = []
    while tasks:
        for task, answer in work_off(_begin_alone, (settings, options), tasks, workers):
            if isinstance(answer, Outcome):
                del left[answer.job]
                yield answer
            elif len(task) == 1:
                del left[task[0]]
                yield Outcome(task[0], "failed", _died(task[0], answer))
            else:
                again += [(job,) for job in task if job in left]
        tasks, again = again, []


def _died(job: Job, how: Died) -> str:
    return f"{job.picture}: {how}, perhaps for want of memory: let fewer --workers run"


def _begin(
    settings: Settings, options: ColorOptions
) -> Callable[[Sequence[Job]], Iterator[Outcome]]:
    device = current_ranks().device
    colorizer = load_colorizer(settings.run, device)
    files = FileColorizer(
        colorizer, options, compare=settings.compare, overwrite=settings.overwrite
    )
    return files.color


def _begin_alone(
    settings: Settings, options: ColorOptions
) -> Callable[[Sequence[Job]], Iterator[Outcome]]:
    """Begin in a worker's process: its pictures are what is done at once, not its threads."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return _begin(settings, options)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} pictures/s" if task.speed else "")


class ColoringProgress:
    """A bar with rate and time left on a terminal, a line for each picture elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal or total == 1,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> "ColoringProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, outcome: Outcome) -> None:
        self._bar.update(self._task, advance=1, description=outcome.job.picture.name)
        if self._bar.disable and outcome.state != "failed":
            told = ", ".join(map(str, outcome.job.parts.values()))
            state = " (finished before)" if outcome.state == "finished before" else ""
            self._console.print(f"{outcome.job.picture} -> {told}{state}", markup=False)


def _report(console: Console, summary: Summary, total: int) -> None:
    for note in summary.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    for _, reason in summary.failed:
        console.print(Text(f"left out: {reason}", style="red"))
    left = total - summary.pictures_done - summary.pictures_finished - len(summary.failed)
    console.print(f"{summary.told}, {left} not tried" if left else summary.told)
