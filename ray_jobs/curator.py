"""What a worker of a preparation does: look at some pictures and write down what it found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from colorization.data.collection import CollectedSource, Collection, Instance
from colorization.data.crops import CropCollection
from colorization.data.curation.candidate import Candidate, look
from colorization.data.curation.instances import read_detections
from colorization.data.curation.rules import CurationRules
from colorization.data.given_instances import GivenInstances
from colorization.data.packing import has_part, write_part
from colorization.inference import PictureColorizer
from colorization.mask_rcnn import MaskRCNNDetector
from colorization.pair import load_files
from colorization.partly_colored import PartlyColoring, Seen
from crash_log import CrashLog, crash_log

if TYPE_CHECKING:
    import ray

MASK_RCNN = "mask_rcnn"


@dataclass(frozen=True)
class Chunk:
    """Some pictures of a source, one after the other."""

    key: str  # stands for the pictures and for what is asked of them
    source: int
    start: int
    names: list[str]

    def is_done(self, parts: Path) -> bool:
        """Tell whether the pictures were looked at."""
        return has_part(parts, self.key)


def make_detections(
    setting: str | None,
) -> MaskRCNNDetector | dict[str, list[Instance]] | None:
    """Return what says what is in pictures: a detector, what one saw elsewhere, or nothing."""
    if setting == MASK_RCNN:
        return MaskRCNNDetector()
    return read_detections(Path(setting)) if setting else None


def cut_out(pictures: Collection, rules: CurationRules, given: GivenInstances | None) -> Collection:
    """Return what is looked at of pictures: they themselves, or the instances in them."""
    if rules.instances != "crops" or given is None:
        return pictures
    return CropCollection(pictures, given, rules.min_score, rules.min_side, rules.wanted)


def _load(painter: "ray.ObjectRef[Mapping[str, bytes]]", device: str) -> PictureColorizer:
    import ray

    return load_files(ray.get(painter), device)


class Curator:
    """Looks at chunks of pictures; Ray Data makes one in each of its workers."""

    def __init__(
        self,
        sources: Sequence[CollectedSource],
        rules: CurationRules,
        detections: str | None,
        parts: Path,
        session: str,
        told: Path | None = None,
        painter: "ray.ObjectRef[Mapping[str, bytes]] | None" = None,
        gpu: bool = False,
    ) -> None:
        """Take what is to be looked at and where to write; `session` names this run of the job.

        `told` says where the instances are, where they are asked for; `painter` are the files of
        the model that colors them.
        """
        self._sources, self._rules, self._parts = sources, rules, parts
        self._session = session
        self._collections: dict[int, Collection] = {}
        self._given = GivenInstances(told) if told else None
        self._coloring = None
        if painter is not None and self._given is not None:
            instance = _load(painter, "cuda" if gpu else "cpu")
            sizes = rules.min_score, rules.min_side
            self._coloring = PartlyColoring(instance, self._given, *sizes, rules.wanted)
        seen = make_detections(detections) if rules.wanted and told is None else None
        self._detector = seen if isinstance(seen, MaskRCNNDetector) else None
        self._detections = None if isinstance(seen, MaskRCNNDetector) else seen

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Look at a chunk, unless a worker that died since did."""
        chunk = Chunk(**row)
        if not chunk.is_done(self._parts):
            self._look(chunk)
        return {"looked": len(chunk.names), "said": ""}

    def _look(self, chunk: Chunk) -> None:
        if chunk.source not in self._collections:
            pictures = self._sources[chunk.source].collect()
            self._collections[chunk.source] = cut_out(pictures, self._rules, self._given)
        collection = self._collections[chunk.source]
        found = collection.names[chunk.start : chunk.start + len(chunk.names)]
        if list(found) != list(chunk.names):
            raise RuntimeError(f"{collection.place} changed while it was prepared; start again")
        with crash_log(self._parts, chunk.key, self._session) as log:
            results: list[tuple[Candidate, np.ndarray | None]] = []
            for index in range(chunk.start, chunk.start + len(chunk.names)):
                if log.gives_up(f"{index}"):
                    results.append((self._given_up(collection, index, chunk.source), None))
                    continue
                log.begin(f"{index}")
                results.append(self._look_at(collection, index, chunk.source))
            log.begin("all were looked at")
            if self._coloring is not None:
                looked = [Seen(chunk.start + i, *one) for i, one in enumerate(results)]
                results = self._coloring.add(collection, looked, log)
            write_part(self._parts, chunk.key, results, self._rules.encoding)

    def _look_at(
        self, collection: Collection, index: int, source: int
    ) -> tuple[Candidate, np.ndarray | None]:
        return look(collection, index, source, self._rules, self._detector, self._detections)

    @staticmethod
    def _given_up(collection: Collection, index: int, source: int) -> Candidate:
        return Candidate(
            source=source,
            name=collection.name(index),
            dropped="unreadable",
            reason=f"the process that read it died {CrashLog.MOST} times",
        )
