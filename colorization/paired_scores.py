"""Whether two models that colored the same pictures can be told apart: a paired bootstrap."""

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

from colorization.color import render, rgb_to_lab
from colorization.metrics import ab_histograms, jensen_shannon_divergence, shares_of_gray

Score = Literal["against_gray", "ab_mae", "ab_jsd"]

RESAMPLES = 2000
LEAST = 6  # pictures; five that all speak for one model are chance in 1 of 16 cases, six in 1 of 32
_LEVEL = 0.95
_AT_ONCE = 100  # resamples; bounds the memory that their weights take


class Interval(NamedTuple):
    """A score, or the difference of two, of a set of pictures, and where it may lie."""

    mean: float  # as the set has it
    low: float  # of the 95% interval
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Tell whether a difference is more than chance."""
        return self.low > 0 or self.high < 0


class PictureScores:
    """What `ab_mae` and `ab_jsd` of any part of a set are computed from, picture by picture.

    Beside `metrics.ColorizationScores`, whose sums over the set cannot be resampled; of the same
    pictures both have the same scores. About 2 kB a picture, on the CPU.
    """

    def __init__(self) -> None:
        self._errors: list[Tensor] = []  # (B, 2) float64: sums of |error| of scaled a and b
        self._counts: list[Tensor] = []  # (B, AB_BINS) int32: the prediction's histogram
        self._true_counts: list[Tensor] = []

    def __len__(self) -> int:
        """Return the pictures so far."""
        return sum(map(len, self._errors))

    def update_rendered(self, rgb: Tensor, rgb_true: Tensor) -> None:
        """Add a batch of finished pictures, as they are in files: both (B, 3, H, W) uint8.

        Raises ValueError where the shapes disagree or the pictures are not uint8.
        """
        if rgb.dtype != torch.uint8 or rgb_true.dtype != torch.uint8 or rgb.shape != rgb_true.shape:
            raise ValueError(
                f"two batches of one shape in uint8 are needed, found {tuple(rgb.shape)} "
                f"{rgb.dtype} and {tuple(rgb_true.shape)} {rgb_true.dtype}"
            )
        if not len(rgb):
            return
        ab, ab_true = (rgb_to_lab(pictures)[:, 1:] for pictures in (rgb, rgb_true))
        self._errors.append((ab.double() - ab_true.double()).abs().sum((2, 3)).cpu())
        self._counts.append(ab_histograms(ab).int().cpu())
        self._true_counts.append(ab_histograms(ab_true).int().cpu())

    def update_gray(self, rgb_true: Tensor) -> None:
        """Add (B, 3, H, W) uint8 pictures as leaving them gray would have them."""
        lab = rgb_to_lab(rgb_true)
        self.update_rendered(render(lab[:, :1], torch.zeros_like(lab[:, 1:])), rgb_true)

    def compute(self) -> dict[str, float]:
        """Return `ab_mae` and `ab_jsd` of all pictures. Raises ValueError where there are none."""
        errors, counts, true_counts = self.tables()
        ones = torch.ones(1, len(self), dtype=torch.float64)
        mae, jsd = _scores(ones, errors, counts, true_counts)[0].tolist()
        return {"ab_mae": mae, "ab_jsd": jsd}

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums of |error| (N, 2), histograms of prediction and truth (N, AB_BINS), float64.

        Raises ValueError where there are no pictures.
        """
        if not self._errors:
            raise ValueError("no picture was scored: the set is empty")
        tables = (self._errors, self._counts, self._true_counts)
        errors, counts, true_counts = (torch.cat(parts).double() for parts in tables)
        return errors, counts, true_counts


def compare(
    a: PictureScores,
    b: PictureScores,
    gray: PictureScores,
    score: Score = "against_gray",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a score of `a` minus that of `b`, with its interval: below 0, `a` is better.

    All three are of the same pictures in the same order; `gray` is leave-gray. Pictures are drawn
    with replacement, the same for all three, so that what is hard about a picture is hard for
    both: equal models have an interval of no width. What is estimated is the difference that a set
    of as many pictures from where these came from has on the average. Pictures count as
    independent: crops of one photograph are not, and make the interval too narrow.

    A few pictures vary less in such draws than sets of them do: the interval is widened as
    Hesterberg's expanded percentile interval is ("What Teachers Should Know About the Bootstrap",
    2015); below LEAST pictures it is infinite. Raises ValueError for different pictures.
    """
    drawn = _resampled(score, (a, b), gray, resamples, seed)
    return _interval(drawn[0] - drawn[1], len(a))


def estimate(
    a: PictureScores,
    gray: PictureScores,
    score: Score = "against_gray",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a model's score with its interval. For two models see `compare`: it is sharper."""
    return _interval(_resampled(score, (a,), gray, resamples, seed)[0], len(a))


def _interval(values: Tensor, pictures: int) -> Interval:
    """Turn a value of the set, followed by those of its resamples, into an interval.

    A resample's histograms lie further apart than the set's (a divergence of samples is too large,
    the more so the fewer they are); what they are off by on the average is taken out.
    """
    mean = values[0].item()
    if pictures < LEAST:
        return Interval(mean, -math.inf, math.inf)
    drawn = values[1:] - values[1:].mean()
    tail = (1 - _LEVEL) / 2
    wide = math.sqrt(pictures / (pictures - 1)) * float(stdtrit(pictures - 1, tail))
    tail = NormalDist().cdf(wide)
    low, high = drawn.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(mean, mean + low, mean + high)


def _resampled(
    score: Score,
    models: tuple[PictureScores, ...],
    gray: PictureScores,
    resamples: int,
    seed: int,
) -> Tensor:
    """Return each model's score, of the set and of each resample: (models, 1 + resamples)."""
    tables = [found.tables() for found in (*models, gray)]
    truth = tables[0][2]
    if any(not torch.equal(truth, true_counts) for _, _, true_counts in tables):
        raise ValueError("not the same pictures, or not in the same order: they cannot be compared")
    occupied = sum(counts.sum(0) for _, counts, _ in tables) + truth.sum(0) > 0
    truth = truth[:, occupied]
    weights = _weights(len(gray), resamples, seed)
    scores = torch.stack(  # (models and gray, 1 + resamples, 2)
        [
            torch.cat([_scores(w, errors, counts[:, occupied], truth) for w in weights])
            for errors, counts, _ in tables
        ]
    )
    if score == "against_gray":
        return shares_of_gray(scores[:-1], scores[-1])
    return scores[:-1, :, 0 if score == "ab_mae" else 1]


def _weights(pictures: int, resamples: int, seed: int) -> list[Tensor]:
    """Return how often each picture is drawn: ones for the set itself, then the resamples."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.ones(1, pictures, dtype=torch.float64)]
    for start in range(0, resamples, _AT_ONCE):
        count = min(_AT_ONCE, resamples - start)
        drawn = torch.randint(pictures, (count, pictures), generator=generator)
        weights = torch.zeros(count, pictures, dtype=torch.float64)
        parts.append(weights.scatter_add_(1, drawn, torch.ones_like(weights)))
    return parts


def _scores(weights: Tensor, errors: Tensor, counts: Tensor, true_counts: Tensor) -> Tensor:
    """Return `ab_mae` and `ab_jsd` of sets that hold each picture so often: (R, N) -> (R, 2)."""
    counts, true_counts = weights @ counts, weights @ true_counts
    pixels = true_counts.sum(-1)
    mae = (weights @ errors).sum(-1) / (2 * pixels)
    return torch.stack([mae, jensen_shannon_divergence(counts, true_counts)], dim=-1)
