"""Full-size pictures in, full-size pictures out: one, encoded bytes, or a folder of them."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from colorization.color import lab_to_rgb, rgb_to_lab
from colorization.coloring import ColorOptions, check_options
from colorization.config import ConfigError
from colorization.models.colorizer import Colorizer
from colorization.pictures import (
    PICTURE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Picture,
    UnreadablePicture,
    encode_picture,
    format_suffix,
    read_picture,
    write_picture,
)

_STRIP_PIXELS = 2**20  # conversions of large pictures go by strips of rows of about this size
_MAX_ASPECT = 4  # of what the model sees; longer pictures are shown to it with a smaller short side


DEFAULTS = ColorOptions()


class PictureColorizer:
    """Colorizes pictures of any size and depth with a model trained at one size.

    The full-size lightness is kept. The model sees it with the short side resized to `size` pixels
    (the training size), padded to the model's multiples; the colors that it finds are resized to
    the full picture. A picture whose short side is `size` is not resampled. A model of one fixed
    size sees the whole picture as a square. float32 throughout.

    The model is moved to `device`, put into evaluation mode and left so.
    """

    def __init__(self, model: Colorizer, size: int, device: torch.device | str = "cpu") -> None:
        self.model = model.to(device).eval()
        self.size = size
        self.device = torch.device(device)

    def __call__(self, picture: Picture, options: ColorOptions = DEFAULTS) -> list[Picture]:
        """Color a picture, once for each of `options.samples`: same size, depth and alpha.

        Colors of the input are not looked at. Raises ConfigError for options that the model cannot
        follow and ValueError if its colors are not finite.
        """
        return list(self.samples(picture, options))

    def one(self, picture: Picture) -> Picture:
        """Color a picture as the model is scored: without options, by its first sample."""
        (colored,) = self(picture)
        return colored

    @torch.inference_mode()
    def samples(self, picture: Picture, options: ColorOptions = DEFAULTS) -> Iterator[Picture]:
        """Color a picture as a call does, one sample in memory at a time."""
        check_options(options, self.model)
        height, width = picture.rgb.shape[:2]
        lightness = torch.cat([self._lab(rows)[:, :1] for rows in _strips(picture.rgb)], dim=-2)
        small = self._color(_resize(lightness, self._working(height, width)), options)
        for ab in small:
            ab = _resize(ab, (height, width)) * options.saturation
            yield Picture(self._put_together(picture, lightness, ab), picture.alpha)

    def _put_together(self, picture: Picture, lightness: Tensor, ab: Tensor) -> np.ndarray:
        colored = np.empty_like(picture.rgb)
        peak = np.iinfo(colored.dtype).max
        top = 0
        for rows in _strips(colored):
            strip = slice(top, top := top + len(rows))
            lab = torch.cat((lightness[..., strip, :], ab[..., strip, :]), dim=1)
            rgb = (lab_to_rgb(lab, keep_lightness=True)[0] * peak).round().permute(1, 2, 0)
            rows[:] = rgb.cpu().numpy().astype(colored.dtype)
        return colored

    def _lab(self, rgb: np.ndarray) -> Tensor:
        if rgb.dtype != np.uint8:
            rgb = rgb.astype(np.float32) / np.iinfo(rgb.dtype).max
        return rgb_to_lab(torch.tensor(rgb, device=self.device).permute(2, 0, 1)[None])

    def _working(self, height: int, width: int) -> tuple[int, int]:
        if self.model.fixed_size:
            return self.size, self.size
        short, long = sorted((height, width))
        scale = min(self.size / short, _MAX_ASPECT * self.size / long)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _color(self, lightness: Tensor, options: ColorOptions) -> Tensor:
        height, width = lightness.shape[-2:]
        multiple = self.model.multiple
        padding = (0, -width % multiple, 0, -height % multiple)
        padded = F.pad(lightness, padding, mode="replicate")
        with torch.autocast(self.device.type, enabled=False):
            ab = self.model.colorize(padded, options.samples, options.temperature, options.seed)
        ab = ab[..., :height, :width].float()
        if not ab.isfinite().all():
            raise ValueError("the model's colors are not finite: its weights are damaged")
        return ab


def _strips(pixels: np.ndarray) -> list[np.ndarray]:
    """Split an array (H, W, ...) into views of some rows each."""
    rows = max(1, _STRIP_PIXELS // pixels.shape[1])
    return [pixels[top : top + rows] for top in range(0, len(pixels), rows)]


def _resize(channels: Tensor, size: tuple[int, int]) -> Tensor:
    if channels.shape[-2:] == size:
        return channels
    height, width = size
    if width == 1 < height:  # torch's antialiasing on the CPU would repeat the first row
        return _resize(channels.mT.contiguous(), (width, height)).mT
    resized = F.interpolate(channels, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(-1, 1)  # bicubic overshoots at edges


def colorize_bytes(
    colorizer: PictureColorizer,
    data: bytes,
    options: ColorOptions = DEFAULTS,
    name: str | None = None,
) -> list[bytes]:
    """Color an encoded picture and encode it again, in the same size, once for each sample.

    PNG, TIFF and WebP come back in their format and lossless, JPEG as JPEG, everything else as PNG.
    Raises UnreadablePicture, which calls the picture `name`, and ConfigError for options that the
    model cannot follow.
    """
    suffix = format_suffix(data) or ".png"
    samples = colorizer.samples(read_picture(data, name), options)
    return [encode_picture(colored, suffix) for colored in samples]


@dataclass(frozen=True)
class Summary:
    """What became of the pictures of one call: files written; pictures refused and why."""

    done: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def colorize_files(
    colorizer: PictureColorizer,
    source: Path,
    out: Path,
    on_done: Callable[[Path, Path | UnreadablePicture], None] = lambda picture, outcome: None,
) -> Summary:
    """Color a picture file, or all pictures in a folder and the folders below it.

    For one picture `out` is a file if it ends in a picture's suffix, else a folder; for a folder it
    is a folder, in which the structure is repeated. Names are kept; formats that cannot be written
    become PNG. Files with other suffixes and hidden ones are passed over; outputs of an earlier
    call are replaced. `on_done` is called after each picture with the file written or the reason
    why it could not be read; an unreadable picture does not stop the others.

    Raises ConfigError, before anything is written, for a missing source, a folder without pictures,
    a format that cannot be written, or an `out` that would replace an input or lies in the source.
    """
    jobs = plan_files(source, out)
    summary = Summary()
    for picture, target in jobs:
        try:
            (colored,) = colorizer(read_picture(picture))
        except UnreadablePicture as error:
            summary.failed.append((picture, str(error)))
            on_done(picture, error)
            continue
        write_picture(colored, target)
        summary.done.append(target)
        on_done(picture, target)
    return summary


def plan_files(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Return (picture, file to write) for each picture of a source, in the order of names.

    Raises ConfigError as `colorize_files` says.
    """
    if source.is_dir():
        jobs = _plan_folder(source, out)
    elif source.exists():
        jobs = [(source, _plan_file(source, out))]
    else:
        raise ConfigError(f"{source}: no such picture or folder")
    inputs = {picture.resolve(): picture for picture, _ in jobs}
    counts = Counter(target for _, target in jobs)
    for target, count in counts.items():
        if (replaced := inputs.get(target.resolve())) is not None:
            raise ConfigError(f"{target} would replace the input {replaced}: choose another output")
        if count > 1:
            raise ConfigError(f"{count} pictures of {source} would be written to {target}")
    return jobs


def _plan_file(source: Path, out: Path) -> Path:
    suffix = out.suffix.lower()
    if out.is_dir() or suffix not in PICTURE_SUFFIXES:
        _check_folder(out)
        return out / source.with_suffix(_written_suffix(source)).name
    if suffix not in WRITABLE_SUFFIXES:
        allowed = " ".join(WRITABLE_SUFFIXES)
        raise ConfigError(f"{out}: cannot write {suffix} files, choose one of {allowed}")
    return out


def _plan_folder(source: Path, out: Path) -> list[tuple[Path, Path]]:
    _check_folder(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            f"{out} is or lies in the folder {source} that is read: a second call would color its "
            "own outputs; choose a folder beside it"
        )
    pictures = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(source)
        for name in names
        if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith(".")
    )
    if not pictures:
        raise ConfigError(f"{source}: no pictures in this folder or below it")
    targets = [picture.with_suffix(_written_suffix(picture)) for picture in pictures]
    wanted = Counter(targets)
    # a.gif beside a.png becomes a.gif.png
    targets = [
        picture.with_name(f"{picture.name}.png")
        if wanted[target] > 1 and target != picture
        else target
        for picture, target in zip(pictures, targets, strict=True)
    ]
    moved = [out / target.relative_to(source) for target in targets]
    return list(zip(pictures, moved, strict=True))


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: for this source the output must be a folder")


def _written_suffix(picture: Path) -> str:
    return picture.suffix if picture.suffix.lower() in WRITABLE_SUFFIXES else ".png"
