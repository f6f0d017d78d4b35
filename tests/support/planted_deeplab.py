"""DeepLabV3 weights made on the spot: drawn ones, and some that see what is bright."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from colorization.segmentation import (
    VOC_CLASSES,
    Backbone,
    Segmenter,
    VOCClass,
    segmentation_weights,
)

_NAMES: dict[Backbone, str] = {
    "resnet101": "deeplabv3_resnet101",
    "resnet50": "deeplabv3_resnet50",
    "mobilenet": "deeplabv3_mobilenet_v3_large",
}


def plant(backbone: Backbone, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Make `folder` torch's cache, with drawn weights in it; return the network in evaluation mode.

    The file holds what torchvision's does, the auxiliary classifier too.
    """
    torch.manual_seed(1)
    network = get_model(_NAMES[backbone], weights=None, weights_backbone=None, aux_loss=True)
    monkeypatch.setenv("TORCH_HOME", str(folder))
    _file(backbone, folder).parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), _file(backbone, folder))
    return network.eval()


def plant_bright_is(
    bright: VOCClass, dark: VOCClass | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plant a MobileNet that takes bright places for one class and dark ones for another.

    `dark` None: for the background. Its last layer is fitted to drawn features of noisy pictures
    that are half bright, half dark.
    """
    plant("mobilenet", folder, monkeypatch)
    features, targets = [], []
    for seed in range(2):
        found, light = _features(half_bright(260, 260, seed, turned=bool(seed % 2)))
        features.append(found)
        targets.append(light)
    known = torch.cat(features).double()
    known = torch.cat([known, torch.ones(len(known), 1)], 1)
    fitted = torch.linalg.lstsq(known, torch.cat(targets).double()[:, None], driver="gelsd")
    line = fitted.solution[:, 0].float()
    file = _file("mobilenet", folder)
    state = torch.load(file, weights_only=True)
    weight, bias = state["classifier.4.weight"], state["classifier.4.bias"]
    weight.zero_()
    bias.fill_(-10)
    for label, sign in ((bright, 1), (dark, -1)):
        row = 0 if label is None else 1 + VOC_CLASSES.index(label)
        weight[row, :, 0, 0], bias[row] = sign * 5 * line[:-1], sign * 5 * line[-1]
    torch.save(state, file)


def half_bright(height: int, width: int, seed: int = 0, turned: bool = False) -> np.ndarray:
    """Return a noisy gray picture (H, W, 3) whose right half is bright; turned, its lower half."""
    noise = np.random.default_rng(seed).normal(0, 10, (height, width))
    rows, columns = np.mgrid[:height, :width]
    bright = rows >= height / 2 if turned else columns >= width / 2
    return np.stack([np.clip(60 + 130 * bright + noise, 0, 255)] * 3, 2).astype(np.uint8)


@torch.inference_mode()
def _features(rgb: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return what the last layer sees of a picture, and 1 where that is bright, -1 where dark."""
    segmenter = Segmenter("mobilenet")
    network, seen = segmenter._network, []
    hook = network.get_submodule("classifier.4").register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    segmenter.foreground(rgb)
    hook.remove()
    (features,) = seen
    light = torch.from_numpy(rgb[..., 0].copy())[None, None].float()
    light = nn.functional.adaptive_avg_pool2d(light, features.shape[-2:])
    return features[0].flatten(1).T, (light.flatten() > 125) * 2.0 - 1


def _file(backbone: Backbone, folder: Path) -> Path:
    name = str(segmentation_weights(backbone).url).rsplit("/", 1)[-1]
    return folder / "hub" / "checkpoints" / name
