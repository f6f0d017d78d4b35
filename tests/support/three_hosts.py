"""A real cluster of three hosts on one machine, brought up from the project's own cluster.yaml."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml

from cluster_hosts import ROOT, Network, run_here, wait_until
from past_study import PastStudy

SHARED = "/mnt/colorization-shared"  # as the hosts see it
_DASHBOARD, _MLFLOW = 18265, 15000  # ports of the laptop
_SETTINGS = f"""\
cat > ~/cluster.env <<'END'
STORAGE_SERVER=
STORAGE={SHARED}
HEAD_RESOURCES='--num-cpus=0 --object-store-memory=100000000'
WORKER_RESOURCES='--num-cpus=1 --object-store-memory=100000000'
END
"""


def derived(head: str, workers: Sequence[str], key: Path) -> dict[str, Any]:
    """Return cluster.yaml with another provider, other sizes and paths, and nothing else changed.

    The provider `local` knows no kinds of machines: it takes those that there are.
    """
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    for of_clouds in ("available_node_types", "head_node_type", "max_workers"):
        del config[of_clouds]
    return config | {
        "provider": {"type": "local", "head_ip": head, "worker_ips": list(workers)},
        "auth": {"ssh_user": "root", "ssh_private_key": str(key)},
        "initialization_commands": [_SETTINGS],
    }


class ThreeHosts:
    """A head that trains nothing and two workers of one CPU each, and the laptop they are used
    from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Network(folder / "network", folder / "shared")
        self.laptop = folder / "laptop"
        self.file = folder / "cluster.yaml"
        self._forwards: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of the laptop's shell."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.laptop),
            "RAY_TMPDIR": str(self.laptop / "tmp"),
            "RAY_AUTH_MODE": "token",
            "RAY_UP_enable_autoscaler_v2": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Not any other Ray of this machine.
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{_DASHBOARD}",
            "LANG": "C.UTF-8",
        }

    def __enter__(self) -> "ThreeHosts":
        for place in (self.laptop / "tmp", self.laptop / "elsewhere"):
            place.mkdir(parents=True, exist_ok=True)
        self.network.__enter__()
        try:
            self.head, *self.workers = [self.network.host(f"host{n}") for n in range(3)]
            config = derived(self.head.address, [w.address for w in self.workers], self.network.key)
            self.file.write_text(yaml.safe_dump(config, sort_keys=False))
            self.call("ray", "get-auth-token", "--generate")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._end_forwards()
        self.network.__exit__()

    def call(
        self, *words: str, check: bool = True, timeout: float = 300, folder: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the laptop."""
        done = run_here(words, self.environment, folder, timeout)
        if check and done.returncode:
            raise RuntimeError(
                f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def up(self) -> None:
        """`ray up`, and the port forwards to dashboard and MLflow; waits until both workers are in.

        The dashboard's is Ray's own, as a person would make it; MLflow's is plain SSH.
        """
        self.call("ray", "up", str(self.file), "--yes", "--no-config-cache", timeout=600)
        forward = ["-N", "-L", f"{_MLFLOW}:127.0.0.1:5000", f"root@{self.head.address}"]
        self._forward("ray", "dashboard", str(self.file), "--port", str(_DASHBOARD))
        self._forward("ssh", *self.network.ssh_options, *forward)
        wait_until(lambda: len(self.alive()) == 3, "the head and both workers", 180)

    def down(self) -> None:
        """`ray down`, and the port forwards' end."""
        self._end_forwards()
        self.call("ray", "down", str(self.file), "--yes")

    def alive(self) -> set[str]:
        """Return the addresses of the machines that Ray has."""
        try:
            nodes = json.loads(self.ask("/nodes?view=summary"))["data"]["summary"]
        except OSError:  # the forward, or the dashboard, is not there yet
            return set()
        return {n["raylet"]["nodeManagerAddress"] for n in nodes if n["raylet"]["state"] == "ALIVE"}

    def submit(self, job: str, *words: str, working_dir: Path | None = None) -> None:
        """`ray job submit` from a folder that has nothing of the project, unless one is given."""
        where = ["--working-dir", "."] if working_dir else []
        self.call(
            *("ray", "job", "submit", "--no-wait", "--submission-id", job, *where, "--", *words),
            folder=working_dir or self.laptop / "elsewhere",
        )

    def status(self, job: str) -> str:
        """Return what Ray says of a job: RUNNING, SUCCEEDED, FAILED, STOPPED."""
        return json.loads(self.ask(f"/api/jobs/{job}"))["status"]

    def logs(self, job: str) -> str:
        """Return what a job has printed."""
        return json.loads(self.ask(f"/api/jobs/{job}/logs"))["logs"]

    def ask(self, path: str, token: str | None = None) -> str:
        """Ask the dashboard, with the cluster's token unless another is given."""
        if token is None:
            token = (self.laptop / ".ray" / "auth_token").read_text().strip()
        request = Request(f"http://127.0.0.1:{_DASHBOARD}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def wait_for(self, job: str, patience: float = 1200) -> str:
        """Wait until a job has ended; return how it did."""
        over = ("SUCCEEDED", "FAILED", "STOPPED")
        wait_until(lambda: self.status(job) in over, f"the end of {job}", patience)
        return self.status(job)

    def wait_for_epochs(self, study: str, trial: int, epochs: int, patience: float = 600) -> None:
        """Wait until the study has so many epochs of a trial."""
        wait_until(
            lambda: self.epochs(study, trial) >= epochs,
            f"epoch {epochs} of trial {trial} of {study}",
            patience,
        )

    def epochs(self, study: str, trial: int) -> int:
        """Return how many epochs of a trial the study has."""
        found = PastStudy.find(self.shared, study)
        if found is None or len(found.trials) <= trial:
            return 0
        return found.trials[trial].user_attrs.get("epochs", 0)

    def trial_processes(self) -> list[str]:
        """Return the processes of trials, on all hosts."""
        titles = ("ray::RayTrainWorker", "ray::TrainController", "ray::run_", "ray::ImplicitFunc")
        found = [line for host in (self.head, *self.workers) for line in host.processes()]
        return [line for line in found if line.strip().startswith(titles)]

    @property
    def shared(self) -> Path:
        """Return the hosts' shared folder as it is seen from here."""
        return self.network.shared

    @property
    def mlflow(self) -> str:
        """Return MLflow's address through the port forward."""
        return f"http://127.0.0.1:{_MLFLOW}"

    def _end_forwards(self) -> None:
        while self._forwards:
            forward = self._forwards.pop()
            os.killpg(forward.pid, signal.SIGTERM)
            forward.wait()

    def _forward(self, *words: str) -> None:
        log = (self.folder / "forwards.log").open("ab")
        self._forwards.append(
            subprocess.Popen(
                words,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )
