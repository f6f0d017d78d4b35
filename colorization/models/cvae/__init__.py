"""The conditional VAE family (systems A1 and A2)."""

from colorization.models.cvae.cvae import CVAE, CVAEConfig

__all__ = ["CVAE", "CVAEConfig"]
