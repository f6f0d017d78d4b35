"""What a run was trained in: code, libraries, machines and settings outside of the experiment.

    python -m colorization.surroundings    # prints those of this process

`fit` writes them into the run's directory, once for each session that trained: a run that went on
on another machine has both.
"""

import json
import os
import platform
import re
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import torch

from colorization import config
from colorization.code_version import code_version, installed, library_hash
from colorization.distributed import Ranks, current_ranks, gather
from colorization.experiment import SPEED_ONLY, Experiment
from colorization.machine import machine
from colorization.passwords import shown
from colorization.stage import computes_bfloat16

FOLDER = "surroundings"
_LONGEST = 500  # characters of a variable's value
# What changes how numbers are computed, or how many processes compute them.
_VARIABLES = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|NUMEXPR|ATEN|DNNL|ONEDNN|TORCH|PYTORCH"
    r"|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|GLOO|MALLOC)_\w+|(LOCAL_)?(WORLD_SIZE|RANK)|PYTHONHASHSEED"
    r"|LD_PRELOAD|RAY_ACCEL_\w+"
)

Surroundings = dict[str, Any]


def surroundings(ranks: Ranks, experiment: Experiment | None = None) -> Surroundings:
    """Return JSON data of this process's surroundings; all ranks have to call it together.

    `machines` are those of the ranks, each once; everything else is the calling rank's.
    """
    here = machine(ranks.device)
    machines: list[dict[str, Any]] = []
    for found in gather(here, ranks):
        if found not in machines:
            machines.append(found)
    code = code_version()
    data: Surroundings = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": {
            "commit": code.commit,
            "changed": code.changed,
            "diff_hash": code.diff_hash,
            "untracked": list(code.untracked),
        }
        if code
        else {"source": library_hash()},
        "python": platform.python_version(),
        "torch": _torch_settings(),
        "ranks": ranks.size,
        "device": ranks.device.type,
        "machines": machines,
        "environment": {
            name: shown(name, value)[:_LONGEST]
            for name, value in sorted(os.environ.items())
            if _VARIABLES.fullmatch(name)
        },
        "packages": installed(),
    }
    if experiment:
        flat = config.flatten(config.dump(experiment))
        bfloat16 = experiment.train.precision == "bfloat16" or (
            experiment.train.precision == "auto" and computes_bfloat16(ranks.device)
        )
        data["seed"] = experiment.train.seed
        data["precision"] = "bfloat16" if bfloat16 else "float32"
        data["settings"] = {key: flat[key] for key in SPEED_ONLY if key in flat}
    return data


def _torch_settings() -> dict[str, Any]:
    """What torch computes with in this process, and in this thread."""
    cudnn = torch.backends.cudnn
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "cv2_threads": cv2.getNumThreads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version() if cudnn.is_available() else None,
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
    }


def restore(recorded: Surroundings, threads: int | None = None) -> None:
    """Set what torch computes with as it was recorded, or with so many threads.

    What was set before a process started, as its environment was, cannot be restored in another.
    """
    torch_settings = recorded["torch"]
    torch.set_num_threads(threads or torch_settings["threads"])
    torch.use_deterministic_algorithms(torch_settings["deterministic_algorithms"])
    torch.set_float32_matmul_precision(torch_settings["float32_matmul_precision"])
    torch.backends.cudnn.benchmark = torch_settings["cudnn_benchmark"]
    torch.backends.cudnn.deterministic = torch_settings["cudnn_deterministic"]


def write_surroundings(folder: Path, name: str, found: Surroundings) -> list[Path]:
    """Write surroundings into files of a folder; return them.

    NAME.json is all of them; beside it NAME.requirements.txt, the installed distributions as pip
    takes them, and NAME.diff, what was changed in the checkout, where something was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pins = "".join(f"{package}=={version}\n" for package, version in found["packages"].items())
    texts = {
        f"{name}.requirements.txt": pins,
        f"{name}.json": json.dumps(found, indent=1) + "\n",
    }
    code = code_version()
    if code and code.changed:
        names = "".join(f"# not in git, contents not kept: {path}\n" for path in code.untracked)
        texts[f"{name}.diff"] = names + code.diff
    (folder / f"{name}.diff").unlink(missing_ok=True)  # an earlier attempt's
    for file, text in texts.items():
        partial = folder / f".{file}.{uuid.uuid4().hex[:8]}"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / file)
    return [folder / file for file in texts]


def note_session(run: Path, epoch: int, ranks: Ranks, experiment: Experiment) -> None:
    """Write down what a session trains a run in, from an epoch on (from 1), which names its files.

    A session that ended before that epoch did is replaced by the next. All ranks have to call it.
    """
    found = surroundings(ranks, experiment)
    if ranks.first:
        write_surroundings(run / FOLDER, f"epoch-{epoch:05d}", found)


def sessions(folder: Path) -> dict[int, Surroundings]:
    """Read the surroundings of a run's sessions by the epoch that each trained first."""
    files = sorted(folder.glob("epoch-*.json"))
    return {int(f.stem.removeprefix("epoch-")): json.loads(f.read_text("utf-8")) for f in files}


if __name__ == "__main__":
    print(json.dumps(surroundings(current_ranks()), indent=1), file=sys.stdout)
