import math

import pytest
import torch

from colorization.distributed import current_ranks
from colorization.loss_log import Diverged, LossLog
from colorization.models.colorizer import Turn


def turn(player: str, loss: float, **terms: float) -> Turn:
    return Turn(player, torch.tensor(loss), {k: torch.tensor(v) for k, v in terms.items()})


def log(every: int = 50) -> LossLog:
    return LossLog("adversarial", 7, current_ranks("cpu"), every)


def test_terms_are_averaged_over_the_turns_they_were_met_in() -> None:
    losses = log()
    losses.add(0, turn("generator", 9.0, l1=1.0, adversarial=4.0))
    losses.add(1, turn("generator", 9.0, l1=3.0))
    losses.add(1, turn("discriminator", 5.0, real=0.5))
    assert losses.means() == pytest.approx(
        {
            "train/generator/l1": 2.0,
            "train/generator/adversarial": 4.0,
            "train/discriminator/real": 0.5,
        }
    )


def test_the_weighted_sum_is_watched_but_never_logged() -> None:
    losses = log()
    losses.add(0, turn("generator", math.inf, l1=1.0))
    with pytest.raises(Diverged, match="loss of the generator is inf"):
        losses.means()


def test_a_number_that_is_not_finite_is_reported_with_all_that_says_where() -> None:
    losses = log()
    losses.add(41, turn("generator", 1.0, l1=1.0))
    losses.add(42, turn("discriminator", math.nan, real=1.0, gradient_penalty=math.nan))
    losses.add(43, turn("generator", math.nan, l1=math.nan))
    with pytest.raises(Diverged) as caught:
        losses.means()
    message = str(caught.value)
    for part in ("gradient_penalty of the discriminator", "nan", "step 42", "adversarial"):
        assert part in message
    assert "epoch 7" in message
    assert "train.learning_rate" in message


def test_a_divergence_is_met_before_the_epochs_end() -> None:
    losses = log(every=3)
    losses.add(0, turn("generator", 1.0, l1=1.0))
    losses.add(1, turn("generator", 1.0, l1=math.nan))
    losses.add(2, turn("generator", 1.0, l1=1.0))
    with pytest.raises(Diverged, match="step 1 "):
        losses.add(3, turn("generator", 1.0, l1=1.0))


def test_reading_in_between_changes_no_mean() -> None:
    often, seldom = log(every=1), log(every=1000)
    for losses in (often, seldom):
        for step in range(7):
            losses.add(step, turn("generator", 1.0, l1=float(step)))
    assert often.means() == seldom.means() == {"train/generator/l1": 3.0}
