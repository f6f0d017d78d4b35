import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from colorization import checkpoint
from colorization.config import ConfigError, dump, to_yaml
from colorization.distributed import current_ranks
from colorization.experiment import Experiment, build_model
from colorization.loss_log import Diverged
from colorization.optimizers import build_optimizers, clip_gradients
from colorization.pictures import Picture, write_picture
from colorization.score_names import is_of_the_machine
from colorization.stage import autocast
from colorization.training import Report, fit, read_history
from rank_pool import Fitted
from rank_pool import fit as watched_fit
from written_pictures import write_pictures

Make = Callable[..., Experiment]

# All that a resume could lose: dropout, the penalty's random draws, averaged weights, a schedule,
# moments that a stage takes over, a stage that ends within an epoch.
FORGETFUL = (
    "model.generator.normalization=batch",
    "model.generator.dropout=0.5",
    "model.adversarial.name=wasserstein",
    "train.ema=0.9",
    "train.schedule={name: cosine, warmup_steps: 2}",
)
STAGES = {
    "head_start": {"turns": "l1", "epochs": 2, "select": False},
    "adversarial": {"turns": "adversarial", "steps": 5, "optimizers": "keep"},
    "late": {"turns": "adversarial", "epochs": 1, "change": {"train.learning_rate": 1e-5}},
}
EPOCHS = 6

pytestmark = pytest.mark.usefixtures("one_thread")


def identical(first: Any, second: Any) -> bool:
    """Compare nested states bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(identical(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(identical, first, second))
    return torch.equal(first, second) if isinstance(first, Tensor) else first == second


def of_the_model(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not is_of_the_machine(name)}


def assert_same_run(found: Path, expected: Path) -> None:
    """Compare all that two runs left behind, but for the time they took."""
    for mine, theirs in zip(read_history(found), read_history(expected), strict=True):
        assert of_the_model(mine) == of_the_model(theirs)
    assert (found / "best.json").read_text() == (expected / "best.json").read_text()
    checkpoints = [
        sorted(path.name for path in (run / checkpoint.FOLDER).iterdir())
        for run in (found, expected)
    ]
    assert checkpoints[0] == checkpoints[1]
    for name in checkpoints[0]:
        mine, theirs = (
            checkpoint.load(run / checkpoint.FOLDER / name) for run in (found, expected)
        )
        assert identical(mine, theirs)


@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param([1], id="inside the head start"),
        pytest.param([2], id="at a stage boundary"),
        pytest.param([3], id="inside the adversarial stage"),
        pytest.param([1, 2, 3, 4, 5], id="after every epoch"),
    ],
)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    epochs: list[int], tiny: Make, tmp_path: Path
) -> None:
    experiment = tiny(*FORGETFUL, stages=STAGES)
    assert fit(experiment, tmp_path / "straight").epochs == EPOCHS
    for epoch in epochs:
        stopped = watched_fit(experiment, tmp_path / "resumed", stop_after=epoch)
        assert len(read_history(tmp_path / "resumed")) == epoch
        assert stopped.diverged is None
    torch.manual_seed(99)  # whatever was drawn before
    fit(experiment, tmp_path / "resumed")
    assert_same_run(tmp_path / "resumed", tmp_path / "straight")


@pytest.mark.parametrize("whose", ["data.source", "train.stages.adversarial.change"])
def test_a_resumed_run_refuses_other_pictures_than_it_was_trained_on(
    whose: str, tiny: Make, tmp_path: Path
) -> None:
    photos, run = tmp_path / "photos", tmp_path / "run"
    write_pictures(photos, 40)
    source = {"name": "folder", "path": str(photos)}
    own = whose != "data.source"
    stages = {
        "head_start": {"turns": "l1", "epochs": 1},
        "adversarial": {
            "turns": "adversarial",
            "epochs": 1,
            "change": {"data.source": source} if own else {},
        },
    }
    words = () if own else (f"data.source={{name: folder, path: {photos}}}",)
    experiment = tiny(*words, stages=stages)
    watched_fit(experiment, run, stop_after=1)
    added = write_pictures(photos, 1, seed=1)
    before = (run / "metrics.jsonl").read_bytes()
    hashed = r"[0-9a-f]+"
    message = rf"^{whose}: .* hash {hashed}, {run} was trained on {hashed}: .*another run directory"
    with pytest.raises(ConfigError, match=message):
        fit(experiment, run)
    assert (run / "metrics.jsonl").read_bytes() == before
    added[0].unlink()
    assert fit(experiment, run).epochs == 2


def test_a_checkpoint_that_does_not_know_its_pictures_is_taken_as_it_is(
    tiny: Make, tmp_path: Path
) -> None:
    watched_fit(tiny(), tmp_path, stop_after=1)
    newest = checkpoint.latest(tmp_path)
    assert newest
    state = checkpoint.load(newest)
    assert state.pop("data").keys() == {""}
    torch.save(state, newest / "state.pt")
    assert fit(tiny(), tmp_path).epochs == 3


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from colorization.experiment import read_experiment
from colorization.training import fit

turns = 0

def count(*_):
    global turns
    turns += 1
    if turns == 9:  # 2 + 2 in the head start, 3 a step after it: in the middle of epoch 3
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
register_optimizer_step_post_hook(count)
fit(read_experiment(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_run_killed_in_mid_epoch_is_resumed_from_the_epoch_before(
    tiny: Make, tmp_path: Path
) -> None:
    experiment = tiny(*FORGETFUL, stages=STAGES)
    file, run = tmp_path / "experiment.yaml", tmp_path / "killed"
    file.write_text(to_yaml(dump(experiment)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(file), str(run)], check=False)
    assert done.returncode == -signal.SIGKILL
    newest = checkpoint.latest(run)
    assert newest
    assert newest.name == "epoch-00002"
    fit(experiment, run)
    fit(experiment, tmp_path / "straight")
    assert_same_run(run, tmp_path / "straight")


@pytest.mark.parametrize("torn", [False, True])
def test_lines_of_epochs_without_a_checkpoint_are_written_once(
    torn: bool, tiny: Make, tmp_path: Path
) -> None:
    # Killed between the line of the first epoch, or half of it, and its checkpoint.
    experiment = tiny()
    checkpoint.write_experiment(tmp_path, experiment)
    line = json.dumps({"epoch": 1, "stage": "head_start"})
    (tmp_path / "metrics.jsonl").write_text(line[:9] if torn else line + "\n")
    history = fit(experiment, tmp_path).history
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert all("ab_mae" in entry for entry in history)


def test_a_finished_run_is_finished_and_says_once_more_how(tiny: Make, tmp_path: Path) -> None:
    told: list[Report] = []
    first = fit(tiny(), tmp_path, report=told.append)
    again: list[Report] = []
    assert fit(tiny(), tmp_path, report=again.append) == first
    assert again == told[-1:]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_resumed_run_repeats_its_last_report_and_goes_on(
    epoch: int, tiny: Make, tmp_path: Path
) -> None:
    stopped = watched_fit(tiny(), tmp_path, stop_after=epoch)
    reports: list[Report] = []
    fit(tiny(), tmp_path, report=reports.append)
    assert [report.epoch for report in reports] == list(range(epoch, 4))
    assert [report.selecting_epoch for report in reports] == [None, 1, 2][epoch - 1 :]
    assert reports[0].metrics == stopped.scores[-1]


def test_every_epoch_is_reported_with_scores_terms_checkpoint_and_grid(
    tiny: Make, tmp_path: Path
) -> None:
    reports: list[Report] = []
    outcome = fit(tiny("train.grid_every=2"), tmp_path, report=reports.append)
    assert [(r.epoch, r.stage, r.selecting_epoch) for r in reports] == [
        (1, "head_start", None),
        (2, "adversarial", 1),
        (3, "adversarial", 2),
    ]
    assert [r.grid is not None for r in reports] == [True, False, True]
    assert all(r.checkpoint for r in reports)
    assert all(r.metrics["against_gray"] > 0 for r in reports)
    assert "train/generator/l1" in reports[0].metrics
    assert "train/discriminator/real" not in reports[0].metrics
    assert "train/discriminator/real" in reports[1].metrics
    assert [entry["epoch"] for entry in outcome.history] == [1, 2, 3]


def test_the_best_is_of_a_stage_that_selects(tiny: Make, tmp_path: Path) -> None:
    # The head start at a sane learning rate; then the colors are ruined.
    ruin = {"turns": "l1", "epochs": 2, "change": {"train.learning_rate": 1}}
    stages = {"head_start": {"turns": "l1", "epochs": 2, "select": False}, "ruin": ruin}
    outcome = fit(tiny(stages=stages), tmp_path)
    scores = [entry["against_gray"] for entry in outcome.history]
    assert min(scores) in scores[:2]
    assert outcome.best_epoch == 3 + (scores[3] < scores[2])
    assert checkpoint.best(tmp_path).name == f"epoch-{outcome.best_epoch:05d}"


def test_a_stage_of_no_epochs_is_left_out(tiny: Make, tmp_path: Path) -> None:
    outcome = fit(tiny("train.stages.head_start.epochs=0"), tmp_path)
    assert [entry["stage"] for entry in outcome.history] == ["adversarial"] * 2


def test_a_stage_in_steps_ends_within_an_epoch(tiny: Make, tmp_path: Path) -> None:
    experiment = tiny("train.learning_rate=1e-3", stages={"a": {"turns": "l1", "steps": 3}})
    fitted = watched_fit(experiment, tmp_path)
    moments = fitted.states[-1]["optimizers"]["generator"]["state"]
    assert {int(moment["step"]) for moment in moments.values()} == {3}
    assert len(fitted.states) == 2


def step_counts(fitted: Fitted, player: str) -> list[int]:
    states = [state["optimizers"][player]["state"] for state in fitted.states]
    return [max((int(m["step"]) for m in state.values()), default=0) for state in states]


def test_a_stages_optimizers_are_fresh_or_kept_as_it_says(tiny: Make, tmp_path: Path) -> None:
    for kind, expected in (("fresh", [2, 2]), ("keep", [2, 4])):
        second = {"turns": "l1", "epochs": 1, "optimizers": kind}
        stages = {"a": {"turns": "l1", "epochs": 1}, "b": second}
        fitted = watched_fit(tiny(stages=stages), tmp_path / kind)
        assert step_counts(fitted, "generator") == expected
        assert step_counts(fitted, "discriminator") == [0, 0]


def test_a_frozen_part_rests_with_its_running_statistics_until_it_is_thawed(
    tiny: Make, tmp_path: Path
) -> None:
    frozen = {"turns": "adversarial", "epochs": 1, "freeze": ["generator.downs", "discriminator"]}
    stages = {
        "all": {"turns": "adversarial", "epochs": 1},
        "frozen": frozen,
        "thawed": {"turns": "adversarial", "epochs": 1, "optimizers": "keep"},
    }
    norm = "model.generator.normalization=batch"
    first, second, third = (
        s["model"] for s in watched_fit(tiny(norm, stages=stages), tmp_path).states
    )
    for key in first:
        rests = key.startswith(("generator.downs", "discriminator"))
        assert torch.equal(first[key], second[key]) == rests, key
        assert not torch.equal(second[key], third[key]), key


def test_a_stage_may_train_on_other_data_and_is_scored_on_the_runs(
    tiny: Make, tmp_path: Path
) -> None:
    change = {"data.source.crops": 24, "data.source.scoring_crops": 4}
    stages = {
        "other": {"turns": "l1", "epochs": 1, "change": change},
        "own": {"turns": "l1", "epochs": 1},
    }
    fitted = watched_fit(tiny(stages=stages), tmp_path)
    assert step_counts(fitted, "generator") == [3, 2]
    assert [scores["pictures"] for scores in fitted.scores] == [8, 8]


def test_the_averaged_weights_are_scored_and_the_trained_ones_trained_on(
    tiny: Make, tmp_path: Path
) -> None:
    stages = {"a": {"turns": "l1", "epochs": 2}}
    plain = watched_fit(tiny(stages=stages), tmp_path / "plain")
    averaged = watched_fit(tiny("train.ema=0.99", stages=stages), tmp_path / "averaged")
    for mine, theirs in zip(averaged.states, plain.states, strict=True):
        assert identical(mine["model"], theirs["model"])
    assert averaged.scores[-1]["ab_mae"] != plain.scores[-1]["ab_mae"]


def test_the_memory_layout_changes_speed_only(tiny: Make, tmp_path: Path) -> None:
    fits = [
        watched_fit(tiny(f"train.channels_last={last}", "data.size=48"), tmp_path / last)
        for last in ("true", "false")
    ]
    first, second = (fitted.states[0]["model"] for fitted in fits)
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=1e-5)


def plant_nan(run: Path, key: str) -> None:
    newest = checkpoint.latest(run)
    assert newest
    state = checkpoint.load(newest)
    state["model"][key][0] = torch.nan
    torch.save(state, newest / "state.pt")


def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(tiny: Make, tmp_path: Path) -> None:
    watched_fit(tiny(), tmp_path, stop_after=2)
    plant_nan(tmp_path, "discriminator.0.weight")
    with pytest.raises(Diverged) as caught:
        fit(tiny(), tmp_path)
    for part in (
        "adversarial of the discriminator",
        "nan",
        "step 2",
        "stage adversarial",
        "epoch 3",
    ):
        assert part in str(caught.value)
    assert len(read_history(tmp_path)) == 2


@pytest.mark.slow
def test_training_that_explodes_ends_the_run(tiny: Make, tmp_path: Path) -> None:
    experiment = tiny(
        "train.learning_rate=1",
        "model.learning_rate_ratio=100",
        "model.adversarial={name: wasserstein, gradient_penalty: 0, weight_clip: 1}",
        "model.generator.normalization=none",
        stages={"a": {"turns": "adversarial", "epochs": 1}},
    )
    # Clipped critic, saturated generator: finite, however large the learning rate.
    assert fit(experiment, tmp_path / "bounded").epochs == 1
    unbounded = tiny(
        "train.learning_rate=1",
        "model.learning_rate_ratio=100",
        "model.discriminator_steps=20",
        "model.adversarial.name=wasserstein",
        "model.discriminator={name: patch, width: 32, layers: 3, normalization: none}",
        stages={"a": {"turns": "adversarial", "epochs": 2}},
    )
    with pytest.raises(Diverged, match=r"gradient_penalty of the discriminator is (inf|nan)"):
        fit(unbounded, tmp_path / "unbounded")


def test_the_gradients_norm_is_clipped_over_a_players_parameters(tiny: Make) -> None:
    experiment = tiny()
    model = build_model(experiment)
    optimizer = build_optimizers(model, experiment.train)["generator"]
    for player in model.players:
        for parameter in model.get_submodule(player).parameters():
            parameter.grad = torch.ones_like(parameter)

    def norm(player: str) -> float:
        gradients = [p.grad for p in model.get_submodule(player).parameters() if p.grad is not None]
        return torch.cat([g.flatten() for g in gradients]).norm().item()

    before = norm("generator"), norm("discriminator")
    assert clip_gradients(optimizer, 0.5).item() == pytest.approx(before[0], rel=1e-4)
    assert norm("generator") == pytest.approx(0.5, rel=1e-4)
    assert norm("discriminator") == before[1]
    clip_gradients(optimizer, 10.0)
    assert norm("generator") == pytest.approx(0.5, rel=1e-4)


def test_a_gradient_clip_is_part_of_training(tiny: Make, tmp_path: Path) -> None:
    # Adam takes off any factor, but for its epsilon: a norm far below that one stops all movement.
    stages = {"a": {"turns": "l1", "epochs": 1}}
    first = build_model(tiny()).state_dict()
    clipped = watched_fit(tiny("train.gradient_clip=1e-12", stages=stages), tmp_path)
    for key, tensor in clipped.states[-1]["model"].items():
        torch.testing.assert_close(tensor, first[key], rtol=0, atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_weights_and_scores_in_float32(
    tiny: Make, tmp_path: Path
) -> None:
    device = current_ranks("cpu").device
    dtypes = {}
    for precision in ("float32", "bfloat16"):
        with autocast(tiny(f"train.precision={precision}"), device):
            dtypes[precision] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert dtypes == {"float32": torch.float32, "bfloat16": torch.bfloat16}
    settings = ("train.precision=bfloat16", "model.adversarial.name=wasserstein")
    fitted = watched_fit(tiny(*settings), tmp_path / "bfloat16")
    assert fitted.diverged is None
    model = fitted.states[-1]["model"]
    assert {tensor.dtype for tensor in model.values()} == {torch.float32}
    exact = watched_fit(tiny("model.adversarial.name=wasserstein"), tmp_path / "float32")
    assert not identical(model, exact.states[-1]["model"])
    assert fitted.scores[-1]["ab_mae"] == pytest.approx(exact.scores[-1]["ab_mae"], rel=0.05)


@pytest.mark.slow
def test_a_compiled_run_equals_a_plain_one(tiny: Make, tmp_path: Path) -> None:
    settings = ("data.size=48", "model.lambda_l1=1")
    plain = watched_fit(tiny(*settings), tmp_path / "plain")
    compiled = watched_fit(tiny(*settings, "train.compile=true"), tmp_path / "compiled")
    first, second = (fitted.states[-1]["model"] for fitted in (plain, compiled))
    assert first.keys() == second.keys()
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=2e-4)


def test_a_training_picture_that_cannot_be_decoded_is_named_and_counted(
    tmp_path: Path, tiny: Make, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "pictures"
    noise = torch.Generator().manual_seed(0)
    for split, count in (("train", 16), ("val", 4), ("test", 4)):
        for number in range(count):
            pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=noise).numpy()
            write_picture(Picture(pixels), folder / split / f"{split}-{number}.png")
    damaged = folder / "train" / "train-3.png"
    damaged.write_bytes(damaged.read_bytes()[:900])  # the header is whole
    experiment = tiny(
        "data.source.name=folder", f"data.source.path={folder}", "data.max_unreadable=0.5"
    )
    fit(experiment, tmp_path / "run")
    assert "train-3.png" in caplog.text
    assert {line["train/unreadable"] for line in read_history(tmp_path / "run")} == {1.0}
