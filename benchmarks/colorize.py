"""Prints what it takes to colorize: a large photograph on one core, and a folder by processes.

The photograph (JPEG, 12 megapixels) is made of a sample photograph and grain, the model is a recipe
with random weights at its size, which takes as long as a trained one. Seconds are those of the CPU,
which other programs on the machine change less than those of the clock; the folder's are of the
clock, so that their ratio is of use on an idle machine alone.

    python benchmarks/colorize.py [--recipe NAME] [--megapixels X] [--pictures N] [--upsampling U]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from colorization.color import lab_to_rgb
from colorization.coloring import ColorOptions
from colorization.config import parse
from colorization.data.sample import SampleSource
from colorization.experiment import read_experiment, without_pretrained
from colorization.export import load_exported
from colorization.inference import PictureColorizer
from colorization.photographs import colorize_bytes, read_photograph, write_photograph
from colorization.pictures import Picture, encode_picture
from colorization.resizing import strips
from colorization.upsampling import Bicubic, Bilateral, Guided
from untrained import write_export

T = TypeVar("T")


def photograph(megapixels: float, seed: int = 0) -> bytes:
    """Return the JPEG of a sample photograph at this size, with grain."""
    pictures = SampleSource(scoring_crops=8).open(0).validation
    small = pictures.picture(seed % len(pictures))
    height, width = small.shape[:2]
    scale = (megapixels * 1e6 / (height * width)) ** 0.5
    size = (round(width * scale), round(height * scale))
    large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(seed).integers(-6, 7, large.shape[:2], np.int16)[..., None]
    return encode_picture(Picture(np.clip(large + grain, 0, 255).astype(np.uint8)), ".jpg")


def took(work: Callable[[], T]) -> tuple[T, float]:
    """Return what a call returns and the CPU's seconds that it takes, at best of three."""
    results: list[tuple[float, T]] = []
    for _ in range(3):
        started = time.process_time()
        result = work()
        results.append((time.process_time() - started, result))
    least = min(seconds for seconds, _ in results)
    return results[0][1], least


def stages(model: Path, data: bytes, options: ColorOptions) -> dict[str, float]:
    """Return the seconds of each part of coloring a file, on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network, experiment = load_exported(model)
    colorizer = PictureColorizer(network, experiment.data.size)
    shot, decode = took(lambda: read_photograph(data))
    height, width = shot.picture.rgb.shape[:2]
    (view,), seen = took(lambda: colorizer.views([shot.picture], options))
    with torch.inference_mode():
        _, model_alone = took(lambda: network.colorize(_padded(view.lightness, network.multiple)))
        guide = torch.rand(1, 1, height, width) * 2 - 1
        upsampling = {
            "guided": lambda: Guided(view.ab[:1], view.lightness, height),
            "bilateral": lambda: Bilateral(view.ab[:1], view.lightness, height),
            "bicubic": lambda: Bicubic(view.ab[:1], height),
        }[options.upsampling]

        def upsample() -> None:
            method = upsampling()
            for rows in strips(height, width):
                method.rows(guide[:, :, rows], rows.start)

        _, upsampled = took(upsample)
        strip = torch.cat([guide[:, :, :256], torch.zeros(1, 2, 256, width)], dim=1)
        _, one_strip = took(lambda: lab_to_rgb(strip, keep_lightness=True))
    (colored,), whole = took(lambda: colorizer(shot.picture, options))
    _, encode = took(lambda: write_photograph(colored, shot, "colorization benchmark"))
    return {
        "decode": decode,
        "what the model sees": seen - model_alone,
        "model": model_alone,
        "upsampling": upsampled,
        "Lab to sRGB (gray)": one_strip * height / 256,
        "other work on pixels": max(0.0, whole - seen - upsampled - one_strip * height / 256),
        "encode": encode,
        "all": decode + whole + encode,
    }


def _padded(lightness: torch.Tensor, multiple: int) -> torch.Tensor:
    height, width = lightness.shape[-2:]
    return torch.nn.functional.pad(
        lightness, (0, -width % multiple, 0, -height % multiple), mode="replicate"
    )


def _options(upsampling: str) -> ColorOptions:
    # Random weights give colors far more vivid than a trained model's, most of them beyond sRGB.
    return parse(ColorOptions, {"upsampling": upsampling, "saturation": 0.2})


def memory(model: Path, picture: Path, options: str) -> None:
    """Print how many MB coloring a file takes at most beyond what is imported."""
    torch.set_num_threads(1)
    before = psutil.Process().memory_info().rss
    network, experiment = load_exported(model)
    colorizer = PictureColorizer(network, experiment.data.size)
    colorize_bytes(colorizer, picture.read_bytes(), _options(options))
    # Not getrusage, which takes what the process was forked from into account.
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    print(f"{(int(line.split()[1]) * 1024 - before) / 1e6:.0f}")


def folder_seconds(model: Path, pictures: Path, out: Path, workers: int) -> float:
    """Return the seconds of the command for a folder by so many one-thread processes."""
    words = [sys.executable, "-m", "colorization", "colorize", str(model), str(pictures)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    subprocess.run(
        [*words, "-o", str(out), "--workers", str(workers)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="pix2pix")
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--pictures", type=int, default=200, help="in the folder; 0: no folder")
    parser.add_argument("--upsampling", default="guided")
    parser.add_argument("--memory", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        model, picture = arguments.memory
        memory(model, picture, arguments.upsampling)
        return
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        experiment = without_pretrained(read_experiment(arguments.recipe))
        model = write_export(experiment, here / "model")
        data = photograph(arguments.megapixels)
        (here / "large.jpg").write_bytes(data)
        options = _options(arguments.upsampling)
        table = Table(title=f"{arguments.megapixels:g} megapixels, {arguments.recipe}, one thread")
        table.add_column("part")
        table.add_column("CPU seconds", justify="right")
        for name, seconds in stages(model, data, options).items():
            table.add_row(name, f"{seconds:.2f}")
        words = [sys.executable, __file__, "--upsampling", arguments.upsampling]
        found = subprocess.run(
            [*words, "--memory", str(model), str(here / "large.jpg")],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        table.add_row("memory beyond imports", f"{found.stdout.strip()} MB")
        console.print(table)
        if not arguments.pictures:
            return
        (here / "in").mkdir()
        for number in range(arguments.pictures):
            (here / "in" / f"{number:03}.jpg").write_bytes(photograph(1.0, number))
        one, two = (
            folder_seconds(model, here / "in", here / f"out{workers}", workers)
            for workers in (1, 2)
        )
        console.print(
            f"{arguments.pictures} pictures of 1 megapixel: 1 worker {one:.1f} s, "
            f"2 workers {two:.1f} s, {one / two:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
