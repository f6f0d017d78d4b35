"""What is asked of a preparation, and what of it cannot work."""

from collections import Counter
from collections.abc import Sequence
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
from colorization.data.packing import digest_of_all
from colorization.data.sources import SourceConfig
from colorization.data.splits import SharesText
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
        description="who says what is in pictures, for `wanted`: mask_rcnn, a JSON-lines file, or, "
        "left out, the annotations of a coco source",
    )
    shard_megabytes: int = Field(default=256, ge=1, le=4096, description="size of a shard, about")

    @model_validator(mode="after")
    def _detections_are_asked_for(self) -> Self:
        if self.detections and not self.wanted:
            raise ValueError("detections are looked at for `wanted` classes only: name some")
        return self


@dataclass(frozen=True)
class Preparation:
    """What is to be prepared; the command line ends here."""

    sources: Sequence[CollectedSource]
    settings: Settings
    out: Path
    workers: int | None


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
    if not settings.wanted:
        return
    seen = make_detections(settings.detections)
    if isinstance(seen, MaskRCNNDetector):
        check_wanted(settings.wanted, seen.labels, "Mask R-CNN")
        return
    if seen is not None:
        names = Counter(name for found in collections for name in found.names)
        if twice := [name for name in seen if names[name] > 1]:
            raise ConfigError(
                f"detections: {settings.detections} names {twice[0]!r}, which several sources "
                "have: prepare from one folder around them"
            )
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


def results_of(job: Preparation) -> dict[str, Any]:
    """Return the settings that change what is prepared, not how it is stored."""
    settings = config.dump(job.settings)
    del settings["shard_megabytes"]
    if settings["detections"] not in (None, MASK_RCNN):  # what it says matters, not where it lies
        content = Path(settings["detections"]).read_bytes()
        settings["detections"] = f"a file with hash {digest_of_all(content)}"
    return settings
