"""The sources of pictures and the settings of an experiment's data."""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from colorization.config import Config, ConfigError
from colorization.data.archive import ArchiveSource
from colorization.data.arrays import ArraysSource
from colorization.data.celeba import CelebASource
from colorization.data.cifar10 import Cifar10Source
from colorization.data.coco import CocoSource
from colorization.data.folder import FolderSource
from colorization.data.mixture import mixed
from colorization.data.packed import PackedSource
from colorization.data.picture_sets import PictureSet, PictureSets, Source
from colorization.data.sample import SampleSource
from colorization.data.stl10 import Stl10Source

__all__ = [
    "ArchiveSource",
    "ArraysSource",
    "CelebASource",
    "Cifar10Source",
    "CocoSource",
    "DataConfig",
    "FolderSource",
    "MixturePart",
    "MixtureSource",
    "PackedSource",
    "PictureSet",
    "PictureSets",
    "SampleSource",
    "SourceConfig",
    "Stl10Source",
    "open_data",
]

PlainSource = (
    SampleSource
    | FolderSource
    | ArchiveSource
    | ArraysSource
    | Cifar10Source
    | Stl10Source
    | CelebASource
    | CocoSource
    | PackedSource
)


class MixturePart(Config):
    """A source and how much of a mixture's training set it gives."""

    weight: float = Field(gt=0, description="share of the training pictures, before scaling to 1")
    source: Annotated[PlainSource, Field(discriminator="name")] = Field(
        description="any source but a mixture"
    )


class MixtureSource(Source):
    """Several sources at once: trained on in shares of their weights, scored on all alike."""

    name: Literal["mixture"] = "mixture"
    sources: tuple[MixturePart, ...] = Field(
        description="two sources or more, each with the weight of its training pictures"
    )

    @model_validator(mode="after")
    def _there_is_something_to_mix(self) -> Self:
        if len(self.sources) < 2:
            raise ValueError(f"found {len(self.sources)} sources; a mixture needs two or more")
        return self

    def open(self, max_unreadable: float) -> PictureSets:
        """Open all sources; see `mixed`. Raises ConfigError as they do, naming which one."""
        opened: list[PictureSets] = []
        for number, part in enumerate(self.sources):
            try:
                opened.append(part.source.open(max_unreadable))
            except ConfigError as error:
                raise ConfigError(f"data.source.sources, entry {number}: {error}") from error
        short_sides = [sets.short_side for sets in opened if sets.short_side is not None]
        return replace(
            mixed(opened, [part.weight for part in self.sources]),
            short_side=min(short_sides, default=None),
        )


SourceConfig = Annotated[PlainSource | MixtureSource, Field(discriminator="name")]


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
    in_memory: bool = Field(
        default=False,
        description="decode the training pictures once and keep them in memory, on every rank",
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
    than `max_unreadable` of the pictures cannot be read, or where they were shrunk to a smaller
    size than is trained on.
    """
    sets = config.source.open(config.max_unreadable)
    if sets.short_side is not None and sets.short_side < config.size:
        raise ConfigError(
            f"data.size: found {config.size}; {sets.description} were shrunk to a short side of "
            f"{sets.short_side} pixels: set data.size={sets.short_side} or less, or prepare them "
            f"anew with ray_jobs/prepare.py size={config.size}"
        )
    return sets
