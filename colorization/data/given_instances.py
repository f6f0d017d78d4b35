"""A file that says what is in many pictures, of which a line is read when it is asked for."""

import json
from collections.abc import Iterator
from pathlib import Path

from colorization.config import ConfigError
from colorization.instances import EVERY_PICTURE, GivenInstance, InstanceOptions, parse_instances


class GivenInstances:
    """The lines of a file of instances by the names of pictures; 1 kB each, unread.

    That of the name "" is for the pictures that have none of their own.

    Raises ConfigError where the file cannot be read or a line names no picture, and when a line of
    another kind is asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the instances {path}: {error}") from error
        if text.lstrip().startswith("["):
            raise ConfigError(
                f"{path}: found a list, which says what is in one picture; needed is a line of "
                'JSON for each: {"name": "a/b.jpg", "instances": [...]}'
            )
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                name = str(json.loads(line)["name"])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ConfigError(
                    f"{path}, line {number}: names no picture ({error}); needed is "
                    '{"name": "a/b.jpg", "instances": [...]}'
                ) from error
            if name in self._lines:
                raise ConfigError(f"{path}, line {number}: {name!r} was on an earlier line")
            self._lines[name] = line

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the pictures."""
        return iter(self._lines)

    def told(self, name: str) -> tuple[GivenInstance, ...]:
        """Return what is said to be in a picture, or in any; nothing where neither is said."""
        if name not in self._lines:
            name = EVERY_PICTURE
        line = self._lines.get(name)
        return () if line is None else parse_instances(line, str(self._path))[name]

    def options(self, name: str, min_score: float, min_side: int) -> InstanceOptions:
        """Return the options by which the instances of a picture are found."""
        return InstanceOptions(
            given={name: self.told(name)}, min_score=min_score, min_side=min_side
        )
