"""A recipe's small version, for tests and benchmarks: `small/NAME.yaml` laid over the recipe.

Such a file has the shape of an experiment and holds only what differs: smaller pictures, narrower
networks, shorter stages, no pretrained weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colorization import config
from colorization.config import Data
from colorization.experiment import recipes

SMALL = Path(__file__).parent / "small"
_SOURCE = "data.source"


def read_recipe(name: str) -> Data:
    """Read a recipe as data, its stages' changes as nested mappings however they are written."""
    data = config.read_yaml(recipes()[name])
    for stage in data["train"]["stages"].values():
        if "change" in stage:
            stage["change"] = config.override({}, config.flatten(stage["change"]))
    return data


def read_small_recipe(name: str) -> Data:
    """Read a recipe with its small version laid over it; raises ConfigError where it has none."""
    return lay_over(read_recipe(name), config.read_yaml(SMALL / f"{name}.yaml"))


def lay_over(data: Mapping[str, Any], changes: Mapping[str, Any]) -> Data:
    """Return experiment data with the settings of another, partial mapping in place of its own."""
    return config.override(data, config.flatten(changes))


def sources(data: Mapping[str, Any]) -> Data:
    """Return the source of the run, and those that stages have to themselves, by dotted key.

    A stage that changes a setting of the run's source has only that setting here.
    """
    flat = config.flatten(data)
    found: Data = {_SOURCE: {}}
    for key, value in flat.items():
        place, _, setting = key.partition(f"{_SOURCE}.")
        if setting:
            found.setdefault(f"{place}{_SOURCE}", {})[setting] = value
    return found
