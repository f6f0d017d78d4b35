"""Chunks of pictures, worked off by the actors of a cluster."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster import connect, find_running
from curator import Chunk
from worker_fault import worker_fault


class WorkersFailed(RuntimeError):
    """No worker could go on, and of what: what they wrote down stays, to go on with."""


def work_off(
    chunks: Sequence[Chunk],
    done: int,
    worker: type,
    arguments: dict[str, Any],
    *,
    processes: int | None,
    gpus: bool,
    title: str,
    console: Console,
) -> None:
    """Let actors of a class that is called with a chunk's row work off chunks.

    It returns how many were `looked` at, and what is to be `said` of them, if anything.
    `arguments` are those of its constructor; where `gpus` may be used and there are any, an actor
    has one and is told so as `gpu`. `done` is how many pictures were worked off before. Raises
    WorkersFailed.
    """
    ray = start_ray()
    resources = ray.cluster_resources()
    cpus, devices = int(resources.get("CPU", 1)), int(resources.get("GPU", 0)) if gpus else 0
    workers = min(devices or processes or cpus, len(chunks))
    if gpus:
        arguments = {**arguments, "gpu": devices > 0}
    data = ray.data.from_items(
        [vars(chunk) for chunk in chunks], override_num_blocks=len(chunks)
    ).map(
        worker,
        fn_constructor_kwargs=arguments,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=min(1.0, cpus / workers),
        num_gpus=1 if devices else None,
    )
    with _progress(console) as progress:
        task = progress.add_task(title, total=done + sum(len(chunk.names) for chunk in chunks))
        progress.update(task, completed=done)
        try:
            for row in data.iter_rows():
                progress.advance(task, row["looked"])
                if row["said"]:
                    console.print(row["said"], markup=False, soft_wrap=True)
        except ray.exceptions.RayError as error:
            raise WorkersFailed(worker_fault(error)) from error


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def start_ray() -> Any:
    """Join the cluster or start one; return Ray, set so that workers leave GPUs to others."""
    import ray
    import ray.data

    if not ray.is_initialized():
        connect(find_running())
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    with warnings.catch_warnings():
        # Ray Data itself is to see to it from 2.64 on. Until then it spreads workers over all
        # machines, where Ray's own way is those without GPUs first.
        warnings.simplefilter("ignore")
        context.scheduling_strategy = "DEFAULT"
    return ray


def shut_down() -> None:
    """Leave the cluster, or end the one that was started."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
