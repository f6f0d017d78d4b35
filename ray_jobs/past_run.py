"""A trained run as MLflow has it: its experiment, its numbers, what it was trained in."""

import math
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_store import check_uri, database_file, default_tracking_uri, without_password

# isort: split
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Run

from colorization.config import ConfigError, parse, read_yaml
from colorization.experiment import Experiment
from colorization.surroundings import Surroundings, sessions
from data_card import data_hashes
from provenance import ARTIFACTS
from storage import storage_folder

_EXPERIMENT = "experiment.yaml"


@dataclass(frozen=True)
class PastRun:
    """Read from MLflow without changing it."""

    id: str
    name: str
    tags: Mapping[str, str]
    experiment: Experiment
    data_hashes: Mapping[str, str]  # as StudyData.hashes has them; {} where none is noted
    epochs: Mapping[int, Mapping[str, float]]  # from 1; under 0 leave-gray's numbers
    sessions: Mapping[int, Surroundings]  # by the epoch that each trained first

    @property
    def length(self) -> int:
        """How many epochs it was trained."""
        return max(self.epochs)

    @property
    def surroundings(self) -> Surroundings | None:
        """What its last epoch was trained in; None of a run from before this was noted."""
        return self.sessions[max(self.sessions)] if self.sessions else None


def tracking_uri_of(tracking_uri: str | None, storage: str | None) -> str:
    """Return the address of MLflow that a command's flags mean.

    Raises ConfigError for one that cannot be, and where a storage holds no records.
    """
    uri = tracking_uri or default_tracking_uri(storage_folder(storage))
    check_uri(uri)
    if uri.startswith("sqlite:") and not database_file(uri).exists():
        raise ConfigError(
            f"no MLflow database {database_file(uri)}: give the --storage of the study, or "
            "--tracking-uri"
        )
    return uri


def read_past_run(run_id: str, tracking_uri: str) -> PastRun:
    """Read a trial's run.

    Raises ConfigError for a run that there is not, that is a study's, that was trained for no whole
    epoch or whose experiment this code does not understand.
    """
    client = MlflowClient(tracking_uri)
    try:
        run = client.get_run(run_id)
        if "mlflow.parentRunId" not in run.data.tags:
            raise ConfigError(_no_trial(client, run))
        epochs = _epochs(client, run)
        with tempfile.TemporaryDirectory() as folder:
            experiment = _experiment(client, run, Path(folder))
            found = _sessions(client, run, Path(folder))
    except MlflowException as error:
        first_line = without_password(str(error).partition("\n")[0])
        raise ConfigError(
            f"RUN_ID: {run_id} cannot be read from MLflow at {without_password(tracking_uri)}: "
            f"{first_line}"
        ) from error
    if not any(epochs.keys() - {0}):
        reason = run.data.tags.get("reason", run.info.status)
        raise ConfigError(f"{_named(run)} has no epoch to compare with ({reason})")
    return PastRun(
        run.info.run_id,
        run.info.run_name or run.info.run_id,
        run.data.tags,
        experiment,
        data_hashes(run.data.params),
        epochs,
        found,
    )


def _named(run: Run) -> str:
    return f"run {run.info.run_id} ({run.info.run_name})"


def _no_trial(client: MlflowClient, run: Run) -> str:
    """Say what a run is that is no trial's, and which trials belong to it."""
    query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    children = client.search_runs([run.info.experiment_id], query, order_by=["start_time ASC"])
    if not children:
        return f"{_named(run)} is no trial of a study, and none belongs to it: nothing to replay"
    lines = [f"{_named(run)} is a study's, which trained nothing itself; replay one of its trials:"]
    for child in children:
        state = child.data.tags.get("state", child.info.status)
        lines.append(f"  {child.info.run_id}  {child.info.run_name}  {state}")
    return "\n".join(lines)


def _epochs(client: MlflowClient, run: Run) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            found.setdefault(point.step, {})[name] = _unclamped(point.value)
    return found


def _unclamped(value: float) -> float:
    """Return infinity for what MLflow keeps in its place."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def _experiment(client: MlflowClient, run: Run, folder: Path) -> Experiment:
    if _EXPERIMENT not in {found.path for found in client.list_artifacts(run.info.run_id)}:
        raise ConfigError(
            f"{_named(run)} has no {_EXPERIMENT} among its artifacts: it never started, is not "
            "sent yet (ray_jobs/sync.py sends it), or is from before stopped runs had one"
        )
    file = Path(client.download_artifacts(run.info.run_id, _EXPERIMENT, str(folder)))
    try:
        return parse(Experiment, read_yaml(file))
    except ConfigError as error:
        commit = run.data.tags.get("mlflow.source.git.commit")
        where = f"check out {commit}" if commit else "take the code that it was trained with"
        raise ConfigError(
            f"the experiment of {_named(run)} is of another version of the code ({where}):\n{error}"
        ) from error


def _sessions(client: MlflowClient, run: Run, folder: Path) -> dict[int, Surroundings]:
    if not client.list_artifacts(run.info.run_id, ARTIFACTS):
        return {}
    return sessions(Path(client.download_artifacts(run.info.run_id, ARTIFACTS, str(folder))))
