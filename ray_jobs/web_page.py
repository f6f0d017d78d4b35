"""The page of the server: a few files, served by name, that load nothing from anywhere else."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response

_FOLDER = Path(__file__).with_name("page")
_FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/request.js": ("request.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

# Of every answer. Pictures that the page made of a person's file are blobs.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_page(app: FastAPI) -> None:
    """Add a route for each file; nothing else of the folder, or beside it, has an address."""
    for address, (name, kind) in _FILES.items():
        _add(app, address, (_FOLDER / name).read_bytes(), kind)


def _add(app: FastAPI, address: str, content: bytes, kind: str) -> None:
    def file() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    app.add_api_route(
        address, file, methods=["GET", "HEAD"], include_in_schema=False, response_class=Response
    )
