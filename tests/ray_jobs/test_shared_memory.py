"""What of torch's shared memory is removed, and what must stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared_memory import clear_shared_memory


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_segments_of_dead_processes_are_removed_and_their_bytes_counted(tmp_path: Path, dead: int):
    for name in (f"torch_{dead}_3735928559_0", f"torch_{dead}_3735928559_1"):
        (tmp_path / name).write_bytes(bytes(100))
    assert clear_shared_memory(tmp_path) == 200
    assert not [*tmp_path.iterdir()]


def test_segments_of_living_processes_and_of_other_programs_stay(tmp_path: Path, dead: int):
    kept = {
        f"torch_{os.getpid()}_1_0",
        f"torch_{os.getppid()}_1_0",
        f"plasma_{dead}_1_0",
        f"torch_{dead}",
        f"sem.torch_{dead}_1_0",
    }
    for name in kept:
        (tmp_path / name).write_bytes(bytes(8))
    assert clear_shared_memory(tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_where_there_is_no_shared_memory_nothing_is_done(tmp_path: Path):
    assert clear_shared_memory(tmp_path / "none") == 0
