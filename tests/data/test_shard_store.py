import errno
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec import AbstractFileSystem

from colorization.config import ConfigError
from colorization.data.shard_store import ShardStore

SIZE = 1000


class PlantedFiles(AbstractFileSystem):
    """Local files at planted:///PATH: it notes what is opened, and fails as `NAME.faults` says."""

    protocol = "planted"

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": None}

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        file = Path(path)
        with (file.parent / "opened").open("a") as opened:
            opened.write(f"{file.name}\n")
        content = file.read_bytes()
        plan = file.with_name(f"{file.name}.faults")
        fault, *rest = plan.read_text().splitlines() if plan.exists() else ["none"]
        if rest:
            plan.write_text("\n".join(rest))
        match fault:
            case "short":
                return BytesIO(content[:-1])
            case "long":
                return BytesIO(content + b"x")
            case "reset":
                raise ConnectionResetError("the peer went away")
            case "refused":
                raise PermissionError("403 Forbidden")
            case "full":
                raise OSError(errno.ENOSPC, "No space left on device")
        return BytesIO(content)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a manifest and the shards a.npy, b.npy and c.npy of SIZE bytes."""
    monkeypatch.setattr(ShardStore, "pauses", (0.0, 0.0, 0.0))
    fsspec.register_implementation("planted", PlantedFiles, clobber=True)
    folder = tmp_path / "remote"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"größe": 1}', encoding="utf-8")
    header = len(_npy(0))
    for number, name in enumerate("abc"):
        (folder / f"{name}.npy").write_bytes(_npy(SIZE - header, number))
    return folder


def _npy(length: int, value: int = 0) -> bytes:
    file = BytesIO()
    np.save(file, np.full(length, value, np.uint8))
    return file.getvalue()


@pytest.fixture
def store(remote: Path, tmp_path: Path) -> ShardStore:
    """A store of the remote folder whose cache holds two shards and a half."""
    return ShardStore(f"planted://{remote}", tmp_path / "cache", 2.5 * SIZE / 1e9)


def opened(remote: Path) -> list[str]:
    file = remote / "opened"
    return file.read_text().split() if file.exists() else []


def cached(store: ShardStore) -> list[str]:
    return sorted(p.name for p in store.cache.iterdir() if not p.name.startswith("."))


def make_old(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def plant(remote: Path, name: str, *faults: str) -> None:
    (remote / f"{name}.faults").write_text("\n".join(faults))


def test_a_folder_is_read_where_it_lies(remote: Path, tmp_path: Path):
    store = ShardStore(str(remote), tmp_path / "cache", 1)
    assert store.local("a.npy", SIZE) == remote / "a.npy"
    assert store.read_text("manifest.json") == '{"größe": 1}'
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("protocol", ["file", "planted"])
def test_a_shard_of_a_url_is_a_local_file_with_its_contents(
    remote: Path, tmp_path: Path, protocol: str
):
    store = ShardStore(f"{protocol}://{remote}/", tmp_path / "cache", 1)
    path = store.local("b.npy", SIZE)
    assert path.is_relative_to(tmp_path / "cache")
    assert path.read_bytes() == (remote / "b.npy").read_bytes()
    assert store.read_text("manifest.json") == '{"größe": 1}'


def test_files_in_memory_are_read_too(tmp_path: Path):
    fsspec.filesystem("memory").pipe("/test_shard_store/a.npy", b"pixels")
    store = ShardStore("memory://test_shard_store", tmp_path, 1)
    assert store.local("a.npy", 6).read_bytes() == b"pixels"


def test_a_shard_is_fetched_once_whoever_asks(store: ShardStore, remote: Path):
    first = store.local("a.npy", SIZE)
    assert store.local("a.npy", SIZE) == first
    (remote / "a.npy").unlink()
    assert pickle.loads(pickle.dumps(store)).local("a.npy", SIZE) == first
    assert opened(remote) == ["a.npy"]


def test_two_urls_share_no_files_of_one_cache(remote: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.npy").write_bytes(bytes(SIZE))
    stores = [ShardStore(f"file://{folder}", tmp_path / "cache", 1) for folder in (remote, other)]
    assert stores[0].local("a.npy", SIZE).read_bytes() != bytes(SIZE)
    assert stores[1].local("a.npy", SIZE).read_bytes() == bytes(SIZE)


def test_without_a_folder_given_the_users_cache_is_taken(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    path = ShardStore(f"file://{remote}", None, 1).local("a.npy", SIZE)
    assert path.is_relative_to(tmp_path / "xdg" / "colorization")


def test_processes_that_want_one_shard_at_once_fetch_it_once(tmp_path: Path, remote: Path):
    (remote / "large.npy").write_bytes(_npy(20_000_000, 7))
    size = (remote / "large.npy").stat().st_size
    store = ShardStore(f"planted://{remote}", tmp_path / "cache", 1)
    context = multiprocessing.get_context("fork")  # as loader processes are started
    together = context.Barrier(4)

    def read() -> None:
        together.wait()
        for name, length in (("large.npy", size), ("a.npy", SIZE)):
            assert np.load(store.local(name, length), mmap_mode="r")[-1] in (0, 7)

    processes = [context.Process(target=read) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(opened(remote)) == ["a.npy", "large.npy"]


def test_the_least_recently_used_shards_make_room(store: ShardStore, remote: Path):
    make_old(store.local("a.npy", SIZE), 300)
    make_old(store.local("b.npy", SIZE), 200)
    store.local("a.npy", SIZE)  # used again: b is the older one now
    store.local("c.npy", SIZE)
    assert cached(store) == ["a.npy", "c.npy"]
    make_old(store.cache / "a.npy", 100)
    store.local("b.npy", SIZE)
    assert cached(store) == ["b.npy", "c.npy"]
    assert opened(remote) == ["a.npy", "b.npy", "c.npy", "b.npy"]


def test_room_is_made_before_a_download_fills_the_disk(store: ShardStore, remote: Path):
    make_old(store.local("a.npy", SIZE), 300)
    make_old(store.local("b.npy", SIZE), 200)
    plant(remote, "c.npy", "full")
    with pytest.raises(ConfigError, match="disk"):
        store.local("c.npy", SIZE)
    assert cached(store) == ["b.npy"]


def test_a_shard_that_was_just_handed_out_is_not_removed(store: ShardStore):
    for name in ("a.npy", "b.npy", "c.npy"):
        store.local(name, SIZE)
    assert cached(store) == ["a.npy", "b.npy", "c.npy"]


def test_a_reader_keeps_a_shard_that_is_removed(store: ShardStore):
    mapped = np.load(make_old(store.local("b.npy", SIZE), 100), mmap_mode="r")
    store.local("a.npy", SIZE)
    store.local("c.npy", SIZE)
    assert cached(store) == ["a.npy", "c.npy"]
    assert (mapped == 1).all()


def test_a_cache_leaves_files_that_are_not_its_own(remote: Path, tmp_path: Path):
    mine = make_old(_file(tmp_path / "cache" / "thesis.tex", 10 * SIZE), 1000)
    store = ShardStore(f"planted://{remote}", tmp_path / "cache", 1.5 * SIZE / 1e9)
    make_old(store.local("a.npy", SIZE), 100)
    store.local("b.npy", SIZE)
    assert cached(store) == ["b.npy"]
    assert mine.exists()


def _file(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


@pytest.mark.parametrize("fault", ["short", "long"])
def test_a_download_of_another_size_is_tried_once_more(store: ShardStore, remote: Path, fault: str):
    plant(remote, "a.npy", fault, "none")
    assert store.local("a.npy", SIZE).stat().st_size == SIZE
    plant(remote, "b.npy", fault, fault, "none")
    found = SIZE - 1 if fault == "short" else SIZE + 1
    with pytest.raises(ConfigError, match=rf"b\.npy has {found} bytes, {SIZE} are needed"):
        store.local("b.npy", SIZE)
    assert cached(store) == ["a.npy"]
    assert not list(store.cache.glob("*.part"))
    assert not list(store.cache.glob(".*.part"))


def test_errors_of_the_network_pass(store: ShardStore, remote: Path):
    plant(remote, "a.npy", "reset", "reset", "reset", "none")
    assert store.local("a.npy", SIZE).exists()
    plant(remote, "manifest.json", "reset", "none")
    assert store.read_text("manifest.json") == '{"größe": 1}'


def test_errors_of_the_network_that_stay_end_with_the_url_and_the_reason(
    store: ShardStore, remote: Path
):
    plant(remote, "a.npy", "reset")
    told = rf"planted://{remote}/a.npy cannot be read, tried 4 times: .*the peer went away"
    with pytest.raises(ConfigError, match=told):
        store.local("a.npy", SIZE)
    assert opened(remote) == ["a.npy"] * 4
    assert cached(store) == []


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("refused", r"data.source.path: .*a\.npy may not be read with the credentials of this"),
        ("full", r"data.source.cache_gigabytes: the disk of .* is full before the limit"),
    ],
)
def test_what_does_not_pass_is_told_at_once(store: ShardStore, remote: Path, fault: str, told: str):
    plant(remote, "a.npy", fault)
    with pytest.raises(ConfigError, match=told):
        store.local("a.npy", SIZE)
    assert opened(remote) == ["a.npy"]


@pytest.mark.parametrize("start", ["", "planted://"])
def test_a_missing_file_is_named(remote: Path, tmp_path: Path, start: str):
    store = ShardStore(f"{start}{remote}", tmp_path / "cache", 1)
    reads: list[Callable[[], object]] = [
        lambda: store.local("d.npy", SIZE),
        lambda: store.read_bytes("d.npy"),
    ]
    for read in reads:
        with pytest.raises(ConfigError, match=rf"there is no {start}{remote}/d\.npy"):
            read()


def test_a_shard_of_another_size_in_a_folder_is_refused(remote: Path):
    with pytest.raises(ConfigError, match=rf"a\.npy has {SIZE} bytes, 1001 are needed"):
        ShardStore(str(remote), None, 1).local("a.npy", 1001)


def test_a_download_that_was_killed_is_begun_again(store: ShardStore):
    _file(store.cache / ".a.npy.part", 700)
    assert store.local("a.npy", SIZE).stat().st_size == SIZE
    assert not (store.cache / ".a.npy.part").exists()


def test_a_truncated_file_in_the_cache_is_fetched_anew(store: ShardStore):
    _file(store.cache / "a.npy", 700)
    assert store.local("a.npy", SIZE).stat().st_size == SIZE


def test_a_protocol_without_its_package_or_without_meaning_is_refused(tmp_path: Path):
    fsspec.register_implementation("absent", "no_such_package.Files", errtxt="Install absentfs")
    with pytest.raises(ConfigError, match=r"absent://x needs a package .*: Install absentfs"):
        ShardStore("absent://x", tmp_path, 1).read_text("manifest.json")
    with pytest.raises(ConfigError, match=r"data\.source\.path: s4://x: Protocol not known: s4"):
        ShardStore("s4://x", tmp_path, 1).read_text("manifest.json")


def test_a_cache_that_cannot_be_is_refused(remote: Path, tmp_path: Path):
    file = _file(tmp_path / "file", 1)
    with pytest.raises(ConfigError, match=r"data\.source\.cache: cannot write to .*file/shards-"):
        ShardStore(f"planted://{remote}", file, 1).local("a.npy", SIZE)
    with pytest.raises(ConfigError, match=r"gigabytes: found 5e-07; .*a\.npy alone has 1e-06"):
        ShardStore(f"planted://{remote}", tmp_path, 5e-7).local("a.npy", SIZE)


@pytest.mark.parametrize("name", ["../a.npy", "/etc/passwd", "x/a.npy", "..", ""])
@pytest.mark.parametrize("start", ["", "planted://"])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    remote: Path, tmp_path: Path, start: str, name: str
):
    store = ShardStore(f"{start}{remote}", tmp_path / "cache", 1)
    with pytest.raises(ConfigError, match="is no file name of a packed set"):
        store.local(name, SIZE)
    with pytest.raises(ConfigError, match="is no file name of a packed set"):
        store.read_bytes(name)
