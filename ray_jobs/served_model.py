"""The model that a server has: its files, and what is said of it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from colorization.inference import PictureColorizer
from colorization.pair import load_colorizer


@dataclass(frozen=True)
class About:
    """What is said of a model to those who use it."""

    label: str
    version: str  # its number in the registry; "" of one from disk
    family: str
    draws: bool  # several samples, and a temperature
    takes_reference: bool


@dataclass(frozen=True)
class ServedModel:
    """The files of an exported model, by their paths in its folder."""

    about: About
    files: Mapping[str, bytes]

    def load(self, device: str = "cpu") -> PictureColorizer:
        """Load it; raises ConfigError and CheckpointError as `load_colorizer` does."""
        with tempfile.TemporaryDirectory() as place:
            for name, content in self.files.items():
                path = Path(place, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return load_colorizer(Path(place), device)
