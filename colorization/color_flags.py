"""The options of coloring under flat names: flags of command lines, params of the registered model.

`foreground` is "all" or names of classes with commas between; `softness`, `invert` and `segmenter`
say more about it, and `mask` takes its place.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from colorization.coloring import MAX_SAMPLES, ColorOptions
from colorization.config import ConfigError, Data, parse
from colorization.segmentation import Backbone

EVERYTHING = "all"
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
}
_OF_FOREGROUND = ("softness", "invert", "segmenter", "mask")


def parse_flat(values: Mapping[str, Any]) -> ColorOptions:
    """Read options from flat names; None and False say nothing.

    `mask` is an encoded picture, or its base64. Raises ConfigError with one line per fault.
    """
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
    if "gain" in data:
        data["gain"] = _number_or_word(data["gain"])
    return parse(ColorOptions, data)


def _number_or_word(value: object) -> object:
    try:
        return float(str(value))
    except ValueError:
        return value


def add_color_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each option."""
    group = parser.add_argument_group("how to color")
    group.add_argument(
        "--samples", type=int, help=f"of each picture, of models that draw (1; to {MAX_SAMPLES})"
    )
    group.add_argument(
        "--temperature", type=float, help="scale of what is drawn, 0 to 2 (the model's own)"
    )
    group.add_argument("--seed", type=int, help="of what is drawn (0)")
    group.add_argument(
        "--gain", help="the model sees lightness times this; auto: as much as a picture needs (1)"
    )
    group.add_argument("--saturation", type=float, help="colors times this, 0 to 4 (1)")
    group.add_argument(
        "--upsampling",
        choices=get_args(ColorOptions.model_fields["upsampling"].annotation),
        help="how colors get from the model's size to the picture's (guided)",
    )
    group.add_argument(
        "--tile", action="store_true", help="show the model large pictures by parts, for detail"
    )
    group = parser.add_argument_group("selective coloring: the foreground in color, the rest gray")
    group.add_argument(
        "--foreground",
        nargs="?",
        const=EVERYTHING,
        metavar="CLASSES",
        help="of which of VOC's classes, as in person,dog (all)",
    )
    group.add_argument(
        "--softness", type=float, help="pixels over which color fades (1/200 of the short side)"
    )
    group.add_argument("--invert", action="store_true", help="color the background instead")
    group.add_argument(
        "--segmenter", choices=get_args(Backbone), help="DeepLabV3's backbone (resnet101)"
    )
    group.add_argument(
        "--mask", metavar="FILE", help="a picture, white where color stays, in place of a segmenter"
    )


def read_color_flags(options: argparse.Namespace) -> ColorOptions:
    """Return what the flags say; raises ConfigError, also for a mask that cannot be read."""
    values = {name: getattr(options, name) for name in FLAT_NAMES}
    if values["mask"] is not None:
        try:
            values["mask"] = Path(values["mask"]).expanduser().read_bytes()
        except OSError as error:
            raise ConfigError(f"--mask: {values['mask']}: {error.strerror or error}") from error
    return parse_flat(values)
