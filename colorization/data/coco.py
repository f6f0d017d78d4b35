"""Photographs with the things in them marked, as the COCO data set writes it."""

import json
from collections import defaultdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from colorization.config import ConfigError
from colorization.data.collection import CollectedSource, Instance
from colorization.data.folder import AbsolutePath, FileCollection

_WANTED = "an instances_*.json of COCO is needed"


class CocoSource(CollectedSource):
    """The pictures that a COCO annotation file lists, with the things in them."""

    name: Literal["coco"] = "coco"
    pictures: AbsolutePath = Field(
        min_length=1, description="the folder of the pictures, as in train2017"
    )
    annotations: AbsolutePath = Field(
        min_length=1, description="the file of the things in them, as in instances_train2017.json"
    )

    def collect(self) -> "CocoCollection":
        """Read the annotations; pictures that are listed but missing are unreadable later.

        Annotations of crowds are left out. Raises ConfigError where the folder or the file is
        missing, where the file is of another kind, or where it marks things in pictures or of
        categories that it does not list.
        """
        root, path = Path(self.pictures), Path(self.annotations)
        if not root.is_dir():
            raise ConfigError(f"data.source.pictures: no folder {root} (seen from {Path.cwd()})")
        content = _read(path)
        try:
            categories = {one["id"]: str(one["name"]) for one in content["categories"]}
            images = {
                one["id"]: (str(one["file_name"]), one["width"] * one["height"])
                for one in content["images"]
            }
            things: dict[Any, list[Instance]] = defaultdict(list)
            for one in content["annotations"]:
                _check_known(path, one, "image", images)
                _check_known(path, one, "category", categories)
                if not one.get("iscrowd"):
                    share = min(1.0, one["area"] / images[one["image_id"]][1])
                    things[one["image_id"]].append(Instance(categories[one["category_id"]], share))
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise ConfigError(
                f"data.source.annotations: {path}: an entry lacks {error}, or it is of another "
                f"kind; {_WANTED}"
            ) from error
        found = {name: things[key] for key, (name, _) in sorted(images.items(), key=lambda i: i[1])}
        if not found:
            raise ConfigError(f"data.source.annotations: {path} lists no pictures; {_WANTED}")
        return CocoCollection(f"{root} as in {path.name}", root, found)


class CocoCollection(FileCollection):
    """Picture files and the things in them."""

    def __init__(self, place: str, root: Path, found: dict[str, list[Instance]]) -> None:
        super().__init__(place, root, list(found))
        self._instances = list(found.values())

    def version(self, index: int) -> str:
        """Return the file's size and time of change, and what is marked in it."""
        marked = blake2b(repr(self._instances[index]).encode(), digest_size=8)
        return f"{super().version(index)} {marked.hexdigest()}"

    def instances(self, index: int) -> list[Instance]:
        """Return the things that are marked in a picture."""
        return self._instances[index]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"data.source.annotations: no file {path} (seen from {Path.cwd()})"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"data.source.annotations: cannot read {path}: {error.strerror}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"data.source.annotations: {path} is no JSON: {error}") from error
    needed = ("images", "annotations", "categories")
    lists = content if isinstance(content, dict) else {}
    if missing := [key for key in needed if not isinstance(lists.get(key), list)]:
        raise ConfigError(
            f"data.source.annotations: {path} has no list {', '.join(missing)}; {_WANTED}"
        )
    return content


def _check_known(path: Path, one: dict[str, Any], kind: str, known: dict[Any, Any]) -> None:
    if one[f"{kind}_id"] not in known:
        raise ConfigError(
            f"data.source.annotations: {path}: annotation {one.get('id')} is of the {kind} "
            f"{one[f'{kind}_id']}, which is not listed"
        )
