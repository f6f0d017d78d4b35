"""Colors the pictures of requests by one model: what a replica of the server does, without Ray."""

import base64
import binascii
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2

from coloring_request import Answer, Colored, ColoringRequest, Refusal
from colorization.color_flags import FLAT_NAMES, parse_flat
from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.foreground import ForegroundOptions
from colorization.full_size import Stopped
from colorization.helper_weights import refuse_download
from colorization.inference import DamagedModel, PictureColorizer
from colorization.instances import (
    EVERY_PICTURE,
    MOST_INSTANCES,
    InstanceOptions,
    check_unnamed,
)
from colorization.photographs import Photograph, Signature, read_photograph, write_photograph
from colorization.picture_limit import MAX_MEGAPIXELS, TooManyPixels, refuse_huge
from colorization.pictures import Picture, UnreadablePicture, read_header
from served_model import About

NAME = "the picture"
_FAULTS = (RuntimeError, MemoryError, DamagedModel, ConfigError, UnreadablePicture, cv2.error)
_PICTURES = ("mask", "reference")  # options that are pictures themselves
_TRUE, _FALSE = ("true", "1", "yes", "on", ""), ("false", "0", "no", "off")


@dataclass(frozen=True)
class Asked:
    """A request whose options have been read, and whether anybody still waits for its answer."""

    request: ColoringRequest
    options: ColorOptions
    abandoned: threading.Event = field(default_factory=threading.Event)


class PictureService:
    """Answers requests by one model; what is wrong with one costs that one alone."""

    def __init__(
        self, colorizer: PictureColorizer, about: About, megapixels: float = MAX_MEGAPIXELS
    ) -> None:
        self._colorizer, self.about, self._megapixels = colorizer, about, megapixels

    def lacks(self) -> dict[str, str]:
        """Return the options whose networks have no weights here, and what is missing."""
        asked = {"foreground": ColorOptions(foreground=ForegroundOptions())}
        if self._colorizer.instance is not None:
            asked["instances"] = ColorOptions(instances=InstanceOptions())
        found: dict[str, str] = {}
        for name, options in asked.items():
            try:
                refuse_download(options)
            except ConfigError as error:
                found[name] = str(error)
        return found

    def read(self, request: ColoringRequest) -> Asked | Refusal:
        """Read a request's options, and see that the model can follow them and has the memory."""
        try:
            self._refuse_many(request.options)
            options = parse_flat(_typed(request.options))
            check_unnamed(options.instances)
            self._colorizer.check(options)
            refuse_download(options)  # which others would wait for
            self._colorizer.prepare(options)
            pixels = refuse_huge(request.picture, NAME, "this server", self._megapixels)
        except (ConfigError, UnreadablePicture) as error:
            return refusal(error)
        crops = self._megapixels_of_crops(options)
        if max(pixels, crops) * options.samples > self._megapixels:
            fits = int(self._megapixels / max(pixels, crops))
            things = f" with things of up to {crops:.1f}" if crops else ""
            advice = f"ask for {fits}" if fits else "name fewer things"
            return Refusal(
                413,
                f"samples: found {options.samples} of a picture of {pixels:.1f} megapixels"
                f"{things}; this server makes at most {self._megapixels:g} megapixels a request: "
                f"{advice}",
            )
        return Asked(request, options)

    def _megapixels_of_crops(self, options: ColorOptions) -> float:
        """Return how many million pixels the instance model colors at most for a sample."""
        asked, instance = options.instances, self._colorizer.instance
        if asked is None or instance is None:
            return 0.0
        count = MOST_INSTANCES if asked.given is None else len(asked.told(EVERY_PICTURE))
        return min(count, MOST_INSTANCES) * instance.size**2 / 1e6

    def _refuse_many(self, options: Mapping[str, Any]) -> None:
        """Raise TooManyPixels where mask and references have too many together, by their headers.

        Reading the options decodes them all.
        """
        pixels = sum(_pixels(data) for name in _PICTURES for data in _several(options.get(name)))
        if pixels > self._megapixels * 1e6:
            raise TooManyPixels(
                f"mask, reference: found {pixels / 1e6:.1f} megapixels together; this server takes "
                f"at most {self._megapixels:g}: make them smaller, or send fewer"
            )

    def answer(self, asked: Sequence[Asked]) -> list[Answer | None]:
        """Color the pictures of requests, those of equal options together.

        Without others of its options a picture becomes the bytes that the command line writes.
        None stands for a request that was abandoned.
        """
        answers: dict[int, Answer | None] = {}
        for group in _alike(asked):
            answers |= self._together([(i, asked[i]) for i in group])
        return [answers[i] for i in range(len(asked))]

    def _together(self, group: Sequence[tuple[int, Asked]]) -> dict[int, Answer | None]:
        answers: dict[int, Answer | None] = {}
        held: list[tuple[int, Asked, Photograph]] = []
        for i, one in group:
            try:
                if one.abandoned.is_set():
                    answers[i] = None
                else:
                    held.append((i, one, read_photograph(one.request.picture, NAME)))
            except (UnreadablePicture, MemoryError) as error:
                answers[i] = refusal(error)
        if not held:
            return answers
        options = held[0][1].options
        signature = Signature(self._colorizer, options)
        try:
            colored = self._colorizer.batch(
                [shot.picture for _, _, shot in held],
                options,
                stops=[one.abandoned.is_set for _, one, _ in held],
            )
            for (i, one, shot), samples in zip(held, colored, strict=True):
                answers[i] = self._encode(one, shot, samples, signature)
        # What one picture brings a network or the memory to must not take the others' answers.
        except _FAULTS as error:
            left = [(i, one) for i, one, _ in held if i not in answers]
            if len(held) == 1:
                answers[left[0][0]] = refusal(error)
                return answers
            for pair in left:
                answers |= self._together([pair])
        return answers

    def _encode(
        self, asked: Asked, shot: Photograph, samples: Iterator[Picture], signature: Signature
    ) -> Answer | None:
        suffix = asked.request.suffix or shot.suffix
        made: list[bytes] = []
        try:
            for number, picture in enumerate(samples):
                record = signature.record(shot.digest, f"{number}")
                made.append(write_photograph(picture, shot, record, suffix))
        except Stopped:
            return None
        except (ConfigError, UnreadablePicture) as error:  # a mask that does not fit
            return refusal(error)
        return Colored(made, suffix, self.about.label, self.about.version)


def refusal(error: Exception) -> Refusal:
    """Return the status that an error of a request is answered with, and its reason."""
    if isinstance(error, TooManyPixels):
        return Refusal(413, str(error))
    if isinstance(error, ConfigError | UnreadablePicture):
        return Refusal(422, str(error))
    return Refusal(500, f"{NAME} could not be colored: {type(error).__name__}: {error}")


def _alike(asked: Sequence[Asked]) -> list[list[int]]:
    """Group requests by their options."""
    groups: list[list[int]] = []
    for i, one in enumerate(asked):
        fitting = (group for group in groups if asked[group[0]].options == one.options)
        group = next(fitting, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return groups


def _several(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return value.split(",")
    return value if isinstance(value, list) else ()


def _pixels(encoded: object) -> int:
    """Count the pixels of base64 by its header; what is wrong with it is said where it is read."""
    if not isinstance(encoded, str):
        return 0
    try:
        width, height = read_header(base64.b64decode(encoded.strip()), "a picture").size
    except (binascii.Error, ValueError, UnreadablePicture):
        return 0
    return width * height


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the words of a URL into what flat names take: `tile=false` says nothing."""
    known: dict[str, Any] = {}
    for name, value in options.items():
        if FLAT_NAMES.get(name) is bool and isinstance(value, str):
            word = value.lower()
            known[name] = True if word in _TRUE else False if word in _FALSE else value
        else:
            known[name] = value
    return known
