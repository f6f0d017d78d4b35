"""The discriminators a GAN may be built with; a new one is one file and one member here."""

from colorization.models.discriminators.patch import PatchConfig

# Becomes a union with its second member.
DiscriminatorConfig = PatchConfig

__all__ = ["DiscriminatorConfig", "PatchConfig"]
