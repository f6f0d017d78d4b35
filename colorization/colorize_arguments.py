"""What may be said to `colorize` on the command line."""

import argparse
from pathlib import Path


def add_colorize(parser: argparse.ArgumentParser) -> None:
    """Add the flags; values of ColorOptions are read as text, and checked by it."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR_OR_EXPORT")
    parser.add_argument("pictures", type=Path, metavar="PICTURE_OR_FOLDER")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")

    look = parser.add_argument_group("colors")
    look.add_argument("--samples", metavar="N", help="so many colorings (cvae, cinn) and a sheet")
    look.add_argument("--temperature", metavar="T", help="of what is drawn: 0 the mean, at most 2")
    look.add_argument("--seed", metavar="SEED", help="of what is drawn (0)")
    look.add_argument("--gain", metavar="auto|X", help="the model sees lightness times this (1)")
    look.add_argument("--saturation", metavar="X", help="colors times this: 0 is gray (1)")
    look.add_argument("--upsampling", metavar="guided|bilateral|bicubic", help="(guided)")
    look.add_argument("--tile", action="store_true", help="large pictures by parts, for detail")

    files = parser.add_argument_group("files")
    files.add_argument(
        "--compare", choices=["before-after", "split"], help="write such a picture beside each"
    )
    files.add_argument("--overwrite", action="store_true", help="make all files anew")
    files.add_argument("--batch", metavar="auto|N", default="1", help="pictures at once (1)")
    files.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
