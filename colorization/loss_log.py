"""The losses of an epoch: averaged over steps and ranks, and watched for what is not finite."""

import math

import torch
from torch import Tensor

from colorization.distributed import Ranks, mean_over_ranks
from colorization.models.colorizer import Turn


class Diverged(RuntimeError):
    """Training met a number that is not finite; the message says where."""


class LossLog:
    """Collects the terms of turns without waiting for the device at each of them.

    `every` steps they are read at once: all ranks then see the same means, and all raise Diverged
    where one of them met a NaN.
    """

    def __init__(self, stage: str, epoch: int, ranks: Ranks, every: int = 50) -> None:
        self.stage = stage
        self.epoch = epoch
        self._ranks = ranks
        self._every = every
        self._waiting: list[tuple[int, str, Tensor]] = []
        self._first_step: int | None = None
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, step: int, turn: Turn) -> None:
        """Take in a turn of a step; may raise Diverged for one of the last steps."""
        if self._first_step is None:
            self._first_step = step
        elif step - self._first_step >= self._every:
            self._read()
            self._first_step = step
        for name, value in {**turn.terms, "loss": turn.loss}.items():
            self._waiting.append((step, f"{turn.player}/{name}", value.detach().float()))

    def _read(self) -> None:
        if not self._waiting:
            return
        values = mean_over_ranks(torch.stack([value for *_, value in self._waiting]), self._ranks)
        for (step, name, _), value in zip(self._waiting, values.tolist(), strict=True):
            if not math.isfinite(value):
                player, term = name.split("/")
                raise Diverged(
                    f"{term} of the {player} is {value} in step {step} of stage {self.stage} "
                    f"(epoch {self.epoch}): try a smaller train.learning_rate, "
                    "a train.gradient_clip, or train.precision=float32"
                )
            if name.endswith("/loss"):
                continue  # a sum that carries weights, which are being searched
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)
        self._waiting.clear()

    def means(self) -> dict[str, float]:
        """Return the mean of each term over the steps it was met in: {"train/player/term": ...}."""
        self._read()
        return {f"train/{name}": total / count for name, (total, count) in self._sums.items()}
