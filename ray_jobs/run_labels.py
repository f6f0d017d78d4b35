"""What a trial's MLflow run is called, and the tags that it is found by."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from colorization.config import settings
from colorization.experiment import Experiment
from colorization.surroundings import Surroundings

_MOST_WORDS = 4


def kinds(experiment: Experiment) -> dict[str, str]:
    """Return which kind each part of a model is: {"model": "gan", "generator": "unet", ...}.

    Parts are whatever the experiment has kinds of; they are named as seen from the model.
    """
    found: dict[str, str] = {}
    for key, value, *_ in settings(experiment):
        part, _, last = key.rpartition(".")
        if last == "name" and part.partition(".")[0] == "model":
            found[part.removeprefix("model.")] = str(value)
    return found


def run_name(experiment: Experiment, trial: FrozenTrial) -> str:
    """Name a trial's run: `trial-0007 unet patch lsgan`.

    First its directory's name, so that one name finds it on disk, in the console's commands and in
    MLflow; then what tells it from the others: the kinds that were chosen for it, a few numbers
    where none are, all kinds where nothing was searched.
    """
    start = f"trial-{trial.number:04d}"
    attributes = trial.user_attrs
    if "finalist_of" in attributes:
        return f"{start} of {attributes['finalist_of']}, seed {attributes.get('seed')}"
    if recipe := attributes.get("recipe"):
        start += f" ({recipe})"
    return " ".join([start, *_words(experiment, trial.params)])


def refused_name(trial: FrozenTrial) -> str:
    """Name the run of a trial that never was an experiment."""
    return f"trial-{trial.number:04d} refused"


def _words(experiment: Experiment, params: Mapping[str, Any]) -> list[str]:
    parts = kinds(experiment)
    if not params:
        return list(parts.values())[:_MOST_WORDS]
    order = {"model" if part == "model" else f"model.{part}": i for i, part in enumerate(parts)}
    chosen = [name for name, value in params.items() if isinstance(value, str)]
    chosen.sort(key=lambda name: order.get(name, len(order)))
    if chosen:
        return [str(params[name]) for name in chosen[:_MOST_WORDS]]
    numbers = list(params.items())[: _MOST_WORDS - 1]
    return [f"{name.rpartition('.')[2]}={_short(value)}" for name, value in numbers]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run_tags(study: str, experiment: Experiment, trial: FrozenTrial) -> dict[str, str]:
    """Return the tags that a trial's run is found by from its start."""
    attributes = trial.user_attrs
    tags = {
        "study": study,
        "trial": str(trial.number),
        "experiment": experiment.hash,
        "seed": str(attributes.get("seed", experiment.train.seed)),
        **kinds(experiment),
    }
    for name in ("recipe", "finalist_of"):
        if name in attributes:
            tags[name] = str(attributes[name])
    return tags


def surroundings_tags(found: Surroundings) -> dict[str, str]:
    """Return the tags of what a run is trained on; all else is in its files."""
    machines, code = found["machines"], found["code"]
    tags = {
        "device": found["device"],
        "hardware": ", ".join(dict.fromkeys(one.get("gpu") or one["cpu"] for one in machines)),
        "host": ", ".join(one["host"] for one in machines),
        "ranks": str(found["ranks"]),
        "threads": str(found["torch"]["threads"]),
        "precision": found["precision"],
    }
    if source := (code or {}).get("source"):
        tags["library.hash"] = source
    elif code:  # of the machine that trained, which counts more than the driver's
        tags["mlflow.source.git.commit"] = code["commit"]
        tags["git.changed"] = str(code["changed"]).lower()
    return tags
