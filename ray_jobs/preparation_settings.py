"""What is asked of a preparation, and what of it cannot work."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator
from rich.console import Console
from rich.table import Table

from colorization import config
from colorization.config import ConfigError
from colorization.data.collection import CollectedSource, Collection
from colorization.data.curation.instances import check_wanted
from colorization.data.curation.rules import CurationRules
from colorization.data.folder import absolute
from colorization.data.given_instances import GivenInstances
from colorization.data.packing import digest_of_all
from colorization.data.sources import SourceConfig
from colorization.data.splits import SharesText
from colorization.instances import EVERY_PICTURE
from colorization.mask_rcnn import MaskRCNNDetector
from curator import MASK_RCNN, make_detections


def _absolute(path: str | None) -> str | None:
    return path if path in (None, MASK_RCNN) else absolute(path)


class Settings(CurationRules):
    """What may be set of a preparation."""

    split: SharesText = Field(
        default="0.8/0.1/0.1",
        description="shares for training, validation and test, where a source does not say",
    )
    detections: Annotated[str | None, AfterValidator(_absolute)] = Field(
        default=None,
        description="who says what is in pictures, for `wanted` or `instances`: mask_rcnn, a "
        "JSON-lines file, or, left out, the annotations of a coco source",
    )
    shard_megabytes: int = Field(default=256, ge=1, le=4096, description="size of a shard, about")

    @model_validator(mode="after")
    def _detections_are_asked_for(self) -> Self:
        if self.instances and not self.detections:
            raise ValueError(
                f"detections: instances={self.instances} needs to know where they are: set "
                f"{MASK_RCNN}, or a JSON-lines file (docs/instances.md)"
            )
        if self.detections and not self.wanted and not self.instances:
            raise ValueError("detections are looked at for `wanted` classes only: name some")
        if self.instances == "colored" and self.encoding != "raw":
            raise ValueError(
                f"encoding: found {self.encoding}; partly colored pictures are packed raw"
            )
        return self


CHUNK, PAINTED_CHUNK = 256, 32  # pictures; the colored ones take longer


@dataclass(frozen=True)
class PainterModel:
    """The instance model that colors crops: its exported files, and a hash of its weights."""

    files: Mapping[str, bytes]
    digest: str


@dataclass(frozen=True)
class Preparation:
    """What is to be prepared; the command line ends here."""

    sources: Sequence[CollectedSource]
    settings: Settings
    out: Path
    workers: int | None
    painter: PainterModel | None = None  # where `instances` are colored

    @property
    def chunk(self) -> int:
        """How many pictures a worker looks at before it writes what it found."""
        return CHUNK if self.painter is None else PAINTED_CHUNK


def read_source(word: str, licence: str) -> CollectedSource:
    """Read a path, or a data source written as a YAML mapping.

    Raises ConfigError for a source that holds no collection of pictures.
    """
    if word.lstrip().startswith("{"):
        data = config.parse_overrides([f"source={word}"])["source"]
    elif Path(word).expanduser().is_file():
        data = {"name": "archive", "path": word, "licence": licence}
    else:
        data = {"name": "folder", "path": word, "licence": licence}
    try:
        source: Any = TypeAdapter(SourceConfig).validate_python(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'source'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(f"{word}: {faults}") from error
    if not isinstance(source, CollectedSource):
        raise ConfigError(f"{word}: a {source.name} source holds no pictures of its own to prepare")
    if "split" in source.model_fields_set:
        raise ConfigError(f"{word}: the split is one for all sources: write split=... beside them")
    return source


def print_settings(settings: Settings) -> None:
    """Print what may be set."""
    table = Table("key", "value", "allowed", "", box=None)
    for row in config.settings(settings):
        table.add_row(*map(str, row))
    Console(highlight=False).print(table)


def check_place(job: Preparation) -> None:
    """Refuse a folder to write that cannot be one, or whose files would be taken for pictures."""
    if job.out.exists() and not job.out.is_dir():
        raise ConfigError(f"--out: {job.out} is a file, a folder is needed")
    for source in job.sources:
        place = getattr(source, "pictures", getattr(source, "path", None))
        if place is not None and job.out.resolve().is_relative_to(Path(place).resolve()):
            raise ConfigError(f"--out: {job.out} lies within the source {place}; take another one")
    try:
        job.out.mkdir(parents=True, exist_ok=True)
        (job.out / "lock").open("a").close()
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {job.out}: {error.strerror}") from error


def check_classes(settings: Settings, collections: Sequence[Collection]) -> None:
    """Find out before anything starts whether wanted classes can be told at all."""
    if settings.instances and settings.detections != MASK_RCNN:
        _check_instances(settings, Path(str(settings.detections)), collections)
        return
    if not settings.wanted and not settings.instances:
        return
    names = Counter(name for found in collections for name in found.names)
    seen = make_detections(settings.detections)
    if isinstance(seen, MaskRCNNDetector):
        if settings.instances:  # what it sees is written down by name
            _refuse_twice(settings, names, names)
        check_wanted(settings.wanted, seen.labels, "Mask R-CNN")
        return
    if seen is not None:
        _refuse_twice(settings, seen, names)
        known = {one.label for instances in seen.values() for one in instances}
        check_wanted(settings.wanted, known, str(settings.detections))
        return
    for found in collections:
        marked = [found.instances(index) for index in range(len(found))]
        if None in marked:
            raise ConfigError(
                f"wanted: nobody says what is in the pictures of {found.place}; set "
                f"detections={MASK_RCNN}, or detections= a JSON-lines file"
            )
        known = {one.label for instances in marked for one in instances or ()}
        check_wanted(settings.wanted, known, found.place)


def _refuse_twice(settings: Settings, seen: Iterable[str], names: Counter[str]) -> None:
    if twice := [name for name in seen if names[name] > 1]:
        raise ConfigError(
            f"detections: {settings.detections} names {twice[0]!r}, which several sources "
            "have: prepare from one folder around them"
        )


def _check_instances(settings: Settings, path: Path, collections: Sequence[Collection]) -> None:
    """Read all lines once, so that a wrong one is found here and not by a worker."""
    if settings.min_score == 1:
        raise ConfigError(
            "min_score: found 1; instances must be surer than that: less than 1 is needed"
        )
    given = GivenInstances(path)
    names = Counter(name for found in collections for name in found.names)
    _refuse_twice(settings, given, names)
    known = {one.label for name in given for one in given.told(name)}
    check_wanted(settings.wanted, known, str(path))
    if EVERY_PICTURE not in set(given) and names.keys().isdisjoint(given):
        raise ConfigError(
            f"detections: {path} names {next(iter(given), 'nothing')!r} and others, none of which "
            "is among the pictures: a picture's name is its path below its source"
        )


def results_of(job: Preparation) -> dict[str, Any]:
    """Return the settings that change what is prepared, not how it is stored."""
    settings = config.dump(job.settings)
    del settings["shard_megabytes"]
    if job.settings.instances is None:  # as they are called in sets of old
        del settings["instances"], settings["min_side"]
    if job.painter is not None:
        settings["instance_model"] = job.painter.digest
    if settings["detections"] not in (None, MASK_RCNN):  # what it says matters, not where it lies
        content = Path(settings["detections"]).read_bytes()
        settings["detections"] = f"a file with hash {digest_of_all(content)}"
    return settings
