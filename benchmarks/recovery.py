"""How long a study takes to go on after a loss, and how many epochs it trains twice.

`python benchmarks/recovery.py [--kills 5]` brings up the three hosts of tests/cluster (root is
needed), and kills a worker's process, a worker's host, the driver and MLflow's server so often
each in training. It prints the time from the kill to the next epoch that the study has, and the
epochs that were trained again.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "ray_jobs")]

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from cluster_hosts import why_none  # noqa: E402
from three_hosts import SHARED, ThreeHosts  # noqa: E402

_SPACE = """
search: {trials: 1, scheduler: {grace_period: 1000}}
experiment:
  data: {source: {name: sample, crops: 256, scoring_crops: 8}, size: 32}
  model:
    name: gan
    generator: {name: unet, width: 16}
    discriminator: {name: patch, width: 16, layers: 1}
    lambda_l1: !loguniform [1, 1000]
  train:
    batch_size: 16
    grid_pictures: 2
    stages: {adversarial: {turns: adversarial, epochs: 1000}}
"""


class Recovery(NamedTuple):
    """What one kill has cost."""

    seconds: float  # from the kill to the next epoch
    again: int  # epochs that were trained twice


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=[*_KINDS], help="(all)")
    options = parser.parse_args()
    if lacking := why_none():
        print(lacking, file=sys.stderr)
        return 1
    table = Table("lost", "kills", "seconds to the next epoch", "median", "epochs again")
    with ThreeHosts(Path(tempfile.mkdtemp(prefix="hosts-"))) as hosts:
        (hosts.shared / "space.yaml").write_text(_SPACE)
        hosts.up()
        for what in options.kinds:
            name = what.replace(" ", "-")
            found = list(_measure(hosts, name, _KINDS[what], options.kills))
            seconds = [one.seconds for one in found]
            table.add_row(
                what,
                str(len(found)),
                " ".join(f"{s:.0f}" for s in seconds),
                f"{statistics.median(seconds):.0f}",
                " ".join(str(one.again) for one in found),
            )
            Console().print(table)
    return 0


def _measure(
    hosts: ThreeHosts, name: str, lose: Callable[[ThreeHosts, str, int], str], kills: int
) -> Iterator[Recovery]:
    """Train one long trial, and lose something of it again and again."""
    words = ["--model", "gan", "--space", f"{SHARED}/space.yaml", "--name", name]
    job = f"{name}-0"
    hosts.submit(job, "python", "tune.py", *words, "--workers", "2", "--preflight", "off")
    hosts.wait_for_epochs(name, 0, 2)
    for kill in range(kills):
        before, session = hosts.epochs(name, 0), _newest_session(hosts, name)
        started = time.monotonic()
        job = lose(hosts, job, kill)
        hosts.wait_for_epochs(name, 0, before + 1)
        took = time.monotonic() - started
        again = _newest_session(hosts, name)
        yield Recovery(took, max(0, before + 1 - again) if again != session else 0)
        hosts.wait_for_epochs(name, 0, hosts.epochs(name, 0) + 1)
    hosts.call("ray", "job", "stop", job)


def _newest_session(hosts: ThreeHosts, name: str) -> int:
    """Return the epoch that the trial's newest session trained first."""
    sessions = (hosts.shared / "studies" / name / "trial-0000" / "surroundings").glob(
        "epoch-*.json"
    )
    newest = max(sessions, key=lambda file: file.stat().st_mtime)
    return int(newest.stem.removeprefix("epoch-"))


def _lose_process(hosts: ThreeHosts, job: str, kill: int) -> str:
    hosts.workers[kill % 2].run("pkill -9 -f ^ray::RayTrainWorker")
    return job


def _lose_host(hosts: ThreeHosts, job: str, kill: int) -> str:
    """Kill a host and start it again at once."""
    host = hosts.workers[kill % 2]
    host.kill()
    host.boot()
    return job


def _lose_driver(hosts: ThreeHosts, job: str, kill: int) -> str:
    """Kill the driver, and submit the job that goes on."""
    name = job.rpartition("-")[0]
    hosts.head.run("pkill -9 -f '^python tune.py'")
    hosts.wait_for(job)
    again = f"{name}-{kill + 1}"
    hosts.submit(again, "python", "tune.py", "--name", name, "--resume", "--preflight", "off")
    return again


def _lose_mlflow(hosts: ThreeHosts, job: str, kill: int) -> str:
    """Kill MLflow's server, which the head starts again."""
    hosts.head.run("pkill -9 -f '[m]lflow[. ]server'")
    return job


_KINDS = {
    "worker process": _lose_process,
    "worker host": _lose_host,
    "driver": _lose_driver,
    "MLflow": _lose_mlflow,
}


if __name__ == "__main__":
    sys.exit(main())
