"""What a replay found, as tables for a console."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from drift import Difference, Drift


def scores_table(title: str, epoch: int, found: Iterable[Drift]) -> Table:
    """Show the scores of an epoch then and now; terms of losses are left out."""
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    for heading in ("then", "now", "drift", "relative"):
        table.add_column(heading, justify="right")
    for drift in found:
        if drift.epoch == epoch and "/" not in drift.name:
            style = "yellow" if drift.absolute else ""
            cells = (drift.name, f"{drift.then:.6g}", f"{drift.now:.6g}", *_drift(drift))
            table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _drift(drift: Drift) -> tuple[str, str]:
    if drift.absolute == 0:
        return "0", "0"
    return f"{drift.absolute:.3g}", f"{drift.relative:.3%}"


def differences_table(found: Iterable[Difference]) -> Table:
    """Show what differs in the surroundings."""
    table = Table(title="what differs", title_justify="left")
    for heading in ("", "then", "now"):
        table.add_column(heading, overflow="fold")
    for difference in found:
        table.add_row(*map(Text, difference))
    return table
