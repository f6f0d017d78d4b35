"""Workers of a group that cannot meet end as a trial that failed of the network."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from colorization.config import dump
from colorization.experiment import Experiment
from study_commands import new_place


@pytest.mark.slow
def test_workers_without_a_network_fail_the_trial_after_two_more_tries_with_who_and_why(
    tiny: Callable[..., Experiment], tmp_path: Path
):
    trial = tmp_path / "trial"
    config = {
        "number": 0,
        "experiment": dump(tiny()),
        "directory": str(trial),
        "workers": 2,
        "cpus_per_worker": 1,
        "gpus_per_worker": 0,
    }
    with new_place(tmp_path / "place") as place:
        done = place.run(
            "../tests/support/one_trial.py",
            json.dumps(config),
            env={"GLOO_SOCKET_IFNAME": "eth77"},
        )
    (row,) = [json.loads(line) for line in done.output.splitlines() if line.startswith('{"')]
    assert done.code == 0, done.output
    assert row["cause"] == "network"
    assert "has no interface eth77, which GLOO_SOCKET_IFNAME names" in row["failed"]
    assert (trial / "trial.log").read_text().count("ERROR Traceback") in range(3, 7)
