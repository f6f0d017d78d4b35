"""The discriminators a GAN may be built with; a new one is one file and one member here."""

from typing import Annotated

from pydantic import Field

from colorization.models.discriminators.cnn import CNNConfig
from colorization.models.discriminators.patch import PatchConfig
from colorization.models.discriminators.resnet import ResNetDiscriminatorConfig
from colorization.models.discriminators.sagan import SAGANDiscriminatorConfig
from colorization.models.discriminators.vit import ViTDiscriminatorConfig

DiscriminatorConfig = Annotated[
    PatchConfig
    | CNNConfig
    | ViTDiscriminatorConfig
    | ResNetDiscriminatorConfig
    | SAGANDiscriminatorConfig,
    Field(discriminator="name"),
]

__all__ = [
    "CNNConfig",
    "DiscriminatorConfig",
    "PatchConfig",
    "ResNetDiscriminatorConfig",
    "SAGANDiscriminatorConfig",
    "ViTDiscriminatorConfig",
]
