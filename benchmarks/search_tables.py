"""Tables of real learning curves, on which a search can be simulated as often as one likes.

A table holds what some settings of a space, laid out as a Sobol sequence, came to epoch by epoch
on photographs. In a simulated search a trial takes the curve of the nearest of them in the unit
square (ranges in logarithms): nothing is interpolated, so that curves are real to the last digit,
but all settings in a point's neighbourhood come to the same, and the best that a search can find
is the table's best point.
"""

import contextlib
import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from colorization.config import ConfigError
from colorization.experiment import Experiment
from colorization.loss_log import Diverged
from colorization.pictures import PICTURE_SUFFIXES, Picture, read_rgb, write_picture
from colorization.training import Report, fit
from drawing import draw
from space import Space

SCORES = ("ab_mae", "ab_jsd", "against_gray")
Curve = list[dict[str, float]]  # the scores after each epoch
SPACES = Path(__file__).parent / "search"
PHOTOGRAPHS = {"train": 128, "val": 48, "test": 8}  # taken from a folder, a test is never scored
SHORT_SIDE = 96  # pixels that photographs are shrunk to: 64 are cut out of them


@dataclass(frozen=True)
class Point:
    """Settings and their scores after each epoch; fewer where their training diverged."""

    parameters: Mapping[str, Any]
    curve: Curve


@dataclass(frozen=True)
class Table:
    """The points, leave-gray's scores and what tells one table from another."""

    space: str
    photographs: str
    gray: dict[str, float]
    points: list[Point]

    @classmethod
    def read(cls, file: Path, space: str, photographs: str) -> "Table":
        """Read what there is of a table; raises ConfigError where it is another one."""
        if not file.exists():
            return cls(space, photographs, {}, [])
        data = json.loads(file.read_text(encoding="utf-8"))
        for part, wanted, what in (
            ("space", space, "settings"),
            ("photographs", photographs, "photographs"),
        ):
            if data[part] != wanted:
                raise ConfigError(
                    f"--tables: {file} was made with other {what}: name another folder or remove it"
                )
        points = [Point(**point) for point in data["points"]]
        return cls(space, photographs, data["gray"], points)

    def write(self, file: Path) -> None:
        """Write it at once or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        part.replace(file)


def read_space(name: str, words: Sequence[str] = ()) -> Space:
    """Read a space of `search/`, changed by `key=value` words."""
    return Space.read(SPACES / f"{name}.yaml", None, words)


def train_table(
    name: str,
    file: Path,
    points: int,
    epochs: int | None,
    photos: Path | None,
    say: Callable[[str], None],
) -> Table:
    """Train what is missing of the table of a space in `search/`, and return it.

    `photos` is a folder of photographs, of which 184 are taken from all over it; else sample
    photographs are trained on. Each point is stored as it is done, so that a killed run goes on.
    Raises ConfigError where the file holds another table or the folder too few photographs.
    """
    words = _epochs_word(name, epochs)
    photographs = str(photos.resolve()) if photos else "sample"
    table = Table.read(file, read_space(name, words).to_yaml(), photographs)
    missing = range(len(table.points), points)
    with tempfile.TemporaryDirectory() as place:
        if photos and missing:
            write_photographs(photos, Path(place))
            words += ["data.source.name=folder", f"data.source.path={place}", "data.in_memory=true"]
        words += ["search.sampler.name=qmc", "train.grid_every=1000"]
        space = read_space(name, words)
        for index in missing:
            drawn = draw(space, 0, index, [])
            if drawn.experiment is None:
                raise drawn.fault or ConfigError("nothing was drawn")
            curve = _train(drawn.experiment, table.gray)
            table.points.append(Point(drawn.trial.params, curve))
            table.write(file)
            say(f"{file}: {index + 1} of {points} settings trained")
    return table


def write_photographs(folder: Path, place: Path) -> None:
    """Write shrunk copies of photographs from all over a folder into train/, val/ and test/.

    Reading the large ones would take most of the time. Raises ConfigError where there are too few.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    count = sum(PHOTOGRAPHS.values())
    if len(files) < count:
        raise ConfigError(f"--photos: {folder} holds {len(files)} pictures, {count} are needed")
    splits = [split for split, size in PHOTOGRAPHS.items() for _ in range(size)]
    random.Random(0).shuffle(splits)
    for number, split in enumerate(splits):
        rgb = read_rgb(files[number * len(files) // count])
        scale = SHORT_SIDE / min(rgb.shape[:2])
        size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        (place / split).mkdir(exist_ok=True)
        write_picture(Picture(small), place / split / f"{number:04d}.png")


def _train(experiment: Experiment, gray: dict[str, float]) -> Curve:
    curve: Curve = []

    def note(report: Report) -> None:
        curve.append({score: report.metrics[score] for score in SCORES})
        gray.update(report.gray)

    with tempfile.TemporaryDirectory() as run, contextlib.suppress(Diverged):
        fit(experiment, Path(run), report=note)
    return curve


def _epochs_word(name: str, epochs: int | None) -> list[str]:
    if epochs is None:
        return []
    (stage,) = read_space(name, []).typical().train.stages
    return [f"train.stages.{stage}.epochs={epochs}"]
