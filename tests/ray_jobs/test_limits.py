"""A study that may spend so much time and so much disk, and no more."""

import re

import pytest
from optuna.trial import TrialState

from study_commands import new_place

pytestmark = pytest.mark.slow

SPACE = """
search: {trials: 500, scheduler: {name: median, grace_period: 1}}
experiment:
  data: {source: {name: sample, crops: 16, scoring_crops: 8}, size: 32}
  model: {name: unet, generator: {name: unet, width: !logint [4, 8]}}
  train:
    batch_size: 8
    learning_rate: !loguniform [1e-4, 1e-2]
    grid_pictures: 1
    stages: {l1: {turns: l1, epochs: 3}}
"""


def test_a_spent_budget_ends_a_study_with_a_registered_best_and_no_more_disk_than_allowed(tmp_path):
    with new_place(tmp_path) as place:
        (place.folder / "space.yaml").write_text(SPACE)
        flags = ["--name", "s", "--storage", str(place.storage)]
        limits = ["--time-budget", "60s", "--keep-gb", "0.002", "--concurrent", "1"]
        begin = ["--model", "unet", "--space", str(place.folder / "space.yaml")]
        done = place.run("tune.py", *begin, *limits, *flags)
        assert done.code == 0, done.output
        assert (
            "the time budget of 60 s is spent; choosing among the trials that ended" in done.output
        )
        assert re.search(r"forecast: \d+ more trials .* will be spent before", done.output)
        assert re.search(r"--keep-gb: .* deleted", done.output)
        trials = place.trials("s")
        assert 2 < len(trials) < 500
        states = {trial.state for trial in trials}
        assert TrialState.RUNNING not in states
        assert TrialState.WAITING not in states
        assert {run.info.status for run in place.runs("s")[1].values()} <= {"FINISHED", "KILLED"}
        version = place.client().get_model_version_by_alias("colorizer-unet", "champion")
        kept = place.storage / "studies" / "s" / f"trial-{int(version.tags['trial']):04d}"
        assert (kept / "model" / "weights.pt").exists()
        assert (kept / "checkpoints").is_dir()
        with_checkpoints = list(kept.parent.glob("trial-*/checkpoints/epoch-*"))
        assert len(with_checkpoints) < len(trials)

        again = place.run("tune.py", *flags, "--resume")
        assert again.code == 0, again.output
        assert len(place.trials("s")) == len(trials), "the budget is one for all sessions"
