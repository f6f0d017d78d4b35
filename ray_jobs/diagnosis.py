"""What is wrong with a cluster, from what its machines say of themselves."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

KEY_PACKAGES = ("torch", "torchvision", "ray", "mlflow", "optuna", "freia", "opencv-python")
_LITTLE = 1e9  # bytes
_FULL = 0.95  # share of its disk past which Ray takes no more into it
_SETUP = (
    "set it up anew: `ray up cluster.yaml`, or on the machine, in the project's folder and its "
    "environment, `uv pip install -r requirements.txt`"
)
_COPY = "`ray up cluster.yaml` copies the project anew, or submit with --working-dir ."
_START = (
    "see that it runs and that the network lets it through; then `ray up cluster.yaml`, or on it "
    "`ray start --address=HEAD:6379`"
)
SHARE = (
    "give a --storage that all machines share under the same path (NFS, or a bucket mounted as one)"
)


class Machine(NamedTuple):
    """A node as Ray lists it, and what it said."""

    id: str
    name: str  # its address, and its host's name where it said it
    cpus: float
    gpus: float
    report: Mapping[str, Any] | None  # node_report.report; None where there is none
    problem: str  # why; "" where there is one
    arrived: bool = True  # whether what it wrote into the storage is seen here


class Fault(NamedTuple):
    """What is wrong, and how it is mended."""

    where: str
    found: str
    mend: str


class Reference(NamedTuple):
    """What runs in the driver, which every machine has to equal."""

    python: str
    packages: Mapping[str, str]
    code: str

    @property
    def versions(self) -> dict[str, str]:
        """Return those of Python and of the packages that matter most; "missing" without one."""
        found = {name: self.packages.get(name, "missing") for name in KEY_PACKAGES}
        return {"python": self.python, **found}


def faults_of(machine: Machine, reference: Reference) -> list[Fault]:
    """Return what is wrong with a machine, the worst first."""
    name, report = machine.name, machine.report
    if report is None:
        return [Fault(name, machine.problem, _START)]
    there = Reference(report["python"], report["packages"], report["code"])
    return [
        *_of_versions(name, there, reference),
        *(Fault(name, fault, _SETUP) for fault in report["libraries"]),
        *_of_storage(machine, report),
        *_of_gpus(machine, report),
        *_of_room(name, report),
    ]


def _of_versions(name: str, there: Reference, reference: Reference) -> list[Fault]:
    differing = differences(there, reference)
    found = [
        Fault(name, f"{package} {theirs} there, {ours} in the driver", _SETUP)
        for package, (theirs, ours) in differing.items()
    ]
    if there.code != reference.code:
        code = f"the project's code is another: {there.code or 'missing'}, {reference.code} here"
        found.append(Fault(name, code, _COPY))
    return found


def differences(there: Reference, reference: Reference) -> dict[str, tuple[str, str]]:
    """Return the versions, there and in the driver, of the key packages that differ."""
    pairs = {key: (there.versions[key], ours) for key, ours in reference.versions.items()}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def other_differences(there: Reference, reference: Reference) -> dict[str, tuple[str, str]]:
    """Return those of the other packages that both have."""
    common = there.packages.keys() & reference.packages.keys() - {*KEY_PACKAGES}
    pairs = {key: (there.packages[key], reference.packages[key]) for key in sorted(common)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _of_storage(machine: Machine, report: Mapping[str, Any]) -> list[Fault]:
    if report["folder_fault"]:
        return [Fault(machine.name, report["folder_fault"], SHARE)]
    if not machine.arrived:
        return [Fault(machine.name, "what it writes into the storage does not arrive here", SHARE)]
    return []


def _of_gpus(machine: Machine, report: Mapping[str, Any]) -> list[Fault]:
    name, seen = machine.name, len(report["gpus"])
    if report["gpu_fault"]:
        mend = "see `nvidia-smi` and `dmesg` there; a restart of the machine often mends it"
        return [Fault(name, report["gpu_fault"], mend)]
    if machine.gpus > seen:
        found = f"Ray counts {machine.gpus:g} GPUs, Nvidia's driver {seen}"
        mend = "see `nvidia-smi` there; start Ray with the --num-gpus that there are"
        return [Fault(name, found, mend)]
    if machine.gpus and not report["cuda"]:
        return [Fault(name, "torch there is built without CUDA", _SETUP)]
    return []


def _of_room(name: str, report: Mapping[str, Any]) -> list[Fault]:
    found: list[Fault] = []
    if report["memory_free"] < _LITTLE:
        free = f"{report['memory_free'] / 1e9:.1f} GB of memory are free"
        found.append(Fault(name, free, "end what takes it, or take a larger machine"))
    for place, disk in report["disks"].items():
        if place == "/dev/shm" or not disk["total"]:
            continue
        full = 1 - disk["free"] / disk["total"]
        if disk["free"] < _LITTLE or full > _FULL:
            text = f"{disk['free'] / 1e9:.1f} GB are free in {place}, it is {full:.0%} full"
            mend = "make room there; Ray takes no more into a disk that is 95% full"
            found.append(Fault(name, text, mend))
    return found


def notes_of(machines: Sequence[Machine], reference: Reference) -> list[str]:
    """Return what may be meant so, and is worth knowing."""
    notes: list[str] = []
    answered = [(m.name, m.report) for m in machines if m.report is not None]
    for name, report in answered:
        there = Reference(report["python"], report["packages"], report["code"])
        if differing := other_differences(there, reference):
            shown = [f"{key} {theirs} ({ours})" for key, (theirs, ours) in differing.items()]
            more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
            notes.append(f"{name}: other versions than the driver's: {', '.join(shown[:5])}{more}")
        shared = report["disks"].get("/dev/shm", {"total": 0})["total"]
        if shared < _LITTLE:
            size = f"{shared / 1e6:.0f} MB of shared memory"
            notes.append(f"{name}: {size}; start containers with --shm-size=2g or more")
    if len(answered) > 1 and any(report["authentication"] == "disabled" for _, report in answered):
        notes.append(
            "Ray asks nobody for a token: whoever reaches the dashboard's port runs code; "
            "RAY_AUTH_MODE=token on every machine, as in cluster.yaml"
        )
    return notes


def authentication_fault(machines: Sequence[Machine]) -> list[Fault]:
    """Return the fault of machines of which some ask for a token and some do not."""
    modes = {m.name: m.report["authentication"] for m in machines if m.report is not None}
    if len({*modes.values()}) <= 1:
        return []
    found = ", ".join(f"{name}: {mode}" for name, mode in modes.items())
    return [Fault("authentication", found, "set RAY_AUTH_MODE=token for Ray on every machine")]
