"""Prints what system A5's pair gains over a scene model alone where colors follow from shapes.

The chain of docs/instances.md on drawn pictures (`shapes.py`), with small flows of 64 pixels:
crops are packed, the instance model is trained on them, the pictures are partly colored by it, the
scene model is trained on these; beside it one of the same flow, which sees lightness alone, on the
same pictures, with as many steps as both of the pair have. Scored on test pictures at full size, by
one sample each.

    python benchmarks/instances.py [--work DIR] [--seeds 3] [--pictures 600] [--steps 800]

A killed one goes on where DIR is given: what lies there is not made again.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from colorization.color import rgb_to_lab
from colorization.coloring import ColorOptions
from colorization.config import parse
from colorization.data.given_instances import GivenInstances
from colorization.experiment import Experiment
from colorization.export import export
from colorization.inference import PictureColorizer
from colorization.instances import Detection, InstanceOptions, find_instances
from colorization.pair import export_pair, load_colorizer
from colorization.pictures import Picture, read_file, read_rgb
from colorization.training import fit
from shapes import read_names, write_set

SIZE = 64
FLOW: dict[str, Any] = {
    "name": "cinn",
    "condition": {"name": "convolutional", "widths": [32, 64, 96], "vector": 32},
    "flow": [
        {"couplings": 1, "hidden": 16, "kernels": [3], "clamp": 1.0},
        {"couplings": 2, "hidden": 32, "kernels": [1, 3], "clamp": 1.0, "keep": 4},
        {"couplings": 2, "hidden": 32, "kernels": [1, 3], "clamp": 0.6, "keep": 8},
    ],
    "fully_connected": {"couplings": 2, "hidden": 64},
}
PREPARE = Path(__file__).parent.parent / "ray_jobs" / "prepare.py"
Scores = tuple[float, float]  # ab_mae in units of Lab: within objects, of whole pictures
Finder = Callable[[np.ndarray, str], Sequence[Detection] | None]


def main() -> None:
    """Train for each seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, metavar="DIR", help="(one that is removed)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=600, help="to train on")
    parser.add_argument("--steps", type=int, default=800, help="of each model of the pair")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_table(compare((options.work or Path(folder)).absolute(), options))


def compare(work: Path, options: argparse.Namespace) -> dict[str, list[Scores]]:
    """Return the scores of each way to color, one for each seed."""
    found = work / "found.jsonl"
    if not found.exists():
        write_set(work, {"train": options.pictures, "val": 10, "test": 80})
    prepare(work / "pictures", work / "crops", "instances=crops", f"detections={found}")
    rows: dict[str, list[Scores]] = {}
    for seed in range(options.seeds):
        for name, scores in run(work, found, seed, options.steps).items():
            rows.setdefault(name, []).append(scores)
            print(seed, name, *(f"{score:.2f}" for score in scores), flush=True)
    return rows


def prepare(pictures: Path, out: Path, *words: str) -> None:
    """Pack a set as a person does; nothing happens where it is packed already."""
    command = [sys.executable, str(PREPARE), str(pictures), "--out", str(out), f"size={SIZE}"]
    subprocess.run([*command, "near_bits=0", *words], check=True)


def run(work: Path, found: Path, seed: int, steps: int) -> dict[str, Scores]:
    """Go through the chain with a seed; return the scores of each way to color."""
    place = work / f"seed-{seed}"
    instance = train(place / "instance", work / "crops", seed, steps)
    colored = place / "colored"
    words = (f"detections={found}", "--instance-model", str(instance))
    prepare(work / "pictures", colored, "instances=colored", *words)
    scene = train(place / "scene", colored, seed, steps, condition_on="lab")
    alone = train(place / "alone", colored, seed, 2 * steps)
    pair = load_colorizer(export_pair(instance, scene, place / "pair"))
    given = GivenInstances(found)

    def told(rgb: np.ndarray, name: str) -> list[Detection]:
        return find_instances(rgb, given.options(name, 0.5, 64), name)

    def boxes(rgb: np.ndarray, name: str) -> list[Detection]:
        return [one._replace(mask=np.ones_like(one.mask)) for one in told(rgb, name)]

    ways: dict[str, tuple[PictureColorizer | None, Finder]] = {
        "leave gray": (None, told),
        "the scene model alone": (load_colorizer(alone), lambda rgb, name: None),
        "the pair without instances": (pair, lambda rgb, name: None),
        "the pair with boxes": (pair, boxes),
        "the pair with masks": (pair, told),
    }
    pictures = {name: read_rgb(read_file(work / "pictures" / name, name)) for name in names(found)}
    return {way: score(*ways[way], told, pictures) for way in ways}


def names(found: Path) -> list[str]:
    """Return the test pictures' names."""
    return read_names(found, "test")


def train(run: Path, data: Path, seed: int, steps: int, condition_on: str = "lightness") -> Path:
    """Train a small flow on a packed set; return its export."""
    experiment = parse(
        Experiment,
        {
            "data": {
                "source": {"name": "packed", "path": str(data)},
                "size": SIZE,
                "crop_scale": [1.0, 1.0],
            },
            "model": {**FLOW, "condition_on": condition_on},
            "train": {
                "batch_size": 16,
                "learning_rate": 2e-3,
                "gradient_clip": 10,
                "schedule": {"name": "cosine"},
                "seed": seed,
                "precision": "float32",
                "grid_every": 1000,
                "stages": {"likelihood": {"turns": "likelihood", "steps": steps}},
            },
        },
    )
    fit(experiment, run, device="cuda" if torch.cuda.is_available() else "cpu")
    return export(run, run / "model")


def score(
    colorizer: PictureColorizer | None,
    find: Finder,
    told: Finder,
    pictures: dict[str, np.ndarray],
) -> Scores:
    """Return the mean absolute error of ab within the objects, and of whole pictures."""
    inside, whole = [], []
    for name, rgb in pictures.items():
        colored = gray(rgb)
        if colorizer is not None:
            options = ColorOptions(instances=None if find(rgb, name) is None else InstanceOptions())
            (samples,) = colorizer.batch([Picture(rgb)], options, [find(rgb, name)])
            (colored,) = (sample.rgb for sample in samples)
        error = (_ab(colored) - _ab(rgb)).abs().mean(0)
        mask = np.zeros(rgb.shape[:2], bool)
        for one in told(rgb, name) or ():
            one.box.cut(mask)[one.mask] = True
        inside.append(error[torch.from_numpy(mask)].mean().item())
        whole.append(error.mean().item())
    return mean(inside), mean(whole)


def gray(rgb: np.ndarray) -> np.ndarray:
    """Return a picture without its colors, nearly as light."""
    return np.repeat(rgb.mean(2, keepdims=True).round().astype(np.uint8), 3, axis=2)


def _ab(rgb: np.ndarray) -> Tensor:
    return 110 * rgb_to_lab(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None])[0, 1:]


def print_table(rows: dict[str, list[Scores]]) -> None:
    """Print means over the seeds, and their standard deviations."""
    table = Table("colored by", "ab_mae of objects", "of whole pictures")
    for way, scores in rows.items():
        cells = [
            f"{mean(column):.2f} ± {stdev(column) if len(column) > 1 else 0:.2f}"
            for column in zip(*scores, strict=True)
        ]
        table.add_row(way, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
