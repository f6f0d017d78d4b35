"""How much memory a worker may take on the machine this process runs on."""

import os
from pathlib import Path

import torch

_KEPT_FREE = 0.05  # share of the machine's memory; past it Ray ends the workers that take most


def for_one_worker(workers: int, gpus_per_worker: float) -> int:
    """Return the bytes that each of so many workers on this machine may take.

    This process is taken for the first of them. On a GPU: its share of that GPU's memory, with what
    other programs hold there.
    """
    if gpus_per_worker and torch.cuda.is_available():
        _, total = torch.cuda.mem_get_info()
        return int(total * min(1.0, gpus_per_worker))
    return (free_memory() + _resident()) // workers


def free_memory() -> int:
    """Return the bytes that processes may still take, in this container where there is one."""
    total, available = _of_machine()
    found = [(total, available)]
    own = Path("/proc/self/cgroup")
    for folder in control_groups(own.read_text() if own.exists() else ""):
        if (limits := left_in_group(folder)) is not None:
            found.append(limits)
    return max(0, min(int(available - _KEPT_FREE * total) for total, available in found))


def _resident() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _of_machine() -> tuple[int, int]:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    lines = (line.split() for line in meminfo.read_text().splitlines())
    sizes = {words[0]: int(words[1]) * 1024 for words in lines}
    return sizes["MemTotal:"], sizes["MemAvailable:"]


def control_groups(own: str, root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """Return the folders of a process's groups for memory and of all groups around them.

    `own` is its /proc/self/cgroup, whose paths may be those of the machine around a container: what
    there is not has no limit here. Version 2 has one tree of groups, version 1 one for memory.
    """
    paths = {root: "", root / "memory": ""}
    for line in own.splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            paths[root] = path
        elif "memory" in kinds.split(","):
            paths[root / "memory"] = path
    found: list[Path] = []
    for tree, path in paths.items():
        parts = [part for part in path.split("/") if part]
        found += [tree.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return found


def left_in_group(folder: Path) -> tuple[int, int] | None:
    """Return the bytes that a control group's folder allows, and those left of them.

    None where it has no limit. The caches of files it has read are left, too.
    """
    for limit_name, used_name, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = folder / limit_name, folder / used_name
        if not limit.exists() or not used.exists():
            continue
        text = limit.read_text().strip()
        if text == "max" or int(text) >= 1 << 60:  # no limit, in the words of either version
            continue
        stat = (used.parent / "memory.stat").read_text().split()
        freed = dict(zip(stat[::2], map(int, stat[1::2]), strict=True)).get(cache, 0)
        return int(text), int(text) - int(used.read_text()) + freed
    return None
