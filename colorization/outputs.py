"""Where the colored copies of pictures go, and which of them are there already."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from colorization.config import ConfigError
from colorization.pictures import PICTURE_SUFFIXES, WRITABLE_SUFFIXES

Compare = Literal["before-after", "split"]


@dataclass(frozen=True)
class Job:
    """A picture to be colored, and the files that are made of it.

    `samples` are the colored copies; `sheet` shows all of them, where there are several;
    `comparison` shows the picture before and after; `name` is the picture's path below the folder
    that is read, with forward slashes.
    """

    picture: Path
    samples: tuple[Path, ...]
    sheet: Path | None = None
    comparison: Path | None = None
    name: str = ""

    @property
    def parts(self) -> dict[str, Path]:
        """Name all files: samples by their numbers."""
        parts = {f"{number}": path for number, path in enumerate(self.samples)}
        if self.sheet:
            parts["sheet"] = self.sheet
        if self.comparison:
            parts["comparison"] = self.comparison
        return parts


def plan_files(
    source: Path, out: Path, samples: int = 1, compare: Compare | None = None
) -> list[Job]:
    """Return what is to be made of each picture of a source, in the order of names.

    For one picture `out` is a file if it ends in a picture's suffix, else a folder; for a folder it
    is a folder, in which the structure is repeated. Names are kept; formats that cannot be written
    become PNG. Files with other suffixes and hidden ones are passed over. Several samples of a.jpg
    are a.1.jpg, a.2.jpg, ..., with a contact sheet a.samples.jpg; comparisons are
    a.before-after.jpg and a.split.jpg, or a.png.split.jpg where a.tif has one as well.

    Raises ConfigError for a missing source, a folder without pictures, a format that cannot be
    written, or an `out` that would replace an input or lies in the source.
    """
    if source.is_dir():
        planned = _plan_folder(source, out)
    elif source.exists():
        planned = [(source, _plan_file(source, out))]
    else:
        raise ConfigError(f"{source}: no such picture or folder")
    root = source if source.is_dir() else source.parent
    jobs = _jobs(planned, root, samples, compare)
    inputs = {picture.resolve(): picture for picture, _ in planned}
    for target in _targets(jobs, source):
        if (replaced := inputs.get(target.resolve())) is not None:
            raise ConfigError(f"{target} would replace the input {replaced}: choose another output")
    return jobs


def plan_found(
    pictures: Sequence[Path],
    source: Path,
    out: Path,
    samples: int = 1,
    compare: Compare | None = None,
) -> list[Job]:
    """Return what `plan_files` does of pictures below a source, without a look at the disk.

    For pictures that lie elsewhere. Raises ConfigError where two would become one file and for a
    name that leads out of `out`.
    """
    planned = _moved(pictures, source, out)
    jobs = _jobs(planned, source, samples, compare)
    _targets(jobs, source)
    return jobs


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures in a folder and the folders below it, in the order of names.

    Raises ConfigError for a folder that cannot be read.
    """
    found = (
        Path(place, name) for place, _, names in os.walk(folder, onerror=_refuse) for name in names
    )
    return sorted(filter(is_picture, found))


def is_picture(path: Path) -> bool:
    """Tell by its name whether a file is one that is colored; hidden ones are not."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def inside(folder: Path, path: Path) -> Path:
    """Return a path that lies in a folder by its name; raises ConfigError for one that does not."""
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
        raise ConfigError(f"{path} lies outside of {folder}: nothing is written there")
    return path


def _targets(jobs: Sequence[Job], source: Path) -> Iterable[Path]:
    counts = Counter(path for job in jobs for path in job.parts.values())
    for target, count in counts.items():
        if count > 1:
            raise ConfigError(f"{count} pictures of {source} would be written to {target}")
    return counts


def _jobs(
    planned: Sequence[tuple[Path, Path]], root: Path, samples: int, compare: Compare | None
) -> list[Job]:
    jobs = [
        replace(_job(picture, target, samples, compare), name=picture.relative_to(root).as_posix())
        for picture, target in planned
    ]
    counts = Counter(path for job in jobs for path in job.parts.values())

    def apart(path: Path | None, target: Path, kind: str | None) -> Path | None:
        taken = path is not None and counts[path] > 1
        return target.with_name(f"{target.name}.{kind}.jpg") if taken else path

    return [
        replace(
            job,
            sheet=apart(job.sheet, target, "samples"),
            comparison=apart(job.comparison, target, compare),
        )
        for job, (_, target) in zip(jobs, planned, strict=True)
    ]


def _job(picture: Path, target: Path, samples: int, compare: Compare | None) -> Job:
    several = tuple(
        target.with_name(f"{target.stem}.{number}{target.suffix}")
        for number in range(1, samples + 1)
    )
    return Job(
        picture,
        several if samples > 1 else (target,),
        target.with_name(f"{target.stem}.samples.jpg") if samples > 1 else None,
        target.with_name(f"{target.stem}.{compare}.jpg") if compare else None,
    )


def _plan_file(source: Path, out: Path) -> Path:
    suffix = out.suffix.lower()
    if out.is_dir() or suffix not in PICTURE_SUFFIXES:
        _check_folder(out)
        return out / source.with_suffix(_written_suffix(source)).name
    if suffix not in WRITABLE_SUFFIXES:
        allowed = " ".join(WRITABLE_SUFFIXES)
        raise ConfigError(f"{out}: cannot write {suffix} files, choose one of {allowed}")
    return out


def _plan_folder(source: Path, out: Path) -> list[tuple[Path, Path]]:
    _check_folder(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            f"{out} is or lies in the folder {source} that is read: a second call would color its "
            "own outputs; choose a folder beside it"
        )
    pictures = find_pictures(source)
    if not pictures:
        raise ConfigError(f"{source}: no pictures in this folder or below it")
    return _moved(pictures, source, out)


def _moved(pictures: Sequence[Path], source: Path, out: Path) -> list[tuple[Path, Path]]:
    targets = [picture.with_suffix(_written_suffix(picture)) for picture in pictures]
    wanted = Counter(targets)
    # a.gif beside a.png becomes a.gif.png
    targets = [
        picture.with_name(f"{picture.name}.png")
        if wanted[target] > 1 and target != picture
        else target
        for picture, target in zip(pictures, targets, strict=True)
    ]
    moved = [inside(out, out / target.relative_to(source)) for target in targets]
    return list(zip(pictures, moved, strict=True))


def _refuse(error: OSError) -> None:
    raise ConfigError(f"cannot read the folder {error.filename}: {error.strerror}")


def _check_folder(out: Path) -> None:
    for place in (out, *out.parents):
        if place.is_file():
            raise ConfigError(f"{place} is a file: for this source the output must be a folder")


def _written_suffix(picture: Path) -> str:
    return picture.suffix if picture.suffix.lower() in WRITABLE_SUFFIXES else ".png"
