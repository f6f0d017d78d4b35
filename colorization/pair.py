"""A pair of models in one folder: one colors instances, the other whole pictures (system A5)."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from colorization.config import ConfigError
from colorization.export import EXPERIMENT, WEIGHTS, load_exported, load_model
from colorization.inference import PictureColorizer
from colorization.models.colorizer import Colorizer

INSTANCE = "instance"  # the folder of the instance model, in that of the scene model


def export_pair(instance: Path, scene: Path, out: Path) -> Path:
    """Put two exported models into the folder `out`; return it.

    It is an export of the scene model that holds one of the instance model. Raises ConfigError
    where one is in the other's place, and for folders that hold no export; CheckpointError for
    damage.
    """
    model, experiment = load_exported(scene)
    if not model.sees_colors:
        raise ConfigError(
            f"{scene}: this {experiment.model.name} is no scene model, it is not told which parts "
            "of a picture have colors already: train one with model.condition_on=lab, as the "
            "recipe cinn_scene does"
        )
    refuse_scene_model(load_exported(instance)[0], str(instance))
    for source, target in ((scene, out), (instance, out / INSTANCE)):
        target.mkdir(parents=True, exist_ok=True)
        for name in (EXPERIMENT, WEIGHTS):
            shutil.copyfile(source / name, target / name)
    return out


def load_colorizer(folder: Path, device: torch.device | str = "cpu") -> PictureColorizer:
    """Load what colors pictures: the model of a run's directory, or an export of one or of a pair.

    Raises ConfigError for a folder that holds none, CheckpointError for damage.
    """
    model, experiment = load_model(folder, device)
    instance = None
    if is_pair(folder):
        own, trained = load_exported(folder / INSTANCE, device)
        instance = PictureColorizer(own, trained.data.size, device)
    return PictureColorizer(model, experiment.data.size, device, instance)


def load_files(files: Mapping[str, bytes], device: torch.device | str = "cpu") -> PictureColorizer:
    """Load what `exported_files` returned; raises what `load_colorizer` does."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return load_colorizer(Path(folder), device)


def refuse_scene_model(model: Colorizer, name: str) -> None:
    """Raise ConfigError for a model that is to color instances and sees whole pictures."""
    if model.sees_colors:
        raise ConfigError(
            f"{name} is a scene model, which sees whole pictures; the instance model that was "
            "trained on instances=crops is needed here"
        )


def is_pair(folder: Path) -> bool:
    """Tell whether an export holds an instance model too."""
    return (folder / INSTANCE / WEIGHTS).exists()


def exported_files(folder: Path) -> dict[str, bytes]:
    """Return the files of an export, of one model or of a pair, by their paths in its folder."""
    places = ["", f"{INSTANCE}/"] if is_pair(folder) else [""]
    names = [f"{place}{name}" for place in places for name in (EXPERIMENT, WEIGHTS)]
    return {name: (folder / name).read_bytes() for name in names}
