"""What an actor of colorize.py does: it holds the model and colors pictures, here or elsewhere."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from colorization.coloring import ColorOptions
from colorization.colorize_files import FileColorizer, Outcome
from colorization.outputs import Compare, Job
from colorization.pair import load_files
from picture_place import PicturePlace

_MOST_DEATHS = 2  # of processes by one picture: the first time perhaps by another one beside it
_DIED = "the process that colored it died, twice, perhaps for want of memory: make it smaller"


@ray.remote(num_cpus=0)
class Attempts:
    """Counts the deaths of processes at each picture; Ray by itself would try one for ever."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def deaths(self, pictures: Sequence[str]) -> list[int]:
        """Return for each picture how many attempts have begun and not ended."""
        return [self._begun[picture] for picture in pictures]

    def begin(self, pictures: Sequence[str]) -> None:
        """Take note of an attempt at each picture."""
        self._begun.update(pictures)

    def end(self, pictures: Sequence[str]) -> None:
        """Take note that an attempt has ended, and that no picture was any process's death."""
        for picture in pictures:
            del self._begun[picture]


@dataclass(frozen=True)
class Work:
    """What is to be done with pictures, whichever they are."""

    options: ColorOptions
    compare: Compare | None
    overwrite: bool
    gpu: bool
    source: PicturePlace
    out: PicturePlace


class Painter:
    """Colors the pictures of a row of `jobs_row`; a row for each picture comes back."""

    def __init__(
        self, exported: "ray.ObjectRef[Mapping[str, bytes]]", work: Work, attempts: Any
    ) -> None:
        """Take the files of an exported model, and an actor of Attempts; raises ConfigError as
        PictureColorizer does."""
        device = "cuda" if work.gpu else "cpu"
        colorizer = load_files(ray.get(exported), torch.device(device))
        colorizer.prepare(work.options)
        self._files = FileColorizer(
            colorizer, work.options, compare=work.compare, overwrite=work.overwrite
        )
        self._source, self._out = work.source, work.out
        self._attempts = attempts

    def __call__(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Color some pictures together; singly, where a process has died at them before."""
        jobs = read_jobs(row)
        deaths: list[int] = ray.get(self._attempts.deaths.remote(_names(jobs)))
        with tempfile.TemporaryDirectory() as folder:
            if not any(deaths):
                return self._attempt(jobs, Path(folder))
            rows: list[dict[str, Any]] = []
            for job, died in zip(jobs, deaths, strict=True):
                if died < _MOST_DEATHS:
                    rows += self._attempt([job], Path(folder))
                else:
                    reason = f"{self._source.address(job.picture)}: {_DIED}"
                    rows.append(_row(Outcome(job, "failed", reason)))
            return rows

    def _attempt(self, jobs: Sequence[Job], folder: Path) -> list[dict[str, Any]]:
        ray.get(self._attempts.begin.remote(_names(jobs)))
        rows = [_row(outcome) for outcome in self._color(jobs, folder)]
        ray.get(self._attempts.end.remote(_names(jobs)))
        return rows

    def _color(self, jobs: Sequence[Job], folder: Path) -> Iterator[Outcome]:
        staged: dict[Job, Job] = {}
        for job in jobs:
            try:
                staged[self._stage(job, folder)] = job
            except Exception as error:  # stores raise what their clients do, of no common kind
                yield _failed(job, self._source.address(job.picture), error)
        for outcome in self._files.color(list(staged)):
            job = staged[outcome.job]
            reason = self._real_names(outcome.reason, folder)
            note = self._real_names(outcome.note, folder)
            if outcome.state == "done":
                try:
                    for name, path in outcome.job.parts.items():
                        self._out.put(job.parts[name], path)
                except Exception as error:  # likewise
                    yield _failed(job, self._out.address(job.samples[0]), error)
                    continue
            yield Outcome(job, outcome.state, reason, note)

    def _stage(self, job: Job, folder: Path) -> Job:
        """Return the job with its files on this machine, those of an earlier session too."""
        picture = self._source.local(job.picture, folder / "in")
        samples = tuple(self._out.local(path, folder / "out") for path in job.samples)
        sheet, comparison = (
            None if path is None else self._out.local(path, folder / "out")
            for path in (job.sheet, job.comparison)
        )
        return Job(picture, samples, sheet, comparison, job.name)

    def _real_names(self, text: str, folder: Path) -> str:
        for place, staged in ((self._source, folder / "in"), (self._out, folder / "out")):
            text = text.replace(f"{staged}/", f"{place.url}/")
        return text


def _names(jobs: Sequence[Job]) -> list[str]:
    return [str(job.picture) for job in jobs]


def jobs_row(jobs: Sequence[Job]) -> dict[str, str]:
    """Write jobs as a row of Ray Data, whose columns are of simple types."""
    data = [
        [
            str(job.picture),
            [str(path) for path in job.samples],
            job.sheet and str(job.sheet),
            job.comparison and str(job.comparison),
            job.name,
        ]
        for job in jobs
    ]
    return {"jobs": json.dumps(data)}


def read_jobs(row: Mapping[str, Any]) -> list[Job]:
    """Read what `jobs_row` wrote."""
    return [
        Job(
            Path(picture),
            tuple(map(Path, samples)),
            None if sheet is None else Path(sheet),
            None if comparison is None else Path(comparison),
            name,
        )
        for picture, samples, sheet, comparison, name in json.loads(str(row["jobs"]))
    ]


def _failed(job: Job, address: str, error: Exception) -> Outcome:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Outcome(job, "failed", f"{address}: {reason}")


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        **jobs_row([outcome.job]),
        "state": outcome.state,
        "reason": outcome.reason,
        "note": outcome.note,
    }


def read_outcome(row: Mapping[str, Any]) -> Outcome:
    """Read what became of a picture from a row that a Painter returned."""
    (job,) = read_jobs(row)
    return Outcome(job, row["state"], row["reason"], row["note"])
