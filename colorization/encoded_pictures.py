"""Pictures in options: bytes in Python, base64 in files and over HTTP."""

import base64
import binascii

from pydantic import PlainSerializer

from colorization.pictures import read_header

AS_TEXT = PlainSerializer(lambda data: base64.b64encode(data).decode(), when_used="json")


def encoded_picture(value: object, kind: str, megapixels: float, advice: str) -> bytes:
    """Return the bytes of an encoded picture, or of its base64, as pydantic validates them.

    `kind` is what errors call it: a mask. Raises ValueError for what is no picture or has too many
    pixels, by its header alone; `advice` says why a smaller one would do.
    """
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"found text that is no base64 of a picture ({error})") from error
    if not isinstance(value, bytes):
        raise ValueError(f"found {type(value).__name__}; an encoded picture is needed")
    width, height = read_header(value, f"the {kind}").size
    if width * height > megapixels * 1e6:
        raise ValueError(
            f"found a {kind} of {width} x {height} pixels; at most {megapixels} megapixels are "
            f"taken: {advice}"
        )
    return value
