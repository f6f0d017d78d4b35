"""How busy the machine is while a run trains: processors, memory, disk, GPUs."""

import threading
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

from colorization.distributed import Ranks, gather

PREFIX = "system/"
_EVERY = 2.0  # seconds between samples


class SystemMonitor:
    """Samples this rank's process and machine in a thread, and averages over an epoch.

    The names are those that MLflow's own sampling has, which its page of system metrics shows; the
    first rank's machine stands for all, but each rank's process and GPU counts. Utilization of GPUs
    needs nvidia-ml-py, without it their memory alone is known.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        """Prepare to sample; `folder` lies on the disk whose room is told."""
        self._folder, self._ranks = folder, ranks
        self._process = psutil.Process()
        self._samples: dict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._cpu_before = _cpu_times()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            self._sample()

    def _sample(self) -> None:
        memory = psutil.virtual_memory()
        found = {
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "process_memory_usage_megabytes": self._process.memory_info().rss / 1e6,
        }
        if self._ranks.device.type == "cuda":
            found |= _gpu(self._ranks.device)
        with self._lock:
            for name, value in found.items():
                self._samples[name].append(value)

    def epoch(self) -> dict[str, float]:
        """Return the means since the last call: {"system/...": number}; all ranks have to call it.

        They are the same on every rank.
        """
        self._sample()
        with self._lock:
            means = {name: sum(values) / len(values) for name, values in self._samples.items()}
            self._samples.clear()
        cpu_now = _cpu_times()
        busy, idle = cpu_now[0] - self._cpu_before[0], cpu_now[1] - self._cpu_before[1]
        self._cpu_before = cpu_now
        disk = psutil.disk_usage(str(self._folder))
        own = {
            "cpu_utilization_percentage": 100 * busy / (busy + idle) if busy + idle else 0.0,
            **means,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
        }
        every = gather(own, self._ranks)
        found = {name: value for name, value in every[0].items() if not name.startswith("gpu_")}
        found["process_memory_usage_megabytes"] = sum(
            one["process_memory_usage_megabytes"] for one in every
        )
        for rank, one in enumerate(every):
            gpu = {name: value for name, value in one.items() if name.startswith("gpu_")}
            found |= {name.replace("gpu_", f"gpu_{rank}_", 1): v for name, v in gpu.items()}
        return {f"{PREFIX}{name}": round(value, 1) for name, value in found.items()}


def _cpu_times() -> tuple[float, float]:
    """Return for how many seconds the machine's processors were busy, and idle, since its start."""
    times = psutil.cpu_times()
    # Guests' times are in the users' already, and waiting for a disk is no work.
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - guests - idle, idle


def _gpu(device: torch.device) -> dict[str, float]:
    """Read a GPU's memory, as all processes use it, and how busy it is where that can be known."""
    free, total = torch.cuda.mem_get_info(device)
    found: dict[str, float] = {
        "gpu_memory_usage_megabytes": (total - free) / 1e6,
        "gpu_memory_usage_percentage": 100 * (total - free) / total,
    }
    utilization = _utilization(device)
    return found if utilization is None else found | {"gpu_utilization_percentage": utilization}


def _utilization(device: torch.device) -> float | None:
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        return float(torch.cuda.utilization(device))
    except nvml.NVMLError:  # as of a part of a GPU
        return None
