"""Packed sets as `prepare.py` writes them, a few pictures each."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colorization.config import ConfigError, parse
from colorization.data.packed import PackedSource
from colorization.data.sources import DataConfig, open_data
from colorization.data.splits import SPLITS

WIDTH, HEIGHT = 6, 4
LENGTH = 3 * WIDTH * HEIGHT
Manifest = dict[str, Any]


def write_packed(folder: Path, size: int = 64, count: int = 3) -> Path:
    """Write one shard of raw pictures for each split; the i-th picture is of the color i."""
    folder.mkdir()
    shards: list[Manifest] = []
    pictures: list[Manifest] = [{"source": 0, "name": "bad", "split": None, "dropped": "small"}]
    for split in SPLITS:
        file = f"{split}-00000.npy"
        np.save(folder / file, np.repeat(np.arange(count, dtype=np.uint8), LENGTH))
        file_bytes = (folder / file).stat().st_size
        shards.append({"file": file, "split": split, "pictures": count, "file_bytes": file_bytes})
        for number in range(count):
            place = {"shard": file, "offset": number * LENGTH, "bytes": LENGTH}
            name = f"{split}{number}"
            pictures.append(
                {"source": 0, "name": name, "split": split, "size": [WIDTH, HEIGHT], **place}
            )
    moments = {"mean": [0.1, 0.2], "deviation": [0.3, 0.4]}
    manifest = {
        "format": "colorization-packed-1",
        "hash": "0123456789abcdef",
        "counts": {"found": 3 * count + 1, **dict.fromkeys(SPLITS, count)},
        "statistics": {"pixels": 1, "ab": moments},
        "settings": {"encoding": "raw", "size": size},
        "shards": shards,
        "pictures": pictures,
        "something": "new",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_packed(tmp_path / "set")


def data(folder: Path, **settings: Any) -> DataConfig:
    return parse(DataConfig, {"source": {"name": "packed", "path": str(folder)}, **settings})


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_kept_is_read_and_unknown_keys_of_a_manifest_are_passed_over(
    streamed: bool, folder: Path
) -> None:
    sets = PackedSource(path=str(folder), streamed=streamed).open(0.1)
    for pictures in (sets.train, sets.validation, sets.test):
        assert len(pictures) == 3
        for index in range(3):
            rgb = pictures.picture(index)
            assert rgb.shape == (HEIGHT, WIDTH, 3)
            assert np.unique(rgb).tolist() == [index]
    assert sets.train.name(2) == "0/train2"
    assert sets.fingerprint == "0123456789abcdef"
    assert sets.statistics == ((0.1, 0.2), (0.3, 0.4))


def drop(*keys: str | int) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        del manifest[keys[-1]]

    return change


def put(value: Any, *keys: str | int) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


WRONG: dict[str, tuple[Callable[[Any], None], str]] = {
    "another format": (put("x-2", "format"), "has the format 'x-2'"),
    "no hash": (drop("hash"), "hash: Field required"),
    "no counts": (drop("counts"), "counts: Field required"),
    "no count": (drop("counts", "test"), r"counts\.test: Field required"),
    "no statistics": (drop("statistics"), "statistics: Field required"),
    "no ab": (drop("statistics", "ab"), r"statistics\.ab: Field required"),
    "one mean": (put([1.0], "statistics", "ab", "mean"), r"statistics\.ab\.mean"),
    "NaN": (put(float("nan"), "statistics", "ab", "mean", 0), r"mean\.0: .*finite"),
    "no settings": (drop("settings"), "settings: Field required"),
    "no encoding": (drop("settings", "encoding"), r"settings\.encoding: Field required"),
    "png": (put("png", "settings", "encoding"), r"settings\.encoding: .*'raw' or 'jpeg'"),
    "no shards": (drop("shards"), "shards: Field required"),
    "a shard without length": (drop("shards", 1, "file_bytes"), r"shards\.1\.file_bytes"),
    "a shard twice": (lambda m: m["shards"].append(m["shards"][0]), "listed once"),
    "no pictures": (drop("pictures"), "pictures: a list is needed"),
    "a picture that is none": (put(3, "pictures", 2), r"pictures\.2: "),
    "no split": (drop("pictures", 2, "split"), r"pictures\.2\.split: Field required"),
    "no size": (drop("pictures", 2, "size"), r"pictures\.2\.size: Field required"),
    "no pixels": (put([0, 4], "pictures", 2, "size"), r"pictures\.2\.size\.0: .*greater than 0"),
    "before the shard": (put(-1, "pictures", 2, "offset"), r"pictures\.2\.offset: "),
    "an unknown shard": (
        put("gone.npy", "pictures", 1, "shard"),
        r"'train0' lies in gone\.npy, which is no shard of train",
    ),
    "another split's shard": (
        put("test-00000.npy", "pictures", 1, "shard"),
        r"'train0' lies in test-00000\.npy, which is no shard of train",
    ),
    "a byte beyond the shard": (
        put(2 * LENGTH + 1, "pictures", 3, "offset"),
        rf"'train2' lies at {2 * LENGTH + 1} with {LENGTH} bytes in .*, which holds {3 * LENGTH}",
    ),
    "too few bytes": (
        put(LENGTH - 1, "pictures", 3, "bytes"),
        rf"'train2' lies in {LENGTH - 1} bytes, {LENGTH} are needed for 6 x 4 pixels",
    ),
    "another size": (put([HEIGHT, HEIGHT], "pictures", 3, "size"), "48 are needed for 4 x 4"),
    "a picture less": (drop("pictures", 3), "is to hold 3 pictures, 2 are listed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_manifest_that_contradicts_itself_is_refused_naming_file_and_fault(
    case: str, folder: Path
) -> None:
    change, message = WRONG[case]
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    pattern = rf"^data\.source\.path: {re.escape(str(path))} .*{message}"
    with pytest.raises(ConfigError, match=pattern) as caught:
        PackedSource(path=str(folder)).open(0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": "colorization-packed-1"}'])
def test_what_is_no_manifest_is_refused_by_name(content: str, folder: Path) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ConfigError, match=r"^data\.source\.path: .*manifest\.json"):
        PackedSource(path=str(folder)).open(0.1)


def overwrite(path: Path, start: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[start : start + len(content)] = content
    path.write_bytes(whole)


DAMAGE: dict[str, tuple[int, bytes]] = {
    "magic": (0, b"XXXX"),
    "zeros": (0, bytes(128)),
    "header's length": (8, b"\xff\xff"),
    "more than there is": (10, b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999,), }"),
    "less than is needed": (10, b"{'descr': '|u1', 'fortran_order': False, 'shape': (99,), } "),
    "objects": (10, b"{'descr': '|O', 'fortran_order': False, 'shape': (9,), }  "),
    "another type": (10, b"{'descr': '<u2', 'fortran_order': False, 'shape': (108,), }"),
    "more than can be": (10, b"{'descr': '|u1', 'fortran_order': False, 'shape': (9" + b"9" * 40),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_shard_whose_header_is_damaged_is_named(case: str, folder: Path) -> None:
    overwrite(folder / "test-00000.npy", *DAMAGE[case])
    test = PackedSource(path=str(folder)).open(0.1).test
    with pytest.raises(ConfigError, match=r"^data\.source\.path: .*test-00000\.npy is damaged: "):
        test.picture(0)


def test_any_damage_of_a_header_is_a_clear_error_or_none(folder: Path) -> None:
    path = folder / "test-00000.npy"
    whole = path.read_bytes()
    named: set[bool] = set()
    for place in range(128):
        for value in (0, 0x28, 0x39, 0xFF):
            path.write_bytes(whole)
            overwrite(path, place, bytes([value]))
            test = PackedSource(path=str(folder)).open(0.1).test
            try:
                shape = test.picture(0).shape
            except ConfigError as error:
                named.add("test-00000.npy is damaged" in str(error))
            else:
                assert shape == (HEIGHT, WIDTH, 3)
    assert named == {True}


def test_relative_folders_are_made_absolute_and_urls_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = PackedSource(path="set", cache="cache")
    assert source.path == str(tmp_path / "set")
    assert source.cache == str(tmp_path / "cache")
    assert PackedSource(path="s3://bucket/set").path == "s3://bucket/set"
    assert PackedSource(path="set").cache is None


def test_pictures_smaller_than_is_trained_on_are_refused_with_the_ways_out(tmp_path: Path) -> None:
    folder = write_packed(tmp_path / "set", size=48)
    open_data(data(folder, size=48))
    message = r"^data\.size: found 64; .*48 pixels: set data\.size=48 .*prepare\.py size=64"
    with pytest.raises(ConfigError, match=message):
        open_data(data(folder, size=64))
    parts = [
        {"weight": 1, "source": {"name": "packed", "path": str(folder)}},
        {"weight": 1, "source": {"name": "sample"}},
    ]
    mixture = parse(DataConfig, {"source": {"name": "mixture", "sources": parts}, "size": 64})
    with pytest.raises(ConfigError, match=message):
        open_data(mixture)
