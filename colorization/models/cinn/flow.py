"""The flow: an invertible map between small ab pictures and latents, given conditions."""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.cinn.transforms import Haar, Permutation, Shape, Subnetwork


class LevelConfig(Config):
    """Conditional GLOW couplings at one side; a level before it is halved by Haar wavelets."""

    couplings: int = Field(ge=1, le=32, description="coupling blocks")
    hidden: int = Field(ge=2, le=2048, description="channels inside the couplings' subnetworks")
    kernels: tuple[Literal[1, 3], ...] = Field(
        default=(3,), min_length=1, description="kernel sides of the couplings, in turn"
    )
    clamp: float = Field(
        default=1.0, gt=0, le=5, description="a coupling scales by exp(+-clamp) at most"
    )
    keep: int | None = Field(
        default=None,
        ge=2,
        description="channels that go on after the level, the others being latent; null: all",
    )


class FullyConnectedConfig(Config):
    """The last couplings, on all that is left as one vector."""

    couplings: int = Field(default=8, ge=1, le=32, description="coupling blocks")
    hidden: int = Field(
        default=512, ge=2, le=4096, description="units inside the couplings' subnetworks"
    )
    clamp: float = Field(
        default=0.6, gt=0, le=5, description="a coupling scales by exp(+-clamp) at most"
    )


class Flow(nn.Module):
    """(B, 2, side, side) <-> latents (B, 2 * side^2), exactly, given a condition a level.

    Kept in float32 but for the insides of the couplings' subnetworks: volumes multiply, so that
    rounding errors would.
    """

    def __init__(
        self,
        levels: Sequence[LevelConfig],
        fully_connected: FullyConnectedConfig,
        *,
        side: int,
        conditions: Sequence[int],
        vector: int,
        init_scale: float,
    ) -> None:
        """Build the flow for conditions of so many channels, one a level, and a last vector."""
        with warnings.catch_warnings():  # of escapes in its docstrings, where it is compiled
            warnings.filterwarnings("ignore", "invalid escape sequence|.*is an invalid escape")
            from FrEIA.framework import SequenceINN  # slow to import
            from FrEIA.modules import GLOWCouplingBlock

        super().__init__()
        self.size = 2 * side * side
        self.keeps: list[int] = []
        self.split_shapes: list[Shape] = []  # of what each level splits off
        self.levels = nn.ModuleList()
        shape: Shape = (2, side, side)
        for index, (level, channels) in enumerate(zip(levels, conditions, strict=True)):
            sequence = SequenceINN(*shape)
            if index > 0:
                sequence.append(Haar)
            shape = sequence.shapes[-1]
            for coupling in range(level.couplings):
                kernel = level.kernels[coupling % len(level.kernels)]
                sequence.append(
                    GLOWCouplingBlock,
                    cond=0,
                    cond_shape=(channels, *shape[1:]),
                    subnet_constructor=partial(
                        Subnetwork, hidden=level.hidden, kernel=kernel, scale=init_scale
                    ),
                    clamp=level.clamp,
                )
                if index > 0:  # of two channels, a coupling changes both anyway
                    sequence.append(Permutation)
            self.levels.append(sequence)
            keep = level.keep or shape[0]
            self.keeps.append(keep)
            self.split_shapes.append((shape[0] - keep, *shape[1:]))
            shape = (keep, *shape[1:])
        self.last_shape = shape
        self.fully_connected = SequenceINN(math.prod(shape))
        for _ in range(fully_connected.couplings):
            self.fully_connected.append(
                GLOWCouplingBlock,
                cond=0,
                cond_shape=(vector,),
                subnet_constructor=partial(
                    Subnetwork, hidden=fully_connected.hidden, kernel=None, scale=init_scale
                ),
                clamp=fully_connected.clamp,
            )
            self.fully_connected.append(Permutation)

    def forward(self, x: Tensor, conditions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the latents (B, size) of pictures and log|det J| (B,), float32.

        The latents are what the levels split off, in their order, and the last vector.
        """
        x = x.float()
        *maps, vector = conditions
        log_det = x.new_zeros(len(x))
        latents: list[Tensor] = []
        for level, keep, condition in zip(self.levels, self.keeps, maps, strict=True):
            x, change = level(x, [condition])
            log_det = log_det + change
            latents.append(x[:, keep:].flatten(1))
            x = x[:, :keep]
        x, change = self.fully_connected(x.flatten(1), [vector])
        return torch.cat([*latents, x], dim=1), log_det + change

    def inverse(self, z: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Return the pictures (B, 2, side, side) that have these latents (B, size), float32."""
        *maps, vector = conditions
        sizes = [math.prod(shape) for shape in self.split_shapes]
        *latents, x = z.float().split([*sizes, self.size - sum(sizes)], dim=1)
        x, _ = self.fully_connected(x, [vector], rev=True)
        x = x.unflatten(1, self.last_shape)
        parts = zip(self.levels, self.split_shapes, latents, maps, strict=True)
        for level, shape, latent, condition in reversed([*parts]):
            x, _ = level(torch.cat([x, latent.unflatten(1, shape)], dim=1), [condition], rev=True)
        return x


def check_levels(levels: Sequence[LevelConfig]) -> None:
    """Raise ValueError where a level keeps more channels than it has."""
    channels = 2
    for index, level in enumerate(levels):
        if index > 0:
            channels *= 4
        if level.keep is not None and level.keep >= channels:
            raise ValueError(
                f"flow.{index}.keep: found {level.keep}; the level has {channels} channels, fewer "
                "than that may go on (null: all)"
            )
        channels = level.keep or channels
