"""Scores of colorization over a whole set of pictures."""

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from colorization.ciede2000 import ciede2000
from colorization.color import AB_SCALE, render, rgb_to_lab
from colorization.ssim import WINDOW, ssim

PSNR_CAP = 60.0  # dB; a picture without any error would make the mean infinite
MEDIAN_BIN = 0.001  # width, in scaled ab, of the bins that the median absolute error is read from
AB_BIN = 10.0  # width, in CIE Lab units, of the bins of the joint histogram of a and b
SMALLEST_SIDE = WINDOW  # pixels

# Scaled ab squared, a deviation of 0.11 Lab units: what rounding to 8 bits alone does to color.
# Even ab = 0 renders here and there to red, green and blue that are one level apart (5e-8).
_NO_VARIANCE = 1e-6
_ERROR_BINS = round(2 / MEDIAN_BIN) + 1  # no two colors of sRGB are 2 apart in a or b (scaled)
_AB_STEPS = round(AB_SCALE / AB_BIN)
_AB_SIDE = 2 * _AB_STEPS + 1
AB_BINS = _AB_SIDE**2

_SUMS: Mapping[str, tuple[tuple[int, ...], torch.dtype]] = {
    "pictures": ((), torch.int64),
    "broken_pictures": ((), torch.int64),
    "pixels": ((), torch.int64),
    "picture_sums": ((4,), torch.float64),  # psnr, ssim, colorfulness, its gap
    "pixel_sums": ((4,), torch.float64),  # ciede2000, RGB error squared, within eps 2, 5
    "ab_sums": ((5, 2), torch.float64),  # truth, its square, error, its square, |error|
    "error_counts": ((2, _ERROR_BINS), torch.int64),
    "ab_counts": ((2, AB_BINS), torch.int64),  # of the prediction, of the truth
}


class ColorizationScores:
    """Collects every score of predicted ab over a set, exact under any number of ranks.

    The scores describe **the picture a user receives**. A prediction is put together with the true
    L and rendered to 8-bit sRGB; every score, those of ab too, compares that picture with the truth
    rendered the same way (ab is taken back from both). So a number logged in training equals the
    number measured on the files that the model writes. Colors outside sRGB count as what they
    become.

    `compute` returns, under `torch.distributed` summed over all ranks, whose shares may be uneven
    or empty (all ranks have to call it, and all get the same):

    * `pictures`: how many were scored
    * `ab_mae`: mean absolute error over both channels, in scaled ab (ab / 110)
    * `ab_jsd`: Jensen-Shannon divergence, base 2 so in [0, 1], of the joint histograms of predicted
      and true ab over the whole set; bins 10 Lab units wide over [-110, 110], centered on the
      multiples of 10 so that neutral gray lies within one bin, not on the corner of four
    * `ciede2000`: mean over pixels (Sharma et al. 2005)
    * `psnr`: dB, of RGB, per picture and at most 60, then averaged
    * `ssim`: of RGB, per picture, then averaged; Gaussian window of 11 with sigma 1.5, population
      covariance, only where the window lies within the picture (Wang et al. 2004)
    * `rmse`: root of the mean squared error of RGB over the set, in levels 0..255
    * `accuracy_eps2`, `accuracy_eps5`: percent of pixels with |dL| <= eps and |da|, |db| <= 2.2
      eps, Lab rounded to integers (Nazeri et al. 2018)
    * `colorfulness`: of the predictions, per picture, then averaged (Hasler & Suesstrunk 2003);
      `colorfulness_gap`: mean absolute difference, per picture, to the truth's
    * for either channel, in scaled ab, `a_mae`, `a_median_ae` (to the nearest 0.001, from a
      histogram; the lower of two middle values), `a_mse`, `a_r2`, `a_explained_variance`, and the
      same for `b_`

    Where the truth has no variance (below 1e-6, a set of gray pictures), R2 and explained variance
    are 1.0 for a prediction without error (of variance) to the same measure, else 0.0, the rule of
    scikit-learn; no score is ever NaN.
    No score is torchmetrics' own: its R2 and explained variance sum in float32, off by 1e-5 over
    100 pictures of 256 x 256 and different for every batch size, and importing it takes each
    process that trains as long as importing torch.
    """

    pictures: Tensor
    broken_pictures: Tensor
    pixels: Tensor
    picture_sums: Tensor
    pixel_sums: Tensor
    ab_sums: Tensor
    error_counts: Tensor
    ab_counts: Tensor

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        for name, (shape, dtype) in _SUMS.items():
            setattr(self, name, torch.zeros(shape, dtype=dtype, device=self.device))

    @torch.no_grad()
    def update(self, lightness: Tensor, ab: Tensor, ab_true: Tensor) -> None:
        """Add a batch of pictures.

        Shapes (B, 1, H, W), (B, 2, H, W), (B, 2, H, W), scaled to [-1, 1] (values of `ab` beyond
        are rendered into the gamut), of any float dtype. No gradients are kept.

        Raises ValueError where the shapes disagree or a side has less than 11 pixels.
        """
        _check_shapes(lightness, ab, ab_true)
        if len(ab) == 0:
            return
        with torch.autocast(self.device.type, enabled=False):
            lightness, ab, ab_true = (
                x.to(self.device, torch.float32) for x in (lightness, ab, ab_true)
            )
            # Rendering would turn NaN into some color: remembered here, raised by all ranks alike.
            self.broken_pictures += (~ab.isfinite()).flatten(1).any(1).sum()
            self._add(render(lightness, ab), render(lightness, ab_true))

    def update_rendered(self, rgb: Tensor, rgb_true: Tensor) -> None:
        """Add a batch of finished pictures, as they are in files: both (B, 3, H, W) uint8.

        Equal to `update` with the Lab that the pictures were rendered from. Raises ValueError where
        the shapes disagree, the pictures are not uint8 or a side has less than 11 pixels.
        """
        if rgb.dtype != torch.uint8 or rgb_true.dtype != torch.uint8 or rgb.shape != rgb_true.shape:
            raise ValueError(
                f"two batches of one shape in uint8 are needed, found {tuple(rgb.shape)} "
                f"{rgb.dtype} and {tuple(rgb_true.shape)} {rgb_true.dtype}"
            )
        _check_shapes(rgb[:, :1], rgb[:, 1:], rgb_true[:, 1:])
        if len(rgb):
            self._add(rgb.to(self.device), rgb_true.to(self.device))

    def _add(self, rgb: Tensor, rgb_true: Tensor) -> None:
        with torch.autocast(self.device.type, enabled=False):
            lab, lab_true = rgb_to_lab(rgb), rgb_to_lab(rgb_true)
            self._add_rgb(rgb, rgb_true)
            self._add_lab(_cie_units(lab), _cie_units(lab_true))
            self._add_ab(lab[:, 1:], lab_true[:, 1:])
        self.pictures += len(rgb)
        self.pixels += rgb[:, 0].numel()

    def compute(self) -> dict[str, float]:
        """Return the scores of all pictures of all ranks, in plain numbers.

        Raises ValueError where no picture was scored and FloatingPointError where predictions held
        NaN or infinity.
        """
        return self._over_ranks()._compute()

    def _over_ranks(self) -> "ColorizationScores":
        """Return the sums of all ranks together; a rank that holds no picture takes part too."""
        total = ColorizationScores(self.device)
        for name in _SUMS:
            summed: Tensor = getattr(self, name).clone()
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(summed)
            setattr(total, name, summed)
        return total

    def _compute(self) -> dict[str, float]:
        pictures, pixels = int(self.pictures), int(self.pixels)
        if pictures == 0:
            raise ValueError("no picture was scored: the set is empty")
        if broken := int(self.broken_pictures):
            raise FloatingPointError(
                f"{broken} of {pictures} predicted pictures hold NaN or infinity"
            )
        psnr, ssim, colorfulness_mean, gap = (self.picture_sums / pictures).tolist()
        difference, squared, within_2, within_5 = (self.pixel_sums / pixels).tolist()
        channels = {
            f"{channel}_{score}": value
            for index, channel in enumerate("ab")
            for score, value in self._channel_scores(index, pixels).items()
        }
        return {
            "pictures": float(pictures),
            "ab_mae": (channels["a_mae"] + channels["b_mae"]) / 2,
            "ab_jsd": float(jensen_shannon_divergence(self.ab_counts[0], self.ab_counts[1])),
            "ciede2000": difference,
            "psnr": psnr,
            "ssim": ssim,
            "rmse": math.sqrt(squared),
            "accuracy_eps2": 100 * within_2,
            "accuracy_eps5": 100 * within_5,
            "colorfulness": colorfulness_mean,
            "colorfulness_gap": gap,
            **channels,
        }

    def _add_rgb(self, rgb: Tensor, rgb_true: Tensor) -> None:
        squared = (rgb.int() - rgb_true.int()).square().flatten(1).double().mean(1)
        psnr = (10 * torch.log10(255.0**2 / squared)).clamp(max=PSNR_CAP)
        color, color_true = colorfulness(rgb), colorfulness(rgb_true)
        similarity = ssim(rgb, rgb_true)
        self.picture_sums += torch.stack([psnr, similarity, color, (color - color_true).abs()]).sum(
            1
        )
        self.pixel_sums[1] += squared.sum() * rgb[0, 0].numel()

    def _add_lab(self, lab: Tensor, lab_true: Tensor) -> None:
        self.pixel_sums[0] += ciede2000(lab, lab_true).sum(dtype=torch.float64)
        lightness, a, b = (lab.round() - lab_true.round()).abs().unbind(1)
        for place, eps in ((2, 2.0), (3, 5.0)):
            within = (lightness <= eps) & (torch.maximum(a, b) <= 2.2 * eps)
            self.pixel_sums[place] += within.sum()

    def _add_ab(self, ab: Tensor, ab_true: Tensor) -> None:
        truth, error = ab_true.double(), ab.double() - ab_true.double()
        moments = [truth, truth.square(), error, error.square(), error.abs()]
        self.ab_sums += torch.stack([x.sum((0, 2, 3)) for x in moments])

        bins = (error.abs() / MEDIAN_BIN).round().long().clamp(max=_ERROR_BINS - 1)
        bins[:, 1] += _ERROR_BINS
        self.error_counts += bins.flatten().bincount(minlength=2 * _ERROR_BINS).view(2, -1)
        self.ab_counts += torch.stack([ab_histograms(x).sum(0) for x in (ab, ab_true)])

    def _channel_scores(self, channel: int, pixels: int) -> dict[str, float]:
        truth, truth_square, error, error_square, absolute = (
            self.ab_sums[:, channel] / pixels
        ).tolist()
        variance = truth_square - truth**2
        counts = self.error_counts[channel].cumsum(0)
        median_bin = int(torch.searchsorted(counts, (pixels + 1) // 2))
        return {
            "mae": absolute,
            "median_ae": median_bin * MEDIAN_BIN,
            "mse": error_square,
            "r2": _explained(error_square, variance),
            "explained_variance": _explained(error_square - error**2, variance),
        }


def against_gray(scores: Mapping[str, float], gray: Mapping[str, float]) -> float:
    """Return how a colorizer compares with leaving every picture gray: below 1 is better.

    The mean over `ab_mae` and `ab_jsd` of its score divided by leave-gray's, where `gray` are the
    scores of the same set predicted as ab = 0. Where leave-gray's score is 0 (the truth is gray),
    1 + score stands for the ratio: a tie is 1 and every error counts against the colorizer.
    """
    found, baseline = (
        torch.tensor([values["ab_mae"], values["ab_jsd"]], dtype=torch.float64)
        for values in (scores, gray)
    )
    return shares_of_gray(found, baseline).item()


def shares_of_gray(scores: Tensor, gray: Tensor) -> Tensor:
    """Compute `against_gray` of many sets at once: (..., 2) `ab_mae` and `ab_jsd` each -> (...)."""
    return torch.where(gray > 0, scores / gray, 1 + scores).mean(-1)


def colorfulness(rgb: Tensor) -> Tensor:
    """Return how colorful each picture is: 0 gray, 15 slightly, 45 averagely, 109 extremely.

    (B, 3, H, W) uint8 -> (B,) float64.

    Hasler & Suesstrunk, "Measuring colorfulness in natural images", 2003, metric M3.
    """
    red, green, blue = rgb.int().flatten(2).unbind(1)
    opponents = torch.stack([(red - green).double(), (red + green).double() / 2 - blue], dim=1)
    deviation = opponents.std(dim=2, correction=0).norm(dim=1)
    return deviation + 0.3 * opponents.mean(dim=2).norm(dim=1)


def ab_histograms(ab: Tensor) -> Tensor:
    """Return how many pixels of each picture fall in each joint bin of a and b.

    Scaled ab (B, 2, H, W) -> (B, AB_BINS) int64; the bins of `ab_jsd`.
    """
    steps = (ab * (AB_SCALE / AB_BIN)).round().long().clamp(-_AB_STEPS, _AB_STEPS) + _AB_STEPS
    pictures = torch.arange(len(ab), device=ab.device)[:, None, None] * AB_BINS
    bins = pictures + steps[:, 0] * _AB_SIDE + steps[:, 1]
    return bins.flatten().bincount(minlength=len(ab) * AB_BINS).view(len(ab), AB_BINS)


def jensen_shannon_divergence(counts: Tensor, counts_true: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two histograms, base 2: 0 equal, 1 without overlap.

    Two (..., N) tensors of counts, each with a positive sum -> (...) float64.

    Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    p, q = (x.double() / x.sum(-1, keepdim=True) for x in (counts, counts_true))
    middle = (p + q) / 2
    nats = (torch.xlogy(p, p) + torch.xlogy(q, q)) / 2 - torch.xlogy(middle, middle)
    return (nats.sum(-1) / math.log(2)).clamp(0, 1)


def _check_shapes(lightness: Tensor, ab: Tensor, ab_true: Tensor) -> None:
    if lightness.dim() != 4 or lightness.shape[1] != 1:
        raise ValueError(f"lightness must be (B, 1, H, W), not {tuple(lightness.shape)}")
    wanted = (lightness.shape[0], 2, *lightness.shape[2:])
    for name, tensor in (("ab", ab), ("ab_true", ab_true)):
        if tensor.shape != wanted:
            raise ValueError(f"{name} must be {wanted}, not {tuple(tensor.shape)}")
    if min(lightness.shape[2:]) < SMALLEST_SIDE:
        height, width = lightness.shape[2:]
        raise ValueError(
            f"pictures of {height} x {width} cannot be scored: SSIM's window needs sides of at "
            f"least {SMALLEST_SIDE} pixels"
        )


def _cie_units(lab: Tensor) -> Tensor:
    """Return scaled Lab in the units of the CIE."""
    return torch.cat([(lab[:, :1] + 1) * 50, lab[:, 1:] * AB_SCALE], dim=1)


def _explained(unexplained: float, variance: float) -> float:
    """Return the share of the truth's variance that a prediction explains."""
    if variance < _NO_VARIANCE:
        return 1.0 if unexplained < _NO_VARIANCE else 0.0
    return 1.0 - unexplained / variance
