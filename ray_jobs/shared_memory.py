"""Shared memory that killed processes left behind."""

import os
import re
from contextlib import suppress
from pathlib import Path

# torch_<pid>_<number>_<number>, as torch.multiprocessing names what loaders hand over.
_SEGMENT = re.compile(r"torch_(\d+)_\d+(_\d+)?")


def clear_shared_memory(folder: Path = Path("/dev/shm")) -> int:
    """Remove the segments of torch that dead processes of this user left; return their bytes.

    Those of living processes, of other users and of other programs stay.
    """
    freed = 0
    for segment in folder.iterdir() if folder.is_dir() else ():
        named = _SEGMENT.fullmatch(segment.name)
        if named is None or _lives(int(named[1])):
            continue
        with suppress(FileNotFoundError, PermissionError):  # another process was faster
            found = segment.stat()
            if found.st_uid == os.getuid():
                segment.unlink()
                freed += found.st_size
    return freed


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
