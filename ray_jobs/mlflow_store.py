"""Where MLflow keeps runs, pictures and models, and how its client behaves in these jobs."""

import logging
import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

# Read when mlflow is imported, hence before it, and hence the other modules import this one first:
# no telemetry, no progress bars and news amid the study's own lines. A request to a server that
# does not answer ends soon and not after minutes of retries; the tracker's thread tries again.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import mlflow
from mlflow import MlflowClient
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from colorization.config import ConfigError
from colorization.passwords import without_password
from colorization.score_names import MEANINGS, glossary

__all__ = [
    "EXPERIMENT",
    "check_uri",
    "database_file",
    "default_tracking_uri",
    "experiment_id",
    "prepare",
    "without_password",
]

EXPERIMENT = "colorization"  # MLflow's experiment of all studies
_NOTE, _HEADING = "mlflow.note.content", "# What the metrics mean"
_SERVERS = ("http", "https", "databricks")

# It prints the stack of each error of a database, full or locked, which it raises as well.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def default_tracking_uri(storage: Path) -> str:
    """Return MLFLOW_TRACKING_URI where it is set, else an SQLite database in the folder `storage`.

    Read it before anything calls `mlflow.set_tracking_uri`, which sets the variable.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage.resolve()}/mlflow.db"


def check_uri(tracking_uri: str) -> None:
    """Raise ConfigError for a place where MLflow keeps no runs."""
    found = f"MLFLOW_TRACKING_URI: found {without_password(tracking_uri)!r}"
    if re.match(r"[\w.\-]+:\d+(/|$)", tracking_uri):
        raise ConfigError(f"{found}; is http://{tracking_uri} meant?")
    # "databricks" alone is an address, too.
    scheme = urlsplit(tracking_uri).scheme or tracking_uri
    others = [plugin.name for plugin in entry_points(group="mlflow.tracking_store")]
    if scheme.partition("+")[0] not in (*DATABASE_ENGINES, *_SERVERS, *others):
        raise ConfigError(
            f"{found}; MLflow keeps no runs there, nor in plain folders any more: give "
            "sqlite:////PATH/mlflow.db or the http address of a server"
        )
    if scheme == "sqlite" and _sqlite_path(tracking_uri) in (None, "", ":memory:"):
        raise ConfigError(f"{found}; it names no file: give sqlite:////PATH/mlflow.db")


def prepare(tracking_uri: str) -> str | None:
    """Create or migrate an SQLite store, once and before threads and processes use it.

    A server is not asked for anything, so that a dead one does not hold up the caller. Returns what
    is in the way and may pass: a full disk, a lock. Raises ConfigError for a place where MLflow
    keeps no runs, or a database that cannot be used.
    """
    check_uri(tracking_uri)
    if urlsplit(tracking_uri).scheme != "sqlite":
        return None
    try:
        database_file(tracking_uri).parent.mkdir(parents=True, exist_ok=True)
        MlflowClient(tracking_uri).search_experiments(max_results=1)
    except (mlflow.MlflowException, SQLAlchemyError) as error:
        first_line = str(error).splitlines()[0]
        if isinstance(error, OperationalError) or isinstance(error.__cause__, OperationalError):
            return first_line
        raise ConfigError(f"MLflow cannot use {tracking_uri}: {first_line}") from error
    except OSError as error:
        return str(error)
    return None


def experiment_id(client: MlflowClient, tracking_uri: str, name: str) -> str:
    """Find MLflow's experiment of this name or create it.

    With SQLite its artifacts lie in `mlartifacts` beside the database, and not in the folder that
    the process happens to run in; a server chooses their place itself. Its description says what
    the metrics mean, unless a person has written another. Raises MlflowException.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        # The kind decides which page MLflow opens: runs and curves, not traces of language models.
        tags = {"mlflow.experimentKind": "custom_model_development", _NOTE: _description()}
        return client.create_experiment(name, _artifacts(tracking_uri, name), tags)
    if found.lifecycle_stage != "active":
        raise mlflow.MlflowException(
            f"the experiment {name!r} was deleted: restore it by `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`"
        )
    note, ours = found.tags.get(_NOTE, ""), _description()
    if note != ours and (not note.strip() or note.startswith(_HEADING)):
        client.set_experiment_tag(found.experiment_id, _NOTE, ours)
    return found.experiment_id


def _description() -> str:
    """Return what MLflow shows of the experiment, at most 5000 characters: metrics have no place
    for units of their own."""
    names = [name for name in MEANINGS if not name.startswith("system/")]
    return f"{_HEADING}\n\n{glossary(names)}"


def _artifacts(tracking_uri: str, name: str) -> str | None:
    if not tracking_uri.startswith("sqlite:"):
        return None
    folder = re.sub(r"[^\w\-.]+", "_", name).strip(".") or "runs"
    return (database_file(tracking_uri).parent / "mlartifacts" / folder).as_uri()


def database_file(tracking_uri: str) -> Path:
    """Return the file of an SQLite store. Raises ConfigError for an address that names none."""
    path = _sqlite_path(tracking_uri)
    if not path:
        raise ConfigError(f"{tracking_uri} names no file of SQLite")
    return Path(path).resolve()


def _sqlite_path(tracking_uri: str) -> str | None:
    try:
        return make_url(tracking_uri).database  # without what follows a question mark
    except SQLAlchemyError:
        return None
