"""The numbers of a run by name: what they mean, without what is needed to compute them."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Direction = Literal["min", "max"]


class Meaning(NamedTuple):
    """What a number says; `better` is None where neither way is better by itself."""

    better: Direction | None
    unit: str  # "" for one without
    says: str


BEST_OF = 8  # samples
_AB = "ab / 110"  # of both channels in Lab, scaled to [-1, 1]


def _of_a_channel(channel: str) -> dict[str, Meaning]:
    return {
        f"{channel}_mae": Meaning("min", _AB, f"mean absolute error of {channel}"),
        f"{channel}_median_ae": Meaning("min", _AB, f"median absolute error of {channel}"),
        f"{channel}_mse": Meaning("min", "(ab / 110)²", f"mean squared error of {channel}"),
        f"{channel}_r2": Meaning(
            "max", "", f"share of {channel}'s variance explained, R², at most 1"
        ),
        f"{channel}_explained_variance": Meaning(
            "max", "", f"the same, but for a constant error of {channel}"
        ),
    }


# What metrics.ColorizationScores computes.
_COLORIZATION = {
    "against_gray": Meaning(
        "min", "", "mean of ab_mae and ab_jsd, each over leave-gray's; gray itself is 1"
    ),
    "ab_mae": Meaning("min", _AB, "mean absolute error of color"),
    "ab_jsd": Meaning(
        "min", "bits, 0 to 1", "Jensen-Shannon divergence of the distributions of color"
    ),
    "ciede2000": Meaning("min", "ΔE00", "mean color difference of pixels"),
    "psnr": Meaning("max", "dB", "peak signal-to-noise ratio of RGB, at most 60"),
    "ssim": Meaning("max", "", "structural similarity of RGB, at most 1"),
    "rmse": Meaning("min", "levels, 0 to 255", "root of the mean squared error of RGB"),
    "accuracy_eps2": Meaning("max", "% of pixels", "within 2 of L and 4.4 of a and b"),
    "accuracy_eps5": Meaning("max", "% of pixels", "within 5 of L and 11 of a and b"),
    "colorfulness": Meaning(
        None, "", "how colorful predictions are (Hasler and Süsstrunk); see its gap"
    ),
    "colorfulness_gap": Meaning("min", "", "mean difference of colorfulness to the truth's"),
    **_of_a_channel("a"),
    **_of_a_channel("b"),
    "pictures": Meaning(None, "pictures", "how many were scored"),
}

# What sample_scores.SampleScores computes for stochastic models.
_SAMPLES = {
    "mean_sample_ab_mae": Meaning("min", _AB, "ab_mae of the sample at temperature 0"),
    "mean_sample_ab_jsd": Meaning("min", "bits, 0 to 1", "ab_jsd of the sample at temperature 0"),
    "mean_sample_psnr": Meaning("max", "dB", "psnr of the sample at temperature 0"),
    f"best_of_{BEST_OF}_ab_mae": Meaning("min", _AB, f"ab_mae of the best of {BEST_OF} samples"),
    f"best_of_{BEST_OF}_psnr": Meaning("max", "dB", f"psnr of the best of {BEST_OF} samples"),
    f"best_of_{BEST_OF}_rmse": Meaning(
        "min", "levels, 0 to 255", f"rmse of the best of {BEST_OF} samples"
    ),
    "sample_variance": Meaning(None, "(ab / 110)²", "how much samples of a picture vary"),
}

# What perceptual.PerceptualScores computes where the weights are cached.
_PERCEPTUAL = {
    "fid": Meaning("min", "", "Fréchet distance of Inception's features"),
    "lpips": Meaning("min", "", "distance of AlexNet's features, mean over pictures"),
}

# What models measure of the validation pictures themselves.
_MEASURED = {
    "kl": Meaning(None, "nats", "KL divergence of the posterior from the prior, of a picture"),
    "kl_per_dimension": Meaning(None, "nats", "kl over the latent's dimensions"),
    "active_units": Meaning(None, "dimensions", "of the latent whose mean varies over pictures"),
    "bits_per_dimension": Meaning("min", "bits", "negative log-likelihood of a and b of a pixel"),
}

# What is logged of an epoch beside the scores. These tell of the machine and not of the model:
_SPEED = {
    "seconds": Meaning("min", "s", "that the epoch took, its scoring included"),
    "pictures_per_second": Meaning("max", "1/s", "trained on, over all ranks"),
    "train/loading_share": Meaning("min", "", "of the time that ranks waited for pictures, 0 to 1"),
}
# ...and so do these, under `system/`; see system_metrics. {} is the rank.
_SYSTEM = {
    "system/cpu_utilization_percentage": Meaning(None, "%", "of all processors of the machine"),
    "system/system_memory_usage_megabytes": Meaning(None, "MB", "used on the machine"),
    "system/system_memory_usage_percentage": Meaning(None, "%", "of the machine's memory used"),
    "system/process_memory_usage_megabytes": Meaning(None, "MB", "of the training processes"),
    "system/disk_usage_percentage": Meaning(None, "%", "of the run's disk used"),
    "system/disk_usage_megabytes": Meaning(None, "MB", "used on the run's disk"),
    "system/disk_available_megabytes": Meaning(None, "MB", "free on the run's disk"),
    "system/gpu_{}_memory_usage_megabytes": Meaning(None, "MB", "used on the rank's GPU"),
    "system/gpu_{}_memory_usage_percentage": Meaning(None, "%", "of the rank's GPU's memory used"),
    "system/gpu_{}_utilization_percentage": Meaning(None, "%", "of the time the rank's GPU worked"),
}
_TRAINING = {
    "train/unreadable": Meaning("min", "pictures", "that could not be decoded in the epoch"),
    "train/{}/{}": Meaning(
        None, "", "a term of a player's loss without its weight, mean over the steps"
    ),
}

MEANINGS: Mapping[str, Meaning] = {
    **_COLORIZATION,
    **_SAMPLES,
    **_PERCEPTUAL,
    **_MEASURED,
    **_TRAINING,
    **_SPEED,
    **_SYSTEM,
}


def _directions(meanings: Mapping[str, Meaning]) -> dict[str, Direction]:
    return {name: found.better for name, found in meanings.items() if found.better}


# The scores of which one is better, and which way.
SCORES: dict[str, Direction] = _directions(_COLORIZATION)
SAMPLE_SCORES: dict[str, Direction] = _directions(_SAMPLES)
PERCEPTUAL_SCORES: dict[str, Direction] = _directions(_PERCEPTUAL)

# The same score of other pictures, or of leave-gray, stand under these.
PREFIXES = {"gray/": "leave-gray's", "test/": "on the test pictures"}


def is_of_the_machine(name: str) -> bool:
    """Tell whether a number of an epoch tells of the machine, so that it differs at each try."""
    return name in _SPEED or name.startswith("system/")


def meaning(name: str) -> Meaning | None:
    """Return what a number means, one under `gray/` or `test/` too; None for an unknown one."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    if found := MEANINGS.get(name):
        return found
    parts = name.split("/")
    if parts[0] == "train" and len(parts) == 3:
        return MEANINGS["train/{}/{}"]
    if parts[0] == "system" and parts[-1].startswith("gpu_"):
        kind = parts[-1].split("_", 2)[-1]
        return MEANINGS.get(f"system/gpu_{{}}_{kind}")
    return None


def glossary(names: Iterable[str] = MEANINGS) -> str:
    """Return a Markdown table of what numbers mean, their units and which way is better."""
    ways = {"min": "lower", "max": "higher", None: ""}
    lines = ["| number | unit | better | what it says |", "|---|---|---|---|"]
    for name in names:
        if found := meaning(name):
            shown = name.replace("{}", "N") if name.startswith("system/") else name
            shown = shown.replace("train/{}/{}", "train/PLAYER/TERM")
            lines.append(f"| `{shown}` | {found.unit} | {ways[found.better]} | {found.says} |")
    lines += ["", *(f"Under `{prefix}`: {says}." for prefix, says in PREFIXES.items())]
    return "\n".join(lines) + "\n"
