"""A study that is killed, and goes on, ends as one that was left alone."""

import os
import re
import signal
import subprocess

from optuna.trial import FrozenTrial

from study_commands import new_place


def kill_after(process: subprocess.Popen[str], pattern: str) -> None:
    """SIGKILL a command and all that it started in its group, once it has printed a line."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if re.search(pattern, line):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()  # Ray's own processes hold it open until they notice
            return
    raise AssertionError(f"it ended without {pattern!r}:\n{read}")


def known(trial: FrozenTrial) -> tuple[object, ...]:
    """Return all that must not hang on what happened to the study's processes."""
    attributes = {
        key: {name: score for name, score in value.items() if "second" not in name}
        if isinstance(value, dict)
        else value
        for key, value in trial.user_attrs.items()
        if key not in ("seconds",)
    }
    return trial.state, trial.params, trial.values, trial.intermediate_values, attributes


def test_a_killed_study_ends_as_the_same_study_that_was_left_alone(finished, tmp_path):
    with new_place(tmp_path) as place:
        flags = ["--name", "small", "--storage", str(place.storage)]
        begin = ["--model", "gan", "--space", str(finished.space), "--seed", "51"]
        one_by_one = ["--concurrent", "1", "--preflight", "off"]
        kill_after(place.start("tune.py", *begin, *one_by_one, *flags), r"trial 2 epoch 1 ")
        done = place.run("tune.py", "--resume", "--preflight", "off", *flags)
        assert done.code == 0, done.output
        trials = place.trials("small")
        assert list(map(known, trials)) == list(map(known, finished.place.trials("small")))
        parent, runs = place.runs("small")
        assert parent.info.status == "FINISHED"
        assert runs.keys() == {0, 1, 2, 3}
        for trial in trials:
            assert runs[trial.number].data.tags["state"] == trial.state.name
            epochs = list(range(1, trial.user_attrs["epochs"] + 1))
            assert place.steps(runs[trial.number], "ab_mae") == epochs
