"""Scores against scikit-image, scikit-learn and scipy, and over several processes."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import explained_variance_score, mean_squared_error, r2_score
from torch import Tensor

from colorization.ciede2000 import ciede2000
from colorization.color import AB_SCALE, render, rgb_to_lab
from colorization.metrics import (
    ColorizationScores,
    against_gray,
    colorfulness,
    jensen_shannon_divergence,
)
from rank_pool import RankPool
from shared_scores import score_shares

Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def one_thread():
    """Small pictures gain nothing from more, and machines under load lose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def smooth(count: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
    """Random pictures in [-1, 1] with some structure, unlike noise."""
    coarse = torch.rand(count, channels, 6, 6, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, side, mode="bilinear")


def batch(count: int = 4, side: int = 40, error: float = 0.1, seed: int = 0) -> Batch:
    """Lightness, predicted ab and true ab; the predictions are off by about `error`."""
    generator = torch.Generator().manual_seed(seed)
    lightness = smooth(count, 1, side, generator) * 0.6
    ab_true = smooth(count, 2, side, generator) * 0.4
    return lightness, ab_true + smooth(count, 2, side, generator) * error + error / 4, ab_true


def score(lightness: Tensor, ab: Tensor, ab_true: Tensor) -> dict[str, float]:
    scores = ColorizationScores("cpu")
    scores.update(lightness, ab, ab_true)
    return scores.compute()


def received(parts: Batch) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The predicted and the true picture a user gets, each (B, H, W, 3)."""
    lightness, ab, ab_true = parts
    prediction, truth = render(lightness, ab), render(lightness, ab_true)
    return prediction.permute(0, 2, 3, 1).numpy(), truth.permute(0, 2, 3, 1).numpy()


def received_ab(parts: Batch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The predicted and true ab of the pictures a user gets, scaled, each (pixels, 2)."""
    prediction, truth = (rgb2lab(rgb)[..., 1:].reshape(-1, 2) for rgb in received(parts))
    return prediction / AB_SCALE, truth / AB_SCALE


def test_ab_scores_equal_scikit_learn_on_the_received_picture():
    parts = batch()
    scores = score(*parts)
    prediction, truth = received_ab(parts)
    for index, channel in enumerate("ab"):
        p, t = prediction[:, index], truth[:, index]
        assert scores[f"{channel}_r2"] == pytest.approx(r2_score(t, p), abs=1e-5)
        explained = explained_variance_score(t, p)
        assert scores[f"{channel}_explained_variance"] == pytest.approx(explained, abs=1e-5)
        assert scores[f"{channel}_mse"] == pytest.approx(mean_squared_error(t, p), rel=1e-4)
        assert scores[f"{channel}_mae"] == pytest.approx(np.abs(t - p).mean(), rel=1e-4)
        assert scores[f"{channel}_median_ae"] == pytest.approx(np.median(np.abs(t - p)), abs=6e-4)
    assert scores["ab_mae"] == pytest.approx(np.abs(truth - prediction).mean(), rel=1e-4)


def test_rgb_scores_equal_scikit_image():
    parts = batch()
    scores = score(*parts)
    pairs = list(zip(*received(parts), strict=True))
    psnr = [peak_signal_noise_ratio(truth, rgb) for rgb, truth in pairs]
    assert scores["psnr"] == pytest.approx(np.mean(psnr), rel=1e-9)
    ssim = [
        structural_similarity(
            truth,
            rgb,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
        for rgb, truth in pairs
    ]
    assert scores["ssim"] == pytest.approx(np.mean(ssim), abs=1e-5)
    squares = [(rgb.astype(float) - truth) ** 2 for rgb, truth in pairs]
    assert scores["rmse"] == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-9)


def test_ciede2000_and_accuracy_equal_those_of_scikit_image_lab():
    parts = batch()
    scores = score(*parts)
    lab, lab_true = (rgb2lab(rgb) for rgb in received(parts))
    assert scores["ciede2000"] == pytest.approx(deltaE_ciede2000(lab_true, lab).mean(), rel=1e-4)
    apart = np.abs(np.round(lab) - np.round(lab_true))
    for eps in (2, 5):
        within = (apart <= [eps, 2.2 * eps, 2.2 * eps]).all(-1)
        assert 5 < 100 * within.mean() < 95
        # A pixel whose Lab lies on a half may round either way.
        assert scores[f"accuracy_eps{eps}"] == pytest.approx(100 * within.mean(), abs=0.2)


def test_divergence_equals_scipy_over_bins_centered_on_multiples_of_ten():
    parts = batch(error=0.2)
    edges = np.arange(-115, 116, 10)
    histograms = [
        np.histogram2d(*(ab * AB_SCALE).T, bins=[edges, edges])[0].ravel()
        for ab in received_ab(parts)
    ]
    expected = jensenshannon(*histograms, base=2) ** 2
    assert expected > 0.05
    assert score(*parts)["ab_jsd"] == pytest.approx(expected, abs=1e-3)


def test_divergence_is_zero_for_equal_and_one_for_disjoint_histograms():
    p = torch.tensor([3, 5, 0, 0])
    assert jensen_shannon_divergence(p, 10 * p).item() == 0
    assert jensen_shannon_divergence(p, p.flip(0)).item() == pytest.approx(1)


# L, a, b of two colors and their difference: Sharma, Wu and Dalal 2005, table 1.
SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


@pytest.mark.parametrize("swapped", [False, True])
def test_ciede2000_equals_the_published_test_data(swapped: bool):
    rows = torch.tensor([float(x) for x in SHARMA.split()], dtype=torch.float64).view(-1, 7)
    assert len(rows) == 34
    lab_1, lab_2 = (rows[:, i : i + 3].T[:, None] for i in ((3, 0) if swapped else (0, 3)))
    torch.testing.assert_close(ciede2000(lab_1, lab_2)[0], rows[:, 6], atol=5.1e-5, rtol=0)


def test_colorfulness_equals_its_formula_and_gray_has_none():
    rgb = torch.from_numpy(received(batch())[0]).permute(0, 3, 1, 2)
    red, green, blue = rgb[0].double().numpy()
    opponents = (red - green, (red + green) / 2 - blue)
    spread = np.hypot(*(x.std() for x in opponents))
    assert colorfulness(rgb)[0].item() == pytest.approx(
        spread + 0.3 * np.hypot(*(x.mean() for x in opponents))
    )
    assert colorfulness(rgb[:, :1].expand(-1, 3, -1, -1)).tolist() == [0, 0, 0, 0]


def test_colorfulness_gap_does_not_let_pictures_cancel_each_other():
    lightness, _, ab_true = batch(2)
    swapped = score(lightness[:1].repeat(2, 1, 1, 1), ab_true.flip(0), ab_true)
    assert swapped["colorfulness_gap"] > 1


def test_a_perfect_prediction_has_the_best_value_of_every_score():
    lightness, _, ab_true = batch()
    scores = score(lightness, ab_true, ab_true)
    best_at_zero = {"ab_mae", "ab_jsd", "ciede2000", "rmse", "colorfulness_gap"}
    best_at_zero |= {f"{c}_{name}" for c in "ab" for name in ("mae", "median_ae", "mse")}
    assert {name: scores[name] for name in best_at_zero} == dict.fromkeys(best_at_zero, 0.0)
    assert scores["psnr"] == 60
    assert scores["ssim"] == pytest.approx(1, abs=1e-6)
    assert scores["accuracy_eps2"] == scores["accuracy_eps5"] == 100
    assert scores["a_r2"] == scores["b_explained_variance"] == 1
    assert scores["pictures"] == 4


def test_scores_describe_the_received_picture_not_the_raw_prediction():
    lightness, _, ab_true = batch()
    far_outside = ab_true + 3
    as_received = rgb_to_lab(render(lightness, far_outside))[:, 1:]
    prediction, truth = received_ab((lightness, far_outside, ab_true))
    scores = score(lightness, far_outside, ab_true)
    assert scores["ab_mae"] == pytest.approx(np.abs(prediction - truth).mean(), rel=1e-4)
    assert scores["ab_mae"] < 0.5 * (far_outside - ab_true).abs().mean()
    assert as_received.abs().max() < 1


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_a_gray_truth_gives_finite_scores(shift: float):
    lightness, _, ab_true = batch()
    gray = torch.zeros_like(ab_true)
    scores = score(lightness, gray + shift, gray)
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["a_r2"] == scores["b_r2"] == (0.0 if shift else 1.0)


def test_half_precision_inputs_under_autocast_score_as_float32():
    lightness, ab, ab_true = (x.bfloat16() for x in batch())
    expected = score(lightness.float(), ab.float(), ab_true.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert score(lightness, ab.requires_grad_(), ab_true) == expected


def test_batches_of_any_size_add_up_to_the_same_scores():
    parts = batch(5)
    scores = ColorizationScores("cpu")
    for start, stop in ((0, 1), (1, 1), (1, 4), (4, 5)):
        scores.update(*(x[start:stop] for x in parts))
    assert scores.compute() == pytest.approx(score(*parts), rel=1e-9)


def test_a_prediction_with_nan_is_refused_with_their_number():
    lightness, ab, ab_true = batch()
    ab[1, 0, 3, 3] = float("nan")
    with pytest.raises(FloatingPointError, match="1 of 4"):
        score(lightness, ab, ab_true)


def test_shapes_that_disagree_are_refused():
    lightness, ab, ab_true = batch()
    with pytest.raises(ValueError, match=r"ab must be \(4, 2, 40, 40\)"):
        score(lightness, ab[:1], ab_true)
    with pytest.raises(ValueError, match="lightness"):
        score(ab, ab, ab_true)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        score(lightness[..., :10], ab[..., :10], ab_true[..., :10])


def test_an_empty_set_has_no_scores():
    with pytest.raises(ValueError, match="empty"):
        ColorizationScores("cpu").compute()


def test_against_gray_is_one_for_gray_and_below_for_better():
    lightness, ab, ab_true = batch(error=0.02)
    gray = score(lightness, torch.zeros_like(ab), ab_true)
    assert against_gray(gray, gray) == 1
    assert against_gray(score(lightness, ab, ab_true), gray) < 1
    assert against_gray({"ab_mae": 0.1, "ab_jsd": 0.3}, {"ab_mae": 0.2, "ab_jsd": 0.6}) == 0.5


def test_against_gray_of_a_gray_truth_is_finite_and_counts_every_error():
    gray = {"ab_mae": 0.0, "ab_jsd": 0.0}
    assert against_gray(gray, gray) == 1
    assert against_gray({"ab_mae": 0.2, "ab_jsd": 0.4}, gray) == pytest.approx(1.3)


def test_two_ranks_with_uneven_shares_agree_with_one_process(two_ranks: RankPool):
    ours, theirs = two_ranks.run(score_shares, *batch())
    assert ours == theirs
    expected = score(*batch())
    for shared in ours:
        assert list(shared) == list(expected)
        assert shared == pytest.approx(expected, rel=1e-9, abs=1e-15)
