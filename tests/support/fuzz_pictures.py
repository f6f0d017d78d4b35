"""Damages encoded pictures in many ways and reads each: `python fuzz_pictures.py FIRST COUNT`.

Says before each picture by which seed it was made, so that after a crash or a hang the last line
names it.
"""

import io
import sys

import cv2
import numpy as np
from PIL import Image

from colorization import pictures
from colorization.pictures import UnreadablePicture, read_picture, read_rgb


def whole_pictures() -> list[bytes]:
    """Return small JPEG and PNG files of many kinds."""
    y, x = np.mgrid[0:20, 0:28]
    rgb = np.dstack((x * 9, y * 12, (x + y) * 5)).astype(np.uint8)
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = []
    for changes in (
        {"subsampling": 0},
        {"subsampling": 2, "progressive": True},
        {"exif": exif},
        {"restart_marker_blocks": 2, "comment": b"a comment"},
    ):
        found.append(_saved(image, "JPEG", **changes))
    for mode in ("L", "CMYK"):
        found.append(_saved(image.convert(mode), "JPEG"))
    for mode in ("RGB", "RGBA", "P", "LA", "1"):
        found.append(_saved(image.convert(mode), "PNG"))
    found.append(cv2.imencode(".png", rgb.astype(np.uint16) * 257)[1].tobytes())
    return found


def damaged(data: bytes, seed: int) -> bytes:
    """Return a picture with one to three damages that the seed draws."""
    draw = np.random.default_rng(seed)
    for _ in range(draw.integers(1, 4)):
        length = len(data)
        at = int(draw.integers(length)) if length else 0
        match draw.integers(6):
            case 0:  # bytes changed anywhere
                content = bytearray(data)
                for place in draw.integers(0, max(1, length), draw.integers(1, 9)):
                    content[place : place + 1] = bytes([draw.integers(256)])
                data = bytes(content)
            case 1:  # header changed: sizes, tables, markers
                content = bytearray(data)
                for place in draw.integers(0, max(1, min(length, 200)), 2):
                    content[place : place + 1] = bytes([draw.choice([0, 1, 127, 128, 254, 255])])
                data = bytes(content)
            case 2:
                data = data[:at]
            case 3:  # something in between
                some = bytes(draw.integers(0, 256, draw.integers(1, 60), dtype=np.uint8))
                data = data[:at] + some + data[at:]
            case 4:  # a piece twice, as of segments that repeat
                data = data[: at + 40] + data[at:]
            case _:
                data = data[:at] + data[at + int(draw.integers(1, 60)) :]
    return data


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def main(first: int, count: int) -> None:
    """Read damaged pictures; raises for an answer that is neither a picture nor a refusal."""
    pictures.MAX_MEGAPIXELS = 1  # a changed size makes it decode much, which is slow and no fault
    whole = whole_pictures()
    for seed in range(first, first + count):
        print(f"seed {seed}", flush=True)
        data = damaged(whole[seed % len(whole)], seed)
        for read in (lambda: read_picture(data).rgb, lambda: read_rgb(data, short_side=seed % 9)):  # noqa: B023
            try:
                rgb = read()
            except UnreadablePicture:
                print("unreadable", flush=True)
                continue
            print("read", flush=True)
            assert rgb.ndim == 3, rgb.shape
            assert rgb.shape[2] == 3, rgb.shape
            assert rgb.size > 0, rgb.shape
            assert rgb.dtype in (np.uint8, np.uint16), rgb.dtype


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
