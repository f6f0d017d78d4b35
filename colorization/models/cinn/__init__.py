"""The conditional invertible networks (Ardizzone et al. 2019; systems A3 to A5)."""

from colorization.models.cinn.cinn import CINNConfig

__all__ = ["CINNConfig"]
