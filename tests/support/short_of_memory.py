"""Trains a trial in a process that gets few megabytes more: `short_of_memory.py CONFIG MEGABYTES`.

Prints the rows that are reported.
"""

import json
import resource
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "ray_jobs")]

import torch  # noqa: E402

from trial import run_in_process  # noqa: E402

if __name__ == "__main__":
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(sys.argv[2]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    run_in_process(json.loads(sys.argv[1]), lambda row: print(json.dumps(row)), torch.device("cpu"))
