"""What the doctor found, for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from bandwidth import Speed
from diagnosis import Machine, Reference, differences


def versions_line(reference: Reference) -> str:
    """Say what the driver runs, which the machines have to equal."""
    versions = ", ".join(f"{name} {version}" for name, version in reference.versions.items())
    return f"the driver has {versions}, code {reference.code or 'unknown'}"


def machine_table(machines: Sequence[Machine], reference: Reference) -> Table:
    """Show a row for each machine; the driver's is the first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = ("machine", "versions", "code", "libraries", "CPUs", "GPUs", "memory", "disk")
    for heading in (*headings, "storage", "token"):
        table.add_column(heading, overflow="fold")
    for machine in machines:
        report = machine.report
        if report is None:
            problem = Text(machine.problem, "bold red")
            table.add_row(Text(machine.name), problem, *[""] * (len(headings)))
            continue
        there = Reference(report["python"], report["packages"], report["code"])
        differing = differences(there, reference)
        table.add_row(
            Text(machine.name),
            _same_or([f"{name} {theirs}" for name, (theirs, _) in differing.items()]),
            _same_or([] if there.code == reference.code else [there.code or "missing"]),
            _well_or([] if not report["libraries"] else ["missing"]),
            f"{machine.cpus:g}",
            _gpus(machine, report),
            f"{report['memory_free'] / 1e9:.1f} of {report['memory_total'] / 1e9:.1f} GB free",
            Text("\n".join(_disks(report["disks"]))),
            _well_or([] if machine.arrived and not report["folder_fault"] else ["not shared"]),
            "asked for" if report["authentication"] == "token" else report["authentication"],
        )
    return table


def _same_or(differing: Sequence[str]) -> Text:
    return Text("\n".join(differing), "bold red") if differing else Text("same")


def _well_or(faults: Sequence[str]) -> Text:
    return Text("\n".join(faults), "bold red") if faults else Text("ok", "green")


def _gpus(machine: Machine, report: Mapping[str, Any]) -> Text:
    if report["gpu_fault"]:
        return Text(report["gpu_fault"], "bold red")
    return Text("\n".join([f"{machine.gpus:g}", *report["gpus"]]))


def _disks(disks: Mapping[str, Mapping[str, int]]) -> list[str]:
    return [f"{disk['free'] / 1e9:.0f} GB in {place}" for place, disk in disks.items()]


def speed_line(speed: Speed | str | None, gpus: bool) -> str:
    """Say how fast the machines add up."""
    if speed is None:
        return "all-reduce: fewer than two machines that could"
    if isinstance(speed, str):
        return "all-reduce: failed"
    how = "NCCL, a GPU on each" if gpus else "gloo, on CPUs"
    return f"all-reduce over {speed.machines} machines ({how}): {speed}"
