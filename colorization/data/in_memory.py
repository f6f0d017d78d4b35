"""A training set decoded once and kept in memory, which loader processes share."""

import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from colorization.config import ConfigError
from colorization.data.loaders import needed_short_side
from colorization.data.picture_sets import PictureSet, planes_of
from colorization.data.sources import DataConfig
from colorization.pictures import UnreadablePicture

_CHUNK = 2**26  # bytes of a buffer: memory grows with what was decoded, no second copy is made
_SAMPLE = 64  # pictures that the memory for all of them is estimated from
_AT_ONCE = 256  # pictures that are decoded before they are laid down
_MARGIN = 1.1  # a sample is not the whole


class InMemory:
    """The pictures of a set in uint8 buffers, shrunk as far as training crops of them allow.

    Pictures whose short side is no longer than crops need are kept as they are, others give the
    same crops but for the rounding of shrinking.
    """

    def __init__(self, pictures: PictureSet, config: DataConfig) -> None:
        """Decode all pictures, on as many threads as torch computes with.

        Raises ConfigError where the memory that is free does not hold them.
        """
        self._pictures = pictures
        self._short_side = needed_short_side(config)
        shared = config.loader_workers > 0
        expected = _MARGIN * len(pictures) * self._sample_bytes()
        _check_memory(len(pictures), expected, shared)
        most = min(_CHUNK, math.ceil(expected))
        self._chunks: list[Tensor] = []
        self._shapes = np.zeros((len(pictures), 3), np.int32)  # of no pixels where unreadable
        self._places = np.zeros((len(pictures), 2), np.int64)  # chunk, offset in it
        self._faults: dict[int, str] = {}
        end = 0
        for index, found in enumerate(self._decoded(range(len(pictures)))):
            if isinstance(found, UnreadablePicture):
                self._faults[index] = str(found)
                continue
            if not self._chunks or end + found.size > len(self._chunks[-1]):
                chunk = torch.empty(max(most, found.size), dtype=torch.uint8)
                self._chunks.append(chunk.share_memory_() if shared else chunk)
                end = 0
            self._chunks[-1].numpy()[end : end + found.size] = found.reshape(-1)
            self._shapes[index] = found.shape
            self._places[index] = len(self._chunks) - 1, end
            end += found.size

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, index: int) -> str:
        """Return the picture's name in its set."""
        return self._pictures.name(index)

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return sRGB (H, W, 3) uint8; raises UnreadablePicture."""
        return np.ascontiguousarray(self.planes(index, short_side)[..., :3])

    def planes(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return what `planes_of` the set does of a picture; raises UnreadablePicture."""
        del short_side
        if index in self._faults:
            raise UnreadablePicture(self._faults[index])
        chunk, start = self._places[index].tolist()
        shape = self._shapes[index].tolist()
        return self._chunks[chunk][start : start + math.prod(shape)].numpy().reshape(shape)

    def _sample_bytes(self) -> float:
        """Return the mean size of a picture; 0 where none of the sample can be read."""
        count = min(_SAMPLE, len(self._pictures))
        sample = [i * len(self._pictures) // count for i in range(count)]
        sizes = [found.size for found in self._decoded(sample) if isinstance(found, np.ndarray)]
        return sum(sizes) / max(1, len(sizes))

    def _decoded(self, indices: range | list[int]) -> Iterator[np.ndarray | UnreadablePicture]:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in range(0, len(indices), _AT_ONCE):
                yield from pool.map(self._decode, indices[start : start + _AT_ONCE])

    def _decode(self, index: int) -> np.ndarray | UnreadablePicture:
        try:
            planes = planes_of(self._pictures, index, self._short_side)
        except UnreadablePicture as error:
            return error
        height, width = planes.shape[:2]
        scale = self._short_side / min(height, width)
        if scale >= 1:
            return planes
        size = (round(width * scale), round(height * scale))
        parts = [planes[..., :3], planes[..., 3:]] if planes.shape[2] > 3 else [planes]
        smaller = [
            cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
            for part in parts
        ]
        return smaller[0] if len(smaller) == 1 else np.concatenate(smaller, axis=2)


class TrainingSets:
    """What the stages of a run train on: each set is decoded once where it is kept in memory."""

    def __init__(self) -> None:
        self._held: tuple[PictureSet, int, InMemory] | None = None

    def of_stage(self, pictures: PictureSet, config: DataConfig) -> PictureSet:
        """Return a stage's pictures, in memory where `data.in_memory` says so.

        What an earlier stage had in memory is let go where this one needs something else. Raises
        ConfigError where the memory that is free does not hold them.
        """
        if not config.in_memory:
            self._held = None
            return pictures
        short_side = needed_short_side(config)
        if self._held is None or self._held[0] is not pictures or self._held[1] != short_side:
            self._held = None  # before the next one is made, or there would be two
            self._held = (pictures, short_side, InMemory(pictures, config))
        return self._held[2]


def _check_memory(pictures: int, expected: float, shared: bool) -> None:
    # Ranks on one machine hold a set each and look at the same free memory.
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = expected * ranks
    memory = {"memory": _free_memory()}
    if shared:
        memory["shared memory (/dev/shm)"] = _free_shared_memory()
    for kind, free in memory.items():
        if needed > free:
            raise ConfigError(
                f"data.in_memory: {pictures} training pictures on {ranks} local ranks need "
                f"{_gigabytes(needed)} of {kind}, {_gigabytes(free)} are free: set "
                "data.in_memory=false, or make data.size smaller"
                + (", or set data.loader_workers=0" if kind != "memory" else "")
            )


def _free_memory() -> float:
    """Return the bytes that are free on this machine and in this container."""
    free = math.inf
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists():  # version 2
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            used = int((group / "memory.current").read_text())
            lines = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            free = min(free, float(limit) - used + int(lines["inactive_file"]))  # a cache of files
    return free


def _free_shared_memory() -> float:
    place = Path("/dev/shm")
    return float(shutil.disk_usage(place).free) if place.exists() else math.inf


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB ({count:.0f} bytes)"
