"""What a stage does with what models say of themselves: parts that rest, statistics they want."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rank_pool
import tiny_colorizers
from colorization.experiment import Experiment, build_model
from colorization.training import fit
from rank_pool import Fitted, RankPool
from tiny_colorizers import Partial, fit_partial

Make = Callable[..., Experiment]

# "l1" is what `extra` rests in.
STAGES = {
    "resting": {"turns": "l1", "epochs": 1},
    "thawed": {"turns": "adversarial", "epochs": 1, "optimizers": "keep"},
    "resting again": {"turns": "l1", "epochs": 1, "optimizers": "keep"},
}
EXTRA = ("network.extra.0.running_mean", "network.extra.1.weight")

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(experiment: Experiment, run: Path) -> tuple[Fitted, list[Partial]]:
    """Train in this process; return the models of the stages too."""
    Partial.built.clear()
    fitted = fit_partial(experiment, run)
    return fitted, [model for model in Partial.built if model.seen]


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


def test_parts_idle_in_a_stages_turns_rest_in_it_and_are_thawed_in_the_next(
    tiny: Make, tmp_path: Path
) -> None:
    fitted, models = trained(tiny(stages=STAGES), tmp_path)
    with tiny_colorizers.in_place_of_gan(Partial):
        start = build_model(tiny(stages=STAGES)).state_dict()
    first, second, third = (state["model"] for state in fitted.states)
    always = {
        f"network.{part}.{kind}"
        for part in ("main", "teach", "teacher")
        for kind in ("weight", "bias")
    }
    assert moved(start, first) == always | {"mean", "deviation"}
    assert moved(first, second) >= always | set(EXTRA)
    assert moved(second, third) == always
    assert [model.modes[0]["extra"] for model in models] == [False, True, False]
    assert [model.network.extra[1].weight.requires_grad for model in models] == [False, True, False]


def test_parts_that_a_stage_freezes_rest_beside_those_that_are_idle(
    tiny: Make, tmp_path: Path
) -> None:
    stages = {"only": {"turns": "l1", "epochs": 1, "freeze": ["network.main"]}}
    fitted, (model,) = trained(tiny(stages=stages), tmp_path)
    resting = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {name.split(".")[1] for name in resting} == {"main", "extra", "order"}
    assert model.modes[0] == {"main": False, "extra": False, "teach": True, "teacher": True}
    assert fitted.diverged is None


def test_two_ranks_wait_for_no_gradient_of_idle_parts_and_agree_with_one_process(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    experiment = tiny("train.ema=0.9", stages=STAGES)
    first, second = two_ranks.run(fit_partial, experiment, tmp_path / "two")
    one, _ = trained(experiment, tmp_path / "one")
    for ours, mine, theirs in zip(one.states, first.states, second.states, strict=True):
        for key, tensor in ours["model"].items():
            assert torch.equal(mine["model"][key], theirs["model"][key]), key
            torch.testing.assert_close(mine["model"][key], tensor, rtol=0, atol=1e-5)
        for key, tensor in ours["averages"]["averages"].items():
            torch.testing.assert_close(mine["averages"]["averages"][key], tensor, rtol=0, atol=1e-5)
    before, after = first.states[0]["model"], first.states[1]["model"]
    assert set(EXTRA) <= moved(before, after)
    for ours, theirs in zip(one.scores, first.scores, strict=True):
        # Measured by a forward of the player, which is replicated.
        assert theirs["taught_mae"] == pytest.approx(ours["taught_mae"], rel=1e-4)


def test_the_training_sets_statistics_are_taken_in_once_a_run(tiny: Make, tmp_path: Path) -> None:
    other = {"data.source.crops": 24}
    stages = {
        "skipped": {"turns": "l1", "epochs": 0},
        "first": {"turns": "l1", "epochs": 1, "change": other},
        "second": {"turns": "adversarial", "epochs": 1},
    }
    experiment = tiny(stages=stages)
    fitted, models = trained(experiment, tmp_path)
    assert [model.standardized for model in models] == [1, 0]
    mean, deviation = tiny_colorizers.training_statistics(experiment.at("first"))
    for state in fitted.states:
        assert torch.equal(state["model"]["mean"], mean)
        assert torch.equal(state["model"]["deviation"], deviation)
    others, _ = tiny_colorizers.training_statistics(experiment)
    assert not torch.equal(mean, others)


def test_a_resumed_run_keeps_the_statistics_that_it_began_with(tiny: Make, tmp_path: Path) -> None:
    stages = {"only": {"turns": "l1", "epochs": 2}}
    Partial.built.clear()
    with tiny_colorizers.in_place_of_gan(Partial):
        rank_pool.fit(tiny(stages=stages), tmp_path, stop_after=1)
        fit(tiny(stages=stages), tmp_path)
    before, resumed = (model for model in Partial.built if model.seen)
    assert (before.standardized, resumed.standardized) == (1, 0)
    assert torch.equal(resumed.mean, before.mean)
    assert before.mean.abs().max() > 1e-3
