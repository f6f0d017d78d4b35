"""A run's model in MLflow's registry: registered, and scored again as it is found there."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mlflow_store import experiment_id, prepare
from model_card import VersionCard, model_description

# isort: split
import mlflow
from mlflow import MlflowClient, MlflowException
from mlflow.artifacts import download_artifacts
from mlflow.models import ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

import colorization
from colorization import config
from colorization.checkpoint import read_run
from colorization.color import rgb_to_lab
from colorization.color_flags import FLAT_NAMES
from colorization.config import ConfigError
from colorization.data import PictureSet, ScoringLoader
from colorization.experiment import Experiment
from colorization.export import EXPERIMENT, export
from colorization.metrics import ColorizationScores, against_gray
from colorization.paired_scores import PictureScores
from colorization.pictures import Picture, encode_picture, read_rgb

_PARAM_TYPES = {int: "long", float: "double", bool: "boolean", str: "string"}
CHECKPOINT = "checkpoint"  # the folder of a registered model's export
# What colorizing imports, and no more: an environment for serving is built from these.
_REQUIREMENTS = (
    "torch",
    "torchvision",
    "FrEIA",
    "opencv-python",
    "numpy",
    "pillow",
    "pydantic",
    "pyyaml",
    "pandas",
)


def register(
    run: Path,
    *,
    model_name: str,
    tracking_uri: str,
    run_id: str | None,
    scores: Mapping[str, float],
    test_scores: Mapping[str, float],
    gray: Mapping[str, float],
    test_gray: Mapping[str, float],
    data_description: str,
    tags: Mapping[str, str] | None = None,
    searched: Mapping[str, Any] | None = None,
) -> str:
    """Make a run's best model a new version of a registered model; return the version.

    `run` is the directory of a fit; `run_id` the MLflow run that trained it, under which the model
    is logged, or None for a run of its own. The scores on the validation and the test set become
    tags, `validation.ab_mae` and `test.ab_mae`, with leave-gray's beside them as
    `gray.validation.ab_mae` and `gray.test.ab_mae`, and with `tags` those to filter by: `family`,
    `generator`, `data.name`, `data.size`. `data_description` says in the version's description
    what those scores were measured on; `searched` are the settings that a search drew.

    The version holds its code, a pinned list of requirements, and the exported weights alone: no
    optimizer state, no discriminator, no pickled class. Raises MlflowException.
    """
    prepare(tracking_uri)
    client = MlflowClient(tracking_uri)
    named = {
        "validation": scores,
        "test": test_scores,
        "gray.validation": gray,
        "gray.test": test_gray,
    }
    score_tags = {f"{p}.{k}": f"{v:.6g}" for p, part in named.items() for k, v in part.items()}
    with tracking_store(tracking_uri):
        if run_id is None:
            place = experiment_id(client, tracking_uri, model_name)
            run_id = client.create_run(place, run_name=run.name).info.run_id
            client.set_terminated(run_id)
        with tempfile.TemporaryDirectory() as folder:
            exported = export(run, Path(folder) / CHECKPOINT)
            model_uri, model_id = log_model(client, exported, run_id)
        experiment = read_run(run)
        ensure_registered_model(client, model_name, experiment.model.name, tracking_uri)
        created = client.create_model_version(
            model_name,
            source=model_uri,
            run_id=run_id,
            model_id=model_id,
            tags={**score_tags, **filters(experiment), **(tags or {})},
        )
        card = VersionCard(
            run=run,
            scores=scores,
            test_scores=test_scores,
            gray=gray,
            test_gray=test_gray,
            data_description=data_description,
            tags=tags or {},
            searched=searched or {},
        )
        described = card.describe(model_name, str(created.version), run_id, tracking_uri)
        client.update_model_version(model_name, created.version, described)
        link_version(client, model_id, model_name, str(created.version))
    return str(created.version)


def find_version(tracking_uri: str, model_name: str, tags: Mapping[str, str]) -> str | None:
    """Return the version that bears all these tags, if there is one: it need not be made again."""
    found = MlflowClient(tracking_uri).search_model_versions(f"name = '{model_name}'")
    return next((str(v.version) for v in found if tags.items() <= v.tags.items()), None)


def link_version(client: MlflowClient, model_id: str, model_name: str, version: str) -> None:
    """Link a logged model to its version, as MLflow's pages show it."""
    versions = json.dumps([{"name": model_name, "version": version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": versions})


def log_model(client: MlflowClient, exported: Path, run_id: str) -> tuple[str, str]:
    """Log an export, a folder of the name CHECKPOINT, under a run; return address and id."""
    before = client.get_run(run_id).info
    bytes_column = ColSpec("binary", "picture")
    signature = ModelSignature(
        inputs=Schema([bytes_column]),
        outputs=Schema(
            [
                ColSpec("binary", "picture", required=False),
                ColSpec(Array(DataType.binary), "more", required=False),
                ColSpec("string", "error", required=False),
            ]
        ),
        params=ParamSchema(
            [ParamSpec(name, _PARAM_TYPES[kind], None) for name, kind in FLAT_NAMES.items()]
        ),
    )
    requirements = [f"{name}=={version(name).split('+')[0]}" for name in _REQUIREMENTS]
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={CHECKPOINT: str(exported)},
            code_paths=[str(Path(colorization.__file__).parent)],
            signature=signature,
            input_example=pd.DataFrame({"picture": [_example_picture()]}),
            pip_requirements=requirements,
        )
    # Logging opened the run again and closed it as finished now, whatever had become of it.
    client.set_terminated(run_id, before.status, before.end_time)
    return logged.model_uri, logged.model_id


def filters(experiment: Experiment) -> dict[str, str]:
    """Return the tags that versions are filtered by."""
    tags = {
        "family": experiment.model.name,
        "data.name": experiment.data.source.name,
        "data.size": str(experiment.data.size),
    }
    generator = config.dump(experiment.model).get("generator")
    return {**tags, "generator": generator["name"]} if generator else tags


def ensure_registered_model(
    client: MlflowClient, name: str, family: str, tracking_uri: str
) -> None:
    """Create it, or give one of old its description and tags; what a person wrote stays."""
    description = model_description(name, tracking_uri)
    tags = {"task": "image-colorization", "family": family, "library": "colorization"}
    try:
        client.create_registered_model(name, tags, description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        there = client.get_registered_model(name)
        if not there.description:
            client.update_registered_model(name, description)
        for key in tags.keys() - there.tags.keys():
            client.set_registered_model_tag(name, key, tags[key])


def _example_picture() -> bytes:
    """Return a small gray ramp as PNG."""
    ramp = np.tile(np.linspace(0, 255, 32, dtype=np.uint8), (32, 1))
    return encode_picture(Picture(np.stack([ramp] * 3, axis=2)), ".png")


def load_registered(model_uri: str, tracking_uri: str) -> PyFuncModel:
    """Load a model by its address, `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    In this process it computes with the library's code as it is here; the code it carries is for
    processes that have none. Raises MlflowException, and what a model of an older library raises.
    """
    with tracking_store(tracking_uri):
        return mlflow.pyfunc.load_model(model_uri)


def experiment_of(model_uri: str, tracking_uri: str) -> Experiment:
    """Return the experiment that a registered model was trained by, as the model carries it.

    Raises ConfigError for a model of something else, MlflowException.
    """
    place = f"{model_uri}/artifacts/{CHECKPOINT}/{EXPERIMENT}"
    with tempfile.TemporaryDirectory() as folder, tracking_store(tracking_uri):
        try:
            file = download_artifacts(place, dst_path=folder)
        except (OSError, MlflowException) as error:
            raise ConfigError(
                f"{model_uri} carries no experiment, it was not registered by tune.py or train.py "
                f"({' '.join(str(error).split())[:200]})"
            ) from error
        return config.parse(Experiment, config.read_yaml(Path(file)), model_uri)


@dataclass(frozen=True)
class Rescored:
    """A registered model scored on pictures, and each picture's part in it, for comparisons."""

    scores: Mapping[str, float]  # those of ColorizationScores, and against_gray
    gray: Mapping[str, float]  # leave-gray's
    pictures: PictureScores
    gray_pictures: PictureScores


def rescore(model: PyFuncModel, experiment: Experiment, pictures: PictureSet) -> Rescored:
    """Score a registered model as a user meets it: PNG files in, PNG files out.

    `pictures` are cut as `experiment.data` says and scored as in training, so that the scores equal
    those of the trial that the model comes from. Raises ValueError where the model answers with an
    error or another size.
    """
    scores, gray = ColorizationScores("cpu"), ColorizationScores("cpu")
    each, each_gray = PictureScores(), PictureScores()
    for batch in ScoringLoader(pictures, experiment.data, batch_size=32):
        if not len(batch.rgb):
            continue
        colored = _colored_files(model, batch.rgb)
        scores.update_rendered(colored, batch.rgb)
        each.update_rendered(colored, batch.rgb)
        lab = rgb_to_lab(batch.rgb)
        gray.update(lab[:, :1], torch.zeros_like(lab[:, 1:]), lab[:, 1:])
        each_gray.update_gray(batch.rgb)
    result, baseline = scores.compute(), gray.compute()
    share = against_gray(result, baseline)
    return Rescored({"against_gray": share, **result}, baseline, each, each_gray)


def _colored_files(model: PyFuncModel, rgb: torch.Tensor) -> torch.Tensor:
    pixels = rgb.permute(0, 2, 3, 1).numpy()
    files = [encode_picture(Picture(picture), ".png") for picture in pixels]
    answer = model.predict(pd.DataFrame({"picture": files}))
    errors = [error for error in answer["error"] if error is not None]
    if errors:
        raise ValueError(f"the model refuses pictures: {'; '.join(errors)}")
    colored = np.stack([read_rgb(file) for file in answer["picture"]])
    return torch.from_numpy(colored).permute(0, 3, 1, 2).contiguous()


@contextmanager
def tracking_store(tracking_uri: str) -> Iterator[None]:
    """Let MLflow's functions work on a store for a while; they know one per process only.

    What they change in the process is put back.
    """
    variable, before = "MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI")
    path = list(sys.path)
    uri = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(uri)  # pyright: ignore[reportArgumentType]
        # Loading a model, also the one just logged, puts its code first on the path: workers
        # started later would import that.
        sys.path[:] = path
        # set_tracking_uri writes it, and default_tracking_uri would take it for the user's wish.
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before
