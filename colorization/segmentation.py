"""DeepLabV3 says which pixels of a picture belong to which of Pascal VOC's twenty classes."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from colorization.config import ConfigError
from colorization.models.pretrained import load_pretrained

# torchvision is slow to import and is not needed to find that a setting is wrong.
if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

Backbone = Literal["resnet101", "resnet50", "mobilenet"]
VOCClass = Literal[
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
VOC_CLASSES: tuple[VOCClass, ...] = get_args(VOCClass)

OTHERWISE = "give a mask from a file"
_SIDE = 520  # short side of the pictures that torchvision's weights are measured on
_MAX_ASPECT = 4  # longer pictures are shown to the network with a smaller short side
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_MODELS: dict[Backbone, tuple[str, str]] = {
    "resnet101": ("deeplabv3_resnet101", "DeepLabV3_ResNet101_Weights"),
    "resnet50": ("deeplabv3_resnet50", "DeepLabV3_ResNet50_Weights"),
    "mobilenet": ("deeplabv3_mobilenet_v3_large", "DeepLabV3_MobileNet_V3_Large_Weights"),
}


class Segmenter:
    """DeepLabV3 (Chen et al. 2017) with torchvision's weights, trained on COCO with VOC's classes.

    Raises ConfigError where the weights are neither in torch's cache nor to be had, or damaged.
    """

    def __init__(self, backbone: Backbone, device: torch.device | str = "cpu") -> None:
        from torchvision.models import get_model

        weights = segmentation_weights(backbone)
        state = load_pretrained(weights, OTHERWISE)
        with torch.device("meta"):  # drawing weights that are replaced takes a second
            network = get_model(
                _MODELS[backbone][0],
                weights=None,
                weights_backbone=None,
                num_classes=1 + len(VOC_CLASSES),
                aux_loss=False,
            )
        used = {key: value for key, value in state.items() if not key.startswith("aux_classifier.")}
        try:
            network.load_state_dict(used, assign=True)
        except RuntimeError as error:
            file = str(weights.url).rsplit("/", 1)[-1]
            what = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"{file} holds no weights of {_MODELS[backbone][0]}: {what}"
            ) from error
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)

    @torch.inference_mode()
    def foreground(self, rgb: np.ndarray, classes: Collection[VOCClass] = ()) -> np.ndarray:
        """Return how sure it is that pixels are of one of the classes (none given: of any).

        `rgb` is sRGB (H, W, 3), uint8 or uint16. The answer is (h, w) float32 in [0, 1], of a size
        of its own; above 0.5 are the pixels whose likeliest class is among those asked for.
        """
        wanted = [1 + VOC_CLASSES.index(name) for name in classes or VOC_CLASSES]
        others = sorted({*range(1 + len(VOC_CLASSES))} - {*wanted})
        logits = self._network(self._show(rgb))["out"].float()
        margin = logits[:, wanted].amax(1) - logits[:, others].amax(1)
        return margin.sigmoid()[0].cpu().numpy()

    def _show(self, rgb: np.ndarray) -> Tensor:
        """Return what the network sees of a picture, (1, 3, h, w)."""
        height, width = rgb.shape[:2]
        scale = min(_SIDE / min(height, width), _MAX_ASPECT * _SIDE / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        shown = np.ascontiguousarray(_shrink(rgb, size))
        pixels = torch.tensor(shown, device=self._device)
        channels = pixels.permute(2, 0, 1)[None].float() / np.iinfo(rgb.dtype).max
        resized = F.interpolate(channels, size, mode="bilinear", antialias=True)
        mean, deviation = (resized.new_tensor(v).view(3, 1, 1) for v in (_MEAN, _DEVIATION))
        return (resized - mean) / deviation


def _shrink(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Take means of squares of pixels where a picture has many times more than `size` (H, W).

    What is left has twice the size at least: the float copy of 100 megapixels would take 1.2 GB.
    """
    factor = min(rgb.shape[0] // size[0], rgb.shape[1] // size[1]) // 2
    if factor < 2:
        return rgb
    sides = (rgb.shape[1] // factor, rgb.shape[0] // factor)
    return cv2.resize(rgb, sides, interpolation=cv2.INTER_AREA)


def segmentation_weights(backbone: Backbone) -> "WeightsEnum":
    """Name torchvision's weights of DeepLabV3 on a backbone."""
    from torchvision.models import get_weight

    return get_weight(f"{_MODELS[backbone][1]}.COCO_WITH_VOC_LABELS_V1")
