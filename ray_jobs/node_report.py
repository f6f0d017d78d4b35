"""What a machine of the cluster says of itself to the doctor.

This module travels to the machine by value: it must run where the project is missing or another.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from shared_folder import meet

_SYSTEM = ("cv2", "torch", "torchvision")  # that rest on libraries of the system
_OURS = ("colorization", "group_trial")  # modules by which the project's two folders are found
_ASK = "--query-gpu=name,memory.total,memory.used,driver_version"


def report(folder: str, token: str, me: str) -> dict[str, Any]:
    """Look around on this machine; return what JSON takes.

    `folder`, `token` and `me` as of `shared_folder.meet`.
    """
    import psutil

    memory = psutil.virtual_memory()
    libraries = _library_faults()
    storage = _existing(str(Path(folder).parent))
    gpus, gpu_fault = _gpus()
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": packages(),
        "code": source_hash(),
        "libraries": libraries,
        "cuda": _cuda(),
        "gpus": gpus,
        "gpu_fault": gpu_fault,
        "memory_free": memory.available,
        "memory_total": memory.total,
        "disks": {place: _disk(place) for place in (storage, ray_folder(), "/dev/shm")},
        "authentication": _authentication(),
        "folder_fault": meet(Path(folder), token, me),
    }


def packages() -> dict[str, str]:
    """Return the versions of the installed distributions; of two of a name the imported one's."""
    found: dict[str, str] = {}
    for distribution in distributions():
        if name := distribution.metadata["Name"]:  # None: the remains of an uninstalled one
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return found


def source_hash() -> str:
    """Return a hash of the project's own code as this process would import it, "" if it cannot."""
    digest = hashlib.sha256()
    for module in _OURS:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return ""
        root = Path(spec.origin).parent
        for file in sorted(root.rglob("*")):
            if file.suffix in (".py", ".yaml"):
                digest.update(f"{module}/{file.relative_to(root)}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def ray_folder() -> str:
    """Return where Ray keeps its logs and what its memory cannot hold."""
    return _existing(str(Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray")))


def _existing(folder: str) -> str:
    path = Path(folder)
    return str(next((one for one in (path, *path.parents) if one.exists()), "/"))


def _disk(place: str) -> dict[str, int]:
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return {"free": 0, "total": 0}
    return {"free": usage.free, "total": usage.total}


def _library_faults() -> list[str]:
    try:
        from colorization.doctor import missing_libraries
    except ImportError as error:
        return [f"the project cannot be imported: {error}"]
    return missing_libraries(_SYSTEM)


def _cuda() -> str | None:
    """Return the version of CUDA that torch is built for."""
    try:
        import torch
    except ImportError:  # which is told as a library's fault
        return None
    return torch.version.cuda


def _gpus() -> tuple[list[str], str]:
    """Ask the driver's own tool for the GPUs, and say what is wrong with it."""
    if shutil.which("nvidia-smi") is None:
        return [], ""
    try:
        done = subprocess.run(
            ["nvidia-smi", _ASK, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except subprocess.TimeoutExpired:
        return [], "nvidia-smi has not answered for 20 s"
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stdout", "") or getattr(error, "stderr", "") or str(error)
        return [], f"nvidia-smi fails: {said.strip()}"
    return [line.strip() for line in done.stdout.splitlines() if line.strip()], ""


def _authentication() -> str:
    try:
        from ray import _raylet as core
        from ray._private.authentication.authentication_utils import get_authentication_mode_name
    except ImportError:
        return "unknown"  # another version of Ray, which is told elsewhere
    return get_authentication_mode_name(core.get_authentication_mode())  # pyright: ignore
