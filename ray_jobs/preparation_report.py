"""What a preparation shows of the set that it made: a sheet of pictures, and a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from colorization.data.collection import Collection
from colorization.data.curation.assignment import Assignment, Move
from colorization.data.curation.contact_sheet import MOST_SHOWN, Section, contact_sheet
from colorization.data.packing import Looked
from colorization.data.splits import SPLITS
from colorization.pictures import Picture, UnreadablePicture, encode_picture, replace_file

CONTACT_SHEET = "contact-sheet.jpg"
_WIDTH = 128  # short side in pixels of what is shown there


def write_contact_sheet(
    out: Path,
    collections: Sequence[Collection],
    assignment: Assignment,
    looked: Sequence[Looked],
) -> None:
    """Show the first of each split, and of each reason for which pictures were dropped."""
    places = [(n, i) for n, found in enumerate(collections) for i in range(len(found))]
    sections: dict[str, list[int]] = {f"kept: {split}": [] for split in SPLITS}
    for index, (candidate, split) in enumerate(
        zip(assignment.candidates, assignment.splits, strict=True)
    ):
        title = f"kept: {split}" if split else f"dropped: {candidate.dropped}"
        sections.setdefault(title, []).append(index)
    sheet: list[Section] = []
    for title, members in sections.items():
        members.sort(key=lambda index: looked[index].candidate.content)
        shown: list[tuple[str, np.ndarray | None]] = []
        for index in members[:MOST_SHOWN]:
            source, number = places[index]
            try:
                rgb = collections[source].picture(number, _WIDTH)
            except UnreadablePicture:
                rgb = None
            shown.append((assignment.candidates[index].name, rgb))
        sheet.append((title, len(members), shown))
    replace_file(out / CONTACT_SHEET, encode_picture(Picture(contact_sheet(sheet)), ".jpg"))


def print_result(
    console: Console,
    out: Path,
    manifest: Mapping[str, Any],
    moved: Sequence[Move],
    seconds: float,
) -> None:
    """Print how many pictures were kept and dropped, which moved, and where the set lies."""
    counts = manifest["counts"]
    table = Table()
    table.add_column("pictures")
    table.add_column("", justify="right")
    table.add_row("found", str(counts["found"]))
    for reason, number in counts["dropped"].items():
        table.add_row(f"dropped: {reason}", str(number))
    for split in SPLITS:
        table.add_row(f"kept: {split}", str(counts[split]))
    for source in manifest["sources"]:
        say(console, source["found"])
    console.print(table)
    for move in moved:
        say(console, f"moved: {move.name} {move.before} -> {move.after}: {move.because}")
    size = sum(shard["file_bytes"] for shard in manifest["shards"]) / 1e9
    console.print(f"{len(manifest['shards'])} shards, {size:.2f} GB, {seconds:.0f} s")
    say(console, f"data {manifest['hash']} in {out}")
    say(console, f"look at {out / CONTACT_SHEET}")
    say(console, f"train on it: data.source.name=packed data.source.path={out}")


def say(console: Console, text: str) -> None:
    """Print a line with names in it, which may hold brackets and bytes that are no letters."""
    console.print(text.encode(errors="replace").decode(), markup=False, soft_wrap=True)
