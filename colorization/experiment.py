"""data + model + train = one run, as a value: read, checked, hashed, shown."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from colorization import config
from colorization.config import Config, ConfigError
from colorization.data import DataConfig
from colorization.micro_batches import micro_batch_refusal
from colorization.models import ModelConfig
from colorization.models.colorizer import Colorizer
from colorization.models.pretrained import load_pretrained
from colorization.outlines import without_numbers
from colorization.schedules import Constant, Schedule

# What changes speed and not results, left out of an experiment's hash. Precision is no such thing.
SPEED_ONLY = (
    "data.loader_workers",
    "data.source.cache",
    "data.source.cache_gigabytes",
    "train.compile",
    "train.channels_last",
    "train.activation_checkpointing",
    "train.micro_batches",
)


class Stage(Config):
    """A part of a run with its own turns, length and settings; its start is a restart."""

    turns: str = Field(description="which of the model's turns are played, e.g. adversarial")
    epochs: int | None = Field(default=None, ge=0, description="length; 0 leaves the stage out")
    steps: int | None = Field(
        default=None, ge=0, description="length in optimizer steps, in place of epochs"
    )
    select: bool = Field(
        default=True,
        description="whether its epochs may give the best checkpoint and be stopped early",
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="parts that rest, e.g. [generator.encoder]"
    )
    optimizers: Literal["fresh", "keep"] = Field(
        default="fresh", description="whether the last stage's optimizer states are kept"
    )
    change: dict[str, Any] = Field(
        default={}, description="other settings in this stage, e.g. {train.learning_rate: 1.0e-5}"
    )

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"a length in epochs or in steps is needed, found epochs={self.epochs}, "
                f"steps={self.steps}"
            )
        return self


class TrainConfig(Config):
    """How a model is trained."""

    stages: dict[str, Stage] = Field(description="in their order", min_length=1)
    seed: int = Field(default=0, ge=0, description="of weights, order, augmentation and dropout")
    batch_size: int = Field(default=16, ge=1, description="pictures a step, over all ranks")
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="the generator's")
    betas: tuple[float, float] = Field(default=(0.5, 0.999), description="Adam's")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="decoupled (AdamW)")
    schedule: Schedule = Field(
        default=Constant(), description="of the learning rate, over each stage"
    )
    gradient_clip: float | None = Field(
        default=None, gt=0, description="largest norm of a player's gradient"
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of the averaged weights that colorize; 0: none"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 autocast where the processor computes in it"
    )
    channels_last: bool = Field(default=True, description="memory layout; for speed only")
    compile: bool = Field(default=False, description="torch.compile the players; for speed only")
    activation_checkpointing: bool = Field(
        default=False,
        description="compute what the backward pass needs of colorizing networks a second time "
        "there, in place of keeping it; for less memory only",
    )
    micro_batches: int = Field(
        default=1,
        ge=1,
        description="parts that a rank's batch is computed in, gradients added; not for models "
        "with batch statistics; for less memory only",
    )
    keep: int = Field(
        default=2, ge=2, description="checkpoints that are kept: the best and the newest"
    )
    perceptual: bool = Field(
        default=False, description="score FID and LPIPS every epoch, if their weights are cached"
    )
    grid_every: int = Field(default=1, ge=1, description="epochs between two picture grids")
    grid_pictures: int = Field(default=6, ge=1, le=64, description="validation pictures in a grid")

    @model_validator(mode="after")
    def _betas_are_shares(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: found {self.betas}, both must be in [0, 1)")
        return self

    @model_validator(mode="after")
    def _one_of_them_decides_what_is_kept(self) -> Self:
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "found compile=true and activation_checkpointing=true; compiled networks choose "
                "by themselves what is kept for the backward pass: take one of the two"
            )
        return self


class Experiment(Config):
    """One run: reading it back gives the same run."""

    data: DataConfig = DataConfig()
    model: ModelConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if refusal := self.model.refusal(self.data.size):
            raise ValueError(refusal)
        for name, stage in self.train.stages.items():
            if stage.turns not in self.model.turn_kinds:
                known = " | ".join(self.model.turn_kinds)
                raise ValueError(
                    f"train.stages.{name}.turns: found {stage.turns!r}; model {self.model.name} "
                    f"plays {known}"
                )
            if stage.change:
                _check_change(name, stage.change)
                # As the settings understood it: a path, for one, is meant as seen from here.
                understood = config.flatten(config.dump(self.at(name)))
                change = {key: understood[key] for key in config.flatten(stage.change)}
                stage.change.clear()
                stage.change.update(change)
        if not any(
            stage.select and (stage.epochs or stage.steps) for stage in self.train.stages.values()
        ):
            raise ValueError("train.stages: no stage of a length above 0 has select: true")
        return self

    def at(self, stage: str) -> "Experiment":
        """Return the experiment as a stage sees it, with the stage's changes made."""
        changes = config.flatten(self.train.stages[stage].change)
        data = config.dump(self)
        for part in data["train"]["stages"].values():
            part["change"] = {}
        return config.parse(
            Experiment, config.override(data, changes), f"train.stages.{stage}.change"
        )

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits that stand for all that changes results."""
        data = config.dump(self)
        for stage in data["train"]["stages"].values():
            change = config.flatten(stage["change"])
            stage["change"] = {key: change[key] for key in change if key not in SPEED_ONLY}
        flat = config.flatten(data)
        for key in SPEED_ONLY:
            flat.pop(key, None)
        return hashlib.sha256(json.dumps(flat).encode()).hexdigest()[:12]


def _check_change(name: str, change: Mapping[str, Any]) -> None:
    fixed = ("train.stages", "train.seed", "train.keep", "model.name", "data.size")
    for key in config.flatten(change):
        if any(key == other or key.startswith(f"{other}.") for other in fixed):
            raise ValueError(f"train.stages.{name}.change: {key} cannot change within a run")


def recipes() -> dict[str, Path]:
    """Name the recipes that come with the library and their files."""
    folder = Path(str(files("colorization"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_experiment(recipe_or_file: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read a recipe by name, or a YAML file, and change it by `key=value` words.

    A file may hold the experiment itself or have it under the key `experiment` (as a study's
    `best.yaml` does). Raises ConfigError that names what is wrong.
    """
    known = recipes()
    path = known.get(recipe_or_file, Path(recipe_or_file))
    if not path.exists():
        raise ConfigError(
            f"{recipe_or_file!r} is neither a recipe nor a file; recipes: {', '.join(known)}"
        )
    data = config.read_yaml(path)
    if "experiment" in data:
        data = data["experiment"]
    changed = config.override(data, config.parse_overrides(overrides))
    return config.parse(Experiment, changed, recipe_or_file)


def build_model(experiment: Experiment) -> Colorizer:
    """Build the experiment's model with weights drawn from its seed."""
    torch.manual_seed(experiment.train.seed)
    return experiment.model.build(experiment.data.size)


def check(experiment: Experiment) -> dict[str, int]:
    """Check what needs the networks, before anything costly; return each player's parameters.

    Raises ConfigError as `count_players` does, and for pretrained weights that are not to be had.
    """
    parameters = count_players(experiment)
    for weights in experiment.model.weights():
        load_pretrained(weights)
    return parameters


def count_players(experiment: Experiment) -> dict[str, int]:
    """Return each player's parameters, without memory for them and without pretrained weights.

    Raises ConfigError for a frozen part that does not exist, a stage in which nothing is left to
    train, a stage that changes the shape of the networks, and micro-batches for a model that they
    would change.
    """
    model = outline(experiment)
    names = {name for name, _ in model.named_modules()} | {n for n, _ in model.named_parameters()}
    shapes = _shapes(model)
    for stage_name, stage in experiment.train.stages.items():
        if stage.change and _shapes(outline(experiment.at(stage_name))) != shapes:
            raise ConfigError(
                f"train.stages.{stage_name}.change: {', '.join(config.flatten(stage.change))}: "
                "the networks would have other weights; these cannot change within a run"
            )
        for part in stage.freeze:
            if part not in names:
                inside = sorted(n for n in names if n.count(".") <= 1 and n)
                raise ConfigError(
                    f"train.stages.{stage_name}.freeze: no part {part!r}; there is "
                    f"{', '.join(inside)}"
                )
        if stage.freeze and not _trainable(model, (*stage.freeze, *model.idle(stage.turns))):
            raise ConfigError(
                f"train.stages.{stage_name}.freeze: found {', '.join(stage.freeze)}; in the turns "
                f"{stage.turns!r} nothing is left to train"
            )
        _refuse_micro_batches(experiment, stage_name, model)
    return {player: count_parameters(model.get_submodule(player)) for player in model.players}


def _refuse_micro_batches(experiment: Experiment, stage_name: str, model: Colorizer) -> None:
    stage, parts = (
        experiment.train.stages[stage_name],
        experiment.at(stage_name).train.micro_batches,
    )
    resting = (*stage.freeze, *model.idle(stage.turns))
    if parts > 1 and (refusal := micro_batch_refusal(model, resting)):
        raise ConfigError(
            f"train.micro_batches: found {parts}; in the stage {stage_name} {refusal}: set it to 1"
        )


def _trainable(model: Colorizer, resting: Sequence[str]) -> bool:
    """Tell whether any parameter lies outside of the parts that rest."""
    starts = tuple(f"{part}." for part in resting)
    return any(
        name not in resting and not name.startswith(starts) for name, _ in model.named_parameters()
    )


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def outline(experiment: Experiment) -> Colorizer:
    """Build the experiment's model without memory for its weights (torch's meta device)."""
    with without_numbers():
        return without_pretrained(experiment).model.build(experiment.data.size)


def without_pretrained(experiment: Experiment) -> Experiment:
    """Turn pretrained weights off wherever the model has them: others are loaded in their place."""
    data = config.dump(experiment)
    _switch_off_pretrained(data["model"])
    return config.parse(Experiment, data)


def _switch_off_pretrained(part: dict[str, Any]) -> None:
    for key, value in part.items():
        if key == "pretrained":
            part[key] = False
        elif isinstance(value, dict):
            _switch_off_pretrained(value)


def count_parameters(network: nn.Module) -> int:
    """Count a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
