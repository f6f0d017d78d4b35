"""What may be said to `colorize` on the command line; light, for it is read before all others."""

import argparse
from pathlib import Path

EVERYTHING = "all"


def add_colorize(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("run", type=_path, metavar="RUN_DIR_OR_EXPORT")
    parser.add_argument("pictures", type=_path, metavar="PICTURE_OR_FOLDER")
    parser.add_argument("-o", "--out", type=_path, required=True, metavar="OUT")

    add_color_flags(parser)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--compare", choices=["before-after", "split"], help="write such a picture beside each"
    )
    files.add_argument("--overwrite", action="store_true", help="make all files anew")
    files.add_argument("--batch", metavar="auto|N", default="1", help="pictures at once (1)")
    files.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")


def _path(text: str) -> Path:
    if not text:  # of a shell's variable that is not set; Path would take it for this folder
        raise argparse.ArgumentTypeError("found nothing, a path is needed; . is this folder")
    return Path(text)


def add_color_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each option of coloring; `color_flags` reads their values, which are text."""
    look = parser.add_argument_group("colors")
    look.add_argument("--samples", metavar="N", help="so many colorings (cvae, cinn) and a sheet")
    look.add_argument("--temperature", metavar="T", help="of what is drawn: 0 the mean, at most 2")
    look.add_argument("--seed", metavar="SEED", help="of what is drawn (0)")
    look.add_argument("--gain", metavar="auto|X", help="the model sees lightness times this (1)")
    look.add_argument("--saturation", metavar="X", help="colors times this: 0 is gray (1)")
    look.add_argument("--upsampling", metavar="guided|bilateral|bicubic", help="(guided)")
    look.add_argument("--tile", action="store_true", help="large pictures by parts, for detail")

    look.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="FILE",
        help="in the colors of this picture (cinn); of several, those of the one most like each",
    )

    kept = parser.add_argument_group("selective coloring: a foreground in color, the rest gray")
    kept.add_argument(
        "--foreground",
        nargs="?",
        const=EVERYTHING,
        metavar="CLASSES",
        help=f"what stays in color, of Pascal VOC's classes: person,dog ({EVERYTHING})",
    )
    kept.add_argument(
        "--mask", metavar="FILE", help="in its place a picture, white where color stays"
    )
    kept.add_argument("--invert", action="store_true", help="color the background instead")
    kept.add_argument(
        "--softness",
        metavar="PIXELS",
        help="over which color fades at the edge (1/200 of the short side; a mask's own grays)",
    )
    kept.add_argument(
        "--segmenter", metavar="resnet101|resnet50|mobilenet", help="DeepLabV3's (resnet101)"
    )

    seen = parser.add_argument_group("instances: things that a pair of models colors first")
    seen.add_argument(
        "--instances",
        metavar="auto|FILE",
        help="found by Mask R-CNN, or given: a line of JSON for each picture (docs/instances.md)",
    )
    seen.add_argument("--min-score", metavar="S", help="how sure a detector must be (0.5)")
    seen.add_argument("--min-side", metavar="PIXELS", help="of a box's shorter side (64)")
