"""The options of coloring under flat names: flags of command lines, params of the registered model.

`foreground` is "all" or names of classes with commas between; `softness`, `invert` and `segmenter`
say more about it, and `mask` takes its place. `reference` is one picture or several. `instances` is
"auto", or a list or lines of JSON; `min_score` and `min_side` say more about them.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colorization.coloring import ColorOptions
from colorization.colorize_arguments import EVERYTHING
from colorization.config import ConfigError, Data, nearest, parse
from colorization.instances import AUTO, parse_instances, read_instances

# Flat names and the types of their values; gain is a number or "auto".
FLAT_NAMES: Mapping[str, type] = {
    "samples": int,
    "temperature": float,
    "seed": int,
    "gain": str,
    "saturation": float,
    "upsampling": str,
    "tile": bool,
    "foreground": str,
    "softness": float,
    "invert": bool,
    "segmenter": str,
    "mask": str,
    "reference": str,
    "instances": str,
    "min_score": float,
    "min_side": int,
}
_OF_FOREGROUND = ("softness", "invert", "segmenter", "mask")
_OF_INSTANCES = ("min_score", "min_side")


def parse_flat(values: Mapping[str, Any]) -> ColorOptions:
    """Read options from flat names; None and False say nothing, numbers may be text.

    `mask` and `reference` are encoded pictures, or their base64; several references a list, or
    their base64 with commas between. `instances` may be what `parse_instances` returns. Raises
    ConfigError with one line per fault.
    """
    if unknown := sorted(values.keys() - FLAT_NAMES.keys()):
        hint, known = nearest(unknown[0], FLAT_NAMES), ", ".join(FLAT_NAMES)
        raise ConfigError(f"{unknown[0][:100]!r}: there is no such option; {hint}known are {known}")
    data: Data = {k: v for k, v in values.items() if v is not None and v is not False}
    part = {key: data.pop(key) for key in _OF_FOREGROUND if key in data}
    classes = data.pop("foreground", None)
    if classes is None and part and "mask" not in part:
        raise ConfigError(
            f"{next(iter(part))}: says how color is kept in a foreground, and none is asked for: "
            f"set foreground ({EVERYTHING}, or classes such as person,dog) or mask too"
        )
    if classes is not None and classes != EVERYTHING:
        part["classes"] = [name.strip() for name in str(classes).split(",")]
    if part or classes is not None:
        data["foreground"] = part
    if instances := _instances(data):
        data["instances"] = instances
    try:
        return parse(ColorOptions, data)
    except ConfigError as error:
        raise ConfigError(_in_flat_names(str(error))) from None


def _instances(data: Data) -> Data | None:
    """Take what is said about instances out of flat values; None: nothing."""
    part = {key: data.pop(key) for key in _OF_INSTANCES if key in data}
    given = data.pop("instances", None)
    if given is None and part:
        raise ConfigError(
            f"{next(iter(part))}: says which instances are colored by themselves, and none are "
            f"asked for: set instances ({AUTO}, or where they are) too"
        )
    if given is None:
        return None
    if given == AUTO:
        given = None
    elif isinstance(given, str):
        given = parse_instances(given, "instances")
    elif isinstance(given, list):  # JSON that holds them as they are
        given = parse_instances(json.dumps(given), "instances")
    elif not isinstance(given, dict):
        raise ConfigError(
            f"instances: found {given!r}; {AUTO} or a list of what is in the picture is needed"
        )
    return {"given": given, **part}


def _in_flat_names(message: str) -> str:
    message = re.sub(r"^instances\.(?=min_)", "", message, flags=re.MULTILINE)
    message = re.sub(r"^instances\.given\b", "instances", message, flags=re.MULTILINE)
    message = re.sub(r"^foreground\.classes\.\d+", "foreground", message, flags=re.MULTILINE)
    return re.sub(r"^foreground\.", "", message, flags=re.MULTILINE)


def read_color_flags(options: argparse.Namespace) -> ColorOptions:
    """Return what the flags say; raises ConfigError, also for a file that cannot be read."""
    values = {name: getattr(options, name) for name in FLAT_NAMES}
    if values["mask"] is not None:
        values["mask"] = _read("mask", values["mask"])
    references: list[str] = values["reference"]
    values["reference"] = [_read("reference", file) for file in references]
    if values["instances"] not in (None, AUTO):
        values["instances"] = read_instances(Path(values["instances"]).expanduser())
    try:
        return parse_flat(values)
    except ConfigError as error:
        message = re.sub(
            r"^reference\.(\d+)",
            lambda place: f"reference: {references[int(place[1])]}",
            str(error),
            flags=re.MULTILINE,
        )
        flags = re.sub(r"^\w+", lambda name: name[0].replace("_", "-"), message, flags=re.MULTILINE)
        raise ConfigError("\n".join(f"--{line}" for line in flags.splitlines())) from None


def _read(flag: str, file: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"--{flag}: {file}: {error.strerror or error}") from error
