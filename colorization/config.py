"""Experiments as values: strict frozen configs, read from YAML, changed by dotted overrides."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

Data = dict[str, Any]


class ConfigError(ValueError):
    """A message for the person who wrote the setting; command lines print it and exit with 2."""


class Config(BaseModel):
    """A part of an experiment: frozen, no unknown keys, no NaN, defaults checked too."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )


C = TypeVar("C", bound=Config)


def read_yaml(path: Path) -> Data:
    """Read a mapping from a YAML file.

    Raises ConfigError that names the file where it is missing, is no YAML or holds no mapping.
    """
    try:
        data = _load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        if isinstance(error, yaml.constructor.ConstructorError) and "tag '!" in str(error):
            raise ConfigError(
                f"{path} is a search space, with distributions in place of values: give it to "
                "tune.py as --space; an experiment is needed here"
            ) from error
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds {type(data).__name__}, a mapping of settings is needed")
    return data


def parse_overrides(overrides: Sequence[str]) -> Data:
    """Split `a.b=c` words into {"a.b": value}; values are read as YAML (`3`, `true`, `{...}`)."""
    parsed: Data = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{word!r} is no setting: write key=value, e.g. train.batch_size=8")
        try:
            parsed[key] = _load_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{key}: cannot read the value {text!r}: {error}") from error
    return parsed


def _load_yaml(text: str) -> Any:
    """Read YAML of JSON's types; raises yaml.YAMLError for anything else, such as dates."""
    try:
        return json.loads(json.dumps(yaml.safe_load(text)))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # PyYAML's for 2024-13-40 or a number of 5000 digits; JSON's for dates, sets and circles.
        raise yaml.YAMLError(f"{error}; put text into quotes") from error


def override(data: Mapping[str, Any], changes: Mapping[str, Any]) -> Data:
    """Return a copy of nested data with dotted keys set.

    A new `name` begins its part anew: the settings of another kind of model, generator, loss or
    source mean nothing to it. Names are therefore set first, whatever the order of the changes.
    """
    result: Data = json.loads(json.dumps(data))
    ordered = sorted(changes.items(), key=lambda item: not item[0].endswith(".name"))
    for key, value in ordered:
        *parents, leaf = key.split(".")
        part = result
        for depth, parent in enumerate(parents):
            below = part.setdefault(parent, {})
            if not isinstance(below, dict):
                place = ".".join(parents[: depth + 1])
                raise ConfigError(f"{key}: {place} is {below!r}, it has no settings of its own")
            part = below
        if leaf == "name" and part.get("name") != value:
            part.clear()
        part[leaf] = value
    return result


def flatten(data: Mapping[str, Any], prefix: str = "") -> Data:
    """Turn nested mappings into dotted keys; lists and empty mappings stay values."""
    flat: Data = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def parse(cls: type[C], data: Mapping[str, Any], origin: str = "") -> C:
    """Check data against a config class.

    Raises ConfigError with one line per fault: the dotted key, the value found, what is allowed and
    for an unknown key the nearest known one. `origin` (a file, a recipe) is put in front.
    """
    try:
        return cls.model_validate(_with_default_names(cls, data))
    except ValidationError as error:
        lines = [_explain(cls, data, fault) for fault in error.errors(include_url=False)]
        start = f"{origin}: " if origin else ""
        raise ConfigError("\n".join(f"{start}{line}" for line in lines)) from error


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the question whether the most similar name was meant; "" where none is similar."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def dump(config: Config) -> Data:
    """Return a config as plain data (JSON types) with every default spelled out."""
    return config.model_dump(mode="json")


def to_yaml(data: Mapping[str, Any]) -> str:
    """Write plain data as YAML in the order given."""
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)


def settings(config: Config, prefix: str = "") -> Iterator[tuple[str, Any, str, str]]:
    """Yield (dotted key, value, what is allowed, description) of everything that may be set."""
    for key, field in type(config).model_fields.items():
        value = getattr(config, key)
        place = f"{prefix}{key}"
        members = _members(field.annotation)
        if isinstance(value, Config):
            if len(members) > 1:
                names = " | ".join(sorted(members))
                yield f"{place}.name", value.model_dump()["name"], names, field.description or ""
            yield from settings(value, f"{place}.")
        elif isinstance(value, Mapping) and any(isinstance(v, Config) for v in value.values()):
            for name, part in value.items():
                yield from settings(part, f"{place}.{name}.")
        elif key != "name":
            shown = dump(config)[key] if isinstance(value, tuple) and members else value
            yield place, shown, _allowed(field.annotation, field.metadata), field.description or ""


def _strip(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _members(annotation: Any) -> dict[str, type[Config]]:
    """Name the config classes an annotation admits: {"resnet_unet": ResNetUNetConfig, ...}."""
    annotation = _strip(annotation)
    if get_origin(annotation) in (Union, UnionType):
        found: dict[str, type[Config]] = {}
        for argument in get_args(annotation):
            found |= _members(argument)
        return found
    if get_origin(annotation) is dict:
        return _members(get_args(annotation)[1])
    if get_origin(annotation) is tuple:
        return _members(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Config):
        name = annotation.model_fields.get("name")
        return {name.default if name else annotation.__name__: annotation}
    return {}


def _with_default_names(cls: type[Config], data: Any) -> Any:
    """Fill in the default's `name` where a part is given without one, so that one setting of it can
    be changed alone."""
    if not isinstance(data, Mapping):
        return data
    filled = dict(data)
    for key, value in data.items():
        field = cls.model_fields.get(key)
        if field is None or not isinstance(value, Mapping):
            continue
        members = _members(field.annotation)
        if get_origin(_strip(field.annotation)) is dict:
            if len(members) == 1:
                (member,) = members.values()
                filled[key] = {k: _with_default_names(member, v) for k, v in value.items()}
            continue
        if len(members) > 1 and "name" not in value:
            default = field.get_default(call_default_factory=True, validated_data={})
            if isinstance(default, Config):
                value = {"name": default.model_dump()["name"], **value}
        member = next(iter(members.values())) if len(members) == 1 else None
        member = members.get(str(value.get("name")), member)
        filled[key] = _with_default_names(member, value) if member else value
    return filled


def _allowed(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    annotation = _strip(annotation)
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join("none" if a is NoneType else _allowed(a, metadata) for a in arguments)
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, arguments))
    if get_origin(annotation) is tuple and (members := _members(annotation)):
        keys = sorted({key for member in members.values() for key in member.model_fields})
        return f"list of {{{', '.join(keys)}}}"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in metadata
        for name, sign in signs.items()
        if hasattr(limit, name)
    ]
    kind = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return " ".join([kind, ", ".join(bounds)]).strip()


def _explain(cls: type[Config], data: Mapping[str, Any], fault: ErrorDetails) -> str:
    """Say one fault in the user's words: key, value, what is allowed."""
    keys: list[str] = []
    known: type[Config] | None = cls  # the class whose keys are asked for at this depth
    members: dict[str, type[Config]] = {}
    union: dict[str, type[Config]] = {}  # of which `known` is one member
    within_names = False
    for part in map(str, fault["loc"]):
        if members and not within_names and part in members and len(members) > 1:
            union = members
            known, members = members[part], {}  # pydantic puts the union's tag into the place
            continue
        keys.append(part)
        if within_names:
            known, members, within_names = next(iter(members.values()), None), {}, False
            continue
        field = known.model_fields.get(part) if known else None
        members = _members(field.annotation) if field else {}
        # A dict's part is followed by a name, a tuple's by a number.
        origin = get_origin(_strip(field.annotation)) if field else None
        within_names = bool(members) and origin in (dict, tuple)
        if field is not None:
            known = next(iter(members.values())) if len(members) == 1 else None
    key = ".".join(keys)
    found = fault.get("input")
    match fault["type"]:
        case "extra_forbidden":
            names = sorted(known.model_fields) if known else []
            hint = nearest(keys[-1], names)
            others = [name for name, kind in union.items() if keys[-1] in kind.model_fields]
            if others and known not in map(union.get, others):
                place = ".".join(keys[:-1])
                hint = f"it belongs to {' and '.join(others)}: set {place}.name={others[0]} too; "
            return f"{key}: unknown setting; {hint}known here: {', '.join(names)}"
        case "missing":
            return f"{key}: a value is needed"
        case "union_tag_invalid" | "union_tag_not_found":
            name = found.get("name") if isinstance(found, Mapping) else found
            hint = nearest(str(name), members)
            return f"{key}.name: found {name!r}; {hint}known: {', '.join(sorted(members))}"
        case "value_error":
            message = str(fault.get("ctx", {}).get("error", fault["msg"]))
            return f"{key}: {message}" if key else message
        case _:
            return f"{key}: found {found!r}; {fault['msg'][:1].lower()}{fault['msg'][1:]}"
