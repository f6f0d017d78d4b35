"""Two models on the same pictures: equal ones, a clearly better one, and how often chance wins."""

import math

import pytest
import torch
from torch import Tensor

from colorization.color import render, rgb_to_lab
from colorization.metrics import ColorizationScores, against_gray
from colorization.paired_scores import LEAST, Interval, PictureScores, compare, estimate


def pictures(count: int, seed: int = 0) -> Tensor:
    """Pictures of one color each, and some brightness: (count, 3, 12, 12) uint8."""
    generator = torch.Generator().manual_seed(seed)
    lightness = torch.rand(count, 1, 12, 12, generator=generator) * 0.6 - 0.3
    ab = (torch.rand(count, 2, 1, 1, generator=generator) - 0.5).expand(-1, -1, 12, 12) * 0.6
    return render(lightness, ab)


def colored(truth: Tensor, error: float, seed: int) -> Tensor:
    """Color pictures with an error in ab that differs from picture to picture."""
    generator = torch.Generator().manual_seed(seed)
    lab = rgb_to_lab(truth)
    noise = torch.randn(len(truth), 2, 1, 1, generator=generator) * error
    return render(lab[:, :1], lab[:, 1:] + noise)


def scored(rgb: Tensor, truth: Tensor, batch: int = 7) -> PictureScores:
    scores = PictureScores()
    for start in range(0, len(rgb), batch):
        scores.update_rendered(rgb[start : start + batch], truth[start : start + batch])
    return scores


def gray_of(truth: Tensor) -> PictureScores:
    gray = PictureScores()
    gray.update_gray(truth)
    return gray


def test_scores_equal_those_of_the_whole_set():
    truth = pictures(10)
    rgb = colored(truth, 0.1, seed=1)
    whole, gray = ColorizationScores("cpu"), ColorizationScores("cpu")
    whole.update_rendered(rgb, truth)
    lab = rgb_to_lab(truth)
    gray.update(lab[:, :1], torch.zeros_like(lab[:, 1:]), lab[:, 1:])
    found = scored(rgb, truth)
    assert len(found) == 10
    for name, value in found.compute().items():
        assert value == pytest.approx(whole.compute()[name], rel=1e-9), name
    for name, value in gray_of(truth).compute().items():
        assert value == pytest.approx(gray.compute()[name], rel=1e-9), name
    share = against_gray(whole.compute(), gray.compute())
    assert estimate(found, gray_of(truth)).mean == pytest.approx(share, rel=1e-9)


def test_equal_models_differ_by_nothing_without_width():
    truth = pictures(20)
    rgb = colored(truth, 0.1, seed=1)
    difference = compare(scored(rgb, truth), scored(rgb.clone(), truth, batch=3), gray_of(truth))
    assert difference == Interval(0.0, 0.0, 0.0)
    assert not difference.excludes_zero


@pytest.mark.parametrize("score", ["against_gray", "ab_mae", "ab_jsd"])
def test_a_clearly_better_model_is_told_apart_and_the_sign_says_which(score):
    truth = pictures(40)
    good, bad = (scored(colored(truth, e, seed=1), truth) for e in (0.03, 0.2))
    better = compare(good, bad, gray_of(truth), score)
    assert better.low < better.mean < better.high < 0
    assert better.excludes_zero
    worse = compare(bad, good, gray_of(truth), score)
    assert worse.mean == pytest.approx(-better.mean)
    assert worse.low > 0


def test_models_of_equal_quality_with_other_errors_are_not_told_apart():
    truth = pictures(40)
    a, b = (scored(colored(truth, 0.1, seed=s), truth) for s in (1, 2))
    difference = compare(a, b, gray_of(truth))
    assert difference.low < 0 < difference.high
    assert difference.low < difference.mean < difference.high


def test_a_pairing_finds_what_the_models_own_intervals_hide():
    truth = pictures(60)
    good, bad = (scored(colored(truth, e, seed=1), truth) for e in (0.1, 0.11))
    gray = gray_of(truth)
    apart = compare(good, bad, gray, "ab_mae")
    assert apart.excludes_zero
    assert estimate(good, gray, "ab_mae").high > estimate(bad, gray, "ab_mae").low


def test_the_same_pictures_give_the_same_interval_every_time():
    truth = pictures(12)
    a, b = (scored(colored(truth, 0.1, seed=s), truth) for s in (1, 2))
    assert compare(a, b, gray_of(truth)) == compare(a, b, gray_of(truth))
    assert compare(a, b, gray_of(truth)) != compare(a, b, gray_of(truth), seed=1)


def test_a_mean_over_pictures_has_students_interval():
    """`ab_mae` of equal pictures is a mean: its interval is known."""
    truth = pictures(30)
    a, gray = scored(colored(truth, 0.1, seed=1), truth), gray_of(truth)
    errors = a.tables()[0].sum(1) / (2 * 12 * 12)
    half = 2.045 * errors.std().item() / math.sqrt(30)
    found = estimate(a, gray, "ab_mae", resamples=20_000)
    assert found.mean == pytest.approx(errors.mean().item())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 40])
def test_chance_is_taken_for_a_difference_in_about_one_of_twenty_comparisons(count):
    """Models of equal quality on 300 sets from one source, as many pictures in each."""
    wrong = 0
    for seed in range(300):
        truth = pictures(count, seed)
        a, b = (scored(colored(truth, 0.1, 1000 * k + seed), truth, 99) for k in (1, 2))
        wrong += compare(a, b, gray_of(truth), resamples=400).excludes_zero
    assert 0.02 < wrong / 300 < 0.09


def test_too_few_pictures_tell_nothing_apart():
    truth = pictures(LEAST)
    good, bad = (scored(colored(truth, e, seed=1), truth) for e in (0.0, 0.3))
    assert compare(good, bad, gray_of(truth)).excludes_zero
    fewer = truth[:-1]
    good, bad = (scored(colored(fewer, e, seed=1), fewer) for e in (0.0, 0.3))
    difference = compare(good, bad, gray_of(fewer))
    assert (difference.low, difference.high) == (-math.inf, math.inf)
    assert not difference.excludes_zero


def test_other_pictures_or_another_order_are_refused():
    truth = pictures(10)
    a, turned = scored(truth, truth), scored(truth.flip(0), truth.flip(0))
    for b in (turned, scored(truth[:9], truth[:9])):
        with pytest.raises(ValueError, match="not the same pictures"):
            compare(a, b, gray_of(truth))


def test_what_cannot_be_scored_is_refused():
    truth = pictures(2)
    with pytest.raises(ValueError, match="uint8"):
        PictureScores().update_rendered(truth.float(), truth.float())
    with pytest.raises(ValueError, match="uint8"):
        PictureScores().update_rendered(truth[:1], truth)
    with pytest.raises(ValueError, match="empty"):
        PictureScores().compute()


def test_a_set_of_gray_pictures_counts_errors_and_divides_by_nothing():
    truth = torch.full((8, 3, 12, 12), 90, dtype=torch.uint8)
    difference = compare(scored(truth, truth), gray_of(truth), gray_of(truth))
    assert difference == Interval(0.0, 0.0, 0.0)
