"""Distributions that may stand in place of values in an experiment, and their YAML tags."""

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from optuna.trial import BaseTrial

from colorization.config import ConfigError

Key = str | int | float | bool | None  # what Optuna takes as a category


@dataclass(frozen=True)
class Floats:
    """Real numbers from low to high, both included; even in their logarithm where `log` is set."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: BaseTrial, name: str) -> float:
        """Draw a value by the trial's sampler."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        """Tell whether a value can be drawn."""
        return _is_number(value) and self.low <= value <= self.high

    def clip(self, value: float) -> float:
        """Return the nearest value that can be drawn."""
        return float(min(max(value, self.low), self.high))

    @property
    def extremes(self) -> list[float]:
        """The values that are legal if all are: both ends."""
        return [self.low, self.high]

    @property
    def middle(self) -> float:
        """A value well within."""
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2

    def __str__(self) -> str:
        return f"!{'loguniform' if self.log else 'uniform'} [{self.low:.12g}, {self.high:.12g}]"


@dataclass(frozen=True)
class Integers:
    """Whole numbers from low to high, both included; even in their logarithm where `log` is set."""

    low: int
    high: int
    log: bool = False

    def suggest(self, trial: BaseTrial, name: str) -> int:
        """Draw a value by the trial's sampler."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        """Tell whether a value can be drawn."""
        return _is_number(value) and value == int(value) and self.low <= value <= self.high

    def clip(self, value: float) -> int:
        """Return the nearest value that can be drawn."""
        return min(max(round(value), self.low), self.high)

    @property
    def extremes(self) -> list[int]:
        """The values that are legal if all are: both ends."""
        return [self.low, self.high]

    @property
    def middle(self) -> int:
        """A value well within."""
        return round(math.sqrt(self.low * self.high)) if self.log else (self.low + self.high) // 2

    def __str__(self) -> str:
        return f"!{'logint' if self.log else 'int'} [{self.low}, {self.high}]"


@dataclass(frozen=True)
class Choice:
    """One of several values or subtrees; a choice of subtrees is a conditional space.

    Keys are what Optuna sees, so they must not depend on the order in the file: a scalar is its own
    key, a list's key is its JSON text, a subtree's key is its `name`, or the label it was given.
    """

    options: dict[Key, Any]

    def suggest(self, trial: BaseTrial, name: str) -> Key:
        """Draw the key of an option by the trial's sampler."""
        return trial.suggest_categorical(name, self.extremes)

    def contains(self, value: Any) -> bool:
        """Tell whether a key can be drawn."""
        return value in self.options

    @property
    def extremes(self) -> list[Key]:
        """All keys, in an order that does not hang on the file's."""
        return sorted(self.options, key=str)

    @property
    def middle(self) -> Key:
        """One of the keys, always the same."""
        return self.extremes[0]

    def __str__(self) -> str:
        return f"!choice [{', '.join(_scalar(key) for key in self.options)}]"


Distribution = Floats | Integers | Choice


class SpaceLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the tags, and with `1e-5` read as the number that it is."""


def read_tagged(text: str, origin: str) -> Any:
    """Read YAML in which !uniform, !loguniform, !int, !logint and !choice may stand for values.

    Raises ConfigError that names `origin`, the line, what was found and what is right.
    """
    loader = SpaceLoader(text)
    loader.name = origin
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not YAML: {error}") from error
    finally:
        loader.dispose()


class SpaceDumper(yaml.SafeDumper):
    """PyYAML's safe dumper with the tags; nothing is written as a reference to something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out."""
        return True


def write_tagged(document: Mapping[str, Any]) -> str:
    """Write data with distributions in it as YAML that `read_tagged` reads as the same."""
    return yaml.dump(document, Dumper=SpaceDumper, sort_keys=False, width=100, allow_unicode=True)


def _write_range(dumper: yaml.SafeDumper, found: Floats | Integers) -> yaml.Node:
    kind = str(found).split()[0]
    return dumper.represent_sequence(kind, [found.low, found.high], flow_style=True)


def _write_choice(dumper: yaml.SafeDumper, choice: Choice) -> yaml.Node:
    if all(_names_itself(key, option) for key, option in choice.options.items()):
        options = list(choice.options.values())
        plain = not any(isinstance(option, Mapping) for option in options)
        return dumper.represent_sequence("!choice", options, flow_style=plain)
    return dumper.represent_mapping("!choice", choice.options)


def _names_itself(key: Key, option: Any) -> bool:
    """Tell whether an option without a label would be known by its key."""
    if isinstance(option, Mapping):
        return option.get("name") == key
    if isinstance(option, list):
        try:
            return json.dumps(option) == key
        except TypeError:
            return False
    return option is key or (type(option) is type(key) and option == key)


def _fail(loader: yaml.SafeLoader, node: yaml.Node, message: str) -> ConfigError:
    return ConfigError(f"{loader.name}, line {node.start_mark.line + 1}: {message}")


def _range(loader: yaml.SafeLoader, node: yaml.Node) -> Floats | Integers:
    kind = node.tag.removeprefix("!")
    log, whole = kind.startswith("log"), kind.endswith("int")
    example = {
        "uniform": "!uniform [0, 0.3]",
        "loguniform": "!loguniform [0.001, 10]",
        "int": "!int [1, 5]",
        "logint": "!logint [8, 64]",
    }[kind]
    is_list = isinstance(node, yaml.SequenceNode)
    found = loader.construct_sequence(node, deep=True) if is_list else None
    if found is None or len(found) != 2 or not all(map(_is_number, found)):
        text = node.value if isinstance(node, yaml.ScalarNode) else found
        raise _fail(loader, node, f"found !{kind} {text}; two numbers are needed: {example}")
    low, high = found
    if whole and not (low == int(low) and high == int(high)):
        raise _fail(loader, node, f"found !{kind} {found}; whole numbers are needed: {example}")
    if not low < high:
        raise _fail(
            loader, node, f"found !{kind} {found}; the first number must be below the second"
        )
    smallest = 1 if whole else 0
    if log and (low < smallest or low == 0):
        allowed = "1 or more" if whole else "above 0"
        raise _fail(loader, node, f"found !{kind} {found}; on a log scale both must be {allowed}")
    if whole:
        return Integers(int(low), int(high), log)
    return Floats(float(low), float(high), log)


def _choice(loader: yaml.SafeLoader, node: yaml.Node) -> Choice:
    if isinstance(node, yaml.MappingNode):
        pairs: list[tuple[Key, Any, yaml.Node]] = []
        for key, option in loader.construct_mapping(node, deep=True).items():
            if not isinstance(key, str) or not key or "." in key:
                raise _fail(
                    loader, node, f"found the label {key!r}; a label is a word without a period"
                )
            pairs.append((key, option, node))
    elif isinstance(node, yaml.SequenceNode):
        options = loader.construct_sequence(node, deep=True)
        pairs = [
            (_key(loader, part, option), option, part)
            for part, option in zip(node.value, options, strict=True)
        ]
    else:
        raise _fail(loader, node, f"found !choice {node.value}; a list is needed: !choice [8, 16]")
    if not pairs:
        raise _fail(loader, node, "found !choice without options; one is needed at least")
    chosen: dict[Key, Any] = {}
    for key, option, part in pairs:
        if key in chosen:
            raise _fail(
                loader,
                part,
                f"found {key!r} twice in a !choice; give such options labels: "
                "!choice {one: {...}, other: {...}}",
            )
        chosen[key] = option
    return Choice(chosen)


def _key(loader: yaml.SafeLoader, node: yaml.Node, option: Any) -> Key:
    labels = "or labels for all options: !choice {one: ..., other: ...}"
    if isinstance(option, Mapping):
        name = option.get("name")
        if isinstance(name, str):
            return name
        raise _fail(loader, node, f"an option of this !choice needs a fixed name, {labels}")
    if isinstance(option, list):
        try:
            return json.dumps(option)
        except TypeError:
            raise _fail(
                loader, node, f"a list with distributions needs a label, {labels}"
            ) from None
    if option is None or isinstance(option, str | int | float):
        return option
    raise _fail(loader, node, f"a distribution as an option needs a label, {labels}")


def _unknown(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    near = difflib.get_close_matches(node.tag, _TAGS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise _fail(loader, node, f"unknown tag {node.tag}; {hint}known: {', '.join(_TAGS)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scalar(key: Key) -> str:
    return yaml.safe_dump(key).removesuffix("...\n").strip() if not isinstance(key, str) else key


_TAGS = {
    "!uniform": _range,
    "!loguniform": _range,
    "!int": _range,
    "!logint": _range,
    "!choice": _choice,
}
for _tag, _constructor in _TAGS.items():
    SpaceLoader.add_constructor(_tag, _constructor)
SpaceLoader.add_constructor(None, _unknown)  # pyright: ignore[reportArgumentType]
# YAML 1.1, which PyYAML follows, wants a period in a float: it reads 1e-5 as a string.
SpaceLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    "-+0123456789",
)
SpaceDumper.add_representer(Floats, _write_range)
SpaceDumper.add_representer(Integers, _write_range)
SpaceDumper.add_representer(Choice, _write_choice)
