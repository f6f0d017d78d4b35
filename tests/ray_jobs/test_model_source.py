"""Where a server's model is from: whatever the registry does, there is a model."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from colorization.config import ConfigError
from colorization.experiment import Experiment
from model_source import Follower, ModelSource, NoRegistry, read_first
from served_model import ServedModel
from untrained import write_export

# isort: split
from mlflow import MlflowClient

NAME, WORD = "colorizer-gan", "models:/colorizer-gan@champion"


class Registry:
    """A real registry whose versions are exports of models that were never trained."""

    def __init__(self, folder: Path, uri: str, tiny: Callable[..., Experiment]) -> None:
        self.uri, self._folder, self._tiny = uri, folder, tiny
        self._client = MlflowClient(uri)
        self._client.create_registered_model(NAME)

    def add(self, whole: bool = True) -> str:
        versions = self._client.search_model_versions(f"name = '{NAME}'")
        folder = self._folder / f"export-{len(versions)}"
        write_export(self._tiny(f"train.seed={len(versions)}"), folder)
        if not whole:
            (folder / "weights.pt").write_bytes(b"damaged")
        return str(self._client.create_model_version(NAME, source=folder.as_uri()).version)

    def promote(self, version: str) -> None:
        self._client.set_registered_model_alias(NAME, "champion", version)


@pytest.fixture
def registry(
    tmp_path: Path, new_store: Callable[[Path], str], tiny: Callable[..., Experiment]
) -> Registry:
    return Registry(tmp_path, new_store(tmp_path / "store"), tiny)


def follower(registry: Registry) -> Follower:
    source = ModelSource(WORD, registry.uri)
    assert source.follows
    return Follower(source, *read_first(source))


def digest(model: ServedModel) -> str:
    return model.load().digest


def test_an_alias_is_followed_to_another_version_and_back(registry: Registry) -> None:
    first, second = registry.add(), registry.add()
    registry.promote(first)
    follows = follower(registry)
    assert follows.model.about.label == f"{NAME} version {first} (champion)"
    assert follows.look() is None
    registry.promote(second)
    newer = follows.look()
    assert newer is follows.model
    assert newer is not None
    assert (newer.about.version, newer.about.family, newer.about.draws) == (second, "gan", False)
    assert follows.look() is None
    registry.promote(first)
    older = follows.look()
    assert older is not None
    assert digest(older) != digest(newer)


def test_a_damaged_version_is_told_of_and_leaves_the_one_before(registry: Registry) -> None:
    good, damaged = registry.add(), registry.add(whole=False)
    registry.promote(good)
    follows = follower(registry)
    registry.promote(damaged)
    for _ in range(2):
        assert follows.look() is None
        assert f"{NAME}/{damaged} cannot be served" in follows.fault
    assert follows.model.about.version == good
    registry.promote(good)
    assert follows.look() is None
    assert follows.fault == ""


def test_a_registry_that_is_silent_leaves_the_model_until_it_answers_again(
    registry: Registry,
) -> None:
    first, second = registry.add(), registry.add()
    registry.promote(first)
    follows = follower(registry)
    registry.promote(second)
    database = Path(registry.uri.removeprefix("sqlite:///"))
    content = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    assert follows.look() is None
    assert "does not answer" in follows.fault
    assert follows.model.about.version == first
    database.write_bytes(content)
    newer = follows.look()
    assert newer is not None
    assert newer.about.version == second
    assert follows.fault == ""


def test_a_disk_that_takes_nothing_is_said_and_costs_one_look_alone(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = registry.add(), registry.add()
    registry.promote(first)
    follows = follower(registry)
    registry.promote(second)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(ConfigError, match="could not be read: FileNotFoundError"):
            read_first(ModelSource(WORD, registry.uri))
        assert follows.look() is None
        assert "could not be read" in follows.fault
    newer = follows.look()
    assert newer is not None
    assert (newer.about.version, follows.fault) == (second, "")


def test_a_folder_is_served_and_followed_nowhere(
    tmp_path: Path, tiny: Callable[..., Experiment]
) -> None:
    folder = write_export(tiny(), tmp_path / "export")
    source = ModelSource(str(folder), f"sqlite:///{tmp_path}/none.db")
    assert not source.follows
    _, model = read_first(source)
    assert model.about.label.endswith("export")
    assert set(model.files) == {"weights.pt", "experiment.yaml"}


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("models:/colorizer-gan@nobody", "has no such model"),
        ("models:/colorizer-gan", "models:/NAME/VERSION or models:/NAME@ALIAS is needed"),
        ("nowhere", "there is no such folder"),
    ],
)
def test_a_model_that_is_not_there_is_said_in_a_sentence(
    registry: Registry, word: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_first(ModelSource(word, registry.uri))


def test_a_server_of_mlflow_that_is_not_there_is_no_registry() -> None:
    source = ModelSource(WORD, "http://127.0.0.1:9")
    with pytest.raises(NoRegistry, match="does not answer"):
        source.address()
