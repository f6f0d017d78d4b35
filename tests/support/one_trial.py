"""Lets Tune run one trial of several workers as a study does: `one_trial.py CONFIG`.

Prints the rows it reports.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "ray_jobs")]

import ray  # noqa: E402
from ray import tune  # noqa: E402

from group_trial import run_group  # noqa: E402


class _Printed(tune.Callback):
    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any):
        known = {"failed", "cause", "memory_saving", "epoch", "last"}
        print(json.dumps({key: value for key, value in result.items() if key in known}))


if __name__ == "__main__":
    config = json.loads(sys.argv[1])
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'ray_jobs'}"}
    ray.init("local", num_cpus=config["workers"], runtime_env={"env_vars": environment})
    resources = {"CPU": 0, "node:__internal_head__": 0.001}
    run = tune.RunConfig(
        name="tune", storage_path=config["directory"], callbacks=[_Printed()], verbose=0
    )
    trainable = tune.with_resources(run_group, resources)
    tune.Tuner(trainable, param_space=config, run_config=run).fit()
