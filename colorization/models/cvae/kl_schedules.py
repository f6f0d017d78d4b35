"""How the weight of the KL term grows, as pure functions of the step: a resume loads nothing."""

from typing import Annotated, Literal

from pydantic import Field

from colorization.config import Config


class ConstantWeight(Config):
    """The whole weight from the first step on."""

    name: Literal["constant"] = "constant"

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the weight at a step (from 0) of a stage of `steps`."""
        del step, steps
        return 1.0


class WarmUp(Config):
    """Linear growth from 0, then the whole weight (Bowman et al. 2016; Sønderby et al. 2016)."""

    name: Literal["warm_up"] = "warm_up"
    share: float = Field(default=0.25, gt=0, le=1, description="of the stage in which it grows")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the weight at a step (from 0) of a stage of `steps`."""
        return min(1.0, step / (self.share * steps))


class Cyclical(Config):
    """Linear growth from 0 again and again (Fu et al. 2019, equation 6)."""

    name: Literal["cyclical"] = "cyclical"
    cycles: int = Field(default=4, ge=1, le=1000, description="how many the stage has")
    share: float = Field(default=0.5, gt=0, le=1, description="of a cycle in which it grows")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the weight at a step (from 0) of a stage of `steps`."""
        passed = step * self.cycles % steps / steps  # share of the cycle
        return min(1.0, passed / self.share)


KLSchedule = Annotated[ConstantWeight | WarmUp | Cyclical, Field(discriminator="name")]
