"""A study as it was left: what it searched, how it was started, what became of its trials."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from colorization.config import ConfigError, parse
from colorization.experiment import Experiment
from space import Space

JOURNAL = "optuna.journal"
SPACE_FILE = "space.yaml"
EPOCH = "epoch"  # beside the stored scores of an epoch: which one of the run it was, from 1


@dataclass(frozen=True)
class PastStudy:
    """Read from a study's folder without changing it."""

    name: str
    folder: Path
    attributes: Mapping[str, Any]
    trials: list[FrozenTrial]

    @classmethod
    def find(cls, storage: Path, name: str) -> Self | None:
        """Return the study of this name; None where none was begun.

        Raises ConfigError where its folder holds a study of another name.
        """
        folder = storage / "studies" / name
        if not (folder / JOURNAL).exists():
            return None
        kept = open_storage(folder)
        for study in kept.get_all_studies():
            attributes = kept.get_study_user_attrs(study._study_id)
            if study.study_name == name and "space" in attributes:
                return cls(name, folder, attributes, kept.get_all_trials(study._study_id))
            if study.study_name != name:
                raise ConfigError(
                    f"{folder} holds the study {study.study_name!r}: give the folder that name back"
                )
        return None

    @classmethod
    def open(cls, storage: Path, name: str, flag: str) -> Self:
        """Return the study of this name; raises ConfigError that lists those that there are."""
        found = cls.find(storage, name)
        if found is None:
            there = sorted(path.parent.name for path in storage.glob(f"studies/*/{JOURNAL}"))
            raise ConfigError(
                f"{flag}: no study {name!r} in {storage}; there is {', '.join(there) or 'none'}"
            )
        return found

    @property
    def flags(self) -> dict[str, Any]:
        """What the command line of its last session said, but for the space."""
        return dict(self.attributes.get("flags", {}))

    @property
    def space_file(self) -> Path:
        """Where the space it searches is written."""
        return self.folder / SPACE_FILE

    @property
    def family(self) -> str:
        """The name of its model's family."""
        return str(Space.read(self.space_file).tree["model"]["name"])

    @property
    def progress(self) -> str:
        """How far it came, for a person."""
        own = [trial for trial in self.trials if is_own(trial)]
        ended = sum(trial.state.is_finished() for trial in own)
        return f"{ended} trials ended, {len(own) - ended} unfinished"

    def experiment(self, trial: FrozenTrial) -> Experiment | None:
        """Return a trial's experiment; None for settings that did not go together."""
        if "experiment" not in trial.user_attrs:
            return None
        return parse(Experiment, json.loads(trial.user_attrs["experiment"]), f"{self.name}")

    def require_data(self, hashes: Mapping[str, str]) -> None:
        """Raise ConfigError where its trials saw other pictures than a new study's would."""
        before = self.attributes.get("data", hashes)
        for stage in before.keys() & hashes.keys():
            if before[stage] != hashes[stage]:
                raise ConfigError(
                    f"--from: study {self.name!r} was trained on other pictures (their hash was "
                    f"{before[stage]}, here it is {hashes[stage]}): its scores do not compare"
                )

    def require_space(self, space: Space, restart: str) -> None:
        """Raise ConfigError where it searched another space, in which it would be misled.

        `restart` is the command that begins a new study from this one's trials.
        """
        if self.attributes["space"] == space.hash:
            return
        before = Space.read(self.space_file).outline
        after = space.outline
        keys = [key for key in before | after if before.get(key) != after.get(key)]
        changed = "; ".join(
            f"{key}: {before.get(key, 'nothing')} there, {after.get(key, 'nothing')} here"
            for key in keys[:5]
        )
        raise ConfigError(
            f"study {self.name!r} searches another space ({changed or 'it differs'}): its trials "
            "would mislead the sampler. Leave the change out, or begin a new study that knows the "
            f"trials of this one that fit: {restart}"
        )


class _Journal(JournalFileBackend):
    """Optuna's journal, which takes back what a full disk left of a record."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records. Raises OSError, and the file is as it was."""
        path = Path(self._file_path)
        size = path.stat().st_size
        try:
            super().append_logs(logs)
        except OSError:
            with path.open("rb+") as file:
                file.truncate(size)
            raise


def open_storage(folder: Path) -> JournalStorage:
    """Open the journal in a study's folder; raises ConfigError where it is damaged."""
    try:
        return JournalStorage(_Journal(str(folder / JOURNAL)))
    except ValueError as error:  # of JSON; a half line at the end is none of these
        raise ConfigError(
            f"{folder / JOURNAL} is damaged ({error}): bring it back from a copy, or give this "
            "study another --name"
        ) from error


def cut_half_line(folder: Path) -> int:
    """Cut off what a full disk or a power loss left of the journal's last record; return its bytes.

    Optuna would write the next record into the same line, and read neither. Only for who holds the
    study's lock.
    """
    path = folder / JOURNAL
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        file.truncate(whole)
    return len(content) - whole


def is_adopted(trial: FrozenTrial) -> bool:
    """Tell whether a trial was taken over from another study."""
    return "adopted" in trial.user_attrs


def is_final(trial: FrozenTrial) -> bool:
    """Tell whether a trial trains the settings of another one of the study again."""
    return "finalist_of" in trial.user_attrs


def is_own(trial: FrozenTrial) -> bool:
    """Tell whether a trial is one of the study's search: neither adopted nor a finalist's."""
    return not (is_adopted(trial) or is_final(trial))


def scores_of(trial: FrozenTrial) -> dict[int, dict[str, float]]:
    """Return the scores of a trial's epochs that select, from 1, as far as they are all stored."""
    counted = trial.user_attrs.get("epochs", 0)
    return {
        int(key.removeprefix("epoch-")): {k: v for k, v in scores.items() if k != EPOCH}
        for key, scores in trial.user_attrs.items()
        if key.startswith("epoch-") and scores[EPOCH] <= counted
    }


def best_scores(epochs: Mapping[int, Mapping[str, float]]) -> dict[str, float] | None:
    """Return the scores of the epoch with the least finite `against_gray`, if there is one."""
    finite = [dict(scores) for scores in epochs.values() if math.isfinite(scores["against_gray"])]
    return min(finite, key=lambda scores: scores["against_gray"], default=None)
