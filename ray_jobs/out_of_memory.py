"""A trial that ran out of memory is tried once more with less; a file in its directory knows."""

import errno
import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ray.exceptions import OutOfMemoryError

_FILE = "memory.json"
# What torch's allocators and CUDA's libraries say in plain RuntimeErrors.
_SAYINGS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class Memory(NamedTuple):
    """What a trial knows of its memory; the messages are of the errors."""

    first: str | None = None  # it ran out of it
    saving: bool = False  # and was started again with less
    second: str | None = None  # and ran out of it once more


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or one that it comes from, says that memory was short."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError, OutOfMemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def read_memory(directory: Path) -> Memory:
    """Read what is known in a trial's directory; the file appears whole or not at all."""
    path = directory / _FILE
    if not path.exists():
        return Memory()
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Memory(**found)


def note_out_of_memory(directory: Path, said: str) -> None:
    """Note that a trial's attempt ran out of memory, before it is tried again.

    Who sees it calls this, be it several times for the same attempt: a rank, or the driver of a
    process that the node's memory monitor killed.
    """
    known = read_memory(directory)
    if known.first is None:
        _write(directory, Memory(first=said))
    elif known.saving and known.second is None:
        _write(directory, known._replace(second=said))


def note_saving(directory: Path) -> None:
    """Note that a trial is started with less memory; its first rank calls this."""
    known = read_memory(directory)
    if not known.saving:
        _write(directory, known._replace(saving=True))


def _write(directory: Path, memory: Memory) -> None:
    partial = directory / f".{_FILE}-{uuid.uuid4().hex[:8]}"
    partial.write_text(json.dumps(memory._asdict()), encoding="utf-8")
    partial.replace(directory / _FILE)
