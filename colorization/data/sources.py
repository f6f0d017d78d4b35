"""The sources of pictures and the settings of an experiment's data."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from colorization.config import Config
from colorization.data.arrays import ArraysSource
from colorization.data.folder import FolderSource
from colorization.data.picture_sets import PictureSet, PictureSets
from colorization.data.sample import SampleSource

__all__ = [
    "ArraysSource",
    "DataConfig",
    "FolderSource",
    "PictureSet",
    "PictureSets",
    "SampleSource",
    "SourceConfig",
    "open_data",
]

SourceConfig = Annotated[SampleSource | FolderSource | ArraysSource, Field(discriminator="name")]


class DataConfig(Config):
    """Which pictures a model is trained on and what is cut out of them."""

    source: SourceConfig = Field(default=SampleSource(), description="where the pictures are")
    size: int = Field(
        default=64, ge=16, le=1024, description="side in pixels of the square pictures trained on"
    )
    flip: bool = Field(default=True, description="mirror half of the training pictures")
    crop_scale: tuple[float, float] = Field(
        default=(0.6, 1.0),
        description="side of a random training crop as a share of the picture's short side",
    )
    max_unreadable: float = Field(
        default=0.1, ge=0, le=1, description="share of unreadable pictures beyond which a run ends"
    )
    loader_workers: int = Field(
        default=0, ge=0, le=64, description="decoding processes a rank; changes speed only"
    )

    @model_validator(mode="after")
    def _crop_scale_is_a_range(self) -> Self:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale is {low}, {high}; 0 < low <= high <= 1 is needed")
        return self


def open_data(config: DataConfig) -> PictureSets:
    """Open the training, validation and test pictures of a source.

    Raises ConfigError where there are no pictures, where a split comes out empty, or where more
    than `max_unreadable` of the pictures cannot be read.
    """
    return config.source.open(config.max_unreadable)
