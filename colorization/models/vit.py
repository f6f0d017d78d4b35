"""The vision transformer (Dosovitskiy et al. 2021) that a generator and a discriminator share."""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from colorization.config import Config
from colorization.models.pretrained import load_pretrained, one_channel

# torchvision is slow to import and is not needed to find that a setting is wrong.
if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class ViTConfig(Config):
    """Measures of a vision transformer; the defaults are ViT-B/16's."""

    name: Literal["vit"] = "vit"
    patch: Literal[4, 8, 16, 32] = Field(default=16, description="side of a patch in pixels")
    hidden: int = Field(default=768, ge=8, le=1280, description="width of a token")
    depth: int = Field(default=12, ge=1, le=32, description="number of transformer blocks")
    heads: int = Field(default=12, ge=1, le=20, description="attention heads; they share `hidden`")
    mlp: int = Field(default=3072, ge=8, le=5120, description="width inside a block's two layers")

    def model_post_init(self, context: object) -> None:
        """Refuse heads that cannot share a token equally."""
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden must be a multiple of heads, found hidden={self.hidden} and "
                f"heads={self.heads}"
            )

    def smallest(self) -> int:
        """Return the smallest picture side: one patch."""
        return self.patch


class ViTTrunk(nn.Module):
    """(B, channels, H, W) -> tokens (B, 1 + H/patch * W/patch, hidden), the class token first.

    Everything of torchvision's ViT but its class scores, on pictures of any size that is a multiple
    of the patch: the position embeddings of the training size are interpolated to others.
    `weights`: those of torchvision that it starts from, for one channel.
    """

    def __init__(
        self, config: ViTConfig, size: int, channels: int, weights: "WeightsEnum | None" = None
    ) -> None:
        super().__init__()
        from torchvision.models import VisionTransformer

        vit = VisionTransformer(
            image_size=size,
            patch_size=config.patch,
            num_layers=config.depth,
            num_heads=config.heads,
            hidden_dim=config.hidden,
            mlp_dim=config.mlp,
        )
        self.patches = nn.Conv2d(channels, config.hidden, config.patch, stride=config.patch)
        nn.init.trunc_normal_(self.patches.weight, std=(channels * config.patch**2) ** -0.5)
        assert self.patches.bias is not None
        nn.init.zeros_(self.patches.bias)
        self.class_token = vit.class_token
        self.encoder = vit.encoder
        if weights is not None:
            self.load_torchvision(load_pretrained(weights))

    def forward(self, pictures: Tensor) -> Tensor:
        """Answer with the tokens after the last norm."""
        patches = self.patches(pictures)
        tokens = patches.flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([class_token, tokens], dim=1)
        height, width = patches.shape[-2:]
        positions = resize_positions(self.encoder.pos_embedding, height, width)
        return self.encoder.ln(self.encoder.layers(tokens + positions))

    def load_torchvision(self, state: dict[str, Tensor]) -> None:
        """Take in a torchvision ViT's weights for pictures of three channels."""
        encoder = {
            key.removeprefix("encoder."): tensor
            for key, tensor in state.items()
            if key.startswith("encoder.")
        }
        side = round((self.encoder.pos_embedding.shape[1] - 1) ** 0.5)
        encoder["pos_embedding"] = resize_positions(encoder["pos_embedding"], side, side)
        self.encoder.load_state_dict(encoder)
        self.patches.load_state_dict(
            {"weight": one_channel(state["conv_proj.weight"]), "bias": state["conv_proj.bias"]}
        )
        with torch.no_grad():
            self.class_token.copy_(state["class_token"])


def resize_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Interpolate position embeddings (1, 1 + n * n, C) to (1, 1 + height * width, C).

    Bicubic, in float32; the class token's, the first, stays (Dosovitskiy et al. 2021, section 3.2).
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    # A graph that is exported is for all sizes: interpolation to the same size changes nothing.
    if not torch.compiler.is_exporting() and (height, width) == (side, side):
        return positions
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    grid = F.interpolate(grid.float(), (height, width), mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
