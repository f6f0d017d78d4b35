"""The data card of a packed set: what it was made of, what was dropped and why, its statistics."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from colorization.config import ConfigError
from colorization.data.curation.assignment import Assignment
from colorization.data.curation.candidate import Candidate
from colorization.data.packed_manifest import FORMAT, MANIFEST
from colorization.data.packing import Looked, ShardPlan, json_digest
from colorization.data.splits import SPLITS, Split
from colorization.pictures import replace_file

_NEEDED = ("hash", "settings", "listing", "shard_megabytes", "shards", "moved", "pictures")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read a folder's manifest, None where there is none.

    Raises ConfigError where the file is of another kind.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in _NEEDED if key not in manifest]
        if manifest["format"] == FORMAT and not missing:
            return manifest
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"--out: {path} is no manifest of packed pictures") from None
    if missing:
        raise ConfigError(f"--out: {path} lacks {', '.join(missing)}; take another folder")
    raise ConfigError(f"--out: {path} has the format {manifest['format']!r}, not {FORMAT!r}")


def build_manifest(
    *,
    sources: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    listing: str,
    shard_megabytes: int,
    assignment: Assignment,
    looked: Sequence[Looked],
    plans: Sequence[ShardPlan],
    shards: Sequence[Mapping[str, Any]],
    old: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Put together what is known of a set; `old` is the manifest that it takes the place of.

    `listing` stands for the sources' files, to see whether they changed. The hash depends on
    settings, the order of the sources, names, contents, packed pixels, splits and reasons, and on
    nothing of paths, time or the order in which pictures were looked at.
    """
    places: dict[tuple[str, int], tuple[str, int]] = {}
    for plan in plans:
        offset = 0
        for piece in plan.pieces:
            places[piece.file, piece.offset] = plan.file, offset
            offset += piece.length
    pictures = [
        _entry(candidate, split, one, places)
        for candidate, split, one in zip(
            assignment.candidates, assignment.splits, looked, strict=True
        )
    ]
    pictures.sort(key=lambda picture: (picture["source"], picture["name"]))
    dropped = Counter(str(picture["dropped"]) for picture in pictures if picture["dropped"])
    counts = Counter(str(picture["split"]) for picture in pictures if picture["split"])
    training = [
        candidate.color
        for candidate, split in zip(assignment.candidates, assignment.splits, strict=True)
        if split == "train"
    ]
    hashed = ("source", "name", "content", "split", "dropped", "pixels")
    content = [[picture.get(key) for key in hashed] for picture in pictures]
    return {
        "format": FORMAT,
        "hash": json_digest(FORMAT, settings, content),
        "counts": {
            "found": len(pictures),
            **{split: counts[split] for split in SPLITS},
            "dropped": dict(sorted(dropped.items())),
        },
        "statistics": color_statistics_of(training),
        "settings": dict(settings),
        "sources": [dict(source) for source in sources],
        "listing": listing,
        "shard_megabytes": shard_megabytes,
        "shards": [dict(shard) for shard in shards],
        "moved": [*(old["moved"] if old else ()), *map(asdict, assignment.moved)],
        "pictures": pictures,
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest in one step, a line for each picture."""
    head = {key: value for key, value in manifest.items() if key != "pictures"}
    # In ASCII: names may hold bytes that are no letters in any encoding.
    lines = ",\n".join(map(json.dumps, manifest["pictures"]))
    text = json.dumps(head, indent=1)[:-2] + f',\n "pictures": [\n{lines}\n]}}\n'
    replace_file(folder / MANIFEST, text.encode())


def color_statistics_of(sums: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return means and standard deviations of scaled Lab over all pixels of some pictures.

    `sums` holds a row a picture: pixels, sums of L, a, b, sums of their squares. Added without
    round-off, so that neither their order nor the number of workers shows.
    """
    totals = [math.fsum(column) for column in zip(*sums, strict=True)] or [0.0] * 7
    pixels = max(1.0, totals[0])
    means = [total / pixels for total in totals[1:4]]
    deviations = [
        math.sqrt(max(0.0, squares / pixels - mean**2))
        for squares, mean in zip(totals[4:], means, strict=True)
    ]
    return {
        "pixels": int(totals[0]),
        "lightness": {"mean": means[0], "deviation": deviations[0]},
        "ab": {"mean": means[1:], "deviation": deviations[1:]},
    }


def _entry(
    candidate: Candidate,
    split: Split | None,
    looked: Looked,
    places: Mapping[tuple[str, int], tuple[str, int]],
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "source": candidate.source,
        "name": candidate.name,
        "content": candidate.content,
        "original": candidate.original,
        "split": split,
        "dropped": candidate.dropped,
    }
    if candidate.dropped:
        return {**entry, "reason": candidate.reason}
    assert looked.piece is not None, candidate.name
    shard, offset = places[looked.piece.file, looked.piece.offset]
    return {
        **entry,
        "size": candidate.size,
        "shard": shard,
        "offset": offset,
        "bytes": looked.piece.length,
        "pixels": looked.piece.digest,
    }
