"""Finalists as a table: means and deviations over the seeds, and who cannot be told apart."""

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from finals import Comparison, Finalist, Stored, compare, inseparable
from study import Study


def finals_table(study: Study, found: Sequence[Finalist]) -> Table:
    """Return the finalists, the best first, each beside how it differs from the best."""
    names = ["against_gray", *study.objective]
    table = Table(
        title="Finalists: mean and standard deviation over the seeds",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("trial", no_wrap=True)
    table.add_column("seeds", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("against the first", overflow="fold")
    for finalist in found:
        recipe = study.trial(finalist.number).user_attrs.get("recipe")
        table.add_row(
            f"{finalist.number} ({recipe})" if recipe else str(finalist.number),
            str(len(finalist.scores)),
            *(spread(finalist, name) for name in names),
            verdict(study, found[0], finalist),
            style="bold green" if finalist is found[0] else "",
        )
    return table


def spread(finalist: Finalist, name: str) -> str:
    """Write a score's mean and standard deviation: `0.0981 ± 0.0012`."""
    deviation = finalist.deviation(name)
    mean = f"{finalist.mean(name):.4f}"
    return mean if math.isnan(deviation) else f"{mean} ± {deviation:.4f}"


def verdict(study: Stored, best: Finalist, other: Finalist) -> str:
    """Say whether a finalist can be told from the best one, and by which scores."""
    failed = f"{other.failed} of its runs failed; " if other.failed else ""
    if other is best:
        return failed.removesuffix("; ")
    found = {name: compare(other, best, name) for name in study.objective}
    if any(math.isnan(comparison.low) for comparison in found.values()):
        return f"{failed}one seed tells nothing apart"
    if inseparable(study, best, other):
        return f"{failed}cannot be told apart"
    parts = [_part(name, comparison) for name, comparison in found.items()]
    return failed + "; ".join(parts)


def _part(name: str, comparison: Comparison) -> str:
    if not comparison.tells_apart:
        return f"{name} cannot be told apart"
    return f"{name} {comparison.difference:+.4f} ({comparison.low:+.4f} to {comparison.high:+.4f})"
