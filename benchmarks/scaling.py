"""Pictures a second on one rank and on two, and the share of a step that is communication.

`python benchmarks/scaling.py` trains a small model of each family on a local Ray, or on the cluster
that RAY_ADDRESS names: on one rank, on two of one host, and on two hosts where there are two.
`--three-hosts` brings up those of tests/cluster on this machine first, and measures there. Each
rank has a batch of its own, as large as that of the single one. What steps without any exchange
between the ranks take less is the communication that computing does not hide. Both kinds of step
take turns, so that whatever else the machines do meets them alike; medians are compared.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent / "ray_jobs"))

from cluster import connect, find_running
from colorization import stage as stages
from colorization.config import parse
from colorization.data import open_data
from colorization.distributed import barrier, current_ranks
from colorization.experiment import Experiment, count_players
from colorization.process_group import process_group
from colorization.stage import StageRun
from introduction import describe_group, meeting_point
from small_recipe import read_small_recipe

ROOT = Path(__file__).resolve().parent.parent
SIZE, BATCH = 64, 8  # pixels; pictures a rank
UNET = {"name": "unet", "width": 16, "dropout": 0.0}
GAN = {"name": "gan", "generator": UNET, "discriminator": {"name": "patch", "width": 16}}


class Place(NamedTuple):
    """Where ranks run."""

    name: str
    ranks: int
    strategy: str  # of the placement group


ALONE = Place("1 rank", 1, "STRICT_PACK")
PLACES = (
    ALONE,
    Place("2 ranks, one host", 2, "STRICT_PACK"),
    Place("2 ranks, two hosts", 2, "STRICT_SPREAD"),
)


class Seconds(NamedTuple):
    """Medians of a step."""

    exchanging: float
    alone: float  # without any exchange between the ranks

    @property
    def share(self) -> float:
        """Return the share of a step that is communication which nothing hides."""
        return max(0.0, 1 - self.alone / self.exchanging)


def experiments(ranks: int, steps: int) -> dict[str, Experiment]:
    """Return each family's experiment, of so many steps an epoch."""
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "gan": ("adversarial", GAN),
        "cvae": ("vae", read_small_recipe("unet_cvae")["model"]),
        "cinn": ("likelihood", read_small_recipe("cinn")["model"]),
        "unet": ("l1", {"name": "unet", "generator": UNET}),
    }
    return {
        family: parse(
            Experiment,
            {
                "data": {
                    "source": {"name": "sample", "crops": ranks * BATCH * steps},
                    "size": SIZE,
                },
                "model": model,
                "train": {
                    "batch_size": ranks * BATCH,
                    "precision": "float32",
                    "stages": {"only": {"turns": turns, "epochs": 1}},
                },
            },
        )
        for family, (turns, model) in models.items()
    }


class Rank:
    """A process of a group."""

    def meeting_point(self) -> tuple[str, int]:
        """Return where the group may meet, if this is its first rank."""
        return meeting_point()

    def measure(
        self, rank: int, size: int, point: tuple[str, int], steps: int, rounds: int
    ) -> dict[str, Seconds]:
        """Train each family with the other ranks, and beside them."""
        describe_group(*point, RANK=rank, WORLD_SIZE=size, LOCAL_RANK=0)
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        with process_group(device):
            return {
                family: _measure(experiment, device, steps, rounds)
                for family, experiment in experiments(size, steps).items()
            }


def _measure(experiment: Experiment, device: torch.device, steps: int, rounds: int) -> Seconds:
    ranks = current_ranks(device)
    pictures = open_data(experiment.data).train
    stage = experiment.train.stages["only"]

    def run() -> StageRun:
        return StageRun(experiment, "only", stage, pictures, ranks, None, resumed=False)

    together = run()
    with _nothing_exchanged():
        beside = run()
    taken: dict[bool, list[float]] = {True: [], False: []}
    for epoch in range(rounds + 1):  # the first one warms up
        for exchanging, one in ((True, together), (False, beside)):
            barrier(ranks)
            started = time.perf_counter()
            one.train_epoch(0, epoch)
            if epoch > 0:
                taken[exchanging].append((time.perf_counter() - started) / steps)
    return Seconds(statistics.median(taken[True]), statistics.median(taken[False]))


@contextmanager
def _nothing_exchanged() -> Iterator[None]:
    """Leave networks as they are where a stage would replicate them."""
    names = ("replicate", "share_batch_statistics")
    before = {name: getattr(stages, name) for name in names}
    try:
        for name in names:
            setattr(stages, name, lambda network, ranks: network)
        yield
    finally:
        for name, function in before.items():
            setattr(stages, name, function)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6, help="a round (6)")
    parser.add_argument("--rounds", type=int, default=5, help="measured (5)")
    parser.add_argument("--three-hosts", action="store_true", help="as root, on this machine")
    options = parser.parse_args(arguments)
    if options.three_hosts:
        return _on_three_hosts(options.steps, options.rounds)
    console = Console(width=None if os.isatty(1) else 120)
    nodes = connect(find_running())
    console.print(f"{len(nodes)} hosts, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    gpu = any(node.gpus for node in nodes)
    table = Table("family", "parameters", "place", title=f"{SIZE} pixels, {BATCH} pictures a rank")
    for heading in ("pictures/s", "of its ranks alone", "communication"):
        table.add_column(heading, justify="right")
    found = {
        place: _run(place, gpu, options.steps, options.rounds)
        for place in PLACES
        if place.strategy != "STRICT_SPREAD" or len(nodes) > 1
    }
    for family, experiment in experiments(1, options.steps).items():
        parameters = f"{sum(count_players(experiment).values()):,}"
        for place, seconds in found.items():
            if seconds is None:
                table.add_row(family, parameters, place.name, "no room")
                continue
            pictures = place.ranks * BATCH / seconds[family].exchanging
            ideal = place.ranks * BATCH / (found[ALONE] or seconds)[family].exchanging
            share = f"{seconds[family].share:.0%}" if place.ranks > 1 else ""
            row = (f"{pictures:.1f}", f"{pictures / ideal:.0%}", share)
            table.add_row(family, parameters, place.name, *row)
    console.print(table)
    console.print(f"load {os.getloadavg()[0]:.1f} at the end")
    ray.shutdown()
    return 0


def _on_three_hosts(steps: int, rounds: int) -> int:
    """Bring up hosts with networks of their own, and run this file there as a job."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from cluster_hosts import why_none
    from three_hosts import ThreeHosts

    if lacking := why_none():
        print(lacking, file=sys.stderr)
        return 1
    words = ["python", "benchmarks/scaling.py", "--steps", str(steps), "--rounds", str(rounds)]
    with ThreeHosts(Path(tempfile.mkdtemp(prefix="hosts-"))) as hosts:
        hosts.up()
        hosts.submit("scaling", *words, working_dir=ROOT)
        ended = hosts.wait_for("scaling", patience=3600)
        print(hosts.logs("scaling"))
    return 0 if ended == "SUCCEEDED" else 1


def _run(place: Place, gpu: bool, steps: int, rounds: int) -> dict[str, Seconds] | None:
    """Measure in a place; None where a minute finds no room there."""
    bundle: dict[str, float] = {"CPU": 1, **({"GPU": 1} if gpu else {})}
    group = placement_group([bundle] * place.ranks, strategy=place.strategy)
    try:
        if not group.wait(60):
            return None
        # The project lies under the same path on all hosts.
        path = os.pathsep.join([str(ROOT / folder) for folder in ("benchmarks", "ray_jobs", "")])
        environment = {"env_vars": {"PYTHONPATH": path}}
        actor: Any = ray.remote(num_cpus=1, num_gpus=int(gpu), runtime_env=environment)(Rank)
        there = PlacementGroupSchedulingStrategy(group)
        members = [actor.options(scheduling_strategy=there).remote() for _ in range(place.ranks)]
        point = ray.get(members[0].meeting_point.remote(), timeout=300)
        tasks = [
            member.measure.remote(rank, place.ranks, point, steps, rounds)
            for rank, member in enumerate(members)
        ]
        return ray.get(tasks, timeout=1800)[0]
    finally:
        remove_placement_group(group)


if __name__ == "__main__":
    raise SystemExit(main())
