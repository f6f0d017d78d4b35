"""What a machine has: processors, memory, GPUs and their driver."""

import os
import platform
import re
import socket
from pathlib import Path
from typing import Any

import psutil
import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Describe this machine, and the GPUs that this process may use; sizes in GB of 10^9 bytes."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "cpu_threads": psutil.cpu_count(),
        "cpu_threads_usable": usable,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }
    if device.type == "cuda":
        seen = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        found["gpu"] = torch.cuda.get_device_name(device)
        found["gpus"] = [
            {"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in seen
        ]
        found["gpu_driver"] = _driver()
    return found


def _cpu_model() -> str:
    """Name the processor; Python's own answer on Linux is the architecture alone."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if name:
            return " ".join(name[1].split())
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    """Return the version of NVIDIA's driver, None where it does not say it."""
    told = Path("/proc/driver/nvidia/version")
    if not told.exists():
        return None
    version = re.search(r"Kernel Module\D*([\d.]+)", told.read_text())
    return version[1] if version else None
