"""Pages of one file, made from the templates in `pages/`; they load nothing from anywhere."""

import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from budget import duration
from colorization.pictures import replace_file

_FOLDER = Path(__file__).with_name("pages")


def write_page(out: Path, template: str, **values: Any) -> int:
    """Fill in a template and write it as a file that appears whole or not at all.

    Whatever is filled in is escaped. Returns the file's size in bytes. Raises OSError.
    """
    page = (
        _environment()
        .get_template(template)
        .render(style=_source("style.css"), script=_source("page.js"), **values)
    )
    content = page.encode("utf-8", "replace")
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, content)
    return len(content)


@cache
def plotly_script() -> Markup:
    """Return plotly.js, which draws plots in the page."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def score(value: float | None) -> str:
    """Write a score with four digits behind the point, two where it is large; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def plain_value(value: object) -> str:
    """Write a setting's value, numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": score,
        "value": plain_value,
        "duration": duration,
        "sortable": lambda value: "" if value is None or not math.isfinite(value) else repr(value),
        "json_text": _json_text,
    }
    return environment


def _json_text(text: str) -> Markup:
    """Let JSON stand in a script element, which no text of it may end."""
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _source(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))
