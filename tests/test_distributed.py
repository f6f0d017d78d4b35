"""Ranks that train together hold the same weights, and the weights one process would hold.

Where Adam is at work, two runs whose gradients differ by round-off alone can part: a gradient that
is zero but for round-off becomes a step of the whole learning rate, in either direction. The
comparisons below keep gradients away from there (no parameter without effect, lambda_l1 of 1, at
least 3x3 pixels at the U-Net's bottom), so that a tolerance of 1e-5 is twenty times smaller than
one step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rank_pool
from colorization import checkpoint
from colorization.distributed import current_ranks, replicate, share_batch_statistics
from colorization.experiment import Experiment
from colorization.models.discriminators import PatchConfig
from colorization.score_names import is_of_the_machine
from rank_pool import Fitted, RankPool

Make = Callable[..., Experiment]
BATCH_NORM = ("model.generator.normalization=batch", "model.discriminator.normalization=batch")
COMPARABLE = ("data.size=48", "model.lambda_l1=1", "train.ema=0.9")

FREEZE_THEN_THAW = {
    "head_start": {"turns": "l1", "epochs": 1, "select": False},
    "frozen": {"turns": "adversarial", "epochs": 1, "freeze": ["generator.downs"]},
    "thawed": {"turns": "adversarial", "epochs": 1, "optimizers": "keep"},
}

pytestmark = pytest.mark.usefixtures("one_thread")


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max((first[k].double() - second[k].double()).abs().max().item() for k in first)


def identical(first: Any, second: Any) -> bool:
    """Compare nested states bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(identical(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(identical, first, second))
    return torch.equal(first, second) if isinstance(first, Tensor) else first == second


def compare(experiment: Experiment, pool: RankPool, folder: Path) -> tuple[Fitted, Fitted]:
    """Train on two ranks and in one process; the ranks must agree to the last bit."""
    first, second = pool.run(rank_pool.fit, experiment, folder / "two")
    assert identical(first.states, second.states)
    return first, rank_pool.fit(experiment, folder / "one")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), id="group norm"),
        pytest.param(BATCH_NORM, id="batch norm"),
        pytest.param((*BATCH_NORM, "model.adversarial.name=wasserstein"), id="gradient penalty"),
        pytest.param(("model.generator.dropout=0.5", "train.gradient_clip=0.1"), id="dropout"),
        pytest.param(("train.precision=bfloat16",), id="bfloat16"),
    ],
)
def test_ranks_end_with_identical_weights_buffers_averages_and_moments(
    settings: tuple[str, ...], tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    first, second = two_ranks.run(rank_pool.fit, tiny(*settings, "train.ema=0.9"), tmp_path)
    assert len(first.states) == 3
    assert identical(first.states, second.states)


def test_ranks_report_the_same_scores_to_their_callers(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    first, second = two_ranks.run(rank_pool.fit, tiny(), tmp_path)
    for ours, theirs in zip(first.scores, second.scores, strict=True):
        assert {k: v for k, v in ours.items() if not is_of_the_machine(k)} == {
            k: v for k, v in theirs.items() if not is_of_the_machine(k)
        }


def test_two_ranks_and_one_process_agree_over_a_head_start_a_freeze_and_a_thaw(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    experiment = tiny(*COMPARABLE, stages=FREEZE_THEN_THAW)
    two, one = compare(experiment, two_ranks, tmp_path)
    for epoch in range(3):
        ours, theirs = one.states[epoch], two.states[epoch]
        assert largest_difference(ours["model"], theirs["model"]) < 1e-5
        assert largest_difference(ours["averages"]["averages"], theirs["averages"]["averages"]) < (
            1e-5
        )
    downs = "generator.downs.0.1.weight"
    before, frozen, thawed = (state["model"][downs] for state in one.states)
    assert torch.equal(before, frozen)
    assert (thawed - frozen).abs().max() > 1e-4  # the agreement is no agreement to rest
    head = "discriminator.0.weight"
    assert (one.states[1]["model"][head] - one.states[0]["model"][head]).abs().max() > 1e-4


def test_two_ranks_and_one_process_get_the_same_validation_scores(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    # 7 pictures: the ranks' shares are unequal.
    experiment = tiny(*COMPARABLE, "data.source.scoring_crops=7", "train.learning_rate=1e-5")
    two, one = compare(experiment, two_ranks, tmp_path)
    assert one.gray["pictures"] == two.gray["pictures"] == 7
    assert one.gray == pytest.approx(two.gray, rel=1e-9)
    for ours, theirs in zip(one.scores, two.scores, strict=True):
        for name in one.gray:
            # Round-off in weights moves some rendered values to the next of 256 levels.
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-3), name


def test_with_batch_norm_two_ranks_share_statistics_and_agree_with_one_process(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    experiment = tiny(*COMPARABLE, *BATCH_NORM, stages=FREEZE_THEN_THAW)
    two, one = compare(experiment, two_ranks, tmp_path)
    for ours, theirs in zip(one.states, two.states, strict=True):
        assert largest_difference(ours["model"], theirs["model"]) < 1e-4


def test_the_gradient_penalty_of_a_critic_with_batch_norm_sees_the_global_batch(
    two_ranks: RankPool,
) -> None:
    torch.manual_seed(0)
    critic = PatchConfig(width=4, layers=1, normalization="batch").build(16, 3)
    pictures = torch.randn(4, 3, 16, 16)
    reference = PatchConfig(width=4, layers=1, normalization="batch").build(16, 3)
    reference.load_state_dict(critic.state_dict())
    expected = rank_pool.penalty_gradients(reference, pictures)
    for found in two_ranks.run(rank_pool.penalty_gradients, critic, pictures):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_loss_that_is_not_finite_ends_both_ranks_with_the_same_message(
    tiny: Make, two_ranks: RankPool, tmp_path: Path
) -> None:
    experiment = tiny()
    two_ranks.run(rank_pool.fit, experiment, tmp_path, 1)
    newest = checkpoint.latest(tmp_path)
    assert newest
    state = checkpoint.load(newest)
    state["model"]["discriminator.0.weight"][0] = torch.nan
    torch.save(state, newest / "state.pt")
    first, second = two_ranks.run(rank_pool.fit, experiment, tmp_path)
    assert first.diverged
    assert first.diverged == second.diverged
    assert "adversarial of the discriminator is nan" in first.diverged


def test_without_a_group_a_network_is_left_as_it_is() -> None:
    ranks = current_ranks("cpu")
    assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert replicate(share_batch_statistics(network, ranks), ranks) is network
    assert type(network[1]) is nn.BatchNorm2d
