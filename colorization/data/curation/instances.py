"""What is seen in pictures: whether an instance of a wanted class is large enough."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from pydantic import Field, ValidationError

from colorization.config import Config, ConfigError
from colorization.data.collection import Instance
from colorization.data.curation.rules import CurationRules

_OF_A_MASK = 0.5  # probability from which a pixel belongs to an instance


class Detector(Protocol):
    """Finds the things in a picture."""

    @property
    def labels(self) -> Collection[str]:
        """The classes that it knows."""
        ...

    def detect(self, rgb: np.ndarray) -> list[Instance]:
        """Return what is seen in sRGB (H, W, 3) uint8."""
        ...


class MaskRCNNDetector:
    """Mask R-CNN (He et al. 2017; ResNet-50 FPN v2 of torchvision), trained on COCO's 80 classes.

    Instances of a score below `min_score` are left out. Raises ConfigError where the weights are
    neither in torch's cache nor to be had.
    """

    def __init__(self, min_score: float = 0.05, device: str = "cpu") -> None:
        # They take seconds to import, and few preparations look for instances.
        from torchvision.models.detection import (
            MaskRCNN_ResNet50_FPN_V2_Weights,
            maskrcnn_resnet50_fpn_v2,
        )

        from colorization.models.pretrained import load_pretrained

        weights = MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1
        state = load_pretrained(weights, "give detections made elsewhere")
        self._model = maskrcnn_resnet50_fpn_v2(weights_backbone=None, box_score_thresh=min_score)
        self._model.load_state_dict(state)
        self._model.eval().to(device)
        self._device = device
        self._categories: list[str] = weights.meta["categories"]
        self.labels = frozenset(self._categories) - {"__background__", "N/A"}

    @torch.inference_mode()
    def detect(self, rgb: np.ndarray) -> list[Instance]:
        """Return what is seen in sRGB (H, W, 3) uint8, its share being that of its mask."""
        picture = torch.from_numpy(rgb.copy()).permute(2, 0, 1).to(self._device) / 255
        (found,) = self._model([picture])
        shares = (found["masks"] > _OF_A_MASK).float().mean((1, 2, 3))
        return [
            Instance(self._categories[label], share, score)
            for label, share, score in zip(
                found["labels"].tolist(), shares.tolist(), found["scores"].tolist(), strict=True
            )
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
