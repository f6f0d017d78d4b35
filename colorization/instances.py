"""The things in a picture and where they are: found by a detector, or given (system A5)."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from pydantic import Field, TypeAdapter, ValidationError

from colorization.coco_masks import Polygon, RunLengths, draw_polygons, draw_runs, run_lengths
from colorization.config import Config, ConfigError
from colorization.pictures import UnreadablePicture
from colorization.reference import MAX_REFERENCES, reference_name

AUTO = "auto"  # says that Mask R-CNN is to look
EVERY_PICTURE = ""  # stands for the name of any picture
MOST_INSTANCES = 100  # of a picture; Mask R-CNN sees no more
_MOST_COVERED = 10  # times that boxes may cover a picture in all
_MOST_POLYGONS, _MOST_CORNERS = 256, 5000  # of a mask
_Side = Annotated[float, Field(ge=-1e6, le=1e6)]  # pixels
_FORM = (
    '{"name": "a/b.jpg", "instances": [{"label": "dog", "score": 0.9, "bbox": [x, y, w, h], '
    '"segmentation": polygons or RLE as in COCO, or left out}]}'
)


class InstancesDoNotFit(UnreadablePicture):
    """Instances that lie outside of their picture: names both."""


class Box(NamedTuple):
    """A part of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Return this part of (H, W, ...) pixels, not copied."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


class Detection(NamedTuple):
    """A thing in a picture."""

    label: str  # name of its class: person
    score: float  # how sure a detector is, in [0, 1]
    box: Box
    mask: np.ndarray  # (box.height, box.width) bool: which pixels of the box belong to it


class GivenInstance(Config):
    """A thing that was found elsewhere, as COCO writes it, in pixels of the upright picture."""

    label: str = Field(default="", description="name of its class: person")
    score: float = Field(default=1.0, ge=0, le=1, description="how sure a detector is")
    bbox: tuple[_Side, _Side, _Side, _Side] = Field(description="left, top, width, height")
    segmentation: tuple[Polygon, ...] | RunLengths | None = Field(
        default=None, description="COCO's polygons or RLE; none: the whole box"
    )

    def model_post_init(self, context: object) -> None:
        """Refuse boxes without pixels, and masks that take minutes to draw."""
        if not (self.bbox[2] > 0 and self.bbox[3] > 0):
            raise ValueError(f"bbox: found {self.bbox}; a width and a height above 0 are needed")
        polygons = self.segmentation if isinstance(self.segmentation, tuple) else ()
        if len(polygons) > _MOST_POLYGONS:
            raise ValueError(
                f"segmentation: found {len(polygons)} polygons, at most {_MOST_POLYGONS} are taken"
            )
        if (corners := sum(map(len, polygons)) // 2) > _MOST_CORNERS:
            raise ValueError(
                f"segmentation: found {corners} corners, at most {_MOST_CORNERS} are taken"
            )

    def box(self, height: int, width: int) -> Box:
        """Return what of its box lies in a picture of this size; raises InstancesDoNotFit."""
        x, y, w, h = self.bbox
        right, bottom = min(width, round(x + w)), min(height, round(y + h))
        left, top = max(0, min(right - 1, round(x))), max(0, min(bottom - 1, round(y)))
        box = Box(left, top, right - left, bottom - top)
        if x >= width or y >= height or box.width < 1 or box.height < 1:
            raise InstancesDoNotFit(
                f"{self._shown} lies outside of the picture of {width} x {height}"
            )
        return box

    def place(self, height: int, width: int) -> Detection:
        """Return the thing in a picture of this size; raises InstancesDoNotFit."""
        box = self.box(height, width)
        if isinstance(self.segmentation, RunLengths):
            if self.segmentation.size != (height, width):
                tall, wide = self.segmentation.size
                raise InstancesDoNotFit(
                    f"{self._shown} has a mask of {wide} x {tall} pixels, "
                    f"the picture {width} x {height}"
                )
            mask = box.cut(draw_runs(self.segmentation)).copy()
        elif self.segmentation is not None:
            mask = draw_polygons(self.segmentation, *box)
        else:
            mask = np.ones((box.height, box.width), bool)
        return Detection(self.label, self.score, box, mask)

    @property
    def _shown(self) -> str:
        sides = ", ".join(f"{side:g}" for side in self.bbox)
        return f"{self.label or 'an instance'} at {sides}"


class _Line(Config):
    instances: tuple[GivenInstance, ...]


class InstanceOptions(Config):
    """Which things are colored by themselves, before the whole picture is."""

    given: dict[str, tuple[GivenInstance, ...]] | None = Field(
        default=None,
        description="what is in pictures, by their names, '' being any picture; none: Mask R-CNN "
        "looks",
    )
    min_score: float = Field(
        default=0.5, ge=0, lt=1, description="how sure a detector must be: more than that"
    )
    min_side: int = Field(
        default=64, ge=1, description="pixels of the picture that both sides of a box must have"
    )

    def told(self, name: str) -> tuple[GivenInstance, ...]:
        """Return what is said to be in a picture."""
        given = self.given or {}
        return given.get(name, given.get(EVERY_PICTURE, ()))


class InstanceDetector(Protocol):
    """Finds the things in a picture and where they are."""

    def find(self, rgb: np.ndarray) -> Iterable[Detection]:
        """Return what is seen in sRGB (H, W, 3), uint8 or uint16, with boxes in its pixels."""
        ...


class InstanceFinder:
    """Finds the instances of pictures; loads Mask R-CNN when it is first needed."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._detector: InstanceDetector | None = None

    def prepare(self, options: InstanceOptions) -> None:
        """Load what these options need, before there is a picture.

        Raises ConfigError where the detector's weights are neither in torch's cache nor to be had.
        """
        if options.given is None and self._detector is None:
            from colorization.mask_rcnn import MaskRCNNDetector  # slow to import

            self._detector = MaskRCNNDetector(device=self._device)

    def __call__(
        self, rgb: np.ndarray, options: InstanceOptions, name: str = EVERY_PICTURE
    ) -> list[Detection]:
        """Return the instances of a picture (H, W, 3) that are sure and large enough.

        Raises ConfigError as `prepare` does, and InstancesDoNotFit.
        """
        self.prepare(options)
        return find_instances(rgb, options, name, self._detector)


def find_instances(
    rgb: np.ndarray,
    options: InstanceOptions,
    name: str = EVERY_PICTURE,
    detector: InstanceDetector | None = None,
    labels: Collection[str] = (),
) -> list[Detection]:
    """Return the instances of a picture (H, W, 3) that are sure and large enough, of some classes
    (none: of all).

    They are those given under the picture's name; where none are given at all the detector looks,
    and they are the first ones whose boxes cover the picture ten times at most. Raises
    InstancesDoNotFit where boxes that are given cover it more often, or are more than 100.
    """
    height, width = rgb.shape[:2]

    def counts(label: str, score: float, box: Box) -> bool:
        large = min(box.width, box.height) >= options.min_side
        return score > options.min_score and large and (not labels or label in labels)

    if options.given is None and detector is not None:
        return _first(
            (one for one in detector.find(rgb) if counts(one.label, one.score, one.box)),
            _MOST_COVERED * width * height,
        )
    boxes = [(one, one.box(height, width)) for one in options.told(name)]
    kept = [(one, box) for one, box in boxes if counts(one.label, one.score, box)]
    if len(kept) > MOST_INSTANCES:
        raise InstancesDoNotFit(
            f"found {len(kept)} instances; at most {MOST_INSTANCES} of a picture are colored by "
            "themselves: leave some out, or raise min_score or min_side"
        )
    covered = sum(box.width * box.height for _, box in kept) / (width * height)
    if covered > _MOST_COVERED:  # each has a mask of its own
        raise InstancesDoNotFit(
            f"the boxes of {len(kept)} instances cover the picture {covered:.0f} times; at most "
            f"{_MOST_COVERED} times are taken"
        )
    return [one.place(height, width) for one, _ in kept]


def _first(found: Iterable[Detection], pixels: int) -> list[Detection]:
    """Return as many as have so many pixels together: each has a mask of its own."""
    kept: list[Detection] = []
    for one in found:
        pixels -= one.box.width * one.box.height
        if pixels < 0:
            break
        kept.append(one)
    return kept


def parse_instances(text: str, place: str = "") -> dict[str, tuple[GivenInstance, ...]]:
    """Read what is in pictures: a JSON list for any picture, or a line of JSON for each by name.

    Raises ConfigError that names the place, the line and what is wrong.
    """
    where = f"{place}, " if place else ""
    if text.lstrip().startswith("["):
        try:
            return {EVERY_PICTURE: TypeAdapter(tuple[GivenInstance, ...]).validate_json(text)}
        except ValidationError as error:
            raise ConfigError(f"{where}{_fault(error)}") from error
    found: dict[str, tuple[GivenInstance, ...]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            name, instances = _read_line(line)
        except ValidationError as error:
            raise ConfigError(f"{where}line {number}: {_fault(error)}") from error
        except ValueError as error:
            raise ConfigError(f"{where}line {number}: {error}; needed is {_FORM}") from error
        if name in found:
            raise ConfigError(f"{where}line {number}: {name!r} was on an earlier line")
        found[name] = instances
    if not found:
        raise ConfigError(f"{where}no picture is named; needed is {_FORM}")
    return found


def _read_line(line: str) -> tuple[str, tuple[GivenInstance, ...]]:
    """Read a line; its name not by pydantic's parser, which takes none that are not UTF-8."""
    try:
        data = json.loads(line)
    except RecursionError:
        raise ValueError("found brackets within brackets without end") from None
    if not isinstance(data, dict) or not isinstance(name := data.pop("name", None), str):
        raise ValueError("names no picture")
    return name, _Line.model_validate_json(json.dumps(data)).instances


def read_instances(path: Path) -> dict[str, tuple[GivenInstance, ...]]:
    """Read a file as `parse_instances` says; raises ConfigError, also where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the instances {path}: {error}") from error
    return parse_instances(text, str(path))


def check_unnamed(options: InstanceOptions | None) -> None:
    """Raise ConfigError where instances are given by name, for pictures that have none."""
    given = None if options is None else options.given
    if given is not None and EVERY_PICTURE not in given:
        raise ConfigError(
            f"instances: found lines by names of pictures, as {next(iter(given), '')!r}; a picture "
            "that is sent has no name: send a list of what is in it, or name its line ''"
        )


def check_names(options: InstanceOptions | None, names: Collection[str]) -> None:
    """Raise ConfigError where instances are given by name, and for none of these pictures."""
    given = None if options is None else options.given
    if given is None or EVERY_PICTURE in given or not given.keys().isdisjoint(names):
        return
    others = given.keys() - {reference_name(index) for index in range(MAX_REFERENCES)}
    if not others:
        return
    raise ConfigError(
        f"instances: given for {min(others)!r} and {len(others) - 1} others, which are not "
        f"among the {len(names)} pictures, as {next(iter(names))!r}: a picture's name is its path "
        "below the folder that is colored"
    )


def instances_line(name: str, found: Iterable[Detection], height: int, width: int) -> str:
    """Write what is in a picture of a size as a line that `parse_instances` reads."""
    instances: list[dict[str, Any]] = []
    for one in found:
        entry: dict[str, Any] = {"label": one.label, "score": one.score, "bbox": list(one.box)}
        if not one.mask.all():
            whole = np.zeros((height, width), bool)
            one.box.cut(whole)[...] = one.mask
            entry["segmentation"] = run_lengths(whole).model_dump(mode="json")
        instances.append(entry)
    return json.dumps({"name": name, "instances": instances})


def scaled_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask (h, w) to another size: a pixel belongs to it if half of it did."""
    smaller = height * width < mask.size
    kind = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(mask.astype(np.float32), (width, height), interpolation=kind) >= 0.5


def _fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place + ': ' if place else ''}{fault['msg']}; needed is {_FORM}"
