"""The model families; a new one is one file and one member here."""

from typing import Annotated

from pydantic import Field

from colorization.models.gan import GANConfig
from colorization.models.unet import UNetConfig

ModelConfig = Annotated[GANConfig | UNetConfig, Field(discriminator="name")]

__all__ = ["GANConfig", "ModelConfig", "UNetConfig"]
