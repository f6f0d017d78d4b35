"""The two spaces a network may answer in: ab, or RGB whose lightness is then put back."""

from typing import Literal

from torch import Tensor

from colorization.color import lab_to_rgb, rgb_to_lab

OutputSpace = Literal["ab", "rgb"]


def output_channels(space: OutputSpace) -> int:
    """Return how many channels a network of this output space has."""
    return 2 if space == "ab" else 3


def target(lab: Tensor, space: OutputSpace) -> Tensor:
    """Return what a network should answer for scaled Lab pictures (B, 3, H, W).

    "ab": (B, 2, H, W), ab/110. "rgb": (B, 3, H, W) in [-1, 1].
    """
    return lab[:, 1:] if space == "ab" else lab_to_rgb(lab) * 2 - 1


def to_ab(answer: Tensor, space: OutputSpace) -> Tensor:
    """Return the ab (B, 2, H, W) of a network's answer."""
    return answer if space == "ab" else rgb_to_lab((answer.float() + 1) / 2)[:, 1:]
