"""The group of ranks that the environment describes."""

import os
import subprocess
import sys

import pytest
import torch.distributed as dist

from colorization.process_group import process_group

# Prints what each rank of a group finds.
RANK = """
import os, torch, torch.distributed as dist
from colorization.process_group import process_group
with process_group("cpu"):
    backend = dist.group.WORLD._get_backend(torch.device("cpu"))
    names = {key: value for key, value in os.environ.items() if key.endswith("_SOCKET_IFNAME")}
    # At once: the ranks share one output.
    os.write(1, f"{dist.get_world_size()} {names} {backend.options._timeout}\\n".encode())
"""


def test_without_ranks_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as group:
        assert group.store is None
        assert not dist.is_initialized()


def test_two_ranks_of_a_host_meet_on_loopback_soon_and_have_time_afterwards() -> None:
    flags = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command = [sys.executable, "-m", "torch.distributed.run"]
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [*command, *flags, "--no-python", sys.executable, "-c", RANK],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["2 {'GLOO_SOCKET_IFNAME': 'lo'} 0:30:00"] * 2
