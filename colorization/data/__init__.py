"""Where pictures come from and how they reach the device: sources, transforms, loaders."""

from colorization.data.loaders import Batch, ScoringLoader, TrainingLoader, check_batch_size
from colorization.data.sources import (
    ArchiveSource,
    DataConfig,
    FolderSource,
    MixtureSource,
    PictureSet,
    PictureSets,
    SampleSource,
    SourceConfig,
    open_data,
)

__all__ = [
    "ArchiveSource",
    "Batch",
    "DataConfig",
    "FolderSource",
    "MixtureSource",
    "PictureSet",
    "PictureSets",
    "SampleSource",
    "ScoringLoader",
    "SourceConfig",
    "TrainingLoader",
    "check_batch_size",
    "open_data",
]
