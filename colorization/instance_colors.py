"""What an instance model makes of the things in pictures: partly colored pictures (system A5)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from colorization.coloring import ColorOptions
from colorization.gain import brighten
from colorization.instances import Detection
from colorization.palette import Palette
from colorization.pasting import paste
from colorization.pictures import Picture

if TYPE_CHECKING:
    from colorization.inference import PictureColorizer

CROPS_AT_ONCE = 32  # that pass through the instance model together


class Crops(NamedTuple):
    """The instances of a picture, and what the instance model sees of each."""

    picture: tuple[int, int]  # height and width that boxes are in
    found: Sequence[Detection]
    seen: Sequence[Tensor]  # (1, 1, h, w) each


def see_crops(
    instance: "PictureColorizer", picture: Picture, found: Sequence[Detection], gain: float = 1.0
) -> Crops:
    """Show the instance model the boxes in a picture, their lightness times `gain`."""
    height, width = picture.rgb.shape[:2]
    seen = [brighten(instance.see(Picture(one.box.cut(picture.rgb))), gain).cpu() for one in found]
    return Crops((height, width), found, seen)


def partly_color(
    instance: "PictureColorizer",
    crops: Sequence[Crops],
    sizes: Sequence[tuple[int, int]],
    options: ColorOptions,
    palette: Palette | None = None,
) -> list[Tensor]:
    """Return partly colored pictures of these sizes: (samples, 2, height, width) each.

    Crops of all pictures pass through the model together, with a palette in the colors of what is
    most like them there. Raises DamagedModel.
    """
    seen = [one for some in crops for one in some.seen]
    masks = [one.mask for some in crops for one in some.found]
    colors: list[Tensor] = []
    for start in range(0, len(seen), CROPS_AT_ONCE):
        part = slice(start, start + CROPS_AT_ONCE)
        latents = palette and palette.latents(seen[part], options, masks[part])
        colors += instance.color_seen(seen[part], options, latents=latents)
    pasted: list[Tensor] = []
    for some, size in zip(crops, sizes, strict=True):
        own, colors = colors[: len(some.seen)], colors[len(some.seen) :]
        if own:
            pasted.append(paste(some.found, own, some.picture, size))
        else:
            pasted.append(torch.zeros(options.samples, 2, *size, device=instance.device))
    return pasted
