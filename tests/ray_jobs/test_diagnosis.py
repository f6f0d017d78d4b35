"""What the doctor makes of the machines' reports."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from diagnosis import Fault, Machine, Reference, authentication_fault, faults_of, notes_of

PACKAGES = {
    "torch": "2.15.0",
    "torchvision": "0.30.0",
    "ray": "2.60.0",
    "mlflow": "3.17.0",
    "optuna": "5.0.0",
    "freia": "0.2",
    "opencv-python": "4.12.0",
    "numpy": "2.3.0",
}
REFERENCE = Reference("3.11.7", PACKAGES, "0123456789ab")
REPORT: dict[str, Any] = {
    "host": "b",
    "python": "3.11.7",
    "packages": PACKAGES,
    "code": "0123456789ab",
    "libraries": [],
    "cuda": "13.0",
    "gpus": ["NVIDIA H100, 81559 MiB, 4 MiB, 570.1"],
    "gpu_fault": "",
    "memory_free": 20e9,
    "memory_total": 32e9,
    "disks": {
        "/mnt": {"free": 50e9, "total": 100e9},
        "/tmp/ray": {"free": 50e9, "total": 100e9},
        "/dev/shm": {"free": 8e9, "total": 8e9},
    },
    "authentication": "token",
    "folder_fault": "",
}


def machine(change: Callable[[dict[str, Any]], object] = lambda report: None, **more: Any):
    report = copy.deepcopy(REPORT)
    change(report)
    values: dict[str, Any] = {"report": report, "problem": "", **more}
    return Machine("id", "10.0.0.3 (b)", 8, 1, **values)


def only_fault(one: Machine) -> Fault:
    (fault,) = faults_of(one, REFERENCE)
    assert fault.where == "10.0.0.3 (b)"
    assert fault.mend
    return fault


def test_a_sound_machine_has_no_fault_and_nothing_is_noted():
    assert faults_of(machine(), REFERENCE) == []
    assert notes_of([machine(), machine()], REFERENCE) == []


@pytest.mark.parametrize(
    ("change", "found", "mend"),
    [
        (
            lambda r: r["packages"].update(torch="2.14.0"),
            "torch 2.14.0 there, 2.15.0 in the driver",
            "uv pip install -r requirements.txt",
        ),
        (lambda r: r["packages"].pop("freia"), "freia missing there, 0.2", "requirements.txt"),
        (lambda r: r.update(python="3.12.1"), "python 3.12.1 there, 3.11.7", "ray up cluster.yaml"),
        (lambda r: r.update(code="f00"), "the project's code is another: f00", "--working-dir ."),
        (lambda r: r.update(code=""), "the project's code is another: missing", "ray up"),
        (
            lambda r: r["libraries"].append("cv2 needs libGL.so.1: apt-get install libgl1"),
            "cv2 needs libGL.so.1: apt-get install libgl1",
            "ray up cluster.yaml",
        ),
        (lambda r: r.update(folder_fault="/x is not the driver's"), "/x is not", "--storage"),
        (lambda r: r.update(gpus=[]), "Ray counts 1 GPUs, Nvidia's driver 0", "nvidia-smi"),
        (lambda r: r.update(gpu_fault="nvidia-smi fails: no"), "nvidia-smi fails: no", "dmesg"),
        (lambda r: r.update(cuda=None), "torch there is built without CUDA", "requirements.txt"),
        (lambda r: r.update(memory_free=3e8), "0.3 GB of memory are free", "larger machine"),
        (
            lambda r: r["disks"]["/tmp/ray"].update(free=4e9),
            "4.0 GB are free in /tmp/ray, it is 96% full",
            "make room",
        ),
        (lambda r: r["disks"]["/mnt"].update(free=1e8), "0.1 GB are free in /mnt", "make room"),
    ],
)
def test_each_fault_is_found_and_its_mend_named(
    change: Callable[[dict[str, Any]], object], found: str, mend: str
):
    fault = only_fault(machine(change))
    assert fault.found.startswith(found)
    assert mend in fault.mend


def test_a_machine_without_a_report_is_a_fault_by_itself():
    silent = machine(report=None, problem="no answer in 90 s")
    assert only_fault(silent).found == "no answer in 90 s"
    assert "ray start" in only_fault(silent).mend


def test_a_storage_that_reads_but_does_not_pass_on_what_is_written_is_not_shared():
    assert "does not arrive here" in only_fault(machine(arrived=False)).found


def test_other_packages_that_differ_are_noted():
    (note,) = notes_of([machine(lambda r: r["packages"].update(numpy="2.2.0"))], REFERENCE)
    assert note == "10.0.0.3 (b): other versions than the driver's: numpy 2.2.0 (2.3.0)"


def test_little_shared_memory_is_noted():
    (note,) = notes_of([machine(lambda r: r["disks"]["/dev/shm"].update(total=64e6))], REFERENCE)
    assert "64 MB of shared memory" in note


def test_several_machines_that_ask_nobody_for_a_token_are_noted():
    open_one = machine(lambda r: r.update(authentication="disabled"))
    assert notes_of([open_one], REFERENCE) == []
    (note,) = notes_of([open_one, open_one], REFERENCE)
    assert "RAY_AUTH_MODE=token" in note


def test_machines_that_do_not_agree_on_asking_for_a_token_are_a_fault():
    open_one = machine(lambda r: r.update(authentication="disabled"))._replace(name="10.0.0.4")
    (fault,) = authentication_fault([machine(), open_one])
    assert fault.found == "10.0.0.3 (b): token, 10.0.0.4: disabled"
    assert authentication_fault([machine(), machine()]) == []
