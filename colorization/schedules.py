"""Learning-rate schedules as pure functions of the step, so that a resume has nothing to load."""

import math
from typing import Annotated, Literal

from pydantic import Field

from colorization.config import Config

WarmUp = Annotated[int, Field(ge=0, description="steps of linear growth at a stage's start")]


class Constant(Config):
    """The learning rate as it is, after the warm-up."""

    name: Literal["constant"] = "constant"
    warmup_steps: WarmUp = 0

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at a step (from 0) of a stage of `steps`."""
        return _warm(step, self.warmup_steps)


class Cosine(Config):
    """Half a cosine from 1 to `floor` over the stage (Loshchilov and Hutter 2017, no restarts)."""

    name: Literal["cosine"] = "cosine"
    warmup_steps: WarmUp = 0
    floor: float = Field(default=0.0, ge=0, le=1, description="factor at the stage's end")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at a step (from 0) of a stage of `steps`."""
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        fall = (1 + math.cos(math.pi * min(1.0, max(0.0, done)))) / 2
        return _warm(step, self.warmup_steps) * (self.floor + (1 - self.floor) * fall)


class Step(Config):
    """Multiplied by `gamma` each time another share `every` of the stage has passed."""

    name: Literal["step"] = "step"
    warmup_steps: WarmUp = 0
    every: float = Field(
        default=0.5, gt=0, le=1, description="share of the stage between two falls"
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="factor of each fall")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at a step (from 0) of a stage of `steps`."""
        falls = int(step / (self.every * steps))
        return _warm(step, self.warmup_steps) * self.gamma**falls


Schedule = Annotated[Constant | Cosine | Step, Field(discriminator="name")]


def _warm(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))
