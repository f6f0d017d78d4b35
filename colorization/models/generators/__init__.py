"""The generators a model may be built with; a new one is one file and one member here."""

from typing import Annotated

from pydantic import Field

from colorization.models.generators.resnet_unet import ResNetUNetConfig
from colorization.models.generators.unet import UNetGeneratorConfig

GeneratorConfig = Annotated[ResNetUNetConfig | UNetGeneratorConfig, Field(discriminator="name")]

__all__ = ["GeneratorConfig", "ResNetUNetConfig", "UNetGeneratorConfig"]
