"""A disk that takes no more, without being root: files of a process cannot grow beyond a size."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_disk(most: int, *processes: int) -> Iterator[None]:
    """Let writes behind so many bytes of a file fail in processes, 0 being this one."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in processes or (0,)}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
