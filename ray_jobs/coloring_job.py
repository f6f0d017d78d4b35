"""Pictures colored by the actors of a cluster: what colorize.py runs."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster import Node, Shape, at_once, connect, find_running
from colorization.coloring import ColorOptions
from colorization.colorize_command import ColoringProgress
from colorization.colorize_files import Summary
from colorization.config import ConfigError
from colorization.instances import check_names
from colorization.outputs import Compare, Job, find_pictures, plan_files, plan_found
from colorization.pair import exported_files, load_colorizer
from painter import Attempts, Painter, Work, jobs_row, read_outcome
from picture_place import PicturePlace
from stored_models import exported_model
from worker_fault import worker_fault

if TYPE_CHECKING:
    import ray

_MOST_BLOCKS = 1000  # of rows, each a task of its own


@dataclass(frozen=True)
class ColoringJob:
    """What is colored by which model, how, and by how many."""

    model: str
    tracking_uri: str
    source: str
    out: str
    options: ColorOptions
    compare: Compare | None = None
    overwrite: bool = False
    actors: int | None = None
    gpus: float | None = None
    batch: int = 1


def colorize(job: ColoringJob) -> int:
    """Color all pictures; return 1 where some could not be, else 0.

    Raises ConfigError before Ray is started for what cannot work.
    """
    console = Console(highlight=False, soft_wrap=True)
    source, out = PicturePlace(job.source), PicturePlace(job.out)
    jobs, strange = _plan(job, source, out)
    check_names(job.options.instances, [one.name for one in jobs])
    exported = _read_model(job)
    import ray.data

    nodes = connect(find_running())
    try:
        shape = _shape(nodes, job.gpus)
        actors = min(at_once(nodes, shape, job.actors), len(jobs))
        work = Work(job.options, job.compare, job.overwrite, shape.gpus_per_worker > 0, source, out)
        devices = f" with {shape.gpus_per_worker:g} GPU each" if shape.gpus_per_worker else ""
        console.print(f"{len(jobs)} pictures, {actors} actors{devices}", markup=False)
        summary = Summary()
        summary.failed += [(Path(name), _no_path(source, name)) for name in strange]
        try:
            _work_off(jobs, job.batch, actors, shape, ray.put(exported), work, summary, console)
        finally:  # after Ctrl-C too
            _report(console, summary, len(jobs) + len(strange))
    finally:
        ray.shutdown()
    return 1 if summary.failed or _left(summary, len(jobs) + len(strange)) else 0


def _no_path(source: PicturePlace, name: str) -> str:
    return f"{source.url}/{name}: its name is no path of a file below a folder; rename it"


def _plan(job: ColoringJob, source: PicturePlace, out: PicturePlace) -> tuple[list[Job], list[str]]:
    """Return what is to be made, and the names of pictures that cannot be."""
    here, there = (Path(place).expanduser().absolute() for place in (job.source, job.out))
    if not (source.is_remote or out.is_remote):
        return plan_files(here, there, job.options.samples, job.compare), []
    if f"{out.url}/".startswith(f"{source.url}/"):
        raise ConfigError(
            f"{out.url} is or lies in {source.url}, which is read: a second call would color its "
            "own outputs; choose a place beside it"
        )
    strange: list[str] = []
    if source.is_remote:
        root, (pictures, strange) = Path(), source.list_pictures()
    elif here.is_dir():
        root, pictures = here, find_pictures(here)
    else:
        root, pictures = here.parent, [here]
    if not pictures and strange:
        raise ConfigError("\n".join(_no_path(source, name) for name in strange))
    if not pictures:
        raise ConfigError(f"{source.url}: no pictures there or below it; a folder's URL is needed")
    target = Path() if out.is_remote else there
    return plan_found(pictures, root, target, job.options.samples, job.compare), strange


def _read_model(job: ColoringJob) -> dict[str, bytes]:
    """Return the files of the exported model; see that it loads and can do what is asked."""
    with tempfile.TemporaryDirectory() as place:
        folder = exported_model(job.model, job.tracking_uri, Path(place))
        load_colorizer(folder).prepare(job.options)
        return exported_files(folder)


def _shape(nodes: list[Node], gpus: float | None) -> Shape:
    if gpus is None:
        gpus = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    return Shape(1, 1.0, gpus)


def _work_off(
    jobs: Sequence[Job],
    batch: int,
    actors: int,
    shape: Shape,
    exported: "ray.ObjectRef[dict[str, bytes]]",
    work: Work,
    summary: Summary,
    console: Console,
) -> None:
    """Color all pictures, as far as actors can go on; `summary` has what became of them."""
    import ray.data
    import ray.exceptions

    attempts: Any = Attempts.remote()  # pyright: ignore[reportFunctionMemberAccess]
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [jobs_row(jobs[start : start + batch]) for start in range(0, len(jobs), batch)]
    colored = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).flat_map(
        Painter,
        fn_constructor_args=(exported, work, attempts),
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=shape.cpus_per_worker,
        num_gpus=shape.gpus_per_worker or None,
    )
    with ColoringProgress(console, len(jobs)) as progress:
        try:
            for row in colored.iter_rows():
                outcome = read_outcome(row)
                summary.add(outcome)
                progress.show(outcome)
        except ray.exceptions.RayError as error:
            reason = worker_fault(error)
            console.print(Text(f"no actor could go on: {reason}", style="red"))
            console.print("what was done stays; without this fault the same command goes on")


def _left(summary: Summary, total: int) -> int:
    return total - summary.pictures_done - summary.pictures_finished - len(summary.failed)


def _report(console: Console, summary: Summary, total: int) -> None:
    for note in summary.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    if summary.failed:
        table = Table(title="left out", title_justify="left")
        table.add_column("picture", overflow="fold")
        table.add_column("because", overflow="fold")
        for picture, reason in summary.failed:
            table.add_row(Text(str(picture)), Text(reason))
        console.print(table)
    left = _left(summary, total)
    console.print(f"{summary.told}, {left} not tried" if left else summary.told)
