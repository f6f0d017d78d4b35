from pathlib import Path

import pytest

from colorization import checkpoint
from quota import Freed, Need, enforce, quota_message

FILES = ("metrics.jsonl", "experiment.yaml", "trial.log", "best.json", "grids/epoch-00001.png")


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def make_trial(study: Path, number: int, epochs: int = 2, model: int = 40, best: int = 1) -> Path:
    """Write what a trial leaves: checkpoints of 100 bytes each, a model, and small files."""
    run = study / f"trial-{number:04d}"
    for epoch in range(1, epochs + 1):
        write(run / "checkpoints" / f"epoch-{epoch:05d}" / "state.pt", 100)
    if model:
        write(run / "model" / "weights.pt", model)
    for name in FILES:
        write(run / name, 7)
    (run / "best.json").write_text(f'{{"epoch": {best}}}')
    return run


def held(run: Path) -> list[str]:
    found = [*(run / "checkpoints").iterdir(), *run.glob("model")]
    return sorted(path.name for path in found)


@pytest.fixture
def study(tmp_path) -> Path:
    for number, model in ((0, 0), (1, 40), (2, 40), (3, 0)):
        make_trial(tmp_path, number, model=model)
    return tmp_path


NEEDS: dict[int, Need] = {2: "front", 3: "running", 1: "finished", 0: "stopped"}
ALL = 4 * 200 + 2 * 40
# What goes one after the other, and what is held then.
STEPS = [
    (0, "epoch-00001", 780),
    (0, "epoch-00002", 680),
    (1, "epoch-00001", 580),
    (1, "epoch-00002", 480),
    (1, "model", 440),
    (2, "epoch-00002", 340),
]


def test_nothing_goes_within_the_limit(study):
    assert enforce(study, ALL, NEEDS) == Freed(0, (), ALL)
    assert quota_message(Freed(0, (), ALL), ALL) is None


@pytest.mark.parametrize("count", range(1, len(STEPS) + 1))
def test_what_is_needed_least_goes_first_and_no_more_than_must(study, count):
    before = {number: held(study / f"trial-{number:04d}") for number in NEEDS}
    for number, name, _ in STEPS[:count]:
        before[number].remove(name)
    left = STEPS[count - 1][2]
    limit = STEPS[count - 2][2] - 1 if count > 1 else ALL - 1
    done = enforce(study, limit, NEEDS)
    assert done.freed == ALL - left
    assert done.held == left
    assert set(done.trials) == {number for number, _, _ in STEPS[:count]}
    assert {number: held(study / f"trial-{number:04d}") for number in NEEDS} == before


def test_what_the_study_needs_stays_however_small_the_limit_and_so_do_records(study):
    write(study / "optuna.journal", 1000)
    write(study / "trial-0009" / "checkpoints" / "epoch-00001" / "state.pt", 100)
    done = enforce(study, 0, NEEDS)
    assert done.held == 200 + 140
    assert held(study / "trial-0003") == ["epoch-00001", "epoch-00002"]
    assert held(study / "trial-0002") == ["epoch-00001", "model"]
    for number in NEEDS:
        assert all((study / f"trial-{number:04d}" / name).exists() for name in FILES)
    assert (study / "optuna.journal").exists()
    assert (study / "trial-0009" / "checkpoints" / "epoch-00001").exists()
    message = quota_message(done, 0)
    assert message is not None
    assert "trials 0, 1, 2" in message
    assert "allow more" in message
    again = enforce(study, 0, NEEDS)
    assert again == Freed(0, (), done.held)


def test_the_winner_can_be_loaded_from_its_best_checkpoint_afterwards(study):
    enforce(study, 0, NEEDS)
    assert checkpoint.best(study / "trial-0002").name == "epoch-00001"


def test_within_a_kind_the_least_wanted_trial_goes_first(tmp_path):
    for number in range(3):
        make_trial(tmp_path, number, model=0)
    needs: dict[int, Need] = {2: "stopped", 0: "stopped", 1: "stopped"}
    assert enforce(tmp_path, 300, needs).trials == (2, 0)


def test_what_waits_for_its_upload_stays(study):
    kept = [study / "trial-0001" / "model", study / "trial-0000"]
    done = enforce(study, 0, NEEDS, keep=kept)
    assert held(study / "trial-0001") == ["model"]
    assert held(study / "trial-0000") == ["epoch-00001", "epoch-00002"]
    assert set(done.trials) == {1, 2}


def test_remainders_of_a_killed_process_go_at_the_next_call(study):
    remainder = study / "trial-0002" / "checkpoints" / ".deleted-0123abcd"
    write(remainder / "state.pt", 60)
    partial = study / "trial-0000" / "checkpoints" / ".epoch-00003-0123abcd"
    write(partial / "state.pt", 50)
    assert checkpoint.latest(study / "trial-0002") == remainder.with_name("epoch-00002")
    done = enforce(study, ALL, NEEDS)
    assert done == Freed(110, (0,), ALL)
    assert not remainder.exists()
    assert not partial.exists()


def test_a_trial_that_left_nothing_takes_no_space(tmp_path):
    needs: dict[int, Need] = {0: "stopped", 1: "front", 2: "finished"}
    assert enforce(tmp_path, 0, needs) == Freed(0, (), 0)
