"""Scores of a stochastic model beside those of one sample: mean sample, best of 8, diversity."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from colorization.color import render
from colorization.distributed import Ranks, mean_over_ranks
from colorization.metrics import ColorizationScores
from colorization.score_names import BEST_OF

Colorize = Callable[..., Tensor]

_OF_THE_MEAN_SAMPLE = ("ab_mae", "ab_jsd", "psnr")
_OF_THE_BEST = ("ab_mae", "psnr", "rmse")


class SampleScores:
    """Collects what several samples a picture tell, over a set and all ranks.

    `compute` returns (Ardizzone et al. 2019, section 4.4, for best of 8 and variance):

    * `mean_sample_ab_mae`, `mean_sample_ab_jsd`, `mean_sample_psnr`: of the colors at temperature 0
    * `best_of_8_ab_mae`, `best_of_8_psnr`, `best_of_8_rmse`: of the sample with the least squared
      error of RGB, chosen for each picture
    * `sample_variance`: of a pixel's scaled ab over the samples (unbiased), averaged over pixels,
      channels and pictures
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._mean_sample = ColorizationScores(ranks.device)
        self._best = ColorizationScores(ranks.device)
        self._variance = torch.zeros(2, dtype=torch.float64, device=ranks.device)  # count, sum

    @torch.no_grad()
    def update(self, colorize: Colorize, lightness: Tensor, ab_true: Tensor) -> Tensor:
        """Draw samples for (B, 1, H, W) lightness, score them, return the first (B, 2, H, W).

        `colorize` is that of a model.
        """
        samples = colorize(lightness, BEST_OF)
        truth = render(lightness, ab_true).float()
        errors = [
            (render(lightness, ab).float() - truth).square().flatten(1).mean(1) for ab in samples
        ]
        best = torch.stack(errors).argmin(0)
        self._best.update(lightness, samples[best, torch.arange(len(best))], ab_true)
        self._mean_sample.update(lightness, colorize(lightness, temperature=0)[0], ab_true)
        self._variance[0] += samples[0].numel()
        self._variance[1] += samples.float().var(0).sum(dtype=torch.float64)
        return samples[0]

    def compute(self) -> dict[str, float]:
        """Return the scores in plain numbers; every rank has to call it, and gets the same.

        Raises FloatingPointError where any sample held NaN or infinity.
        """
        mean_sample, best = self._mean_sample.compute(), self._best.compute()
        count, variance = mean_over_ranks(self._variance, self._ranks).tolist()
        if not math.isfinite(variance):  # the best sample may be another one
            raise FloatingPointError(f"some of {BEST_OF} samples a picture hold NaN or infinity")
        return {
            **{f"mean_sample_{name}": mean_sample[name] for name in _OF_THE_MEAN_SAMPLE},
            **{f"best_of_{BEST_OF}_{name}": best[name] for name in _OF_THE_BEST},
            "sample_variance": variance / count,
        }
