"""What is written down of a study's data: which pictures, and what MLflow is told of them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

from colorization import config
from colorization.data import DataConfig, PictureSets, open_data
from colorization.data.splits import SPLITS, Split
from colorization.experiment import Experiment
from colorization.stage_data import has_length, open_stage_data

_CONTEXTS: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class DataCard:
    """The pictures of a run, or of one of its stages that has its own."""

    stage: str | None  # None: those of the run
    source: Mapping[str, Any]  # the source's settings
    hash: str  # of the contents and how they are split
    counts: Mapping[Split, int]
    split: str  # what they are and how they are split, for a person

    @classmethod
    def of(cls, stage: str | None, data: DataConfig, sets: PictureSets) -> Self:
        """Describe opened pictures."""
        return cls(
            stage,
            config.dump(data.source),
            sets.fingerprint,
            {split: len(getattr(sets, split)) for split in SPLITS},
            sets.description,
        )

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of an MLflow run; none has the key of an experiment's setting."""
        place = "data" if self.stage is None else f"train.stages.{self.stage}.data"
        counts = {f"{place}.counts.{split}": count for split, count in self.counts.items()}
        return {f"{place}.hash": self.hash, **counts, f"{place}.split": self.split}

    def inputs(self, splits: Iterable[Split]) -> list[dict[str, str]]:
        """Describe some of the sets as MLflow's datasets, by the names of its fields.

        A name for each set: MLflow keeps only one of those with equal names and digests. The
        `context` says what a set is used for.
        """
        source = self.source["name"]
        if "path" in self.source:
            source = PurePosixPath(self.source["path"]).name or source
        return [
            {
                "name": f"{source}-{split}",
                "digest": self.hash,
                "source_type": self.source["name"],
                "source": json.dumps(self.source),
                "profile": json.dumps({"pictures": self.counts[split], "data": self.split}),
                "context": _CONTEXTS[split],
            }
            for split in splits
        ]


@dataclass(frozen=True)
class StudyData:
    """All pictures that the trials of a study use."""

    cards: tuple[DataCard, ...]

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of the run's pictures under "", those of stages' own under the stage's name."""
        return {card.stage or "": card.hash for card in self.cards}

    def of_trial(self, experiment: Experiment) -> "StudyData":
        """Leave out the pictures of stages that a trial does not play or trains on others."""
        return StudyData(tuple(card for card in self.cards if _uses(experiment, card)))

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of an MLflow run."""
        return {key: value for card in self.cards for key, value in card.params.items()}

    def inputs(self, *splits: Split) -> list[dict[str, str]]:
        """Describe these sets of the run, and what stages are trained on, as MLflow's datasets."""
        return [
            found
            for card in self.cards
            for found in card.inputs(splits if card.stage is None else ["train"])
        ]


def data_hashes(params: Mapping[str, str]) -> dict[str, str]:
    """Read from an MLflow run's parameters what `StudyData.hashes` is; {} of a run without them."""
    found: dict[str, str] = {}
    for key, value in params.items():
        if key == "data.hash":
            found[""] = value
        elif key.startswith("train.stages.") and key.endswith(".data.hash"):
            found[key.removeprefix("train.stages.").removesuffix(".data.hash")] = value
    return found


def open_study_data(experiment: Experiment) -> tuple[PictureSets, StudyData]:
    """Open the pictures of an experiment and of its stages; return its own, and what all are.

    Raises ConfigError for what cannot be opened.
    """
    sets = open_data(experiment.data)
    cards = [DataCard.of(None, experiment.data, sets)]
    for stage, found in open_stage_data(experiment).items():
        data = experiment.at(stage).data
        if data.source != experiment.data.source:  # and not only cropped in another way
            cards.append(DataCard.of(stage, data, found))
    return sets, StudyData(tuple(cards))


def _uses(experiment: Experiment, card: DataCard) -> bool:
    stage = card.stage
    if stage is None:
        return True
    stages = experiment.train.stages
    if stage not in stages or not has_length(stages[stage]):
        return False
    return config.dump(experiment.at(stage).data.source) == card.source
