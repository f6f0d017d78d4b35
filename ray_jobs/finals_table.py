"""Finalists as a table: means and deviations over the seeds, and who cannot be told apart."""

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from finals import Comparison, Finalist, Stored, compare, inseparable
from study import Study


def finals_table(study: Study, found: Sequence[Finalist]) -> Table:
    """Return the finalists, the best first."""
    table = Table(
        title="Finalists, by means and standard deviations over their seeds",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("trial", overflow="fold")
    table.add_column("seeds", justify="right", no_wrap=True)
    names = ["against_gray", *study.objective]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, min_width=len("0.0000 ± 0.0000"))
    for finalist in found:
        recipe = study.trial(finalist.number).user_attrs.get("recipe")
        table.add_row(
            f"{finalist.number} ({recipe})" if recipe else str(finalist.number),
            str(len(finalist.scores)),
            *(spread(finalist, name) for name in names),
            style="bold green" if finalist is found[0] else "",
        )
    verdicts = [verdict(study, found[0], finalist) for finalist in found]
    table.caption = "\n".join(filter(None, verdicts))
    table.caption_justify = "left"
    return table


def spread(finalist: Finalist, name: str) -> str:
    """Write a score's mean and standard deviation: `0.0981 ± 0.0012`."""
    deviation = finalist.deviation(name)
    mean = f"{finalist.mean(name):.4f}"
    return mean if math.isnan(deviation) else f"{mean} ± {deviation:.4f}"


def verdict(study: Stored, best: Finalist, other: Finalist) -> str:
    """Say whether a finalist can be told from the best one, and by which scores."""
    failed = f"{other.failed} of the runs of trial {other.number} failed; " if other.failed else ""
    if other is best:
        return failed.removesuffix("; ")
    pair = f"trial {other.number} against {best.number}"
    found = {name: compare(other, best, name) for name in study.objective}
    if any(math.isnan(comparison.low) for comparison in found.values()):
        return f"{failed}{pair}: one seed tells nothing apart"
    if inseparable(study, best, other):
        return f"{failed}{pair}: cannot be told apart"
    return f"{failed}{pair}: " + "; ".join(_part(name, found[name]) for name in found)


def _part(name: str, comparison: Comparison) -> str:
    interval = (
        f"{comparison.difference:+.4f} (95%: {comparison.low:+.4f} to {comparison.high:+.4f})"
    )
    return f"{name} {interval}" if comparison.tells_apart else f"{name} cannot be told apart"
