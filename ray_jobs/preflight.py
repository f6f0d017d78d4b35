"""What would make a study fail, found and shown before anything is spent."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from cluster import Node, Shape
from colorization.experiment import Experiment
from data_card import StudyData
from largest_trial import find_largest
from preflight_checks import Check, CheckState, check_disk, check_mlflow, check_place
from preflight_cluster import check_gradients, check_memory, check_nodes, other_machines

__all__ = ["Check", "CheckState", "has_failed", "preflight", "preflight_lines", "preflight_table"]

_STYLES: dict[CheckState, str] = {
    "ok": "green",
    "warning": "yellow",
    "failed": "bold red",
    "skipped": "dim",
}


def preflight(
    *,
    folder: Path,
    tracking_uri: str,
    nodes: Sequence[Node],
    shape: Shape,
    concurrent: int | None,
    trials: int,
    typical: Experiment,
    tried: Sequence[Experiment],
    data: StudyData,
) -> list[Check]:
    """Check what a study needs, Ray being connected; one answer a check, in the order of a table.

    `folder` is the study's, `nodes` and `shape` are as `cluster.connect` and `cluster.trial_shape`
    return them, `concurrent` as asked for or as `cluster.at_once` returns it, `trials` how many are
    to come, `typical` and `tried` the experiments of a space's middle and ends, `data` as the
    driver opened it. Nothing is left behind. Never raises for what it finds.
    """
    place = check_place(nodes, shape, concurrent)
    largest = find_largest(tried, typical)
    mine = [check_mlflow(tracking_uri), check_disk(folder, largest.experiment, trials)]
    if place.state == "failed":
        unknown = "no trial can be placed"
        names = ("memory", "data", "storage", "gradients")
        return [place, *(Check(name, "skipped", unknown) for name in names), *mine]
    others = other_machines(nodes, shape)
    on_nodes = check_nodes(others, folder, typical, data)
    memory = check_memory(nodes, shape, concurrent, typical, largest)
    gradients = (
        Check("gradients", "skipped", "what is said above comes first")
        if has_failed([memory, *on_nodes])
        else check_gradients(shape, typical, folder)
    )
    return [place, memory, *on_nodes, gradients, *mine]


def has_failed(checks: Sequence[Check]) -> bool:
    """Tell whether the study must not start."""
    return any(check.state == "failed" for check in checks)


def preflight_table(checks: Sequence[Check]) -> Table:
    """Show the checks for a terminal, each with its mend below what was found."""
    table = Table(title="Preflight", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        found = Text(check.found)
        if check.mend:
            found.append(f"\n-> {check.mend}", "bold")
        style = "red" if check.state == "failed" else ""
        table.add_row(Text(check.name), Text(check.state, _STYLES[check.state]), found, style=style)
    return table


def preflight_lines(checks: Sequence[Check]) -> list[str]:
    """Write the checks for a file or a pipe, a line each."""
    return [
        f"preflight {check.name}: {check.state}: {check.found}"
        + (f" -> {check.mend}" if check.mend else "")
        for check in checks
    ]
