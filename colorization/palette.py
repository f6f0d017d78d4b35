"""What a flow has to draw for the colors of references, region by region (system A6)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.instances import Detection, InstancesDoNotFit, scaled_mask
from colorization.matching import Features, features, most_alike
from colorization.models.colorizer import noise
from colorization.pasting import paste
from colorization.pictures import Picture
from colorization.reference import decode_reference, reference_name

if TYPE_CHECKING:
    from colorization.inference import PictureColorizer


class Region(NamedTuple):
    """A reference or a part of it, and its mirror image: what a model has to draw for the colors.

    A latent has places. Of both that is taken whose light and dark lie more as in the picture that
    is to be colored; other rearrangements took less of the colors (docs/colorizing.md).
    """

    latents: Tensor  # (2, *latent_shape)
    layouts: Tensor  # (2, 8, 8): lightness, made small
    look: Features

    def latent_for(self, lightness: Tensor) -> Tensor:
        """Return the latent (*latent_shape) for a picture of lightness (1, 1, h, w)."""
        apart = (self.layouts.cpu() - _layouts(lightness.cpu())).abs().mean((1, 2))
        return self.latents[int(apart.argmin())]


class Palette(NamedTuple):
    """Regions of references, as a model encodes them."""

    regions: Sequence[Region]

    def latents(
        self,
        seen: Sequence[Tensor],
        options: ColorOptions,
        masks: Sequence[np.ndarray | None] | None = None,
    ) -> list[Tensor]:
        """Return latents (samples, *latent_shape) for each of the regions to be colored.

        `seen` is the lightness (1, 1, h, w) that the model sees of each, `masks` what of it belongs
        to the region. Each takes those of the region here that is most like it. The first sample's
        are that region's own; the others' lie at an angle of `temperature` * 45 degrees from them
        toward a draw of `seed`, and so are as likely as any: at 0 they are the reference's, at 1
        (None) half its and half noise, at 2 noise alone.
        """
        temperature = 1.0 if options.temperature is None else options.temperature
        angle = temperature * math.pi / 4
        looks = [region.look for region in self.regions]
        first = self.regions[0].latents
        drawn = noise(options.samples, first[0].numel(), first.device, options.seed)
        found: list[Tensor] = []
        for i, lightness in enumerate(seen):
            nearest = most_alike(_look(lightness, masks[i] if masks else None), looks)
            own = self.regions[nearest].latent_for(lightness)
            mixed = math.cos(angle) * own + math.sin(angle) * drawn.view(-1, *own.shape)
            found.append(torch.cat([own[None], mixed[1:]]))
        return found


class Palettes(NamedTuple):
    """What the models of a colorizer have to draw."""

    whole: Palette  # for pictures
    instances: Palette | None  # for their instances, where a pair colors these by themselves


class References:
    """Encodes the references that options name; keeps those that were asked for last."""

    def __init__(self, colorizer: "PictureColorizer") -> None:
        self._colorizer = colorizer
        self._last: tuple[object, Palettes] | None = None

    def __call__(self, options: ColorOptions) -> Palettes | None:
        """Return the palettes of the references, None where there are none.

        Of references in which there are instances these are what the pictures' instances are
        matched with; where no reference has any, the references as a whole. Raises ConfigError for
        instances that lie outside of their reference.
        """
        if not options.reference:
            return None
        asked = options.reference, options.instances
        last = self._last
        if last is None or last[0] != asked:
            self._last = last = asked, self._encode(options)
        return last[1]

    @torch.inference_mode()
    def _encode(self, options: ColorOptions) -> Palettes:
        pictures = [decode_reference(data) for data in options.reference]
        found = [self._find(number, one, options) for number, one in enumerate(pictures)]
        whole = [
            _encode_whole(self._colorizer, one, own)
            for one, own in zip(pictures, found, strict=True)
        ]
        instance = self._colorizer.instance
        if instance is None or options.instances is None:
            return Palettes(Palette(whole), None)
        crops = [
            _encode_region(instance, Picture(one.box.cut(picture.rgb)), one.mask)
            for picture, own in zip(pictures, found, strict=True)
            for one in own
        ]
        crops = crops or [_encode_region(instance, picture) for picture in pictures]
        return Palettes(Palette(whole), Palette(crops))

    def _find(self, number: int, picture: Picture, options: ColorOptions) -> list[Detection]:
        name = reference_name(number)
        given = options.instances and options.instances.given
        if given is not None and name not in given:
            return []  # what is said of any picture is said of those to be colored
        try:
            return self._colorizer.find(picture, options, name) or []
        except InstancesDoNotFit as error:
            raise ConfigError(f"instances: {name}: {error}") from error


def _encode_region(
    colorizer: "PictureColorizer", picture: Picture, mask: np.ndarray | None = None
) -> Region:
    lab = colorizer.see_lab(picture)
    return _region(colorizer, lab, _look(lab[:, :1], mask))


def _encode_whole(
    colorizer: "PictureColorizer", picture: Picture, found: Sequence[Detection]
) -> Region:
    """Encode a picture as a scene model is shown those that it colors: with its instances'."""
    lab = colorizer.see_lab(picture)
    shown = lab
    if found:
        height, width = lab.shape[2:]
        colors = [colorizer.see_lab(Picture(one.box.cut(picture.rgb)))[:, 1:] for one in found]
        partly = paste(found, colors, picture.rgb.shape[:2], (height, width))
        shown = torch.cat([lab, partly], dim=1)
    return _region(colorizer, shown, _look(lab[:, :1]))


def _region(colorizer: "PictureColorizer", lab: Tensor, look: Features) -> Region:
    both = torch.cat([lab, lab.flip(-1)])
    with torch.autocast(lab.device.type, enabled=False):
        return Region(colorizer.model.latent_of(both), _layouts(both[:, :1]), look)


def _layouts(lightness: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(lightness, 8)[:, 0]


def _look(lightness: Tensor, mask: np.ndarray | None = None) -> Features:
    height, width = lightness.shape[2:]
    inside = None if mask is None else scaled_mask(mask, height, width)
    if inside is not None and not inside.any():
        inside = None  # thinner than what is seen: the box has to do
    return features(lightness[0, 0].cpu().numpy(), inside)
