"""Files of a packed set: read in place from a folder, through a local cache from a URL."""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar, cast

import fsspec
from filelock import FileLock
from fsspec import AbstractFileSystem

from colorization.config import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")

_SPARED_SECONDS = 5.0  # since its last use, in which a shard is not removed: it is being opened
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


class ShardStore:
    """Reads files below a folder or below any URL that fsspec knows (s3://, gs://, file://).

    Shards of a URL are kept in a cache on this machine that all processes on it share: each is
    fetched once, by one of them. A file's name must stand for its contents: what the cache has
    under a name is not fetched again. Survives pickling and being forked.
    """

    pauses = (1.0, 5.0, 20.0)  # seconds before each new try after an error of the network

    def __init__(self, url: str, cache: Path | None, cache_gigabytes: float) -> None:
        """Take where the files lie, the cache's folder (None: one of the user's) and its limit.

        The cache is a folder of its own in there, named by the URL; the limit is of 10^9 bytes.
        """
        self.url = url.rstrip("/")
        self.limit = int(cache_gigabytes * 1e9)
        stamp = blake2b(self.url.encode(), digest_size=8).hexdigest()
        self.cache = (cache or _users_cache()).absolute() / f"shards-{stamp}"
        self._place = None if "://" in url else Path(url)

    def read_text(self, name: str) -> str:
        """Return a small file's UTF-8 text; raises ConfigError where that fails."""
        content = self.read_bytes(name)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"data.source.path: {self._address(name)}: {error}") from error

    def read_bytes(self, name: str) -> bytes:
        """Return a small file's contents, from where it lies; raises ConfigError if that fails."""
        if self._place is None:
            return self._patiently(name, _read)
        try:
            return (self._place / _plain(name)).read_bytes()
        except FileNotFoundError:
            raise self._missing(name) from None
        except OSError as error:
            address = self._address(name)
            raise ConfigError(f"data.source.path: cannot read {address}: {error}") from error

    def local(self, name: str, size: int) -> Path:
        """Return where a shard of `size` bytes lies on this machine, fetched if it does not yet.

        It may be removed from the cache again later, but not within the next seconds; who has it
        open or mapped keeps it. Others are removed, least recently used first, to stay within the
        limit.

        Raises ConfigError where the shard is missing, has another size, or cannot be fetched after
        several tries, and where the cache cannot be written or is too small for it.
        """
        if self._place is not None:
            return self._in_place(self._place / _plain(name), size)
        path = self.cache / _plain(name)
        with self._writing_cache():
            if _is_ready(path, size):
                return path
            self.cache.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.cache / f".{name}.lock")
            lock.acquire()
        try:
            with self._writing_cache():
                ready = _is_ready(path, size)  # fetched by another process meanwhile
            if not ready:
                self._fetch(name, size, path)
        finally:
            lock.release()
        return path

    def _in_place(self, path: Path, size: int) -> Path:
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            raise self._missing(path.name) from None
        if found != size:
            raise self._wrong_size(path.name, found, size)
        return path

    def _fetch(self, name: str, size: int, path: Path) -> None:
        if size > self.limit:
            raise ConfigError(
                f"data.source.cache_gigabytes: found {self.limit / 1e9:g}; {self._address(name)} "
                f"alone has {size / 1e9:g}"
            )
        with self._writing_cache():
            self._make_room(size)
        partial = path.with_name(f".{name}.part")
        try:
            found = self._download(name, partial)
            if found != size:
                log.warning("%s came with %d of %d bytes", self._address(name), found, size)
                found = self._download(name, partial)
            if found != size:
                raise self._wrong_size(name, found, size)
            with self._writing_cache():
                os.utime(partial)  # some stores hand on their own time: it would seem long unused
                os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        with self._writing_cache():
            self._make_room(0)  # again, for what others fetched at the same time

    def _download(self, name: str, partial: Path) -> int:
        def get(files: AbstractFileSystem, path: str) -> int:
            files.get_file(path, str(partial))
            return partial.stat().st_size

        return self._patiently(name, get)

    def _patiently(self, name: str, read: Callable[[AbstractFileSystem, str], T]) -> T:
        """Read, again after pauses where an error may pass; raises ConfigError when none helped."""
        address = f"{self.url}/{_plain(name)}"
        try:
            # Not kept: connections survive neither pickling nor a fork; fsspec keeps its own.
            files, path = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise ConfigError(
                f"data.source.path: {self.url} needs a package that is not installed: {error}"
            ) from error
        except ValueError as error:
            raise ConfigError(f"data.source.path: {self.url}: {error}") from error
        for pause in (*self.pauses, None):
            try:
                return read(files, path)
            except FileNotFoundError:
                raise self._missing(name) from None
            except PermissionError as error:
                raise ConfigError(
                    f"data.source.path: {address} may not be read with the credentials of this "
                    f"machine: {error}"
                ) from error
            # Stores raise what their clients do, of no common kind.
            except Exception as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
                    raise ConfigError(_full(self.cache, reason)) from error
                if pause is None:
                    tries = len(self.pauses) + 1
                    raise ConfigError(
                        f"data.source.path: {address} cannot be read, tried {tries} times: {reason}"
                    ) from error
                log.warning("%s: %s; trying again in %g s", address, reason, pause)
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _make_room(self, needed: int) -> None:
        """Remove the least recently used shards until so many bytes more fit, if possible."""
        found = [(entry, status) for entry in os.scandir(self.cache) if (status := _status(entry))]
        total = needed + sum(status.st_size for _, status in found)
        now = time.time()
        for entry, status in sorted(found, key=lambda one: one[1].st_mtime):
            recent = now - status.st_mtime < _SPARED_SECONDS
            if total <= self.limit or recent:
                return
            if not entry.name.startswith("."):
                Path(entry.path).unlink(missing_ok=True)
                total -= status.st_size

    @contextmanager
    def _writing_cache(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _DISK_IS_FULL:
                raise ConfigError(_full(self.cache, str(error))) from error
            raise ConfigError(
                f"data.source.cache: cannot write to {self.cache}: {error}; set a folder that can "
                "be written"
            ) from error

    def _address(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _missing(self, name: str) -> ConfigError:
        return ConfigError(
            f"data.source.path: there is no {self._address(name)}: name the folder that "
            "ray_jobs/prepare.py wrote, or copy it whole"
        )

    def _wrong_size(self, name: str, found: int, size: int) -> ConfigError:
        return ConfigError(
            f"data.source.path: {self._address(name)} has {found} bytes, {size} are needed: run "
            "ray_jobs/prepare.py again, or copy the folder whole"
        )


def _read(files: AbstractFileSystem, path: str) -> bytes:
    with files.open(path, "rb") as file:
        return cast(bytes, file.read())


def _users_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "colorization"


def _plain(name: str) -> str:
    """Refuse what would lead out of the folder, for names come out of a file; the cache's own files
    begin with a dot."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ConfigError(f"data.source.path: {name!r} is no file name of a packed set")
    return name


def _is_ready(path: Path, size: int) -> bool:
    """Tell whether a whole shard lies there, and note that it is used."""
    try:
        if path.stat().st_size != size:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:  # removed by another process
        return None


def _full(cache: Path, reason: str) -> str:
    return (
        f"data.source.cache_gigabytes: the disk of {cache} is full before the limit is reached "
        f"({reason}); set a lower one, or another disk as data.source.cache"
    )
