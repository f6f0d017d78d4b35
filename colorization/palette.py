"""What a flow has to draw for the colors of references, region by region (system A6)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from colorization.color_transfer import distance_between, mapping_between
from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.instances import (
    MOST_INSTANCES,
    Detection,
    InstancesDoNotFit,
    scaled_mask,
)
from colorization.matching import Features, features, most_alike
from colorization.models.colorizer import Colorizer, noise
from colorization.pasting import paste
from colorization.pictures import Picture
from colorization.reference import decode_reference, reference_name, visible_part

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
    colors: Tensor  # (2, pixels): scaled ab

    def latent_for(self, lightness: Tensor) -> Tensor:
        """Return the latent (*latent_shape) for a picture of lightness (1, 1, h, w)."""
        apart = (self.layouts.cpu() - _layouts(lightness.cpu())).abs().mean((1, 2))
        return self.latents[int(apart.argmin())]


class Palette(NamedTuple):
    """Regions of references, as a model encodes them."""

    regions: Sequence[Region]
    model: Colorizer

    def latents(
        self,
        seen: Sequence[Tensor],
        options: ColorOptions,
        masks: Sequence[np.ndarray | None] | None = None,
        colored: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return latents (samples, *latent_shape) for each of the regions to be colored.

        `seen` is the lightness (1, 1, h, w) that the model sees of each, `masks` what of it belongs
        to the region, `colored` the colors (samples, 2, h, w) that parts have already. Each takes
        those of the region here that is most like it, moved to its colors. The first sample's
        are these; the others' lie at an angle of `temperature` * 45 degrees from them
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
            inside = _inside(lightness, masks[i] if masks else None)
            nearest = most_alike(_look(lightness, inside), looks)
            there = None if colored is None else colored[i][:1]
            own = self._moved(self.regions[nearest], lightness, inside, there)
            mixed = math.cos(angle) * own + math.sin(angle) * drawn.view(-1, *own.shape)
            found.append(torch.cat([own[None], mixed[1:]]))
        return found

    def _moved(
        self, region: Region, lightness: Tensor, inside: np.ndarray | None, colored: Tensor | None
    ) -> Tensor:
        """Return a region's latent for a picture, moved to where its colors are the region's.

        Decoded for another lightness a latent gives colors that are likely there: the better a
        model knows what things are, the less of the reference's. So they are mapped to the
        region's mean and covariance, encoded, and the latent is made no longer than it was, or
        than a draw is in the mean, which keeps them likely. Where the region's colors are so
        unlikely that this takes them further away, the latent stays as it is.
        """
        latent = region.latent_for(lightness)
        shown = lightness.to(latent.device)
        parts = {} if colored is None else {"colored": colored}
        with torch.autocast(latent.device.type, enabled=False):
            ab = self.model.color_from(shown, latent[None], **parts)
            before = _pixels(ab, inside)
            mapped = mapping_between(before, region.colors)(ab)
            moved = self.model.latent_of(torch.cat([shown, mapped, *parts.values()], dim=1))[0]
            longest = latent.norm().clamp(min=math.sqrt(latent.numel()))
            moved = moved * (longest / moved.norm().clamp(min=1e-6)).clamp(max=1)
            after = _pixels(self.model.color_from(shown, moved[None], **parts), inside)
        nearer = distance_between(after, region.colors) < distance_between(before, region.colors)
        return moved if nearer else latent


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
            return Palettes(Palette(whole, self._colorizer.model), None)
        if sum(map(len, found)) > MOST_INSTANCES:
            raise ConfigError(
                f"instances: found {sum(map(len, found))} in references; at most {MOST_INSTANCES} "
                "are taken: leave some out, or raise min_score or min_side"
            )
        crops = [
            _encode_region(instance, _cut(picture, one), one.mask)
            for picture, own in zip(pictures, found, strict=True)
            for one in own
        ]
        crops = crops or [_encode_region(instance, picture) for picture in pictures]
        return Palettes(Palette(whole, self._colorizer.model), Palette(crops, instance.model))

    def _find(self, number: int, picture: Picture, options: ColorOptions) -> list[Detection]:
        name = reference_name(number)
        given = options.instances and options.instances.given
        if given is not None and name not in given:
            return []  # what is said of any picture is said of those to be colored
        try:
            return self._colorizer.find(picture, options, name) or []
        except InstancesDoNotFit as error:
            raise ConfigError(f"instances: {name}: {error}") from error


def _cut(picture: Picture, one: Detection) -> Picture:
    alpha = picture.alpha
    return Picture(one.box.cut(picture.rgb), None if alpha is None else one.box.cut(alpha))


def _encode_region(
    colorizer: "PictureColorizer", picture: Picture, mask: np.ndarray | None = None
) -> Region:
    lab = colorizer.see_lab(picture)
    visible = visible_part(picture)
    if visible is not None and mask is not None and (visible & mask).any():
        visible &= mask
    return _region(colorizer, lab, _inside(lab, mask if visible is None else visible))


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
    return _region(colorizer, shown, _inside(lab, visible_part(picture)))


def _region(colorizer: "PictureColorizer", lab: Tensor, inside: np.ndarray | None = None) -> Region:
    both = torch.cat([lab, lab.flip(-1)])
    with torch.autocast(lab.device.type, enabled=False):
        latents = colorizer.model.latent_of(both)
    look = _look(lab[:, :1], inside)
    return Region(latents, _layouts(both[:, :1]), look, _pixels(lab[:, 1:3], inside))


def _layouts(lightness: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(lightness, 8)[:, 0]


def _look(lightness: Tensor, inside: np.ndarray | None) -> Features:
    return features(lightness[0, 0].cpu().numpy(), inside)


def _inside(seen: Tensor, mask: np.ndarray | None) -> np.ndarray | None:
    """Return a mask at the size of what a model sees (1, C, h, w) of its box."""
    inside = None if mask is None else scaled_mask(mask, seen.shape[2], seen.shape[3])
    # Thinner than what is seen: the box has to do.
    return None if inside is None or not inside.any() else inside


def _pixels(ab: Tensor, inside: np.ndarray | None) -> Tensor:
    """Return the colors (2, pixels) of ab (1, 2, h, w) where a mask is."""
    if inside is None:
        return ab[0].flatten(1)
    return ab[0][:, torch.from_numpy(inside).to(ab.device)]
