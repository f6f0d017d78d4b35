"""Mask R-CNN looks at all pictures of a preparation: a file that says what is in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console

from chunk_work import work_off
from colorization import config
from colorization.data.collection import CollectedSource, Collection
from colorization.data.packing import json_digest
from colorization.instances import instances_line
from colorization.mask_rcnn import MaskRCNNDetector
from colorization.pictures import UnreadablePicture, replace_file
from crash_log import CrashLog, crash_log
from curator import Chunk
from preparation_settings import PAINTED_CHUNK, Preparation


def search_instances(
    job: Preparation, collections: Sequence[Collection], parts: Path, console: Console
) -> Path:
    """Return a file of the instances of all pictures, in the folder that is prepared.

    Killed at any moment, the same call goes on; where the pictures are those of the file that it
    wrote, it is taken. Raises WorkersFailed.
    """
    chunks = _chunks(job, collections)
    path = job.out / f"instances-{json_digest([chunk.key for chunk in chunks])[:8]}.jsonl"
    if path.exists():
        return path
    missing = [chunk for chunk in chunks if not _part(parts, chunk).exists()]
    if missing:
        work_off(
            missing,
            sum(len(c.names) for c in chunks) - sum(len(c.names) for c in missing),
            Spotter,
            {"sources": job.sources, "parts": parts, "session": uuid4().hex[:8]},
            processes=job.workers,
            gpus=True,
            title="looking for instances",
            console=console,
        )
    replace_file(path, b"".join(_part(parts, chunk).read_bytes() for chunk in chunks))
    return path


class Spotter:
    """Looks for instances in chunks of pictures; Ray Data makes one in each of its workers."""

    def __init__(
        self, sources: Sequence[CollectedSource], parts: Path, session: str, gpu: bool
    ) -> None:
        """`session` names this run of the job.

        Raises ConfigError where the detector's weights are not to be had.
        """
        self._sources, self._parts, self._session = sources, parts, session
        self._collections: dict[int, Collection] = {}
        self._detector = MaskRCNNDetector(device="cuda" if gpu else "cpu")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Look at a chunk; pictures that cannot be read are left to who looks at them next.

        In those at which workers died there is nothing, and `said` names them.
        """
        chunk = Chunk(**row)
        if chunk.source not in self._collections:
            self._collections[chunk.source] = self._sources[chunk.source].collect()
        collection = self._collections[chunk.source]
        lines: list[str] = []
        lost: list[str] = []
        with crash_log(self._parts, f"{chunk.key}-instances", self._session) as log:
            for index in range(chunk.start, chunk.start + len(chunk.names)):
                if log.gives_up(f"{index}"):
                    lost.append(collection.name(index))
                    continue
                log.begin(f"{index}")
                try:
                    rgb = collection.picture(index)
                except UnreadablePicture:
                    continue
                found = self._detector.find(rgb)
                lines.append(instances_line(collection.name(index), found, *rgb.shape[:2]) + "\n")
        replace_file(_part(self._parts, chunk), "".join(lines).encode())
        died = f"workers died {CrashLog.MOST} times at it, so nothing is taken to be in it"
        said = "\n".join(f"{name}: {died}" for name in lost)
        return {"looked": len(chunk.names), "said": said.encode(errors="replace").decode()}


def _part(parts: Path, chunk: Chunk) -> Path:
    return parts / f"{chunk.key}-instances.jsonl"


def _chunks(job: Preparation, collections: Sequence[Collection]) -> list[Chunk]:
    chunks: list[Chunk] = []
    for number, collection in enumerate(collections):
        for start in range(0, len(collection), PAINTED_CHUNK):
            stop = min(start + PAINTED_CHUNK, len(collection))
            versions = [(collection.name(i), collection.version(i)) for i in range(start, stop)]
            key = json_digest(number, config.dump(job.sources[number]), versions)
            chunks.append(Chunk(key, number, start, [name for name, _ in versions]))
    return chunks
