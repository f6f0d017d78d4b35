"""The pictures of stages that are trained on other ones than the run's own."""

from colorization.config import ConfigError
from colorization.data import PictureSets, open_data
from colorization.experiment import Experiment, Stage


def open_stage_data(experiment: Experiment) -> dict[str, PictureSets]:
    """Open the pictures of the stages that have their own, so that a fault shows before training.

    Raises ConfigError that names the stage.
    """
    found: dict[str, PictureSets] = {}
    for name, stage in experiment.train.stages.items():
        data = experiment.at(name).data
        if data != experiment.data and has_length(stage):
            try:
                found[name] = open_data(data)
            except ConfigError as error:
                raise ConfigError(f"train.stages.{name}.change: {error}") from error
    return found


def has_length(stage: Stage) -> bool:
    """Tell whether a stage is played at all."""
    return bool(stage.epochs or stage.steps)
