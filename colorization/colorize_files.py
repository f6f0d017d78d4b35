"""Picture files in, colored files out: read, colored together, written, and known again."""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch

from colorization.coloring import ColorOptions
from colorization.inference import DEFAULTS, PictureColorizer
from colorization.instances import Detection, InstancesDoNotFit
from colorization.metadata import NO_METADATA
from colorization.outputs import Compare, Job, plan_files
from colorization.photographs import (
    Photograph,
    Signature,
    is_record,
    read_photograph,
    signature_of,
    write_photograph,
)
from colorization.pictures import Picture, UnreadablePicture, read_file, replace_file
from colorization.sheets import (
    COMPARED_SIDE,
    SAMPLE_SIDE,
    comparison,
    contact_sheet,
    small_copy,
)

_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_MOST_PIXELS = 64 * 10**6  # of the pictures that are held for one batch


class Outcome(NamedTuple):
    """What became of a picture: the files it was made into, or why it was not."""

    job: Job
    state: Literal["done", "finished before", "failed"]
    reason: str = ""
    note: str = ""  # what a colored copy lacks


@dataclass
class Summary:
    """What became of the pictures of one call: files written or found finished; pictures refused
    and why."""

    done: list[Path] = field(default_factory=list)
    finished: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pictures_done: int = 0  # each may have several files: samples, comparisons
    pictures_finished: int = 0

    @property
    def told(self) -> str:
        """How many pictures there were of each kind, for a person."""
        before = f", {self.pictures_finished} finished before" if self.pictures_finished else ""
        return f"{self.pictures_done} colorized{before}, {len(self.failed)} left out"

    def add(self, outcome: Outcome) -> None:
        """Take in what became of a picture."""
        if outcome.note:
            self.notes.append(outcome.note)
        if outcome.state == "failed":
            self.failed.append((outcome.job.picture, outcome.reason))
        else:
            done = outcome.state == "done"
            self.pictures_done += done
            self.pictures_finished += not done
            (self.done if done else self.finished).extend(outcome.job.parts.values())


class FileColorizer:
    """Colors picture files by one model with the same options.

    A file that is there already and was made by the same weights with the same options of the same
    picture is left as it is; one made by others is replaced. What was not made by a colorizer is
    never replaced unless `overwrite`, which makes all anew.
    """

    def __init__(
        self,
        colorizer: PictureColorizer,
        options: ColorOptions = DEFAULTS,
        *,
        compare: Compare | None = None,
        overwrite: bool = False,
    ) -> None:
        """Raises ConfigError as PictureColorizer.prepare does."""
        colorizer.prepare(options)
        self._colorizer = colorizer
        self._options = options
        self._compare: Compare | None = compare
        self._overwrite = overwrite
        self._signature = Signature(colorizer, options)

    def color(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Color the pictures of jobs, together as far as their sizes allow.

        Yields what became of each, not always in their order. A picture that cannot be read,
        colored or written to its place, does not fit into memory or into its format costs only
        itself. Raises OSError, with the file's name, for a disk that takes no more, and
        DamagedModel for a model whose colors are not finite.
        """
        held: list[_Held] = []
        pixels = 0
        for job in jobs:
            try:
                data = read_file(job.picture, str(job.picture))
                if (outcome := self._look(job, data)) is not None:
                    yield outcome
                    continue
                held.append(self._hold(job, data))
            except InstancesDoNotFit as error:
                yield Outcome(job, "failed", f"{job.picture}: {error}")
                continue
            except UnreadablePicture as error:
                yield Outcome(job, "failed", str(error))
                continue
            except OSError as error:  # of what is in an output's place
                reason = f"{job.picture}: cannot look at {error.filename}: {error.strerror}"
                yield Outcome(job, "failed", reason)
                continue
            except (MemoryError, RuntimeError, cv2.error) as error:
                yield _failed(job, error)
                continue
            pixels += held[-1].photograph.picture.rgb.size // 3
            if pixels > _MOST_PIXELS:
                yield from self._color(held)
                held, pixels = [], 0
        yield from self._color(held)

    def _hold(self, job: Job, data: bytes) -> "_Held":
        photograph = read_photograph(data, str(job.picture))
        found = self._colorizer.find(photograph.picture, self._options, job.name)
        if found is not None and not found:
            alone = f"{job.picture}: no instances in it, colored by the scene model alone"
            note = f"{photograph.note}; {alone}" if photograph.note else alone
            photograph = photograph._replace(note=note)
        return _Held(job, photograph, found)

    def _look(self, job: Job, data: bytes) -> Outcome | None:
        """Return the outcome of a picture for which there is nothing to do."""
        if self._overwrite:
            return None
        digest = Photograph.digest_of(data)
        finished = True
        for part, path in job.parts.items():
            if not path.exists():
                finished = False
                continue
            if path.is_dir():
                return Outcome(job, "failed", f"{job.picture}: a folder is in its place, {path}")
            found = signature_of(path)
            if not is_record(found):
                reason = f"{job.picture}: {path} is there and was not made by colorize"
                return Outcome(job, "failed", f"{reason}; --overwrite replaces it")
            finished &= found == self._record(digest, part, job)
        return Outcome(job, "finished before") if finished else None

    def _record(self, digest: str, part: str, job: Job) -> str:
        part = self._compare or "" if part == "comparison" else part
        return self._signature.record(digest, part, job.name)

    def _color(self, held: "Sequence[_Held]") -> Iterator[Outcome]:
        if not held:
            return
        pictures = [one.photograph.picture for one in held]
        outcomes: list[Outcome] = []
        try:
            colored = self._colorizer.batch(pictures, self._options, [one.found for one in held])
            for one, samples in zip(held, colored, strict=True):
                outcomes.append(self._write(one.job, one.photograph, samples))
                yield outcomes[-1]
        except (MemoryError, RuntimeError, cv2.error) as error:
            if len(held) == 1:
                yield _failed(held[0].job, error)
            for one in held[len(outcomes) :] if len(held) > 1 else []:
                yield from self._color([one])

    def _write(self, job: Job, photograph: Photograph, samples: Iterator[Picture]) -> Outcome:
        sheet: list[np.ndarray] = []
        after: np.ndarray | None = None
        try:
            for number, (path, colored) in enumerate(zip(job.samples, samples, strict=True)):
                record = self._record(photograph.digest, f"{number}", job)
                content = write_photograph(colored, photograph, record, path.suffix)
                _save(path, content)
                if job.sheet:
                    sheet.append(small_copy(colored, SAMPLE_SIDE))
                if job.comparison and number == 0:
                    after = small_copy(colored, COMPARED_SIDE)
            if job.sheet:
                self._write_sheet(job, "sheet", contact_sheet(sheet), photograph)
            if job.comparison and after is not None and self._compare:
                before = small_copy(photograph.picture, COMPARED_SIDE)
                shown = comparison(before, after, self._compare)
                self._write_sheet(job, "comparison", shown, photograph)
        except (UnreadablePicture, _NoPlace) as error:
            return Outcome(job, "failed", f"{job.picture}: {error}")
        return Outcome(job, "done", note=photograph.note)

    def _write_sheet(self, job: Job, part: str, rgb: np.ndarray, of: Photograph) -> None:
        bare = of._replace(metadata=NO_METADATA)
        record = self._record(of.digest, part, job)
        _save(job.parts[part], write_photograph(Picture(rgb), bare, record, ".jpg"))


class _Held(NamedTuple):
    """A picture that waits for its batch."""

    job: Job
    photograph: Photograph
    found: Sequence[Detection] | None  # its instances, where they are colored by themselves


class _NoPlace(Exception):
    """A file cannot be written to its place; others can."""


def _save(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content)
    except OSError as error:
        if error.errno in _DISK_IS_FULL:  # and would be for all others; Python does not name it
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise _NoPlace(f"{path} cannot be written: {error.strerror}") from error


def _failed(job: Job, error: Exception) -> Outcome:
    if _for_want_of_memory(error):
        return Outcome(job, "failed", f"{job.picture}: {_NO_MEMORY}")
    said = " ".join(str(error).split())
    return Outcome(job, "failed", f"{job.picture}: {type(error).__name__}: {said}")


def _for_want_of_memory(error: Exception) -> bool:
    # On the CPU torch and cv2 have no errors of their own for it.
    said = ("can't allocate memory", "not enough memory", "Insufficient memory")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(words in str(error) for words in said)


_NO_MEMORY = "is larger than the memory there is: make it smaller, or let fewer --workers run"


def colorize_files(
    colorizer: PictureColorizer,
    source: Path,
    out: Path,
    options: ColorOptions = DEFAULTS,
    *,
    compare: Compare | None = None,
    overwrite: bool = False,
    batch: int = 1,
    on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> Summary:
    """Color a picture file, or all pictures in a folder and the folders below it, in this process.

    Files are planned as `plan_files` says and written as FileColorizer says, `batch` pictures at a
    time. `on_done` is called after each picture.

    Raises ConfigError, before anything is written, for what cannot be planned and for options that
    the model cannot follow.
    """
    files = FileColorizer(colorizer, options, compare=compare, overwrite=overwrite)
    jobs = plan_files(source, out, options.samples, compare)
    summary = Summary()
    for start in range(0, len(jobs), batch):
        for outcome in files.color(jobs[start : start + batch]):
            summary.add(outcome)
            on_done(outcome)
    return summary
