"""MLflow stores for the tests: SQLite, made once, copied for each."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_store import prepare


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Make a store in a folder and return its tracking URI; MLflow's migrations take seconds."""
    empty = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    prepare(f"sqlite:///{empty}")

    def copy(folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(empty, folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    return copy
