"""The model that a server has: its files, and what is said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from colorization.inference import PictureColorizer
from colorization.pair import load_files


@dataclass(frozen=True)
class About:
    """What is said of a model to those who use it."""

    label: str
    version: str  # its number in the registry; "" of one from disk
    family: str
    draws: bool  # several samples, and a temperature
    takes_reference: bool
    takes_instances: bool = False


@dataclass(frozen=True)
class Standing:
    """What a server can do at the moment."""

    about: About
    registry: str = ""  # why the model's alias cannot be followed
    lacks: Mapping[str, str] = field(default_factory=dict)  # options that it cannot follow, and why


@dataclass(frozen=True)
class ServedModel:
    """The files of an exported model, by their paths in its folder."""

    about: About
    files: Mapping[str, bytes]

    def load(self, device: str = "cpu") -> PictureColorizer:
        """Load it; raises ConfigError and CheckpointError as `load_colorizer` does."""
        return load_files(self.files, device)
