"""The rules by which pictures are kept, shrunk and shared out."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from colorization.config import Config
from colorization.data.packed_manifest import Encoding, Instances


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class CurationRules(Config):
    """Which pictures are kept for training, and at which size."""

    size: int = Field(
        default=256,
        ge=16,
        le=8192,
        description="short side in pixels that larger pictures are shrunk to; smaller ones stay",
    )
    min_width: int = Field(default=0, ge=0, description="pixels; 0 keeps pictures of any width")
    min_height: int = Field(default=0, ge=0, description="pixels; 0 keeps pictures of any height")
    min_chroma: float = Field(
        default=0.5,
        ge=0,
        description="mean chroma (units of Lab) below which a picture has brightness only",
    )
    min_free_color: float = Field(
        default=2.4,
        ge=0,
        description="deviation (units of Lab) of the colors of a picture of one hue from those "
        "that its brightness predicts, below which it is toned gray (sepia); 0 keeps toned ones",
    )
    drop_duplicates: bool = Field(default=True, description="keep one of several exact copies")
    near_bits: int = Field(
        default=4,
        ge=0,
        le=16,
        description="pictures whose 64-bit perceptual hashes differ in at most so many bits, and "
        "which look alike, share a split",
    )
    wanted: Annotated[tuple[str, ...], BeforeValidator(_one_or_several)] = Field(
        default=(),
        description="keep pictures only in which one of these classes is seen; with `instances` "
        "the classes of these, none: all",
    )
    min_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="share of the picture that a wanted instance must cover",
    )
    min_score: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="how sure a detector must be of a wanted instance; with `instances` set it "
        "must be surer",
    )
    instances: Instances | None = Field(
        default=None,
        description="crops: pack the things in pictures, each by itself; colored: pack pictures "
        "with the colors that an instance model gives the things in them",
    )
    min_side: int = Field(
        default=64, ge=1, description="pixels that both sides of an instance's box must have"
    )
    encoding: Encoding = Field(
        default="raw", description="how pictures are packed: jpeg is smaller and slower to read"
    )
