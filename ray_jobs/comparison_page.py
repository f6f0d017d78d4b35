"""A comparison as a table on the console, as a page, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from colorization.pictures import replace_file
from colorization.score_names import PERCEPTUAL_SCORES, SCORES
from comparison import Compared, Comparison
from pages import score, write_page

_KNOWN = SCORES | PERCEPTUAL_SCORES


_NAME_WIDTH, _CELL_WIDTH = 24, 12  # columns of the console


def comparison_tables(found: Comparison, width: int) -> Iterator[Table]:
    """Yield all scores, a column for each model and leave-gray; the best of a row is bold.

    As many models in a table as a console of `width` columns shows whole, leave-gray in each.
    """
    gray, *models = found.models
    most = max(1, (width - _NAME_WIDTH) // _CELL_WIDTH - 1)
    for start in range(0, max(1, len(models)), most):
        yield _table(found, [gray, *models[start : start + most]])


def _table(found: Comparison, models: Sequence[Compared]) -> Table:
    title = f"{found.pictures} {found.split} pictures of {found.side} pixels"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("score", no_wrap=True)
    for model in models:
        label = Text(model.label.replace("/", "/ "))
        table.add_column(label, justify="right", overflow="fold", min_width=len("00.0000"))
    for name in _names(found):
        best = _best(found, name)
        cells = [
            Text(score(value), style="bold" if value is not None and value == best else "")
            for value in (model.scores.get(name) for model in models)
        ]
        table.add_row(name, *cells)
    times = (model.milliseconds for model in models)
    table.add_row("ms a picture", *("" if took is None else f"{took:.1f}" for took in times))
    return table


def write_comparison(found: Comparison, out: Path) -> Iterator[tuple[Path, int]]:
    """Write the page, and the numbers as JSON and CSV beside it; yield each with its size.

    Raises OSError.
    """
    rows = [
        {
            "name": name,
            "better": "less" if _KNOWN.get(name) == "min" else "more",
            "has_better": name in _KNOWN,
            "of_channel": name.startswith(("a_", "b_")),
            "cells": [
                {"value": value, "is_best": value is not None and value == _best(found, name)}
                for value in (model.scores.get(name) for model in found.models)
            ],
        }
        for name in _names(found)
    ]
    yield out, write_page(out, "compare.html", found=found, rows=rows)
    for suffix, text in ((".json", _json(found)), (".csv", _csv(found))):
        path = out.with_suffix(suffix)
        content = text.encode("utf-8")
        replace_file(path, content)
        yield path, len(content)


def _names(found: Comparison) -> list[str]:
    """Return the scores that any model has: the known ones in their order, then the others."""
    there = [name for model in found.models for name in model.scores if name != "pictures"]
    known = [name for name in _KNOWN if name in there]
    return list(dict.fromkeys([*known, *there]))


def _best(found: Comparison, name: str) -> float | None:
    values = [model.scores[name] for model in found.models if name in model.scores]
    if name not in _KNOWN or not values:
        return None
    return (min if _KNOWN[name] == "min" else max)(values)


def _json(found: Comparison) -> str:
    content = {key: value for key, value in vars(found).items() if key not in ("gallery", "models")}
    content["models"] = [asdict(model) for model in found.models]
    return json.dumps(content, indent=2) + "\n"


def _csv(found: Comparison) -> str:
    names = _names(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "milliseconds", "size", *names])
    for model in found.models:
        values = [model.scores.get(name, "") for name in names]
        writer.writerow([model.label, model.milliseconds or "", model.size or "", *values])
    return text.getvalue()
