from typing import Any

import pytest

from colorization.config import ConfigError, dump, parse, settings
from colorization.data.folder import FolderSource
from colorization.data.sample import SampleSource
from colorization.data.sources import DataConfig


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
        ("source", {"name": "folder", "path": "x", "validation": 0.5, "test": 0.5}),
        ("source", {"name": "cloud"}),
    ],
)
def test_values_out_of_bounds_are_refused_naming_the_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        parse(DataConfig, {key: value})


def test_a_config_survives_the_way_through_plain_data() -> None:
    for config in (
        DataConfig(size=128, crop_scale=(0.5, 0.5)),
        DataConfig(source=FolderSource(path="photos", test=0.2)),
    ):
        assert parse(DataConfig, dump(config)) == config


def test_every_setting_has_a_description() -> None:
    for source in (SampleSource(), FolderSource(path="photos")):
        for key, _, _, description in settings(DataConfig(source=source)):
            assert description, key
