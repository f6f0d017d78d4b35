"""The model families; a new one is one file and one member here."""

from typing import Annotated

from pydantic import Field

from colorization.models.cinn import CINNConfig
from colorization.models.cvae import CVAEConfig
from colorization.models.gan import GANConfig
from colorization.models.unet import UNetConfig

ModelConfig = Annotated[
    CINNConfig | CVAEConfig | GANConfig | UNetConfig, Field(discriminator="name")
]

__all__ = ["CINNConfig", "CVAEConfig", "GANConfig", "ModelConfig", "UNetConfig"]
