"""What can be known of an experiment before it is trained: its memory, and its ranks' gradients."""

import gc
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.batchnorm import _BatchNorm

from colorization.config import dump, override, parse
from colorization.data.picture_sets import ColorStatistics
from colorization.distributed import Ranks, current_ranks
from colorization.experiment import Experiment, Stage, outline, without_pretrained
from colorization.memory_saving import checkpoint_activations
from colorization.micro_batches import add_gradients
from colorization.models.colorizer import Progress
from colorization.optimizers import freeze
from colorization.stage import StageRun
from colorization.stage_data import has_length

_PROCESS = Path("/proc/self")
_STATISTICS = ColorStatistics((0.0, 0.0), (1.0, 1.0))  # of no pictures: none are looked at


class StepMemory(NamedTuple):
    """Bytes that a training step took."""

    base: int  # held before
    step: int  # more than that at the highest moment

    @property
    def total(self) -> int:
        """Return what was held at the highest moment."""
        return self.base + self.step


def activation_bytes(experiment: Experiment) -> int:
    """Estimate the memory of a training step on one rank with the whole batch, computing nothing.

    Weights, gradients, Adam's two moments, averaged weights and what is kept for the backward
    passes at the highest moment, in float32, of the stage with the most. Played on torch's meta
    device; what a layer needs beside what it keeps is not in it, nor are the pictures and what
    libraries take. Made for telling which of several experiments is the largest.
    """
    return max(_stage_bytes(at, stage) for at, stage in _stage_kinds(experiment))


def _stage_bytes(experiment: Experiment, stage: Stage) -> int:
    train, size = experiment.train, experiment.data.size
    parts = -(-train.batch_size // train.micro_batches)
    model = outline(experiment)
    # torch's meta device has no autocast. Made in this mode, but not used in it: what a model
    # computes of no tensors, as the matrices of color spaces, are numbers that it needs.
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model.to_empty(device="cpu").train()
        lab = torch.empty(parts, 3, size, size)
    for part in freeze(model, (*stage.freeze, *model.idle(stage.turns))):
        part.eval()
    if train.activation_checkpointing:
        checkpoint_activations(model)
    weights = [*model.parameters(), *model.buffers()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Gradients and two moments; averages of nearly all there is.
    standing = _bytes(weights) * (2 if train.ema > 0 else 1) + 3 * _bytes(trained)
    networks = {player: model.get_submodule(player) for player in model.players}
    moving = [p for p, n in networks.items() if any(w.requires_grad for w in n.parameters())]
    kept = _Kept(weights)
    with kept.watched():
        turns = [model.turns(lab, Progress(stage.turns, 0, 1)) for _ in range(train.micro_batches)]
        while add_gradients(model, turns, moving):
            pass
    return standing + kept.most


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class _Kept:
    """Counts the bytes of what autograd keeps for backward passes, weights left out."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.most = 0
        self._now = 0
        self._weights = [tensor.untyped_storage() for tensor in weights]  # alive: ids stay theirs
        self._holders = {id(storage): 1 for storage in self._weights}

    def watched(self) -> saved_tensors_hooks:
        """Return what the forward and backward passes run in."""
        return saved_tensors_hooks(lambda tensor: _Hold(self, tensor), lambda hold: hold.tensor)

    def hold(self, storage: torch.UntypedStorage) -> None:
        """Count a storage that is kept once more."""
        if self._holders.setdefault(id(storage), 0) == 0:
            self._now += storage.nbytes()
            self.most = max(self.most, self._now)
        self._holders[id(storage)] += 1

    def release(self, storage: torch.UntypedStorage) -> None:
        """Count it once less."""
        self._holders[id(storage)] -= 1
        if self._holders[id(storage)] == 0:
            self._now -= storage.nbytes()


class _Hold:
    """A tensor that autograd keeps, until it lets it go."""

    def __init__(self, kept: _Kept, tensor: Tensor) -> None:
        self.tensor, self._kept = tensor, kept
        self._storage = tensor.untyped_storage()
        kept.hold(self._storage)

    def __del__(self) -> None:
        self._kept.release(self._storage)


def rehearse_step(
    experiment: Experiment, device: torch.device | str | None = None, *, share: int = 1
) -> StepMemory:
    """Train one step on random pictures in every kind of stage, and return the memory it took.

    The batch is the part that one of `share` ranks has. Weights are random, pretrained ones too.
    On a GPU what torch allocates is counted, beside what the device holds already, of other
    processes as well; on the CPU the resident memory of this process, which should be young: what
    it freed before hides what a step takes. Made for a process of its own, in no group.
    """
    device = torch.device(device) if device else current_ranks().device
    gc.collect()
    watch = _GPUMemory(device) if device.type == "cuda" else _ProcessMemory()
    for at, stage in _stage_kinds(experiment):
        batch = max(1, at.train.batch_size // share)
        run = _stage_run(at, stage, batch, Ranks(0, 1, device))
        run.set_modes()
        for _ in run.step(run.to_lab(_noise(batch, at.data.size)), 0):
            pass
        del run
    return watch.taken()


class _ProcessMemory:
    """The resident memory of this process from now on."""

    def __init__(self) -> None:
        with suppress(OSError):  # else the peak is of all its life
            if (_PROCESS / "clear_refs").exists():
                (_PROCESS / "clear_refs").write_text("5")
        self._base = self._read("VmRSS")

    def taken(self) -> StepMemory:
        """Return the growth up to the peak."""
        return StepMemory(self._base, max(0, self._read("VmHWM") - self._base))

    @staticmethod
    def _read(key: str) -> int:
        status = _PROCESS / "status"
        lines = status.read_text().splitlines() if status.exists() else []
        sizes = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
        if {"VmRSS", "VmHWM"} <= sizes.keys():
            return 1024 * int(sizes[key].split()[0])
        # Not of Linux, or of a container's own kernel: the peak of all its life.
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _GPUMemory:
    """The memory that torch allocates on a GPU from now on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        free, total = torch.cuda.mem_get_info(device)
        self._base, self._allocated = total - free, torch.cuda.memory_allocated(device)

    def taken(self) -> StepMemory:
        """Return the growth up to the peak."""
        peak = torch.cuda.max_memory_allocated(self._device)
        return StepMemory(self._base, peak - self._allocated)


def gradient_difference(experiment: Experiment, ranks: Ranks) -> float:
    """Compare the gradients that replicated networks get with those that one rank gets by itself.

    Every rank of the group calls it. In every kind of stage the ranks play the turns of one step on
    their shares of random pictures, no player moving; then each computes all shares one after the
    other and averages. Both draw the same noise for a share, in float32, with fixed batch
    statistics: theirs are others by design. Returns the largest norm of a difference / norm of the
    gradient, over turns and ranks: round-off where all is well. One rank: 0.
    """
    if ranks.size == 1:
        return 0.0
    largest = 0.0
    for at, stage in _stage_kinds(experiment):
        share = 2 * at.train.micro_batches
        plain = {"train.precision": "float32", "train.compile": False}
        at = parse(Experiment, override(dump(at), plain))
        together = _stage_run(at, stage, share * ranks.size, ranks)
        state = {**together.state(), "averages": None, "optimizers": {}}
        alone = _stage_run(at, stage, share, Ranks(0, 1, ranks.device), state)
        found = _share_gradients(together, ranks.rank, share)
        expected: list[Tensor] = []
        for rank in range(ranks.size):
            alone.model.load_state_dict(state["model"])
            for index, gradient in enumerate(_share_gradients(alone, rank, share)):
                if index == len(expected):
                    expected.append(torch.zeros_like(gradient))
                expected[index] += gradient / ranks.size
        for ours, theirs in zip(found, expected, strict=True):
            distance = (ours - theirs).norm() / theirs.norm().clamp_min(1e-30)
            largest = max(largest, distance.item())
    over_ranks = torch.tensor(largest, device=ranks.device)
    dist.all_reduce(over_ranks, dist.ReduceOp.MAX)
    return over_ranks.item()


def _share_gradients(run: StageRun, rank: int, share: int) -> list[Tensor]:
    """Return the gradient that the player of each turn gets, computed from a rank's share."""
    run.set_modes()
    for module in run.model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    lab = run.to_lab(_noise(share, run.experiment.data.size, seed=rank))
    torch.manual_seed(rank)
    found: list[Tensor] = []
    for turn in run.gradients(lab, 0):
        network = run.model.get_submodule(turn.player)
        trained = [p for p in network.parameters() if p.requires_grad]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        found.append(torch.cat([part.flatten() for part in parts]).clone())
    return found


class _NoPictures:
    """A set of so many pictures that nobody looks at."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Raise IndexError: there is none."""
        raise IndexError(index)

    def name(self, index: int) -> str:
        """Return the number of a picture."""
        return str(index)


def _stage_run(
    experiment: Experiment,
    stage: Stage,
    batch: int,
    ranks: Ranks,
    state: Mapping[str, Any] | None = None,
) -> StageRun:
    changes = {"train.batch_size": batch, "data.loader_workers": 0}
    changed = parse(Experiment, override(dump(without_pretrained(experiment)), changes))
    return StageRun(
        changed,
        "rehearsal",
        stage,
        _NoPictures(batch),
        ranks,
        dict(state) if state else None,
        resumed=False,
        statistics=_STATISTICS,
    )


def _stage_kinds(experiment: Experiment) -> Iterator[tuple[Experiment, Stage]]:
    """Yield the stages that differ in more than their length, and the experiment as they see it."""
    seen: list[tuple[Any, ...]] = []
    for name, stage in experiment.train.stages.items():
        kind = stage.turns, stage.freeze, stage.change
        if has_length(stage) and kind not in seen:
            seen.append(kind)
            yield experiment.at(name), stage


def _noise(count: int, size: int, seed: int = 0) -> Tensor:
    """Draw uint8 RGB pictures (count, 3, size, size)."""
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=drawn)
