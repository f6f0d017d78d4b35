"""Writing packed shards: parts that were looked at, shards made of them, the manifest.

Every file appears whole or not at all, under a name that stands for what went into it: a part that
is found when a preparation starts again need not be made again.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.lib.format import open_memmap

from colorization.data.curation.candidate import Candidate
from colorization.data.packed_manifest import Encoding
from colorization.data.splits import SPLITS, Split
from colorization.pictures import Picture, encode_picture, replace_file

PARTIAL = ".part"  # ends the names of files that are being written


@dataclass(frozen=True)
class Piece:
    """Where the bytes of a picture lie, and a hash of them in hex."""

    file: str
    offset: int
    length: int
    digest: str


@dataclass(frozen=True)
class Looked:
    """A picture that was looked at; `piece` is None where it was dropped."""

    candidate: Candidate
    piece: Piece | None


@dataclass(frozen=True)
class ShardPlan:
    """A shard and the pieces that it is made of, in order."""

    split: Split
    file: str
    pieces: tuple[Piece, ...]


def json_digest(*parts: Any) -> str:
    """Hash what JSON can hold to 16 hex digits."""
    return digest_of_all(json.dumps(parts, sort_keys=True).encode())


def digest_of_all(content: bytes) -> str:
    """Hash all of some bytes to 16 hex digits."""
    return blake2b(content, digest_size=8).hexdigest()


def encode(rgb: np.ndarray, encoding: Encoding) -> bytes:
    """Return a picture's bytes as a shard holds them."""
    return rgb.tobytes() if encoding == "raw" else encode_picture(Picture(rgb), ".jpg")


def write_part(
    folder: Path,
    key: str,
    looked: Sequence[tuple[Candidate, np.ndarray | None]],
    encoding: Encoding,
) -> None:
    """Write what was found of some pictures; the part is there once its JSON file is."""
    contents = [b"" if rgb is None else encode(rgb, encoding) for _, rgb in looked]
    replace_file(folder / f"{key}.bin", b"".join(contents))
    entries: list[dict[str, Any]] = []
    offset = 0
    for (candidate, rgb), content in zip(looked, contents, strict=True):
        place = None if rgb is None else [offset, len(content), digest_of_all(content)]
        entries.append({"candidate": candidate.to_json(), "place": place})
        offset += len(content)
    replace_file(folder / f"{key}.json", json.dumps(entries).encode())


def has_part(folder: Path, key: str) -> bool:
    """Tell whether a part was written."""
    return (folder / f"{key}.json").exists()


def read_part(folder: Path, key: str) -> list[Looked]:
    """Read what was found of the pictures of a part."""
    entries = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
    return [
        Looked(
            Candidate.from_json(entry["candidate"]),
            Piece(f"{key}.bin", *entry["place"]) if entry["place"] else None,
        )
        for entry in entries
    ]


def plan_shards(
    looked: Sequence[Looked], splits: Sequence[Split | None], shard_bytes: int
) -> list[ShardPlan]:
    """Share the kept pictures out to shards of about so many bytes.

    In the order of their content's hash, so that every shard is a random sample of its split,
    whatever the order of the sources.
    """
    plans: list[ShardPlan] = []
    for split in SPLITS:
        chosen = [
            (one.candidate.content, one.candidate.name, one.piece)
            for one, own in zip(looked, splits, strict=True)
            if own == split and one.piece is not None
        ]
        chosen.sort(key=lambda one: one[:2])
        for number, some in enumerate(_cut(chosen, shard_bytes)):
            stamp = json_digest([piece.digest for _, _, piece in some])
            pieces = tuple(piece for _, _, piece in some)
            plans.append(ShardPlan(split, f"{split}-{number:05d}-{stamp[:8]}.npy", pieces))
    return plans


def _cut(
    chosen: Sequence[tuple[str, str, Piece]], shard_bytes: int
) -> Iterator[Sequence[tuple[str, str, Piece]]]:
    """Cut a split into shards of equal numbers of pictures, so that ranks get equal shares."""
    total = sum(piece.length for _, _, piece in chosen)
    count = max(1, min(len(chosen), math.ceil(total / shard_bytes)))
    for number in range(count):
        start, stop = (len(chosen) * n // count for n in (number, number + 1))
        if some := chosen[start:stop]:
            yield some


def write_shard(plan: ShardPlan, parts: Path, folder: Path) -> dict[str, Any]:
    """Write a shard; return what the manifest says of it."""
    path = folder / plan.file
    total = sum(piece.length for piece in plan.pieces)
    partial = path.with_name(f".{uuid4().hex}{PARTIAL}")
    try:
        shard = open_memmap(partial, mode="w+", dtype=np.uint8, shape=(total,))
        offset = 0
        for piece in plan.pieces:
            source = np.memmap(parts / piece.file, np.uint8, "r", piece.offset, (piece.length,))
            shard[offset : offset + piece.length] = source
            offset += piece.length
        shard.flush()
        del shard
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return {
        "file": plan.file,
        "split": plan.split,
        "pictures": len(plan.pieces),
        "file_bytes": path.stat().st_size,
        "blake2b": file_digest(path),
    }


def file_digest(path: Path) -> str:
    """Return the blake2b hash of a file in hex, as the command `b2sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
