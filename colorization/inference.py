"""Full-size pictures in, full-size pictures out."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from colorization.color import lab_to_rgb, rgb_to_lab
from colorization.coloring import ColorOptions, check_options
from colorization.foreground import ForegroundFinder
from colorization.gain import brighten, gain_for
from colorization.models.colorizer import Colorizer, weights_digest
from colorization.pictures import Picture
from colorization.reference import References
from colorization.resizing import resize, resize_rows, strips
from colorization.tiles import agree, color_tiles, tiled_size
from colorization.upsampling import Bicubic, Bilateral, Guided, Upsampling, Whole

DEFAULTS = ColorOptions()
_MAX_ASPECT = 4  # of what the model sees; longer pictures are shown to it with a smaller short side


class DamagedModel(ValueError):
    """A model whose colors are no numbers."""


class View(NamedTuple):
    """A picture as a model sees it, and the colors that it finds there."""

    lightness: Tensor  # (1, 1, h, w), of the picture itself
    ab: Tensor  # (samples, 2, h, w)


class PictureColorizer:
    """Colorizes pictures of any size and depth with a model trained at one size.

    The full-size lightness is kept. The model sees it with the short side resized to `size` pixels
    (the training size), padded to the model's multiples; of a picture more than four times as long
    as wide the long side decides, and the short one is padded to `size`. The colors that it finds
    are upsampled to the full picture. A picture whose short side is `size` is not resampled. A
    model of one fixed size sees the whole picture as a square. float32 throughout; large pictures
    go by strips, so that memory beyond the pictures themselves hardly grows with them.

    The model is moved to `device`, put into evaluation mode and left so.
    """

    def __init__(self, model: Colorizer, size: int, device: torch.device | str = "cpu") -> None:
        self.model = model.to(device).eval()
        self.size = size
        self.device = torch.device(device)
        self._foreground = ForegroundFinder(device)
        self._references = References(self.model, self._see)

    def prepare(self, options: ColorOptions) -> None:
        """Load what these options need beside the model, before there is a picture.

        Raises ConfigError for options that the model cannot follow, and where the weights of a
        segmenter are not to be had.
        """
        check_options(options, self.model)
        if options.foreground is not None:
            self._foreground.prepare(options.foreground)

    @cached_property
    def digest(self) -> str:
        """A hash of the model's weights."""
        return weights_digest(self.model)

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
        self, pictures: Sequence[Picture], options: ColorOptions = DEFAULTS
    ) -> Iterator[Iterator[Picture]]:
        """Color pictures as calls one by one do, to rounding; those that the model sees at one size
        pass through it together. Yields the samples of each picture in turn."""
        check_options(options, self.model)
        for picture, view in zip(pictures, self.views(pictures, options), strict=True):
            yield self._finish(picture, view, options)

    def _finish(self, picture: Picture, view: View, options: ColorOptions) -> Iterator[Picture]:
        mask = None
        if options.foreground is not None:
            mask = torch.from_numpy(self._foreground(picture, options.foreground))
        for sample in range(options.samples):
            rgb = self._put_together(picture, view, sample, options, mask)
            yield Picture(rgb, picture.alpha)

    @torch.inference_mode()
    def views(self, pictures: Sequence[Picture], options: ColorOptions) -> list[View]:
        """Return each picture as the model sees it, with the colors that it finds."""
        if options.tile:
            return [self._tiled_view(picture, options) for picture in pictures]
        small = [self._small(picture, self._working(picture)) for picture in pictures]
        views: dict[int, View] = {}
        places = sorted(range(len(small)), key=lambda i: small[i].shape)
        for _, alike in groupby(places, key=lambda i: small[i].shape):
            group = list(alike)
            seen = [brighten(small[i], gain_for(small[i], options.gain)) for i in group]
            ab = self._color(torch.cat(seen), options)
            views |= {i: View(small[i], ab[:, k]) for k, i in enumerate(group)}
        return [views[i] for i in range(len(small))]

    def _tiled_view(self, picture: Picture, options: ColorOptions) -> View:
        height, width = picture.rgb.shape[:2]
        size = tiled_size(height, width, self.size)
        if size is None:
            (view,) = self.views([picture], options.model_copy(update={"tile": False}))
            return view
        large = self._small(picture, size)
        small = resize(large, self._working(picture))
        gain = gain_for(small, options.gain)
        whole = self._color(brighten(small, gain), options)
        side = self.size + -self.size % self.model.multiple
        tiles = color_tiles(lambda tile: self._color(tile, options), brighten(large, gain), side)
        return View(large, agree(tiles[:, 0], whole[:, 0]))

    @torch.inference_mode()
    def _put_together(
        self,
        picture: Picture,
        view: View,
        sample: int,
        options: ColorOptions,
        mask: Tensor | None = None,
    ) -> np.ndarray:
        """Give a picture the colors of a view; `mask` (H, W) in [0, 1] is how much of them."""
        height, width = picture.rgb.shape[:2]
        upsampling = _upsampling(view, sample, (height, width), options)
        colored = np.empty_like(picture.rgb)
        peak = np.iinfo(colored.dtype).max
        for rows in strips(height, width):
            lightness = self._lightness(picture.rgb[rows])
            ab = upsampling.rows(lightness, rows.start) * options.saturation
            if mask is not None:
                ab = ab * mask[rows].to(ab)
            rgb = lab_to_rgb(torch.cat((lightness, ab), dim=1), keep_lightness=True)[0]
            rgb = rgb.mul_(peak).round_().permute(1, 2, 0)
            colored[rows] = rgb.cpu().numpy().astype(colored.dtype)
        return colored

    def _lightness(self, rgb: np.ndarray) -> Tensor:
        return self._lab(rgb)[:, :1]

    def _lab(self, rgb: np.ndarray) -> Tensor:
        if rgb.dtype != np.uint8:
            rgb = rgb.astype(np.float32) / np.iinfo(rgb.dtype).max
        return rgb_to_lab(torch.tensor(rgb, device=self.device).permute(2, 0, 1)[None])

    def _small(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        height, width = picture.rgb.shape[:2]
        return resize_rows(lambda rows: self._lightness(picture.rgb[rows]), height, width, size)

    @torch.inference_mode()
    def _see(self, picture: Picture) -> Tensor:
        """Return a picture's Lab (1, 3, h, w) as the model sees its lightness."""
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

    def _color(self, lightness: Tensor, options: ColorOptions) -> Tensor:
        """Color (n, 1, h, w): (samples, n, 2, h, w)."""
        height, width = lightness.shape[-2:]
        multiple = self.model.multiple
        # Of a long picture the short side may be less than what a network can take at all.
        tall, wide = max(height, self.size), max(width, self.size)
        padding = (0, wide + -wide % multiple - width, 0, tall + -tall % multiple - height)
        padded = F.pad(lightness, padding, mode="replicate")
        with torch.autocast(self.device.type, enabled=False):
            ab = self._draw(padded, options)
        ab = ab[..., :height, :width].float()
        if not ab.isfinite().all():
            raise DamagedModel("the model's colors are not finite: its weights are damaged")
        return ab

    def _draw(self, lightness: Tensor, options: ColorOptions) -> Tensor:
        drawn = options.samples, options.temperature, options.seed
        if not options.reference:
            return self.model.colorize(lightness, *drawn)
        latents = self._references.latents(options.reference, lightness, *drawn)
        return torch.stack([self.model.color_from(lightness, latent) for latent in latents])


def _upsampling(
    view: View, sample: int, size: tuple[int, int], options: ColorOptions
) -> Upsampling:
    height, width = view.ab.shape[-2:]
    # Of a picture that is smaller than what the model saw, in one direction or both.
    smaller = min(height, size[0]), min(width, size[1])
    lightness = resize(view.lightness, smaller)
    ab = resize(view.ab[sample : sample + 1], smaller)
    if smaller == size:
        return Whole(ab)
    match options.upsampling:
        case "guided":
            return Guided(ab, lightness, size[0])
        case "bilateral":
            return Bilateral(ab, lightness, size[0])
        case "bicubic":
            return Bicubic(ab, size[0])
