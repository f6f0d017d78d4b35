"""What a packed set's manifest must say to be read: found out before the first picture is."""

import json
from collections import Counter
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic reads that of typing from Python 3.12 on

from colorization.config import ConfigError
from colorization.data.splits import Split

FORMAT = "colorization-packed-1"
MANIFEST = "manifest.json"
Encoding = Literal["raw", "jpeg"]
Instances = Literal["crops", "colored"]
_HEADER = 128  # bytes of a .npy file before its array, as NumPy writes one of one dimension
_Side = Annotated[int, Field(gt=0, lt=2**31)]


class _Counts(TypedDict):
    train: int
    validation: int
    test: int


class _Moments(TypedDict):
    mean: tuple[FiniteFloat, FiniteFloat]
    deviation: tuple[FiniteFloat, FiniteFloat]


class _Statistics(TypedDict):
    ab: _Moments


class _Settings(TypedDict):
    encoding: Encoding
    size: PositiveInt
    instances: NotRequired[Instances | None]


class _Shard(TypedDict):
    file: str
    split: Split
    pictures: PositiveInt
    file_bytes: PositiveInt


class _Kept(TypedDict):
    source: int
    name: str
    split: Split
    size: tuple[_Side, _Side]  # width, height
    shard: str
    offset: NonNegativeInt
    bytes: PositiveInt


class Manifest(TypedDict):
    """What is read of a manifest; it holds more."""

    hash: str
    counts: _Counts
    statistics: _Statistics
    settings: _Settings
    shards: list[_Shard]
    pictures: dict[int, _Kept]  # by their places in the file


def channels_of(manifest: Manifest) -> int:
    """Return how many planes raw pictures have: partly colored ones have two beside RGB."""
    return 5 if manifest["settings"].get("instances") == "colored" else 3


_MANIFEST_TYPE = TypeAdapter(Manifest)


def parse_manifest(text: str, place: str) -> Manifest:
    """Read the text of a manifest that lies at a place, without the pictures that were dropped.

    Raises ConfigError that names the file and what is wrong.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"data.source.path: {place}: {error}") from error
    kind = found.get("format") if isinstance(found, dict) else None
    if kind != FORMAT:
        raise ConfigError(
            f"data.source.path: {place} has the format {kind!r}; {FORMAT!r} is needed: prepare "
            "the pictures anew with ray_jobs/prepare.py"
        )
    if not isinstance(found.get("pictures"), list):
        raise damaged(place, "pictures: a list is needed")
    found["pictures"] = {i: p for i, p in enumerate(found["pictures"]) if not _is_dropped(p)}
    try:
        manifest = _MANIFEST_TYPE.validate_python(found)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise damaged(place, f"{key}: {fault['msg']}") from None
    _check_places(manifest, place)
    return manifest


def _is_dropped(picture: Any) -> bool:
    return isinstance(picture, dict) and "split" in picture and picture["split"] is None


def _check_places(manifest: Manifest, place: str) -> None:
    """Raise ConfigError where the pictures of a manifest cannot lie where it says."""
    shards = {shard["file"]: shard for shard in manifest["shards"]}
    if len(shards) != len(manifest["shards"]):
        raise damaged(place, "shards: each file may be listed once")
    is_raw, channels = manifest["settings"]["encoding"] == "raw", channels_of(manifest)
    for picture in manifest["pictures"].values():
        name, (width, height) = picture["name"], picture["size"]
        shard = shards.get(picture["shard"])
        if shard is None or shard["split"] != picture["split"]:
            fault = f"in {picture['shard']}, which is no shard of {picture['split']}"
        elif picture["offset"] + picture["bytes"] > shard["file_bytes"] - _HEADER:
            fault = (
                f"at {picture['offset']} with {picture['bytes']} bytes in {shard['file']}, which "
                f"holds {shard['file_bytes'] - _HEADER}"
            )
        elif is_raw and picture["bytes"] != (needed := channels * width * height):
            fault = (
                f"in {picture['bytes']} bytes, {needed} are needed for {width} x {height} pixels"
            )
        else:
            continue
        raise damaged(place, f"the picture {name!r} lies {fault}")
    held = Counter(picture["shard"] for picture in manifest["pictures"].values())
    for shard in manifest["shards"]:
        if held[shard["file"]] != shard["pictures"]:
            raise damaged(
                place,
                f"{shard['file']} is to hold {shard['pictures']} pictures, "
                f"{held[shard['file']]} are listed",
            )


def damaged(place: str, fault: str) -> ConfigError:
    """Return the error that names a file and what is wrong with it."""
    return ConfigError(
        f"data.source.path: {place} is damaged: {fault}; copy it anew, or run "
        "ray_jobs/prepare.py again"
    )
