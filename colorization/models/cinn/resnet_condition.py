"""A condition network whose maps are a torchvision ResNet's features (systems A3 and A4)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.pretrained import load_pretrained, one_channel

# torchvision is slow to import and is not needed to find that a setting is wrong.
if TYPE_CHECKING:
    from torchvision.models import WeightsEnum
    from torchvision.models.resnet import ResNet

_WEIGHTS = {
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet34": "ResNet34_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
}
# Channels of the map at each fraction of the picture's side. At a quarter there are two of 64:
# conv1's after its pooling, and layer1's. ResNet-50's are projected to these, ResNet-18's.
_CHANNELS = {2: 64, 4: 128, 8: 128, 16: 256, 32: 512}


class ResNetConditionConfig(Config):
    """The maps of conv1 and layer1 to layer4, by their sides, and a vector of the last."""

    name: Literal["resnet"] = "resnet"
    network: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    pretrained: bool = Field(default=False, description="start it from torchvision's weights")
    transformer_layers: int = Field(
        default=0,
        ge=0,
        le=24,
        description="of a transformer encoder over the last features, for global context; 0: none",
    )
    vector: int = Field(default=512, ge=2, le=4096, description="size of the last condition")

    def refusal(self, levels: int) -> str | None:
        """Say why a flow of so many levels cannot be conditioned, if so: any can."""
        del levels
        return None

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from, if any."""
        if not self.pretrained:
            return None
        from torchvision.models import get_weight

        return get_weight(_WEIGHTS[self.network])

    def build(self, channels: int, size: int, factors: Sequence[int]) -> "ResNetCondition":
        """Build the network for pictures of so many channels; `factors` divide their sides."""
        return ResNetCondition(self, channels, size, factors)


class ResNetCondition(nn.Module):
    """(B, channels, H, W) -> a map for each level of the flow, then a vector (B, vector).

    Below layer4 (a 32nd of the side) further maps come from 3x3 stride-2 convolutions, `further`.
    """

    def __init__(
        self, config: ResNetConditionConfig, channels: int, size: int, factors: Sequence[int]
    ) -> None:
        super().__init__()
        self.resnet = _resnet(config, channels)
        self.factors = list(factors)
        self.channels = [_CHANNELS.get(factor, 512) for factor in factors]
        self.narrow = nn.ModuleDict()
        if config.network == "resnet50":
            # Taken as they are, 256 to 2048 channels would multiply the size of the couplings.
            narrowed = {4: (256, 64), 8: (512, 128), 16: (1024, 256), 32: (2048, 512)}
            for factor, (wide, width) in narrowed.items():
                if factor in factors or factor == 32:
                    self.narrow[str(factor)] = nn.Conv2d(wide, width, 1)
        self.context = None
        if config.transformer_layers:
            self.context = GlobalContext(512, config.transformer_layers, -(-size // 32))
        self.further = nn.ModuleList(
            nn.Sequential(nn.Conv2d(512, 512, 3, stride=2, padding=1), nn.LeakyReLU(0.2))
            for factor in factors
            if factor > 32
        )
        self.vector = nn.Linear(512, config.vector)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the conditions, the largest map first."""
        resnet = self.resnet
        maps = {2: resnet.relu(resnet.bn1(resnet.conv1(pictures)))}
        pooled = resnet.maxpool(maps[2])
        features = pooled
        for factor, layer in zip(
            (4, 8, 16, 32),
            (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4),
            strict=True,
        ):
            features = layer(features)
            narrow = self.narrow[str(factor)] if str(factor) in self.narrow else nn.Identity()
            maps[factor] = narrow(features)
        maps[4] = torch.cat([pooled, maps[4]], dim=1)
        last = maps[32] if self.context is None else self.context(maps[32])
        maps[32] = last
        vector = self.vector(last.mean((2, 3)))
        for index, halve in enumerate(self.further):
            last = halve(last)
            maps[64 << index] = last
        return [*(maps[factor] for factor in self.factors), vector]


class GlobalContext(nn.Module):
    """A transformer encoder over the pixels of (B, channels, side, side) features, shape kept."""

    def __init__(self, channels: int, layers: int, side: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(1, side * side, channels))
        layer = nn.TransformerEncoderLayer(
            channels,
            nhead=channels // 64,
            dim_feedforward=4 * channels,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(channels), enable_nested_tensor=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape that know of each other."""
        tokens = features.flatten(2).transpose(1, 2)
        seen = self.encoder(tokens + self.position)
        return seen.transpose(1, 2).unflatten(2, features.shape[2:])


def _resnet(config: ResNetConditionConfig, channels: int) -> "ResNet":
    from torchvision.models import get_model
    from torchvision.models.resnet import ResNet

    resnet = get_model(config.network, weights=None)
    assert isinstance(resnet, ResNet)
    first = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    weights = config.weights()
    if weights is not None:
        resnet.load_state_dict(load_pretrained(weights))
        # Lightness is seen as the gray picture was; of ab the weights know nothing.
        nn.init.zeros_(first.weight)
        first.weight.data[:, :1] = one_channel(resnet.conv1.weight.data)
    resnet.conv1 = first
    del resnet.fc  # no class scores: no idle parameters
    return resnet
