"""Selective coloring: what of a picture stays in color, on a gray background."""

from typing import Annotated

import cv2
import numpy as np
import torch
from pydantic import Field, PlainValidator

from colorization.config import Config
from colorization.encoded_pictures import AS_TEXT, encoded_picture
from colorization.pictures import Picture, UnreadablePicture, read_picture, to_uint8
from colorization.segmentation import Backbone, Segmenter, VOCClass

MAX_MASK_MEGAPIXELS = 50
_LIKE = 0.01  # by which the ratios of the sides of a mask and of its picture may differ
_FADE = 1 / 200  # of the short side, where no softness is given


class MaskDoesNotFit(UnreadablePicture):
    """A mask of other proportions than the picture's: names both."""


def _read_mask(value: object) -> bytes:
    advice = "a smaller one in the picture's proportions does the same"
    data = encoded_picture(value, "mask", MAX_MASK_MEGAPIXELS, advice)
    read_picture(data, "the mask")
    return data


EncodedMask = Annotated[bytes, PlainValidator(_read_mask), AS_TEXT]


class ForegroundOptions(Config):
    """What stays in color: what DeepLabV3 takes for the foreground, or what a mask says."""

    classes: tuple[VOCClass, ...] = Field(
        default=(), description="what stays in color; none: everything but the background"
    )
    softness: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="pixels over which color fades at the edge; null: 1/200 of the short side, "
        "and a mask's own grays",
    )
    invert: bool = Field(default=False, description="color the background instead")
    segmenter: Backbone = Field(default="resnet101", description="DeepLabV3's backbone")
    mask: EncodedMask | None = Field(
        default=None,
        description="in place of the segmenter an encoded picture, white where color stays; of any "
        "size in the picture's proportions",
    )

    def model_post_init(self, context: object) -> None:
        """Refuse classes for a mask, in which there are none."""
        if self.mask is not None and self.classes:
            raise ValueError(
                f"classes: found {', '.join(self.classes)} beside a mask, which says by itself "
                "what stays in color: leave out one of them"
            )


class ForegroundFinder:
    """Finds what of pictures stays in color; keeps the segmenter that was asked for last."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._loaded: tuple[Backbone, Segmenter] | None = None
        self._mask: tuple[bytes, np.ndarray] | None = None  # the last one, decoded

    def prepare(self, options: ForegroundOptions) -> None:
        """Load what these options need, before there is a picture.

        Raises ConfigError where a segmenter's weights are neither in torch's cache nor to be had.
        """
        if options.mask is None:
            self._segmenter(options.segmenter)

    def __call__(self, picture: Picture, options: ForegroundOptions) -> np.ndarray:
        """Return how much of its color each pixel keeps: (H, W) float32 in [0, 1].

        Raises ConfigError as `prepare` does, and MaskDoesNotFit.
        """
        size = picture.rgb.shape[:2]
        softness = options.softness
        if options.mask is None:
            sure = self._segmenter(options.segmenter).foreground(picture.rgb, options.classes)
            kept = _resize(sure, size)
            softness = _FADE * min(size) if softness is None else softness
        else:
            kept = _fit(self._grays(options.mask), size)
        if softness is not None:
            kept = feather(kept > 0.5, softness)
        return 1 - kept if options.invert else kept

    def _grays(self, mask: bytes) -> np.ndarray:
        if self._mask is None or self._mask[0] != mask:
            self._mask = mask, _grays(read_picture(mask, "the mask"))
        return self._mask[1].astype(np.float32) / 255

    def _segmenter(self, backbone: Backbone) -> Segmenter:
        loaded = self._loaded
        if loaded is None or loaded[0] != backbone:
            self._loaded = loaded = backbone, Segmenter(backbone, self._device)
        return loaded[1]


def feather(inside: np.ndarray, softness: float) -> np.ndarray:
    """Fade from 1 inside to 0 outside (H, W) along a line over `softness` pixels across the edge.

    The edge itself has 0.5; softness up to 1 leaves it hard. float32.
    """
    if softness <= 1 or inside.all() or not inside.any():
        return inside.astype(np.float32)
    kept = _distances(inside)
    kept -= _distances(~inside)  # one of both is 0 everywhere, the other half a pixel from the edge
    kept *= 1 / softness
    kept += 0.5
    return np.clip(kept, 0, 1, out=kept)


def _distances(inside: np.ndarray) -> np.ndarray:
    """Return how far from the edge the pixels inside lie, 0 outside."""
    far = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.maximum(far - 0.5, 0, out=far)


def _grays(mask: Picture) -> np.ndarray:
    """Return a mask's grays, uint8; what is transparent counts as black."""
    grays = cv2.cvtColor(to_uint8(mask.rgb), cv2.COLOR_RGB2GRAY)
    return grays if mask.alpha is None else cv2.multiply(grays, to_uint8(mask.alpha), scale=1 / 255)


def _fit(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    (height, width), (tall, wide) = mask.shape, size
    ratio = (width / height) / (wide / tall)
    # A side that was rounded to whole pixels may be half a pixel off.
    rounding = min(0.1, 1 / min(height, width, *size))
    if abs(np.log(ratio)) > max(_LIKE, rounding):
        raise MaskDoesNotFit(
            f"the mask has {width} x {height} pixels, the picture {wide} x {tall}: the mask must "
            "have the picture's proportions, in any size"
        )
    return _resize(mask, size)


def _resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w) in [0, 1] to a size (H, W)."""
    height, width = size
    smaller = height * width < values.size
    kind = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.clip(cv2.resize(values, (width, height), interpolation=kind), 0, 1)
