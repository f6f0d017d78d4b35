"""Where MLflow may keep runs, and how that is shown."""

from pathlib import Path

import pytest

from colorization.config import ConfigError
from mlflow_store import check_uri, database_file, without_password


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////data/mlflow.db",
        "sqlite:///mlflow.db?timeout=30",
        "http://localhost:5000",
        "https://me:secret@mlflow.example.org/path",
        "postgresql://me:secret@host/mlflow",
        "mysql+pymysql://me:secret@host:3306/mlflow",
        "mssql+pyodbc://host/mlflow?driver=x",
        "databricks",
        "databricks://profile",
    ],
)
def test_servers_and_databases_keep_runs(uri: str):
    check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("localhost:5000", "is http://localhost:5000 meant?"),
        ("10.0.0.1:5000/path", "is http://10.0.0.1:5000/path meant?"),
        ("mlruns", "'mlruns'; MLflow keeps no runs there"),
        ("/data/mlruns", "plain folders"),
        ("file:///data/mlruns", "plain folders"),
        ("htp://me:secret@host", r"'htp://me:\*\*\*@host'; MLflow keeps no runs there"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_what_is_no_store_is_refused_with_what_is(uri: str, told: str):
    with pytest.raises(ConfigError, match=f"MLFLOW_TRACKING_URI: found .*{told}"):
        check_uri(uri)


def test_a_database_is_the_file_before_its_options():
    assert database_file("sqlite:////data/a b.db?timeout=30") == Path("/data/a b.db")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@host:5000/a", "http://me:***@host:5000/a"),
        ("http://me:se:cr@et@host, http://host:1/", "http://me:***@host, http://host:1/"),
        ("of http://:secret@a and sql+x://b:secret@c", "of http://:***@a and sql+x://b:***@c"),
        ("http://host:5000/a@b sqlite:////x/y:z@a", "http://host:5000/a@b sqlite:////x/y:z@a"),
    ],
)
def test_no_password_is_shown_and_all_else_is(text: str, shown: str):
    assert without_password(text) == shown
