"""The scores of a model by name, without what is needed to compute them."""

from typing import Literal

Direction = Literal["min", "max"]

# What metrics.ColorizationScores computes, and which way is better. How colorful predictions are
# (`colorfulness`) is missing: neither way is better, the gap to the truth says how good it is.
SCORES: dict[str, Direction] = {
    "against_gray": "min",
    "ab_mae": "min",
    "ab_jsd": "min",
    "ciede2000": "min",
    "psnr": "max",
    "ssim": "max",
    "rmse": "min",
    "accuracy_eps2": "max",
    "accuracy_eps5": "max",
    "colorfulness_gap": "min",
    **{f"{channel}_{error}": "min" for channel in "ab" for error in ("mae", "median_ae", "mse")},
    **{f"{channel}_{fit}": "max" for channel in "ab" for fit in ("r2", "explained_variance")},
}

BEST_OF = 8  # samples

# What sample_scores.SampleScores computes for stochastic models. How much samples vary
# (`sample_variance`) is missing: neither way is better.
SAMPLE_SCORES: dict[str, Direction] = {
    "mean_sample_ab_mae": "min",
    "mean_sample_ab_jsd": "min",
    "mean_sample_psnr": "max",
    f"best_of_{BEST_OF}_ab_mae": "min",
    f"best_of_{BEST_OF}_psnr": "max",
    f"best_of_{BEST_OF}_rmse": "min",
}

# What perceptual.PerceptualScores computes where the weights are cached.
PERCEPTUAL_SCORES: dict[str, Direction] = {"fid": "min", "lpips": "min"}
