"""What many GPUs would bring, by a model: `python benchmarks/scaling_model.py` prints a table.

A step's floating-point operations and the bytes of gradients that it averages are counted, at each
recipe's published size; what a GPU computes a second and what a network carries are assumed, given
by flags. docs/scaling.md says what the model leaves out.
"""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from colorization.experiment import Experiment, outline, read_experiment, recipes
from colorization.memory_saving import checkpoint_activations
from colorization.micro_batches import add_gradients
from colorization.models.colorizer import Progress
from colorization.optimizers import freeze

GPUS = (8, 16, 32, 64, 128, 256)
_BACKWARD = 2 / 3  # of a step's computing: it costs twice what the forward pass does


class Machines(NamedTuple):
    """What is assumed of them."""

    gpus: int  # on each host
    flops: float  # a second, that a GPU brings to training
    within: float  # bytes a second that a GPU exchanges with those of its host
    between: float  # bytes a second that a host exchanges with others
    latency: float  # seconds of a hop
    overlap: float  # share of a backward pass that gradients can be exchanged during


class Step(NamedTuple):
    """A training step on one GPU's share of the batch."""

    flops: float
    turns: tuple[int, ...]  # bytes of gradients that each turn averages

    @property
    def gradients(self) -> int:
        """Return the bytes of all turns."""
        return sum(self.turns)


class _Operations(TorchDispatchMode):
    """Counts floating-point operations as torch's own counter, which gradient penalties defeat."""

    flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        found = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func.overloadpacket)
        if counted is not None:
            self.flops += counted(*args, **(kwargs or {}), out_val=found)
        return found


def count(experiment: Experiment, batch: int) -> Step:
    """Count a step of the experiment's last stage on so many pictures, computing nothing."""
    stage = [*experiment.train.stages.values()][-1]
    model = outline(experiment)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model.to_empty(device="cpu").train()
        lab = torch.empty(batch, 3, experiment.data.size, experiment.data.size)
    for part in freeze(model, (*stage.freeze, *model.idle(stage.turns))):
        part.eval()
    if experiment.train.activation_checkpointing:
        checkpoint_activations(model)
    networks = {player: model.get_submodule(player) for player in model.players}
    sizes = {
        player: sum(4 * w.numel() for w in network.parameters() if w.requires_grad)
        for player, network in networks.items()
    }
    moving = [player for player, size in sizes.items() if size]
    turns: list[int] = []
    with _Operations() as counter:
        generator = model.turns(lab, Progress(stage.turns, 0, 1))
        while turn := add_gradients(model, [generator], moving):
            turns.append(sizes[turn.player])
    return Step(counter.flops, tuple(turns))


def seconds(step: Step, gpus: int, machines: Machines) -> tuple[float, float]:
    """Return the time of a step on so many GPUs, and what of it is communication nothing hides.

    Gradients are averaged within each host, then between hosts in a ring, then within each again;
    what computing does not hide of a turn's exchange comes on top.
    """
    computing = step.flops / machines.flops
    hosts = -(-gpus // machines.gpus)
    inside = min(gpus, machines.gpus)
    exposed = 0.0
    for size in step.turns:
        exchange = 2 * (inside - 1) / inside * size / machines.within
        exchange += 2 * (hosts - 1) / hosts * size / machines.between
        exchange += 2 * (inside - 1 + hosts - 1) * machines.latency
        hidden = machines.overlap * _BACKWARD * computing / len(step.turns)
        exposed += max(0.0, exchange - hidden)
    return computing + exposed, exposed


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", choices=[*recipes()], default=[*recipes()])
    parser.add_argument("--batch", type=int, default=16, help="pictures a GPU (16)")
    parser.add_argument("--tflops", type=float, default=60.0, help="a GPU brings to training (60)")
    parser.add_argument("--gpus", type=int, default=8, help="on a host (8)")
    parser.add_argument("--within", type=float, default=100.0, help="GB/s within a host (100)")
    parser.add_argument(
        "--between", type=float, nargs="+", default=[10, 25, 100, 400], help="Gbit/s of a host"
    )
    parser.add_argument("--used", type=float, default=0.8, help="share of that which is used (0.8)")
    parser.add_argument("--latency", type=float, default=20.0, help="microseconds a hop (20)")
    parser.add_argument("--overlap", type=float, default=0.5, help="of a backward pass (0.5)")
    options = parser.parse_args(arguments)
    console = Console(width=140)
    console.print(
        f"{options.batch} pictures a GPU, {options.tflops:g} TFLOP/s of it, {options.gpus} GPUs a "
        f"host, {options.within:g} GB/s within, {options.used:.0%} of the network's rate, "
        f"{options.latency:g} us a hop, {options.overlap:.0%} of a backward pass hides exchange"
    )
    table = Table("recipe", title="share of so many single GPUs' pictures a second")
    for heading in ("GFLOP a picture", "gradients, MB", "Gbit/s", *map(str, GPUS)):
        table.add_column(heading, justify="right")
    for name in options.recipes:
        step = count(read_experiment(name), options.batch)
        for number, rate in enumerate(options.between):
            machines = Machines(
                options.gpus,
                options.tflops * 1e12,
                options.within * 1e9,
                options.used * rate / 8 * 1e9,
                options.latency / 1e6,
                options.overlap,
            )
            alone = step.flops / machines.flops
            shares = [f"{alone / seconds(step, gpus, machines)[0]:.0%}" for gpus in GPUS]
            counted = (f"{step.flops / options.batch / 1e9:.0f}", f"{step.gradients / 1e6:.0f}")
            first = (name, *counted) if number == 0 else ("", "", "")
            table.add_row(*first, f"{rate:g}", *shares)
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
