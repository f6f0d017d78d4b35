"""Full-size pictures in, full-size pictures out."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from colorization.coloring import ColorOptions, check_options
from colorization.config import ConfigError
from colorization.foreground import ForegroundFinder
from colorization.full_size import Stop, View, give_colors, never, pixels_to_lab
from colorization.gain import brighten, gain_for
from colorization.instance_colors import partly_color, see_crops
from colorization.instances import EVERY_PICTURE, Detection, InstanceFinder
from colorization.models.colorizer import Colorizer, weights_digest
from colorization.palette import Palettes, References
from colorization.pictures import Picture
from colorization.resizing import resize, resize_rows
from colorization.tiles import agree, color_tiles, tiled_size

DEFAULTS = ColorOptions()
_MAX_ASPECT = 4  # of what the model sees; longer pictures are shown to it with a smaller short side


class DamagedModel(ValueError):
    """A model whose colors are no numbers."""


class PictureColorizer:
    """Colorizes pictures of any size and depth with a model trained at one size.

    The full-size lightness is kept. The model sees it with the short side resized to `size` pixels
    (the training size), padded to the model's multiples; of a picture more than four times as long
    as wide the long side decides, and the short one is padded to `size`. The colors that it finds
    are upsampled to the full picture. A picture whose short side is `size` is not resampled. A
    model of one fixed size sees the whole picture as a square. float32 throughout; large pictures
    go by strips, so that memory beyond the pictures themselves hardly grows with them.

    With an `instance` model, options may ask for instances: it colors each by itself, and the model
    then sees the picture with these colors in it (system A5).

    The model is moved to `device`, put into evaluation mode and left so.
    """

    def __init__(
        self,
        model: Colorizer,
        size: int,
        device: torch.device | str = "cpu",
        instance: "PictureColorizer | None" = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.size = size
        self.device = torch.device(device)
        self.instance = instance
        self._foreground = ForegroundFinder(device)
        self._instances = InstanceFinder(device)
        self._references = References(self)

    def prepare(self, options: ColorOptions) -> None:
        """Load what these options need beside the model, before there is a picture.

        Raises ConfigError for options that the model cannot follow, and where the weights of a
        segmenter or detector are not to be had, or a reference's instances lie outside of it.
        """
        self.check(options)
        if options.foreground is not None:
            self._foreground.prepare(options.foreground)
        if options.instances is not None:
            self._instances.prepare(options.instances)
        self._references(options)

    def check(self, options: ColorOptions) -> None:
        """Raise ConfigError for options that the model cannot follow."""
        check_options(options, self.model)
        if self.instance is not None and options.instances is not None:
            check_options(options, self.instance.model)
        if options.instances is not None and self.instance is None:
            raise ConfigError(
                "instances: this model is none of a pair, nothing colors instances by themselves: "
                "leave instances out, or take a pair that ray_jobs/pair.py made"
            )

    @cached_property
    def digest(self) -> str:
        """A hash of the model's weights, and of the instance model's."""
        own = weights_digest(self.model)
        return own if self.instance is None else f"{own} {self.instance.digest}"

    def find(
        self, picture: Picture, options: ColorOptions, name: str = EVERY_PICTURE
    ) -> list[Detection] | None:
        """Return the instances of a picture that are to be colored by themselves, None where none
        were asked for; `name` is what the options may call it. Raises InstancesDoNotFit."""
        if options.instances is None:
            return None
        return self._instances(picture.rgb, options.instances, name)

    def __call__(self, picture: Picture, options: ColorOptions = DEFAULTS) -> list[Picture]:
        """Color a picture, once for each of `options.samples`: same size, depth and alpha.

        Colors of the input are not looked at. Raises ConfigError for options that the model cannot
        follow, MaskDoesNotFit for a mask of other proportions, and DamagedModel if the model's
        colors are not finite.
        """
        return list(self.samples(picture, options))

    def one(self, picture: Picture) -> Picture:
        """Color a picture as the model is scored: without options, by its first sample."""
        (colored,) = self(picture)
        return colored

    def samples(self, picture: Picture, options: ColorOptions = DEFAULTS) -> Iterator[Picture]:
        """Color a picture as a call does, one sample in memory at a time."""
        (samples,) = self.batch([picture], options)
        return samples

    def batch(
        self,
        pictures: Sequence[Picture],
        options: ColorOptions = DEFAULTS,
        found: Sequence[Sequence[Detection] | None] | None = None,
        stops: Sequence[Stop] = (),
    ) -> Iterator[Iterator[Picture]]:
        """Color pictures as calls one by one do, to rounding; those that the model sees at one size
        pass through it together. Yields the samples of each picture in turn.

        `found` is what `find` returns of each picture, where it was asked already. A picture whose
        `stops` says so is given up: its samples raise Stopped.
        """
        self.check(options)
        if found is None:
            found = [self.find(picture, options) for picture in pictures]
        views = self.views(pictures, options, found)
        for picture, view, stop in zip(
            pictures, views, stops or [never] * len(pictures), strict=True
        ):
            yield self._finish(picture, view, options, stop)

    def _finish(
        self, picture: Picture, view: View, options: ColorOptions, stop: Stop
    ) -> Iterator[Picture]:
        mask = None
        if options.foreground is not None:
            mask = torch.from_numpy(self._foreground(picture, options.foreground))
        for sample in range(options.samples):
            yield give_colors(picture, view, sample, options, mask, stop)

    @torch.inference_mode()
    def views(
        self,
        pictures: Sequence[Picture],
        options: ColorOptions,
        found: Sequence[Sequence[Detection] | None] = (),
    ) -> list[View]:
        """Return each picture as the model sees it, with the colors that it finds.

        `found` are the instances of each picture, if any.
        """
        palettes = self._references(options)
        if options.tile:
            return [self._tiled_view(picture, options, palettes) for picture in pictures]
        small = [self.see(picture) for picture in pictures]
        gains = [gain_for(one, options.gain) for one in small]
        seen = [brighten(one, gain) for one, gain in zip(small, gains, strict=True)]
        colored = None
        if self.instance is not None and any(found):
            crops = [
                see_crops(self.instance, picture, own or (), gain)
                for picture, own, gain in zip(pictures, found, gains, strict=True)
            ]
            sizes = [(one.shape[2], one.shape[3]) for one in small]
            palette = palettes and palettes.instances
            colored = partly_color(self.instance, crops, sizes, options, palette)
        latents = palettes and palettes.whole.latents(seen, options, colored=colored)
        return list(map(View, small, self.color_seen(seen, options, colored, latents)))

    def see(self, picture: Picture) -> Tensor:
        """Return what the model sees of a picture: its lightness (1, 1, h, w), scaled."""
        return self._small(picture, self._working(picture))

    @torch.inference_mode()
    def color_seen(
        self,
        seen: Sequence[Tensor],
        options: ColorOptions,
        colored: Sequence[Tensor] | None = None,
        latents: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Color lightness (1, 1, h, w) each; (samples, 2, h, w) each. Those of one size together.

        `colored` are the colors (samples, 2, h, w) that parts have already, `latents` (samples,
        *latent_shape) each what is taken in place of a draw. Raises DamagedModel.
        """
        colors: dict[int, Tensor] = {}
        places = sorted(range(len(seen)), key=lambda i: seen[i].shape)
        for _, alike in groupby(places, key=lambda i: seen[i].shape):
            group = list(alike)
            lightness = torch.cat([seen[i] for i in group]).to(self.device)
            there = None if colored is None else torch.stack([colored[i] for i in group], 1)
            drawn = None if latents is None else torch.stack([latents[i] for i in group], 1)
            ab = self._color(lightness, options, there, drawn)
            colors |= {i: ab[:, k] for k, i in enumerate(group)}
        return [colors[i] for i in range(len(seen))]

    def _tiled_view(
        self, picture: Picture, options: ColorOptions, palettes: Palettes | None
    ) -> View:
        height, width = picture.rgb.shape[:2]
        size = tiled_size(height, width, self.size)
        if size is None:
            (view,) = self.views([picture], options.model_copy(update={"tile": False}))
            return view
        large = self._small(picture, size)
        small = resize(large, self._working(picture))
        gain = gain_for(small, options.gain)
        seen = brighten(small, gain)
        latents = palettes and palettes.whole.latents([seen], options)[0][:, None]
        whole = self._color(seen, options, latents=latents)
        side = self.size + -self.size % self.model.multiple
        tiles = color_tiles(
            lambda tile: self._color(tile, options, latents=latents), brighten(large, gain), side
        )
        return View(large, agree(tiles[:, 0], whole[:, 0]))

    def _lab(self, rgb: np.ndarray) -> Tensor:
        return pixels_to_lab(rgb, self.device)

    def _small(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        height, width = picture.rgb.shape[:2]
        return resize_rows(lambda rows: self._lab(picture.rgb[rows])[:, :1], height, width, size)

    @torch.inference_mode()
    def see_lab(self, picture: Picture) -> Tensor:
        """Return the Lab (1, 3, h, w) of a picture of which the model sees the lightness."""
        height, width = picture.rgb.shape[:2]
        size = self._working(picture)
        return resize_rows(lambda rows: self._lab(picture.rgb[rows]), height, width, size)

    def _working(self, picture: Picture) -> tuple[int, int]:
        height, width = picture.rgb.shape[:2]
        if self.model.fixed_size:
            return self.size, self.size
        short, long = sorted((height, width))
        scale = min(self.size / short, _MAX_ASPECT * self.size / long)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _color(
        self,
        lightness: Tensor,
        options: ColorOptions,
        colored: Tensor | None = None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """Color (n, 1, h, w): (samples, n, 2, h, w), where `colored` has the colors of parts.

        `latents` (samples, n or 1, *latent_shape) are taken in place of a draw.
        """
        height, width = lightness.shape[-2:]
        multiple = self.model.multiple
        # Of a long picture the short side may be less than what a network can take at all.
        tall, wide = max(height, self.size), max(width, self.size)
        padding = (0, wide + -wide % multiple - width, 0, tall + -tall % multiple - height)
        padded = F.pad(lightness, padding, mode="replicate")
        parts = {} if colored is None else {"colored": F.pad(colored, padding)}
        with torch.autocast(self.device.type, enabled=False):
            if latents is None:
                drawn = options.samples, options.temperature, options.seed
                ab = self.model.colorize(padded, *drawn, **parts)
            else:
                ab = self._from(padded, latents, parts)
        ab = ab[..., :height, :width].float()
        if not ab.isfinite().all():
            raise DamagedModel("the model's colors are not finite: its weights are damaged")
        return ab

    def _from(self, lightness: Tensor, latents: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(
            [
                self.model.color_from(lightness, latent, **{k: v[i] for k, v in parts.items()})
                for i, latent in enumerate(latents)
            ]
        )
