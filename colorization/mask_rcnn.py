"""Mask R-CNN says which things of COCO's 80 classes are in a picture, and where."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from colorization.instances import Box, Detection, scaled_mask
from colorization.models.pretrained import load_pretrained
from colorization.pictures import to_uint8

OTHERWISE = "give detections made elsewhere"
_OF_A_MASK = 0.5  # probability from which a pixel belongs to an instance
_SIDE = 800  # short side that torchvision resizes pictures to: larger ones are shrunk before

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class MaskRCNNDetector:
    """Mask R-CNN (He et al. 2017; ResNet-50 FPN v2 of torchvision), trained on COCO's 80 classes.

    Instances of a score below `min_score` are left out. Raises ConfigError where the weights are
    neither in torch's cache nor to be had.
    """

    def __init__(self, min_score: float = 0.05, device: torch.device | str = "cpu") -> None:
        # It takes seconds to import, and few look for instances.
        from torchvision.models.detection import maskrcnn_resnet50_fpn_v2

        weights = detection_weights()
        state = load_pretrained(weights, OTHERWISE)
        self._model = maskrcnn_resnet50_fpn_v2(weights_backbone=None, box_score_thresh=min_score)
        self._model.load_state_dict(state)
        self._model.eval().to(device)
        self._device = device
        self._categories: list[str] = weights.meta["categories"]
        self.labels = frozenset(self._categories) - {"__background__", "N/A"}

    def find(self, rgb: np.ndarray) -> Iterator[Detection]:
        """Yield what is seen in sRGB (H, W, 3), uint8 or uint16, with boxes in its pixels.

        The surest first. Each mask is made when its turn comes: a hundred of a large picture's size
        are more than fits into memory.
        """
        height, width = rgb.shape[:2]
        scale = min(1.0, _SIDE / min(height, width))
        shown = to_uint8(rgb)
        if scale < 1:
            small = (max(1, round(width * scale)), max(1, round(height * scale)))
            shown = cv2.resize(shown, small, interpolation=cv2.INTER_AREA)
        picture = torch.from_numpy(shown.copy()).permute(2, 0, 1).to(self._device) / 255
        with torch.inference_mode():
            (found,) = self._model([picture])
        ratios = width / shown.shape[1], height / shown.shape[0]
        for label, score, corners, mask in zip(
            found["labels"].tolist(),
            found["scores"].tolist(),
            found["boxes"].tolist(),
            (found["masks"][:, 0] > _OF_A_MASK).cpu().numpy(),
            strict=True,
        ):
            box, placed = _place(corners, mask, ratios, rgb.shape)
            yield Detection(self._categories[label], score, box, placed)


def detection_weights() -> "WeightsEnum":
    """Name torchvision's weights of Mask R-CNN."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_V2_Weights

    return MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1


def _place(
    corners: list[float], mask: np.ndarray, ratios: tuple[float, float], shape: tuple[int, ...]
) -> tuple[Box, np.ndarray]:
    """Return box and mask in pixels of a picture that was shown smaller by `ratios` (x, y)."""
    tall, wide = mask.shape
    x0, y0 = (max(0, math.floor(corner)) for corner in corners[:2])
    small = Box(
        min(x0, wide - 1),
        min(y0, tall - 1),
        max(1, min(wide, math.ceil(corners[2])) - x0),
        max(1, min(tall, math.ceil(corners[3])) - y0),
    )
    left, top = round(small.left * ratios[0]), round(small.top * ratios[1])
    right = min(shape[1], max(left + 1, round((small.left + small.width) * ratios[0])))
    bottom = min(shape[0], max(top + 1, round((small.top + small.height) * ratios[1])))
    box = Box(left, top, right - left, bottom - top)
    return box, scaled_mask(small.cut(mask), box.height, box.width)
