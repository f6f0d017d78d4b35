"""Pretrained VGG weights made on the spot."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from colorization.models.layers import Normalization
from colorization.models.vgg import VGGKind, vgg_weights


def plant(
    kind: VGGKind, norm: Normalization, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> nn.Sequential:
    """Make `folder` torch's cache, with drawn weights of VGG in it; return torchvision's features.

    In evaluation mode.
    """
    monkeypatch.setenv("TORCH_HOME", str(folder))
    with torch.device("meta"):
        features = get_model(kind + ("_bn" if norm == "batch" else "")).features
    assert isinstance(features, nn.Sequential)
    features.to_empty(device="cpu")
    torch.manual_seed(1)
    _draw(features)
    cache = folder / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    file = str(vgg_weights(kind, norm).url).rsplit("/", 1)[-1]
    torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, cache / file)
    return features.eval()


def _draw(features: nn.Module) -> None:
    """Weights under which values neither fade nor explode, and statistics that are not 0 and 1."""
    for layer in features.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.normal_(layer.bias, 0, 0.1)
        elif isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.zero_()
