"""Packed shards: pictures that `prepare.py` curated, as raw memory or as JPEG, and their manifest.

A packed set is a folder, or the same below any fsspec URL. `manifest.json` lists every picture that
was looked at; those kept say in which shard they lie and where. A shard is a one-dimensional uint8
`.npy` file. Reading it needs nothing of ours:

    import json, numpy as np
    folder = "DIR"
    manifest = json.load(open(f"{folder}/manifest.json"))
    for picture in manifest["pictures"]:
        if picture["split"] == "train":
            shard = np.load(f"{folder}/{picture['shard']}", mmap_mode="r")
            content = shard[picture["offset"] : picture["offset"] + picture["bytes"]]
            width, height = picture["size"]
            rgb = content.reshape(height, width, 3)  # encoding "raw"; else a JPEG's bytes

Partly colored sets (instances "colored") have two planes more, (height, width, 5): ab + 128 of what
is colored already, in units of Lab.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from pydantic import AfterValidator, Field

from colorization.config import ConfigError
from colorization.data.folder import AbsolutePath, absolute
from colorization.data.packed_manifest import (
    MANIFEST,
    Encoding,
    Manifest,
    channels_of,
    damaged,
    parse_manifest,
)
from colorization.data.picture_sets import ColorStatistics, PictureSets, Source
from colorization.data.shard_store import ShardStore
from colorization.data.splits import SPLITS, Split
from colorization.pictures import UnreadablePicture


def _absolute_or_url(path: str) -> str:
    return path if "://" in path else absolute(path)


class PackedSource(Source):
    """A folder that `prepare.py` wrote, or a copy of it below a URL."""

    name: Literal["packed"] = "packed"
    path: Annotated[str, AfterValidator(_absolute_or_url)] = Field(
        min_length=1, description="the folder with manifest.json, or its URL, as in s3://bucket/set"
    )
    streamed: bool = Field(
        default=False,
        description="read shard after shard, shuffled within a few: for folders on slow disks; "
        "always so for URLs",
    )
    cache: AbsolutePath | None = Field(
        default=None, description="folder that keeps shards of a URL (one of the user's cache)"
    )
    cache_gigabytes: float = Field(
        default=100, gt=0, description="how much of the disk the shards of a URL may take"
    )

    def open(self, max_unreadable: float) -> PictureSets:
        """Read the manifest; the pictures stay where they are until they are asked for.

        Raises ConfigError where there is no manifest, where it is of another format or contradicts
        itself, or where shards are missing or of another length than it says.
        """
        del max_unreadable  # unreadable pictures were left out when the set was prepared
        cache = Path(self.cache) if self.cache else None
        store = ShardStore(self.path, cache, self.cache_gigabytes)
        manifest = parse_manifest(store.read_text(MANIFEST), f"{self.path}/{MANIFEST}")
        remote = "://" in self.path
        if not remote:
            check_shards(Path(self.path), manifest)
        kind = StreamedSet if remote or self.streamed else PackedSet
        train, validation, test = (kind(store, manifest, split) for split in SPLITS)
        counts = ", ".join(f"{manifest['counts'][split]} {split}" for split in SPLITS)
        statistics = manifest["statistics"]["ab"]
        return PictureSets(
            train=train,
            validation=validation,
            test=test,
            description=f"packed pictures in {self.path} ({counts}), data {manifest['hash']}",
            fingerprint=manifest["hash"],
            measures_generalization=True,
            statistics=ColorStatistics(
                statistics["mean"],
                statistics["deviation"],
            ),
            short_side=manifest["settings"]["size"],
        )


def check_shards(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ConfigError where a shard of a manifest is missing or has another length."""
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        found = path.stat().st_size if path.exists() else None
        if found != shard["file_bytes"]:
            state = "is missing" if found is None else f"has {found} bytes"
            raise ConfigError(
                f"data.source.path: {path} {state}, {shard['file_bytes']} are needed: run "
                "ray_jobs/prepare.py again, or copy the folder whole"
            )


class PackedSet:
    """The pictures of one split, at random access."""

    def __init__(self, store: ShardStore, manifest: Manifest, split: Split) -> None:
        pictures = [p for p in manifest["pictures"].values() if p["split"] == split]
        shards = [shard for shard in manifest["shards"] if shard["split"] == split]
        numbers = {shard["file"]: number for number, shard in enumerate(shards)}
        pictures.sort(key=lambda p: (numbers[p["shard"]], p["offset"]))
        self.store = store
        self.encoding: Encoding = manifest["settings"]["encoding"]
        self.channels = channels_of(manifest)
        self.files = [(shard["file"], shard["file_bytes"]) for shard in shards]
        self.lengths = [shard["pictures"] for shard in shards]
        self.names = [f"{p['source']}/{p['name']}" for p in pictures]
        # Arrays: a list of millions of numbers would be copied into every loader process bit by
        # bit, as its reference counts are touched.
        self._shard = np.array([numbers[p["shard"]] for p in pictures], np.int32)
        self._place = np.array(
            [[p["offset"], p["bytes"], *p["size"]] for p in pictures], np.int64
        ).reshape(-1, 4)
        self._maps: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out open files: loader processes that are spawned would be sent the pixels."""
        return {**vars(self), "_maps": {}}

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the number of the source and the picture's name there."""
        return self.names[index]

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return sRGB (H, W, 3) uint8, read-only; raises UnreadablePicture."""
        planes = self.planes(index, short_side)
        return planes if self.channels == 3 else np.ascontiguousarray(planes[..., :3])

    def planes(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return what `planes_of` the set does of a picture; raises UnreadablePicture."""
        del short_side
        offset, length, width, height = self._place[index]
        content = self._map(int(self._shard[index]))[offset : offset + length]
        if self.encoding == "raw":
            return content.reshape(height, width, self.channels)
        rgb = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        if rgb is None or rgb.shape[:2] != (height, width):
            raise UnreadablePicture(
                f"{self.names[index]}: its {length} bytes in {self.files[self._shard[index]][0]} "
                f"are no JPEG of {width} x {height} pixels"
            )
        return rgb

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            path = self.store.local(*self.files[shard])
            self._maps[shard] = self._open(path, shard)
        return self._maps[shard]

    def _open(self, path: Path, shard: int) -> np.ndarray:
        """Map a shard into memory; raises ConfigError where it is no array that long."""
        places = self._place[self._shard == shard]
        needed = int((places[:, 0] + places[:, 1]).max())
        try:
            found = open_memmap(path, mode="r")  # refuses what np.load would unpickle or unzip
        # NumPy raises whatever the damage of a header leads to, its tokenizer's errors among it.
        except Exception as error:
            raise damaged(str(path), " ".join(str(error).split())) from error
        if found.dtype != np.uint8 or found.ndim != 1 or len(found) < needed:
            raise damaged(
                str(path),
                f"it holds {found.dtype} of shape {found.shape}; uint8 of {needed} or more in one "
                "dimension is needed",
            )
        return found


class StreamedSet(PackedSet):
    """The pictures of one split, to be read shard after shard."""

    open_shards = 64  # files kept open: those of the lanes whose windows a rank reads

    @property
    def blocks(self) -> Sequence[range]:
        """The indices that lie in each shard."""
        return [range(start, stop) for start, stop in pairwise(accumulate(self.lengths, initial=0))]

    def _map(self, shard: int) -> np.ndarray:
        while shard not in self._maps and len(self._maps) >= self.open_shards:
            del self._maps[next(iter(self._maps))]  # so that the disk of a removed one is freed
        return super()._map(shard)
