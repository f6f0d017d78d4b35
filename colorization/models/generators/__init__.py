"""The generators a model may be built with; a new one is one file and one member here."""

from typing import Annotated

from pydantic import Field

from colorization.models.generators.encoder_decoder import EncoderDecoderConfig
from colorization.models.generators.resnet_unet import ResNetUNetConfig
from colorization.models.generators.unet import UNetGeneratorConfig
from colorization.models.generators.vgg_autoencoder import VGGAutoencoderConfig
from colorization.models.generators.vgg_unet_sagan import VGGUNetSAGANConfig
from colorization.models.generators.vit import ViTGeneratorConfig

GeneratorConfig = Annotated[
    ResNetUNetConfig
    | UNetGeneratorConfig
    | EncoderDecoderConfig
    | VGGAutoencoderConfig
    | VGGUNetSAGANConfig
    | ViTGeneratorConfig,
    Field(discriminator="name"),
]

__all__ = [
    "GeneratorConfig",
    "ResNetUNetConfig",
    "EncoderDecoderConfig",
    "UNetGeneratorConfig",
    "VGGAutoencoderConfig",
    "VGGUNetSAGANConfig",
    "ViTGeneratorConfig",
]
