"""How long a GAN's training step takes in float32 and bfloat16, with and without channels last.

Run it on a quiet machine: `python benchmarks/training_step.py`. The ways take turns within one
process, so that whatever else the machine does meets them alike; medians are compared.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from colorization.config import parse
from colorization.data import open_data
from colorization.distributed import Ranks, current_ranks
from colorization.experiment import Experiment
from colorization.stage import StageRun, computes_bfloat16

SIZE, BATCH = 128, 8
GENERATORS = ("unet", "resnet_unet")
Way = tuple[str, bool]  # precision, channels_last


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small pictures and networks, once")
    parser.add_argument("--rounds", type=int, default=5, help="measured a way (5)")
    parser.add_argument("--steps", type=int, default=1, help="a round (1)")
    options = parser.parse_args(arguments)
    size, batch, width, rounds, steps = SIZE, BATCH, 64, options.rounds, options.steps
    if options.quick:
        size, batch, width, rounds, steps = 32, 2, 8, 1, 1

    ranks = current_ranks()
    bfloat16 = computes_bfloat16(ranks.device)
    precisions = ("float32", "bfloat16") if bfloat16 else ("float32",)
    ways: list[Way] = list(itertools.product(precisions, (False, True)))
    console = Console()
    where = torch.cuda.get_device_name() if ranks.device.type == "cuda" else "CPU"
    threads = f", {torch.get_num_threads()} threads" if ranks.device.type == "cpu" else ""
    console.print(
        f"{where}{threads}, torch {torch.__version__}: {size} pixels, batch {batch}, "
        f"median of {rounds} x {steps} steps"
    )
    if not bfloat16:
        console.print("bfloat16 is left out: this processor does not compute in it")
    table = Table("generator", "precision", "channels last")
    for heading in ("ms a step", "pictures/s", "time / float32"):
        table.add_column(heading, justify="right")
    for generator in GENERATORS:
        seconds = _measure(
            {"name": generator, "width": width}, ways, ranks, size, batch, rounds, steps
        )
        plain = seconds["float32", False]
        for (precision, channels_last), taken in seconds.items():
            table.add_row(
                generator,
                precision,
                "yes" if channels_last else "no",
                f"{1000 * taken:.1f}",
                f"{batch / taken:.0f}",
                f"{taken / plain:.2f}",
            )
    console.print(table)
    return 0


def _measure(
    generator: dict[str, Any],
    ways: Sequence[Way],
    ranks: Ranks,
    size: int,
    batch: int,
    rounds: int,
    steps: int,
) -> dict[Way, float]:
    """Return the median seconds of a step for each way."""
    runs = {way: _stage_run(generator, way, ranks, size, batch, steps) for way in ways}
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    for epoch in range(rounds + 1):  # the first one warms up
        for way, run in runs.items():
            _wait(ranks)
            started = time.perf_counter()
            run.train_epoch(0, epoch)
            _wait(ranks)
            if epoch > 0:
                seconds[way].append((time.perf_counter() - started) / steps)
    return {way: statistics.median(taken) for way, taken in seconds.items()}


def _stage_run(
    generator: dict[str, Any], way: Way, ranks: Ranks, size: int, batch: int, steps: int
) -> StageRun:
    precision, channels_last = way
    experiment = parse(
        Experiment,
        {
            "data": {"source": {"name": "sample", "crops": batch * steps}, "size": size},
            "model": {"name": "gan", "generator": generator},
            "train": {
                "batch_size": batch,
                "precision": precision,
                "channels_last": channels_last,
                "stages": {"adversarial": {"turns": "adversarial", "epochs": 1}},
            },
        },
    )
    pictures = open_data(experiment.data).train
    stage = experiment.train.stages["adversarial"]
    return StageRun(experiment, "adversarial", stage, pictures, ranks, None, resumed=False)


def _wait(ranks: Ranks) -> None:
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    raise SystemExit(main())
