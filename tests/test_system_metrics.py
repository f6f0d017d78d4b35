from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from colorization.distributed import current_ranks
from colorization.experiment import Experiment
from colorization.system_metrics import SystemMonitor
from colorization.training import fit
from rank_pool import RankPool
from rank_pool import fit as watched_fit

Make = Callable[..., Experiment]


def test_an_epoch_tells_how_busy_the_machine_was(tiny: Make, tmp_path: Path) -> None:
    for line in fit(tiny(), tmp_path, device="cpu").history:
        assert 0 < line["system/cpu_utilization_percentage"] <= 100
        total = psutil.virtual_memory().total / 1e6
        assert 0 < line["system/process_memory_usage_megabytes"] < total
        assert 0 < line["system/system_memory_usage_megabytes"] < total
        assert line["system/disk_available_megabytes"] > 0


def test_the_names_are_those_of_mlflows_own_sampling(tmp_path: Path) -> None:
    monitors = pytest.importorskip("mlflow.system_metrics.metrics.cpu_monitor")
    disks = pytest.importorskip("mlflow.system_metrics.metrics.disk_monitor")
    theirs: set[str] = set()
    for monitor in (monitors.CPUMonitor(), disks.DiskMonitor()):
        monitor.collect_metrics()
        theirs |= {f"system/{name}" for name in monitor.metrics}
    with SystemMonitor(tmp_path, current_ranks("cpu")) as monitor:
        assert theirs <= monitor.epoch().keys()


def test_its_thread_ends_with_it(tmp_path: Path) -> None:
    with SystemMonitor(tmp_path, current_ranks("cpu")) as monitor:
        assert monitor._thread.is_alive()
    assert not monitor._thread.is_alive()


def test_two_ranks_tell_the_same_and_the_memory_of_both(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    first, second = two_ranks.run(watched_fit, tiny(), tmp_path)
    for ours, theirs in zip(first.scores, second.scores, strict=True):
        system = {k: v for k, v in ours.items() if k.startswith("system/")}
        assert system == {k: v for k, v in theirs.items() if k.startswith("system/")}
        assert system["system/process_memory_usage_megabytes"] > 600  # importing torch takes 400
