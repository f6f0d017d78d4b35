"""How the next trial's settings are chosen: the samplers and what may be set of each."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from colorization.config import Config

Startup = Annotated[
    int | None,
    Field(ge=1, description="random trials before it (none: a third of all, from 4 to 10)"),
]


class TPEConfig(Config):
    """Tree-structured Parzen estimator (Bergstra et al. 2011)."""

    name: Literal["tpe"] = "tpe"
    multivariate: bool = Field(default=True, description="models settings together")
    group: bool = Field(
        default=True, description="models the settings of each branch together (multivariate only)"
    )
    constant_liar: bool = Field(
        default=True, description="keeps away from trials that still run (Ginsbourger et al. 2010)"
    )
    startup_trials: Startup = None

    @model_validator(mode="after")
    def _groups_are_multivariate(self) -> "TPEConfig":
        if self.group and not self.multivariate:
            raise ValueError("group=true needs multivariate=true; set group=false too")
        return self


class GPConfig(Config):
    """Gaussian process with expected improvement; of its hypervolume for several objectives."""

    name: Literal["gp"] = "gp"
    startup_trials: Startup = None


class CMAESConfig(Config):
    """Covariance matrix adaptation (Hansen and Ostermeier 2001): ranges only, one objective."""

    name: Literal["cma_es"] = "cma_es"
    startup_trials: Startup = None


class RandomConfig(Config):
    """Every trial is drawn independently."""

    name: Literal["random"] = "random"


class GridConfig(Config):
    """All combinations of options and of `points` values of each range, in a random order."""

    name: Literal["grid"] = "grid"
    points: int = Field(default=3, ge=2, description="values of each range, its ends included")


class QMCConfig(Config):
    """Scrambled Sobol sequence (Owen 1998), which fills the space more evenly than random draws."""

    name: Literal["qmc"] = "qmc"


Sampler = Annotated[
    TPEConfig | GPConfig | CMAESConfig | RandomConfig | GridConfig | QMCConfig,
    Field(discriminator="name"),
]
