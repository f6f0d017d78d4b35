"""Whether every recipe can learn: its small version is trained on 8 photographs to know them.

`python benchmarks/overfit.py [--photos FOLDER]` prints a table in Markdown. Training and validation
pictures are the same 8 squares of 64 pixels, never cropped or mirrored; scores are those of the
last step. What a recipe needs beyond its small version (a wider network, a higher learning rate,
the steps of its stages) stands in `overfit/NAME.yaml`. The exit status is 1 where a recipe
could not be trained; a target that is missed is a line in the table.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from colorization.config import ConfigError, Data, dump, parse, read_yaml
from colorization.data import DataConfig, open_data
from colorization.data.sample import CropSet
from colorization.data.transforms import scoring_crop
from colorization.experiment import Experiment, count_players, recipes
from colorization.pictures import PICTURE_SUFFIXES, Picture, read_rgb, write_picture
from colorization.score_names import BEST_OF
from colorization.training import Report, fit
from small_recipe import lay_over, read_small_recipe, sources

SETTINGS = Path(__file__).parent / "overfit"
PICTURES, SIZE, STEPS = 8, 64, 300

_HEADINGS = (
    "recipe",
    "parameters",
    "steps",
    "seconds",
    "PSNR",
    "gray's PSNR",
    "gain, dB",
    f"best of {BEST_OF}, PSNR",
    f"best of {BEST_OF}, gain, dB",
    "ab_jsd",
    "gray's ab_jsd",
    "target",
    "met",
)


class Scores(NamedTuple):
    """What a recipe came to, and where leaving the pictures gray comes to."""

    model: Mapping[str, float]
    gray: Mapping[str, float]

    def gain(self, score: str) -> float:
        """Return how many dB a PSNR lies above leave-gray's."""
        return self.model[score] - self.gray["psnr"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the recipes and print the table row by row; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos", type=Path, help="8 are taken from all over this folder (sample photographs)"
    )
    parser.add_argument("--recipes", help="names with commas between (all)")
    parser.add_argument("--steps", type=int, help="the most that a stage may take, for a quick try")
    options = parser.parse_args(arguments)
    names = options.recipes.split(",") if options.recipes else list(recipes())
    if unknown := [name for name in names if name not in recipes()]:
        parser.error(f"no recipe {', '.join(unknown)}; there is {', '.join(recipes())}")
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps: found {options.steps}, at least 1 is needed")
    try:
        photographs = _photographs(options.photos)
    except ConfigError as error:
        parser.error(f"--photos: {error}")

    print(f"| {' | '.join(_HEADINGS)} |")
    print(f"| --- |{' ---: |' * (len(_HEADINGS) - 3)} --- | --- |", flush=True)
    failed = False
    for name in names:
        try:
            with tempfile.TemporaryDirectory() as folder:
                row = _overfit(name, photographs, Path(folder), options.steps)
        except Exception as error:  # whatever one recipe ends with, the others have their turn
            traceback.print_exc()
            failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".replace("|", "/").split())
            row = [name, *[""] * (len(_HEADINGS) - 3), f"failed: {reason}", "no"]
        print(f"| {' | '.join(row)} |", flush=True)
    return int(failed)


def experiment_of(name: str, pictures: Path, most_steps: int | None = None) -> Experiment:
    """Return a recipe's small version as it is trained here, on a folder of prepared pictures.

    Each stage takes the steps that `overfit/NAME.yaml` gives it, else 300.
    """
    file = SETTINGS / f"{name}.yaml"
    own = read_yaml(file) if file.exists() else {}
    own_stages = own.get("train", {}).get("stages", {})
    data = read_small_recipe(name)
    common: Data = {
        "data": {"size": SIZE, "flip": False, "crop_scale": [1.0, 1.0]},
        "train": {"batch_size": PICTURES, "precision": "float32", "grid_pictures": 1},
    }
    data = lay_over(lay_over(data, common), own)
    for key in sources(data):
        *parents, source = key.split(".")
        part = data
        for parent in parents:
            part = part.setdefault(parent, {})
        part[source] = {"name": "folder", "path": str(pictures)}
    for stage_name, stage in data["train"]["stages"].items():
        steps = own_stages.get(stage_name, {}).get("steps", STEPS)
        stage["epochs"], stage["steps"] = None, min(steps, most_steps or steps)
    return parse(Experiment, data, name)


def meets_target(experiment: Experiment, scores: Scores) -> tuple[str, bool]:
    """Return a recipe's target in words and whether it is met.

    A pixel loss has to come 6 dB above leave-gray, the best of 8 samples 4 dB; colors that nothing
    but a discriminator drives, halfway from leave-gray's `ab_jsd` to zero.
    """
    if f"best_of_{BEST_OF}_psnr" in scores.model:
        return f"best of {BEST_OF}: 4 dB", scores.gain(f"best_of_{BEST_OF}_psnr") >= 4
    weights = [v for key, v in dump(experiment.model).items() if key.startswith("lambda_")]
    if weights and not any(weights):
        return "half of ab_jsd", scores.model["ab_jsd"] <= scores.gray["ab_jsd"] / 2
    return "6 dB", scores.gain("psnr") >= 6


def _overfit(
    name: str, photographs: Sequence[np.ndarray], folder: Path, most_steps: int | None
) -> list[str]:
    pictures = folder / "pictures"
    experiment = experiment_of(name, pictures, most_steps)
    stages = experiment.train.stages.values()
    # One epoch a stage: pictures are scored at its end only.
    _write_pictures(
        photographs, experiment.data.size, pictures, max(stage.steps or 0 for stage in stages)
    )
    reports: list[Report] = []
    started = time.perf_counter()
    fit(experiment, folder / "run", report=reports.append)
    seconds = time.perf_counter() - started
    scores = Scores(reports[-1].metrics, reports[-1].gray)
    target, met = meets_target(experiment, scores)
    best = f"best_of_{BEST_OF}_psnr"
    return [
        name,
        f"{sum(count_players(experiment).values()):,}",
        " + ".join(str(stage.steps) for stage in stages),
        f"{seconds:.0f}",
        f"{scores.model['psnr']:.2f}",
        f"{scores.gray['psnr']:.2f}",
        f"{scores.gain('psnr'):+.2f}",
        f"{scores.model[best]:.2f}" if best in scores.model else "",
        f"{scores.gain(best):+.2f}" if best in scores.model else "",
        f"{scores.model['ab_jsd']:.3f}",
        f"{scores.gray['ab_jsd']:.3f}",
        target,
        "yes" if met else "no",
    ]


def _photographs(folder: Path | None) -> list[np.ndarray]:
    """Read the photographs: out of all of a folder, or those that come inside packages."""
    if folder is None:
        scenes = open_data(DataConfig()).train
        assert isinstance(scenes, CropSet)
        return list(scenes.scenes.values())[:PICTURES]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if len(files) < PICTURES:
        raise ConfigError(f"{folder} holds {len(files)} pictures, {PICTURES} are needed")
    return [read_rgb(files[i * len(files) // PICTURES]) for i in range(PICTURES)]


def _write_pictures(photographs: Sequence[np.ndarray], size: int, folder: Path, times: int) -> None:
    """Write the squares that are trained and scored on; each is linked into train/ so many times.

    Already of the size trained at, for out of a wider picture training would cut other squares.
    """
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
    for number, rgb in enumerate(photographs):
        file = folder / "val" / f"{number}.png"
        write_picture(Picture(scoring_crop(rgb, size)), file)
        (folder / "test" / file.name).symlink_to(file)
        for copy in range(times):
            (folder / "train" / f"{number}-{copy}.png").symlink_to(file)


if __name__ == "__main__":
    sys.exit(main())
