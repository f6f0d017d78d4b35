"""Names of a store may be anything; files of this machine may not."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from coloring_job import ColoringJob, colorize
from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.outputs import plan_found
from picture_place import PicturePlace

GOOD = ("a.jpg", "below/a..b.png", "below/deep er/写真.tif")
STRANGE = ("../out.jpg", "./d.jpg", "/abs.jpg", "b//c.jpg", "x/../../../e.png")


@pytest.fixture
def bucket() -> Iterator[PicturePlace]:
    """A bucket that takes names as they come, as S3 does."""
    files = fsspec.filesystem("memory")
    name = f"/{uuid4().hex}"
    for key in (*GOOD, *STRANGE, "b//notes.txt", "../.hidden.jpg"):
        files.pipe_file(f"{name}/{key}", key.encode())
    yield PicturePlace(f"memory:/{name}")
    for key in [key for key in files.store if key.startswith(name)]:
        del files.store[key]


def test_names_that_are_no_path_below_a_folder_are_told_apart(bucket: PicturePlace) -> None:
    found = bucket.list_pictures()
    assert found.pictures == [Path(name) for name in GOOD]
    assert found.strange == sorted(STRANGE)


def test_pictures_of_a_bucket_come_and_go_below_folders(
    bucket: PicturePlace, tmp_path: Path
) -> None:
    found = bucket.list_pictures()
    for name, path in zip(GOOD, found.pictures, strict=True):
        copy = bucket.local(path, tmp_path)
        assert copy == tmp_path / name
        assert copy.read_bytes() == name.encode()
        copy.write_bytes(b"new")
        bucket.put(path, copy)
        assert fsspec.filesystem("memory").cat(f"{bucket.url}/{name}") == b"new"


def test_a_name_that_leads_elsewhere_gets_no_place(bucket: PicturePlace, tmp_path: Path) -> None:
    for name in ("../out.jpg", str(tmp_path / "abs.jpg"), "x/../../e.png"):
        with pytest.raises(ConfigError, match="lies outside of"):
            bucket.local(Path(name), tmp_path / "in")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("out", [Path("/out"), Path("out"), Path()])
def test_nothing_is_planned_outside_of_the_output(out: Path) -> None:
    with pytest.raises(ConfigError, match="lies outside of"):
        plan_found([Path("a.jpg"), Path("x/../../a.jpg")], Path(), out)


def test_where_all_names_are_strange_each_is_said_before_anything_is_done(
    bucket: PicturePlace, tmp_path: Path
) -> None:
    for name in GOOD:
        fsspec.filesystem("memory").rm(f"{bucket.url}/{name}")
    out = tmp_path / "out"
    with pytest.raises(ConfigError) as caught:
        colorize(ColoringJob("nowhere", "", bucket.url, str(out), ColorOptions()))
    assert str(caught.value).count("its name is no path of a file below a folder") == len(STRANGE)
    assert all(f"{bucket.url}/{name}: " in str(caught.value) for name in STRANGE)
    assert not out.exists()
