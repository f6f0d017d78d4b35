"""What was trained in Ray's processes is replayed in a plain one."""

import pytest

from study_commands import Place, new_place
from tiny_experiment import TINY


@pytest.mark.slow
def test_trials_that_ray_trained_are_replayed_without_drift_ended_and_stopped_ones(finished):
    place = finished.place
    _, runs = place.runs("small")
    by_state = {run.data.tags["state"]: run for run in runs.values()}
    for state in ("COMPLETE", "PRUNED"):
        run = by_state[state]
        assert run.data.tags["threads"] == "1"  # Ray gives an actor of one CPU one thread
        flags = ["--storage", str(place.storage)]
        done = place.run("replay.py", run.info.run_id, *flags, env={"OMP_NUM_THREADS": "2"})
        assert done.code == 0, done.output
        assert f"numbers of {run.data.tags['epochs']} epochs are equal bit for bit" in done.output
        assert "torch.threads" not in done.output
        assert "environment.OMP_NUM_THREADS" in done.output
    assert place.strays() == []


@pytest.fixture(scope="module")
def on_two_workers(tmp_path_factory: pytest.TempPathFactory):
    with new_place(tmp_path_factory.mktemp("workers")) as place:
        file = place.folder / "tiny.yaml"
        file.write_text(TINY)
        flags = ["--workers", "2", "--name", "two", "--preflight", "off", "--promote", "never"]
        done = place.run("train.py", str(file), *flags, "--storage", str(place.storage))
        assert done.code == 0, done.output
        yield place


@pytest.mark.slow
def test_a_run_of_two_workers_is_replayed_in_one_process_which_is_said(on_two_workers: Place):
    place = on_two_workers
    _, runs = place.runs("two")
    assert runs[0].data.tags["ranks"] == "2"
    done = place.run("replay.py", runs[0].info.run_id, "--storage", str(place.storage))
    assert done.code in (0, 1), done.output
    assert "Traceback" not in done.output
    (line,) = [line for line in done.output.splitlines() if "ranks" in line]
    assert line.split("│")[2].strip() == "2"
    assert line.split("│")[3].strip() == "1"
