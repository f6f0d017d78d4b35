"""Which published outcomes of training show at small scale: runs that differ in one setting.

`python benchmarks/behaviour.py [--photos FOLDER] [--outcomes kl_weight,...]` prints a table in
Markdown for each. Each run is a recipe's small version, widened by what stands here, at 64 pixels;
scores are those of its last epoch on pictures that were not trained on. Without `--photos` the
sample photographs are taken, a few crops of eight scenes.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from colorization.config import Data, parse
from colorization.experiment import Experiment
from colorization.training import fit
from small_recipe import lay_over, read_small_recipe

_PLAIN: Data = {
    "data": {"size": 64, "crop_scale": [0.8, 1.0]},
    "train": {"batch_size": 8, "precision": "float32", "grid_every": 1000},
}


class Outcome(NamedTuple):
    """A published outcome, and the runs that show it or not."""

    claim: str
    recipe: str
    settings: Data  # of all runs
    runs: dict[str, Data]
    columns: tuple[str, ...]  # of the last epoch's metrics


def _stages(**epochs: int) -> Data:
    return {"stages": {stage: {"epochs": count} for stage, count in epochs.items()}}


_GAN_COLUMNS = (
    "against_gray",
    "ab_mae",
    "ab_jsd",
    "colorfulness",
    "train/discriminator/adversarial",
    "train/discriminator/real",
    "train/discriminator/fake",
)
_GENERATOR: Data = {"width": 16}
OUTCOMES: dict[str, Outcome] = {
    "kl_weight": Outcome(
        "A1: a large KL weight lets no picture form, a small one kills diversity",
        "naive_cvae",
        {"model": {"network": {"width": 16}}, "train": {"learning_rate": 1e-3, **_stages(vae=20)}},
        {
            f"kl_weight {weight:g}": {"model": {"kl_weight": weight}}
            for weight in (1e-7, 1e-5, 1e-3, 1e-1)
        },
        (
            "mean_sample_psnr",
            "best_of_8_psnr",
            "sample_variance",
            "kl_per_dimension",
            "active_units",
            "train/network/reconstruction",
        ),
    ),
    "discriminator": Outcome(
        "B2: a vision transformer as the discriminator wins at once, the pictures turn gray",
        "vit_discriminator_gan",
        {"model": {"generator": _GENERATOR}, "train": _stages(head_start=4, adversarial=8)},
        {
            "patch": {"model": {"discriminator": {"name": "patch", "width": 32, "layers": 2}}},
            "vit": {
                "model": {
                    "discriminator": {"patch": 8, "hidden": 96, "depth": 4, "heads": 4, "mlp": 384}
                }
            },
        },
        _GAN_COLUMNS,
    ),
    "head_start": Outcome(
        "B1 to B4: a head start with L1 keeps the generator alive",
        "vit_gan",
        {
            "model": {
                "generator": {"patch": 8, "hidden": 96, "depth": 4, "heads": 4, "mlp": 384},
                "discriminator": {"width": 32, "layers": 2},
                "lambda_l1": 10,
            }
        },
        {
            "12 adversarial epochs": {"train": _stages(head_start=0, adversarial=12)},
            "4 of L1, then 8 adversarial": {"train": _stages(head_start=4, adversarial=8)},
        },
        _GAN_COLUMNS,
    ),
    "loss": Outcome(
        "C2: without a pixel loss the hinge loss trains where BCE does not",
        "unet_sagan",
        {
            "model": {"generator": {"width": 8}, "discriminator": {"width": 16}},
            "train": {"stages": {"equal": {"steps": 200}, "double": {"steps": 100}}},
        },
        {
            "hinge, margin 0.9": {},
            "bce": {"model": {"adversarial": {"name": "bce"}}},
        },
        _GAN_COLUMNS,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the runs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--outcomes", help=f"names with commas between ({', '.join(OUTCOMES)})")
    options = parser.parse_args(arguments)
    names = options.outcomes.split(",") if options.outcomes else list(OUTCOMES)
    if unknown := [name for name in names if name not in OUTCOMES]:
        parser.error(f"no outcome {', '.join(unknown)}; there is {', '.join(OUTCOMES)}")
    source: Data = {"name": "sample", "crops": 192, "scoring_crops": 48}
    if options.photos:
        source = {"name": "folder", "path": str(options.photos)}
    for name in names:
        outcome = OUTCOMES[name]
        columns = [column.removeprefix("train/") for column in outcome.columns]
        print(f"\n### {outcome.claim}\n\n| {outcome.recipe} | {' | '.join(columns)} |")
        print(f"| --- |{' ---: |' * len(columns)}", flush=True)
        for run, changes in outcome.runs.items():
            metrics = _train(outcome, changes, source)
            row = [f"{metrics[column]:.4g}" for column in outcome.columns]
            print(f"| {run} | {' | '.join(row)} |", flush=True)
    return 0


def _train(outcome: Outcome, changes: Data, source: Data) -> dict[str, Any]:
    data = read_small_recipe(outcome.recipe)
    for part in (_PLAIN, outcome.settings, changes):
        data = lay_over(data, part)
    data["data"]["source"] = source
    with tempfile.TemporaryDirectory() as folder:
        return fit(parse(Experiment, data), Path(folder)).history[-1]


if __name__ == "__main__":
    sys.exit(main())
