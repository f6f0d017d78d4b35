"""The most pixels that a picture in a request may have: known from its header, before decoding."""

from colorization.pictures import UnreadablePicture, read_header

MAX_MEGAPIXELS = 100  # one request must not take a server's memory from others


class TooManyPixels(UnreadablePicture):
    """A picture whose coloring would take too much memory: names its size and the limit."""


def refuse_huge(data: bytes, name: str, taker: str, most: float = MAX_MEGAPIXELS) -> float:
    """Return the megapixels of an encoded picture; raises TooManyPixels for more than `most`.

    `name` is what errors call the picture, and `taker` who takes so many at most. Raises
    UnreadablePicture where there is no header.
    """
    width, height = read_header(data, name).size
    if width * height > most * 1e6:
        raise TooManyPixels(
            f"{name}: found {width} x {height} pixels; {taker} takes at most {most:g} megapixels, "
            "`python -m colorization colorize` takes more"
        )
    return width * height / 1e6
