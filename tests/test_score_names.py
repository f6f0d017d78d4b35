import torch

from colorization.metrics import ColorizationScores, against_gray
from colorization.score_names import SCORES


def test_the_known_scores_are_those_that_are_computed() -> None:
    scores = ColorizationScores("cpu")
    lab = torch.rand(2, 3, 16, 16) - 0.5
    scores.update(lab[:, :1], lab[:, 1:], -lab[:, 1:])
    computed = scores.compute()
    assert against_gray(computed, computed) == 1
    assert {*computed, "against_gray"} == {*SCORES, "pictures", "colorfulness"}
