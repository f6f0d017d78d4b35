"""Models where people keep them: a run's directory, an export, MLflow's runs and registry."""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from colorization import checkpoint
from colorization.config import ConfigError
from colorization.experiment import Experiment
from colorization.export import (
    EXPERIMENT,
    WEIGHTS,
    export,
    load_exported,
    load_run,
    trained_on,
)
from colorization.models.colorizer import Colorizer
from colorization.pair import INSTANCE
from past_study import JOURNAL
from storage import short_path

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_FORMS = (
    "a run's directory, a folder that a model was exported into, the id of an MLflow run, or "
    "models:/NAME/VERSION or models:/NAME@ALIAS"
)


@dataclass(frozen=True)
class StoredModel:
    """A model that was loaded, and where from."""

    label: str
    model: Colorizer
    experiment: Experiment
    data_hash: str | None  # of the pictures it was trained on, where that was noted


def load_model(folder: Path, device: torch.device | str = "cpu") -> StoredModel:
    """Load the model of a run's directory or of an exported folder.

    Of a run whose checkpoints were deleted the model that lies beside them is taken. Raises
    ConfigError where there is none, CheckpointError for damage.
    """
    if (folder / WEIGHTS).exists():
        return _exported(folder, folder, device)
    if checkpoint.latest(folder) is None and (folder / "model" / WEIGHTS).exists():
        return _exported(folder / "model", folder, device)
    model, experiment = load_run(folder, device)
    return StoredModel(short_path(folder), model, experiment, trained_on(folder).get(""))


def find_model(word: str, tracking_uri: str, device: torch.device | str = "cpu") -> StoredModel:
    """Load the model that a word of a command line names, from disk or from MLflow.

    Raises ConfigError that says what the word may be, and what there is instead; CheckpointError
    for damage; MlflowException where MLflow does not answer.
    """
    if word.startswith("models:/"):
        return _registered(word, tracking_uri, device)
    path = Path(word).expanduser()
    if path.is_dir():
        _refuse_study(path)
        return load_model(path, device)
    if _RUN_ID.fullmatch(word):
        return _of_run(word, tracking_uri, device)
    if path.exists():
        raise ConfigError(f"{word}: found a file; needed is {_FORMS}")
    raise ConfigError(f"{word}: there is no such folder; needed is {_FORMS}")


def exported_model(word: str, tracking_uri: str, place: Path) -> Path:
    """Return the folder of an exported model that a word of a command line names.

    That of a run, or of MLflow's registry, is written below `place`. Raises what `find_model` does.
    """
    if word.startswith("models:/"):
        uri, label = registered_version(word, tracking_uri)
        return download_version(uri, label, tracking_uri, place)
    folder = Path(word).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"{word}: there is no such folder; needed is a run's directory, a folder that a model "
            "was exported into, models:/NAME/VERSION or models:/NAME@ALIAS"
        )
    _refuse_study(folder)
    if (folder / WEIGHTS).exists():
        return folder
    if checkpoint.latest(folder) is None and (folder / "model" / WEIGHTS).exists():
        return folder / "model"
    return export(folder, place / "exported")


def _exported(folder: Path, named: Path, device: torch.device | str) -> StoredModel:
    model, experiment = load_exported(folder, device)
    return StoredModel(short_path(named), model, experiment, trained_on(folder).get(""))


def _refuse_study(path: Path) -> None:
    if not (path / JOURNAL).exists():
        return
    trials = sorted(folder.name for folder in path.glob("trial-*") if folder.is_dir())
    there = f"{path / trials[0]} to {trials[-1]}" if trials else "none was trained"
    raise ConfigError(f"{path} is a study: give the directories of some of its trials ({there})")


def _registered(word: str, tracking_uri: str, device: torch.device | str) -> StoredModel:
    uri, label = registered_version(word, tracking_uri)
    with tempfile.TemporaryDirectory() as place:
        folder = download_version(uri, label, tracking_uri, Path(place))
        return replace(_exported(folder, folder, device), label=label)


def registered_version(word: str, tracking_uri: str) -> tuple[str, str]:
    """Return the address of a version in MLflow's registry by its number, and what to call it.

    Raises ConfigError where there is none, MlflowException where MLflow does not answer.
    """
    from mlflow_store import without_password

    # isort: split
    from mlflow import MlflowClient, MlflowException

    client = MlflowClient(tracking_uri)
    name, _, alias = word.removeprefix("models:/").partition("@")
    name, _, number = name.partition("/") if not alias else (name, "", "")
    where = without_password(tracking_uri)
    if not name or not (alias or number):
        raise ConfigError(f"{word}: models:/NAME/VERSION or models:/NAME@ALIAS is needed")
    try:
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        else:
            found = client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        known = [model.name for model in client.search_registered_models()]
        versions = [
            f"{name}/{version.version}"
            for version in client.search_model_versions(f"name = '{name}'")
            if name in known
        ]
        there = ", ".join(versions[:10] or known) or "nothing is registered"
        raise ConfigError(
            f"{word}: MLflow at {where} has no such model; there is {there}"
        ) from error
    label = f"{name} version {found.version}" + (f" ({alias})" if alias else "")
    return f"models:/{name}/{found.version}", label


def _of_run(run_id: str, tracking_uri: str, device: torch.device | str) -> StoredModel:
    from mlflow_store import without_password

    # isort: split
    from mlflow import MlflowClient, MlflowException

    client = MlflowClient(tracking_uri)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        where = without_password(tracking_uri)
        raise ConfigError(f"{run_id}: MLflow at {where} has no run of this id") from error
    tags = run.data.tags
    label = f"{run.info.run_name or run_id[:8]}"
    if study := tags.get("colorization.study"):
        label = f"{study}/{label}"
    if tags.get("colorization.trial") == "study":
        raise ConfigError(
            f"{run_id} is the run of the study {study}: give the runs of some of its trials"
        )
    folder = Path(tags.get("directory", ""))
    if any(file.path == WEIGHTS for file in client.list_artifacts(run_id)):
        with tempfile.TemporaryDirectory() as place:
            for name in (WEIGHTS, EXPERIMENT):
                client.download_artifacts(run_id, name, place)
            return replace(_exported(Path(place), Path(place), device), label=label)
    if tags.get("directory") and folder.is_dir():  # one that was stopped early has no model there
        return replace(load_model(folder, device), label=label)
    raise ConfigError(f"{run_id} ({label}) has no model: it was not trained to its end")


def download_version(uri: str, label: str, tracking_uri: str, place: Path) -> Path:
    """Take the exported model out of a version in MLflow's registry; return its folder."""
    from registry import tracking_store

    # isort: split
    from mlflow.artifacts import download_artifacts

    with tracking_store(tracking_uri):  # MLflow looks an address of the registry up in its own
        got = Path(download_artifacts(artifact_uri=uri, dst_path=str(place)))
    weights = sorted(path for path in got.rglob(WEIGHTS) if path.parent.name != INSTANCE)
    if len(weights) != 1:
        raise ConfigError(f"{label}: found {len(weights)} models of this project, not one")
    return weights[0].parent
