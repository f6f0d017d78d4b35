"""Events of a study turned into MLflow's runs, parameters, metrics, tags and files."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from event_queue import Event
from mlflow_store import experiment_id

# isort: split
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

_PARAMS_A_REQUEST, _METRICS_A_REQUEST, _TAGS_A_REQUEST = 100, 1000, 100  # MLflow's limits
_LONGEST_PARAM, _LONGEST_TAG = 6000, 8000  # characters
# What a server says of a request that it does not know, as an older one does of `log-inputs`.
NOT_OFFERED = ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
# What MLflow will say again however often it is asked; everything else may pass.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", *NOT_OFFERED)
# Its BAD_REQUEST is any error of its database, or of a proxy before it, but for connections, locks
# and full disks; of these only the ones that mean the values themselves.
_REFUSED_VALUES = re.compile(r"\b(IntegrityError|DataError)\b")


def is_refusal(error: Exception) -> bool:
    """Tell whether MLflow answered and will not take this, so that trying again is of no use."""
    code = getattr(error, "error_code", None)
    refused_values = code == "BAD_REQUEST" and _REFUSED_VALUES.search(str(error)) is not None
    return code in _REFUSALS or refused_values


class GoneError(Exception):
    """A file that was to be uploaded and is not there any more."""


class Sender:
    """Sends events, one at a time; calls may take long and raise whatever the client raises.

    The study's run and each trial's are created when first needed. Their ids are kept
    with the store they are known in; where a killed process could not keep one, the
    run is found again by its tags. Sending an event twice changes nothing: it carries its time, and
    MLflow keeps one of two equal metrics, and of two equal inputs.
    """

    def __init__(
        self,
        memory: dict[str, Any],
        tracking_uri: str,
        experiment_name: str,
        study: str,
        report: Callable[[str], None],
    ) -> None:
        """Keep ids of runs in `memory`, JSON types, which holds the study's `study_id`."""
        self._tracking_uri = tracking_uri
        self._experiment_name = experiment_name
        self._study = study
        self._report = report
        self._memory = memory
        # The address may hold a password.
        self._store = hashlib.sha256(tracking_uri.encode()).hexdigest()[:16]
        self._memory.setdefault("runs", {})
        self._memory.setdefault("store", self._store)
        self._client: MlflowClient | None = None
        self._experiment: str | None = None

    @property
    def parent_run_id(self) -> str | None:
        """The study's run; None before MLflow has it."""
        return self._memory.get("parent")

    def run_id(self, number: int) -> str | None:
        """Return the run of a trial; None before MLflow has it."""
        return self._memory["runs"].get(str(number))

    @property
    def has_moved(self) -> bool:
        """Whether the ids of runs are from a store at another address."""
        return self._memory["store"] != self._store

    def forgets(self) -> bool:
        """Tell whether the store does not know the runs whose ids are kept, and drop those then.

        Such is one at another address, for all that is known, and a new database at the same one.
        """
        parent, has_moved = self.parent_run_id, self.has_moved
        self._memory["store"] = self._store
        self._experiment = None  # it has another number there
        if parent is None or (not has_moved and _is_known(self._connected(), parent)):
            return False
        self._memory["runs"] = {}
        del self._memory["parent"]
        return True

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = MlflowClient(self._tracking_uri)
        return self._client

    def send(self, event: Event) -> None:
        """Send an event. Raises GoneError for a file that is not there."""
        client = self._connected()
        if self._experiment is None:
            self._experiment = experiment_id(client, self._tracking_uri, self._experiment_name)
        run = self._run(client, self._experiment, event)
        match event["kind"]:
            case "started":
                client.update_run(run, "RUNNING")
                self._log_tags(client, run, event)
                self._log_params(client, run, event)
            case "metrics":
                metrics = [
                    Metric(_name(key), value, event["time"], event["step"])
                    for key, value in event["metrics"].items()
                ]
                for some in _batches(metrics, _METRICS_A_REQUEST):
                    client.log_batch(run, metrics=some)
            case "tags":
                self._log_tags(client, run, event)
            case "inputs":
                client.log_inputs(run, [_dataset_input(found) for found in event["datasets"]])
            case "file":
                self._upload(client, run, Path(event["path"]), event["folder"])
            case "ended":
                self._log_tags(client, run, event)
                client.set_terminated(run, event["status"], event["time"])
                # A server that hung may have created the run for a request that was given up, too.
                for other in self._find(client, self._experiment, event["number"]):
                    if other != run:
                        client.delete_run(other)

    def _log_tags(self, client: MlflowClient, run: str, event: Event) -> None:
        tags = [RunTag(_name(key), value[:_LONGEST_TAG]) for key, value in event["tags"].items()]
        for some in _batches(tags, _TAGS_A_REQUEST):
            client.log_batch(run, tags=some)

    def _log_params(self, client: MlflowClient, run: str, event: Event) -> None:
        params = [
            Param(_name(key), value[:_LONGEST_PARAM]) for key, value in event["params"].items()
        ]
        for some in _batches(params, _PARAMS_A_REQUEST):
            try:
                client.log_batch(run, params=some)
            except MlflowException as error:
                if not is_refusal(error):
                    raise
                # One parameter with another value than before takes its whole batch with it.
                for param in some:
                    self._log_param(client, run, param)

    def _log_param(self, client: MlflowClient, run: str, param: Any) -> None:
        try:
            client.log_batch(run, params=[param])
        except MlflowException as error:
            if not is_refusal(error):
                raise
            self._report(f"MLflow keeps the old {param.key}, not {param.value}: it has a value")

    def _upload(self, client: MlflowClient, run: str, path: Path, folder: str) -> None:
        send = client.log_artifacts if path.is_dir() else client.log_artifact
        try:
            send(run, str(path), folder or None)
        except OSError:
            if path.exists():
                raise
            raise GoneError(f"{path} was gone before it could be sent to MLflow") from None

    def _run(self, client: MlflowClient, experiment: str, event: Event) -> str:
        """Return the run that an event belongs to: remembered, found by its tags, or new."""
        number = event["number"]
        known = self.parent_run_id if number is None else self.run_id(number)
        if known is not None:
            return known
        tags = {
            "colorization.study": self._study,
            "colorization.study_id": self._memory["study_id"],
            "colorization.trial": _key(number),
        }
        if number is not None:
            tags["mlflow.parentRunId"] = self._run(client, experiment, {**event, "number": None})
        found = self._find(client, experiment, number)
        if found:
            run = found[0]
        else:
            name = self._study if number is None else event.get("name", f"trial-{number:04d}")
            created = client.create_run(experiment, event["time"], tags=tags, run_name=name)
            run = created.info.run_id
        if number is None:
            self._memory["parent"] = run
        else:
            self._memory["runs"][_key(number)] = run
        return run

    def _find(self, client: MlflowClient, experiment: str, number: int | None) -> list[str]:
        query = (
            f"tags.`colorization.study_id` = '{self._memory['study_id']}' "
            f"and tags.`colorization.trial` = '{_key(number)}'"
        )
        runs = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"])
        return [run.info.run_id for run in runs]


def _is_known(client: MlflowClient, run: str) -> bool:
    try:
        client.get_run(run)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _key(number: int | None) -> str:
    return "study" if number is None else str(number)


def _dataset_input(found: Mapping[str, str]) -> DatasetInput:
    fields = {key: value for key, value in found.items() if key != "context"}
    tags = [InputTag("mlflow.data.context", found["context"])]
    return DatasetInput(Dataset(**fields), tags)


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _name(name: str) -> str:
    """Replace what MLflow does not take in a name; letters, digits and _ - . / space stay."""
    return re.sub(r"[^\w\-./ ]", "_", name)
