from pathlib import Path
from typing import Any

import pytest

from colorization.config import ConfigError, dump, parse, settings
from colorization.data.folder import FolderSource
from colorization.data.sample import SampleSource
from colorization.data.sources import DataConfig, open_data


def test_the_sample_is_the_default_source() -> None:
    assert DataConfig().source == SampleSource()


def test_the_name_chooses_the_source() -> None:
    config = parse(DataConfig, {"source": {"name": "folder", "path": "photos"}})
    assert config.source == FolderSource(path="photos")


def test_settings_of_another_source_are_refused_by_key() -> None:
    with pytest.raises(ConfigError, match=r"source\.path"):
        parse(DataConfig, {"source": {"name": "sample", "path": "photos"}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 8),
        ("crop_scale", [0.0, 1.0]),
        ("crop_scale", [0.9, 0.5]),
        ("crop_scale", [0.5, 1.1]),
        ("max_unreadable", -0.1),
        ("loader_workers", -1),
        ("source", {"name": "folder", "path": ""}),
        ("source", {"name": "folder", "path": "x", "split": "0/0.5/0.5"}),
        ("source", {"name": "cloud"}),
    ],
)
def test_values_out_of_bounds_are_refused_naming_the_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        parse(DataConfig, {key: value})


def test_a_config_survives_the_way_through_plain_data() -> None:
    for config in (
        DataConfig(size=128, crop_scale=(0.5, 0.5)),
        DataConfig(source=FolderSource(path="photos", split="0.7/0.3")),
    ):
        assert parse(DataConfig, dump(config)) == config


EVERY_KIND: dict[str, dict[str, Any]] = {
    "sample": {},
    "folder": {"path": "photos"},
    "archive": {"path": "photos.zip"},
    "arrays": {"path": "arrays"},
    "cifar10": {"root": "sets"},
    "stl10": {"root": "sets"},
    "celeba": {"root": "sets"},
    "coco": {"pictures": "train2017", "annotations": "instances_train2017.json"},
    "packed": {"path": "prepared"},
    "mixture": {
        "sources": [
            {"weight": 3, "source": {"name": "sample"}},
            {"weight": 1, "source": {"name": "folder", "path": "photos"}},
        ]
    },
}


def test_these_are_all_kinds_of_sources() -> None:
    listed = {key: allowed for key, _, allowed, _ in settings(DataConfig())}
    assert listed["source.name"].split(" | ") == sorted(EVERY_KIND)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_kind_is_chosen_by_name_described_and_survives_plain_data(name: str) -> None:
    config = parse(DataConfig, {"source": {"name": name, **EVERY_KIND[name]}})
    assert parse(DataConfig, dump(config)) == config
    for key, _, _, description in settings(config):
        assert description, key


@pytest.mark.parametrize("name", sorted(set(EVERY_KIND) - {"sample", "mixture"}))
def test_a_source_that_is_not_there_is_refused_by_key(name: str, tmp_path: Path) -> None:
    gone = {key: str(tmp_path / "gone") for key in EVERY_KIND[name]}
    config = parse(DataConfig, {"source": {"name": name, **gone}})
    with pytest.raises(ConfigError, match=r"^data\.source\.(path|root|pictures): .*gone"):
        open_data(config)
