"""Look a cluster over before a study: `ray job submit -- python doctor.py --storage DIR`.

A row for each machine, then every fault with its mend; exit status 1 where there is one. Without a
cluster it looks this machine over. It ends within ten minutes, whatever does not answer.
"""

import argparse
import faulthandler
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from command_line import run_with_errors

if TYPE_CHECKING:
    from bandwidth import Speed
    from diagnosis import Fault, Reference

_LONGEST = 600.0  # seconds after which it gives up
_PATIENCE = 90.0  # for a machine's answer, with the start of a process there
_TOGETHER = 150.0  # for the all-reduces


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, and print; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="doctor.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage", help="that studies are written to (runs/ of the project)")
    parser.add_argument("--gpus", action="store_true", help="all-reduces by NCCL, a GPU on each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found, too")
    options = parser.parse_args(arguments)

    def run() -> int:
        from storage import storage_folder

        # Ray, and the file systems of a network, wait for what is gone; this does not.
        faulthandler.dump_traceback_later(_LONGEST, exit=True, file=sys.__stderr__ or 2)
        try:
            return _examine(storage_folder(options.storage), options.gpus, options.json)
        finally:
            faulthandler.cancel_dump_traceback_later()

    return run_with_errors(run)


def _examine(folder: Path, gpus: bool, file: Path | None) -> int:
    from rich.console import Console

    from bandwidth import measure
    from cluster import connect, find_running
    from colorization.config import ConfigError
    from diagnosis import SHARE, authentication_fault, faults_of, notes_of
    from doctor_page import machine_table, speed_line, versions_line

    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # each is a fault that is told
    # A job's log is no terminal and would be taken for one of 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    address = find_running()
    try:
        _await_head(address)
        nodes = connect(address)
    except ConfigError as error:
        console.print(f"FAULT {error}", markup=False, soft_wrap=True)
        console.print("  -> `ray up cluster.yaml` starts one; RAY_ADDRESS names it", markup=False)
        return 1
    import ray

    from growth import read_growth
    from rounds import ask_machines

    reference = _reference()
    try:
        with console.status("asking every machine"):
            machines = ask_machines(folder, _PATIENCE)
        fit = {m.id: m.name for m in machines if m.report is not None and m.report["code"]}
        with console.status("all-reduces"):
            speed = measure(fit, gpus, _TOGETHER) if len(fit) > 1 else None
    except OSError as error:
        console.print(f"FAULT storage: cannot write into {folder}: {error}", markup=False)
        console.print(f"  -> {SHARE}; nothing else was looked at", markup=False, soft_wrap=True)
        return 1
    finally:
        ray.shutdown()
    mlflow, mlflow_faults = _mlflow(folder)
    faults = [fault for machine in machines for fault in faults_of(machine, reference)]
    faults += authentication_fault(machines) + _speed_faults(speed) + mlflow_faults
    notes = notes_of(machines, reference)
    if address and (coming := len(read_growth().may_come(nodes))):
        notes.append(
            f"{coming} more machines may come and were not looked at: ask again when they are there"
        )
    console.print(versions_line(reference), markup=False, soft_wrap=True)
    console.print(machine_table(machines, reference))
    console.print(speed_line(speed, gpus), markup=False, soft_wrap=True)
    console.print(f"MLflow, written to by the driver alone: {mlflow}", markup=False, soft_wrap=True)
    for note in notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for fault in faults:
        console.print(f"FAULT {fault.where}: {fault.found}", markup=False, soft_wrap=True)
        console.print(f"  -> {fault.mend}", markup=False, soft_wrap=True)
    if not faults:
        console.print("no fault found")
    if file is not None:
        data = {
            "machines": [machine._asdict() for machine in machines],
            "all_reduce": speed if speed is None or isinstance(speed, str) else speed._asdict(),
            "mlflow": mlflow,
            "faults": [fault._asdict() for fault in faults],
            "notes": notes,
        }
        file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 1 if faults else 0


def _await_head(address: str | None) -> None:
    """Raise ConfigError where nobody listens at a cluster's address; Ray tries for minutes."""
    from colorization.config import ConfigError

    parts = re.fullmatch(r"\[?([\w.:-]+?)\]?:(\d+)", address or "")
    if parts is None:
        return
    try:
        socket.create_connection((parts[1], int(parts[2])), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster answers at {address}: {error}") from error


def _reference() -> "Reference":
    import platform

    from diagnosis import Reference
    from node_report import packages, source_hash

    return Reference(platform.python_version(), packages(), source_hash())


def _speed_faults(speed: "Speed | str | None") -> "list[Fault]":
    from diagnosis import Fault

    if not isinstance(speed, str):
        return []
    mend = (
        "see that the machines reach each other on all ports (a security group, a firewall); "
        "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the network"
    )
    return [Fault("network", speed, mend)]


def _mlflow(folder: Path) -> "tuple[str, list[Fault]]":
    """Tell whether MLflow would take records from here: drivers of studies write them all."""
    from diagnosis import Fault
    from mlflow_store import database_file, default_tracking_uri
    from preflight_checks import check_mlflow

    uri = default_tracking_uri(folder)
    if uri.startswith("sqlite:") and not database_file(uri).exists():
        return f"the first study makes {database_file(uri)}", []
    check = check_mlflow(uri)
    if check.state == "ok":
        return check.found, []
    return check.found, [Fault("MLflow", check.found, check.mend)]


if __name__ == "__main__":
    sys.exit(main())
