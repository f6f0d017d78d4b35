"""What is seen in pictures: whether an instance of a wanted class is large enough."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from colorization.config import Config, ConfigError
from colorization.data.collection import Instance
from colorization.data.curation.rules import CurationRules
from colorization.instances import InstanceDetector


def seen_by(detector: InstanceDetector, rgb: np.ndarray) -> list[Instance]:
    """Return what a detector sees in sRGB (H, W, 3) uint8, its share being that of its mask."""
    pixels = rgb.shape[0] * rgb.shape[1]
    return [
        Instance(one.label, int(one.mask.sum()) / pixels, one.score) for one in detector.find(rgb)
    ]


class _Thing(Config):
    label: str
    share: float = Field(ge=0, le=1)
    score: float = Field(default=1, ge=0, le=1)


class _Line(Config):
    name: str
    instances: tuple[_Thing, ...]


def read_detections(path: Path) -> dict[str, list[Instance]]:
    """Read what a detector saw elsewhere: a JSON file with a line for each picture.

    `{"name": "a/b.jpg", "instances": [{"label": "person", "share": 0.4, "score": 0.9}]}`: the name
    that the picture has in its source; share of its area and score in [0, 1]. Raises ConfigError
    that names the line where one is of another kind or a name comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the detections {path}: {error}") from error
    found: dict[str, list[Instance]] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise ConfigError(
                f"{path}, line {number}: {place + ': ' if place else ''}{fault['msg']}; needed is "
                '{"name": ..., "instances": [{"label": ..., "share": 0..1, "score": 0..1}]}'
            ) from error
        if line.name in found:
            raise ConfigError(f"{path}, line {number}: {line.name!r} was on an earlier line")
        found[line.name] = [Instance(one.label, one.share, one.score) for one in line.instances]
    return found


def check_wanted(wanted: Iterable[str], known: Collection[str], place: str) -> None:
    """Raise ConfigError for wanted classes that are not among those known to what `place` names."""
    for label in wanted:
        if label in known:
            continue
        near = difflib.get_close_matches(label.lower(), sorted(known), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ConfigError(
            f"wanted: found {label!r}, which {place} never knows; {hint}"
            f"known are {', '.join(sorted(known)) or 'none'}"
        )


def no_wanted_instance(instances: Sequence[Instance] | None, rules: CurationRules) -> str | None:
    """Return why no wanted instance is large enough, None where one is.

    One that covers `min_share` of the picture and has `min_score`; `instances` is None where nobody
    looked.
    """
    classes = " or ".join(rules.wanted)
    needed = (
        f"{classes} on {rules.min_share:.0%} of the picture with a score of {rules.min_score:g}"
    )
    if instances is None:
        return f"nobody looked for instances in it; wanted is {needed}"
    of_class = [one for one in instances if one.label in rules.wanted]
    if not of_class:
        seen = ", ".join(sorted({one.label for one in instances})) or "nothing"
        return f"found {seen}; wanted is {needed}"
    if any(one.share >= rules.min_share and one.score >= rules.min_score for one in of_class):
        return None
    best = max(of_class, key=lambda one: (one.score >= rules.min_score, one.share))
    return f"found {best.label} on {best.share:.1%} with {best.score:.2f}; wanted is {needed}"
