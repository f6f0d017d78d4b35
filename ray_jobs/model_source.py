"""Where a server's model is from: read from disk or registry, and again where its alias moved."""

import errno
import tempfile
from pathlib import Path

from mlflow_store import check_uri, without_password
from stored_models import download_version, exported_model, registered_version

# isort: split
from mlflow import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from colorization.checkpoint import CheckpointError
from colorization.config import ConfigError
from colorization.export import load_exported
from colorization.pair import exported_files, load_colorizer
from served_model import About, ServedModel
from storage import short_path

_REGISTRY_FAULTS = (MlflowException, SQLAlchemyError, OSError)
_OF_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


class NoRegistry(Exception):
    """MLflow does not answer, or not with a model: says why."""


class ModelSource:
    """Where a server's model is from: the word of a command line, asked again and again."""

    def __init__(self, word: str, tracking_uri: str) -> None:
        """Raises ConfigError for an address where MLflow keeps no models."""
        self._word, self._uri = word, tracking_uri
        if word.startswith("models:/"):
            check_uri(tracking_uri)

    @property
    def follows(self) -> bool:
        """Tell whether the model may become another one: it is named by an alias."""
        return self._word.startswith("models:/") and "@" in self._word

    def address(self) -> str:
        """Return what the word stands for now, which is cheap; raises NoRegistry, ConfigError."""
        return self._registered()[0] if self._word.startswith("models:/") else self._word

    def read(self) -> tuple[str, ServedModel]:
        """Return the model, and the address that it was found at.

        It was loaded once to see that it can be. Raises NoRegistry where MLflow does not answer,
        ConfigError where there is no such model, CheckpointError for damage.
        """
        with tempfile.TemporaryDirectory() as place:
            if not self._word.startswith("models:/"):
                folder = exported_model(self._word, self._uri, Path(place))
                return self._word, _read(folder, short_path(Path(self._word).expanduser()), "")
            address, label = self._registered()
            try:
                folder = download_version(address, label, self._uri, Path(place))
            except _REGISTRY_FAULTS as error:
                raise self._silent(error) from error
            return address, _read(folder, label, address.rpartition("/")[2])

    def _registered(self) -> tuple[str, str]:
        try:
            return registered_version(self._word, self._uri)
        except _REGISTRY_FAULTS as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> NoRegistry:
        where = without_password(self._uri)
        if isinstance(error, OSError) and (error.errno in _OF_DISK or error.filename is not None):
            return NoRegistry(f"{self._word} could not be read: {error}")
        reason = " ".join(without_password(str(error)).split())[:200]
        return NoRegistry(f"MLflow at {where} does not answer: {reason}")


def _read(folder: Path, label: str, version: str) -> ServedModel:
    pair = load_colorizer(folder).instance is not None
    model, experiment = load_exported(folder)
    about = About(label, version, experiment.model.name, model.stochastic, model.encodes, pair)
    return ServedModel(about, exported_files(folder))


def read_first(source: ModelSource) -> tuple[str, ServedModel]:
    """Return the model that a server begins with; whatever stands against it is a ConfigError."""
    try:
        return source.read()
    except (NoRegistry, CheckpointError) as error:
        raise ConfigError(str(error)) from error
    except (OSError, MemoryError) as error:
        raise ConfigError(_passing(error)) from error


def _passing(error: Exception) -> str:
    return f"the model could not be read: {type(error).__name__}: {error}"


class Follower:
    """Keeps an eye on an alias; nothing that the registry does takes away the model there is."""

    def __init__(self, source: ModelSource, address: str, model: ServedModel) -> None:
        self._source, self._address, self.model = source, address, model
        self.fault = ""  # why the alias cannot be followed at the moment
        self._refused = ""

    def look(self) -> ServedModel | None:
        """Return the model that the alias moved to since the last look; None for none."""
        if not self._source.follows:
            return None
        try:
            address = self._source.address()
        except (NoRegistry, ConfigError) as error:
            self.fault = str(error)
            return None
        except (OSError, MemoryError) as error:
            self.fault = _passing(error)
            return None
        if address == self._refused:
            return None
        self.fault = ""
        if address == self._address:
            return None
        try:
            self._address, self.model = self._source.read()
        except NoRegistry as error:
            self.fault = str(error)
            return None
        except (OSError, MemoryError) as error:  # a full disk may have room at the next look
            self.fault = _passing(error)
            return None
        except (ConfigError, CheckpointError) as error:  # the same at each look: not read again
            self.fault, self._refused = f"{address} cannot be served: {error}", address
            return None
        self._refused = ""
        return self.model
