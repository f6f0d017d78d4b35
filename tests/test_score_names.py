import torch

from colorization.metrics import ColorizationScores, against_gray
from colorization.score_names import PERCEPTUAL_SCORES, SAMPLE_SCORES, SCORES


def test_the_known_scores_are_those_that_are_computed() -> None:
    scores = ColorizationScores("cpu")
    lab = torch.rand(2, 3, 16, 16) - 0.5
    scores.update(lab[:, :1], lab[:, 1:], -lab[:, 1:])
    computed = scores.compute()
    assert against_gray(computed, computed) == 1
    assert {*computed, "against_gray"} == {*SCORES, "pictures", "colorfulness"}


def test_no_score_has_two_meanings() -> None:
    names = [*SCORES, *SAMPLE_SCORES, *PERCEPTUAL_SCORES]
    assert len(set(names)) == len(names)


def test_a_score_of_samples_is_better_the_same_way_as_that_of_one() -> None:
    for name, direction in SAMPLE_SCORES.items():
        plain = name.removeprefix("mean_sample_").removeprefix("best_of_8_")
        assert direction == SCORES[plain]
