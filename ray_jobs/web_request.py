"""A request of the HTTP interface to color a picture, read from its body and its address."""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from coloring_request import ColoringRequest
from colorization.picture_limit import TooManyPixels, refuse_huge
from colorization.pictures import UnreadablePicture
from web_limits import Hold, Limits, Problem, read_body

FORMATS: Mapping[str, str] = {"jpg": ".jpg", "png": ".png", "webp": ".webp", "tif": ".tif"}
CONTENT_TYPES: Mapping[str, str] = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".tif": "image/tiff",
}
_JSON = "application/json"


async def read_request(request: Request, limits: Limits, hold: Hold) -> ColoringRequest:
    """Read a request; raises Problem for one that is of no use, with the reason.

    `hold` is told of its bytes as they come.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON and not kind.startswith("image/") and kind != "application/octet-stream":
        raise Problem(
            415,
            f"Content-Type: found {kind or 'none'}; needed is the picture itself (image/jpeg, "
            f"image/png, ...) or {_JSON}",
        )
    options = _words(request)
    body = await read_body(request, limits, hold)
    if kind == _JSON:
        body, found = await asyncio.to_thread(_from_json, body)
        if twice := options.keys() & found.keys():
            raise Problem(422, f"{min(twice)}: given in the address and in the body")
        options |= found
    suffix = _suffix(options.pop("format", None))
    try:
        await asyncio.to_thread(refuse_huge, body, "the picture", "this server", limits.megapixels)
    except UnreadablePicture as error:
        raise Problem(413 if isinstance(error, TooManyPixels) else 422, str(error)) from error
    return ColoringRequest(body, options, suffix)


def _words(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in options:
            raise Problem(422, f"{name}: given twice")
        options[name] = value
    return options


def _from_json(body: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the picture and the options of a JSON request."""
    try:
        data = json.loads(body)
    # Also for text that is not UTF-8, numbers of thousands of digits, a million brackets.
    except (ValueError, RecursionError) as error:
        raise Problem(422, f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(data, dict) or not isinstance(data.get("picture"), str):
        raise Problem(422, 'the body has no picture: {"picture": "base64", ...} is needed')
    try:
        picture = base64.b64decode(data.pop("picture"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, f"picture: found text that is no base64 ({error})") from error
    return picture, data


def _suffix(word: object) -> str | None:
    if word is None:
        return None
    if not isinstance(word, str) or word not in FORMATS:
        raise Problem(422, f"format: found {word!r}; {', '.join(FORMATS)} can be written")
    return FORMATS[word]
