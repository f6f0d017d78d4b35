"""Training a past run once more in this process, up to where it stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from colorization.config import ConfigError, dump, flatten, override, parse, parse_overrides
from colorization.distributed import current_ranks
from colorization.experiment import SPEED_ONLY, Experiment
from colorization.loss_log import Diverged
from colorization.surroundings import Surroundings, restore, surroundings
from colorization.training import Report, fit
from data_card import open_study_data
from drift import Drift, drifts
from past_run import PastRun

_ELSEWHERE = "data.source."  # what may lie somewhere else; the hash says that it is the same


@dataclass
class Replay:
    """What came of a replay."""

    surroundings: Surroundings  # that it was trained in
    found: list[Drift] = field(default_factory=list)
    best_epoch: int | None = None  # of those that select, by what the run scored then
    epochs: int = 0
    diverged: str | None = None


class _Enough(Exception):
    """Ends `fit` where the run that is replayed was stopped."""


def moved(past: PastRun, words: Sequence[str]) -> Experiment:
    """Return a run's experiment with what `words` say of this machine, as `key=value`.

    What changes speed alone is as the run had it last, which an out of memory may have changed.
    Raises ConfigError for words that change what is trained.
    """
    experiment, changes = past.experiment, parse_overrides(words)
    for key in flatten(changes):
        if key not in SPEED_ONLY and not key.startswith(_ELSEWHERE):
            raise ConfigError(
                f"{key}: a replay trains the same experiment; only where pictures lie "
                f"({_ELSEWHERE}*) and what changes speed alone ({', '.join(SPEED_ONLY)}) may "
                "differ. Train another by ray_jobs/train.py"
            )
    then = past.surroundings
    data = override(dump(experiment), then.get("settings", {}) if then else {})
    found = parse(Experiment, override(data, changes))
    stages = flatten(dump(found)["train"]["stages"])
    if stages != flatten(dump(experiment)["train"]["stages"]):
        raise ConfigError(f"train.stages: found {' '.join(words)}; stages cannot change")
    return found


def require_data(past: PastRun, experiment: Experiment) -> None:
    """Raise ConfigError where the pictures are not there, or not those of the run."""
    try:
        _, data = open_study_data(experiment)
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nthe run's pictures are needed; say where they lie here, for instance "
            "data.source.path=/PATH"
        ) from error
    for stage, found in data.hashes.items():
        then = past.data_hashes.get(stage, found)
        if then != found:
            whose = f"the pictures of stage {stage}" if stage else "the pictures"
            raise ConfigError(
                f"{whose} have the hash {found} here, run {past.id} was trained on {then}: they, "
                "or their split, are others; say where the same ones lie, for instance "
                "data.source.path=/PATH"
            )


def device_of(past: PastRun) -> torch.device:
    """Return the kind of device that a run was trained on, where this machine has it."""
    then = past.surroundings
    if then and then["device"] == "cuda" and torch.cuda.is_available():
        return current_ranks().device
    return torch.device("cpu") if then else current_ranks().device


def replay(
    past: PastRun,
    experiment: Experiment,
    run: Path,
    device: torch.device,
    threads: int | None,
    say: Callable[[str], None],
) -> Replay:
    """Train a run's experiment for as many epochs as the run was, and compare each with it.

    torch computes as it did then, as far as a process can be told; with `threads` threads where
    they are given. Raises ConfigError as `fit` does.
    """
    then = past.surroundings
    if then:
        restore(then, threads)
    elif threads:
        torch.set_num_threads(threads)
    done = Replay(surroundings(current_ranks(device), experiment))
    best = float("inf")

    def compare(news: Report) -> None:
        nonlocal best
        if news.epoch == 1:
            gray = {f"gray/{name}": value for name, value in news.gray.items()}
            done.found += drifts(0, past.epochs.get(0, {}), gray)
        epoch = drifts(news.epoch, past.epochs.get(news.epoch, {}), news.metrics)
        done.found += epoch
        done.epochs = news.epoch
        score = past.epochs.get(news.epoch, {}).get("against_gray", best)
        if news.selecting_epoch is not None and score < best:
            best, done.best_epoch = score, news.epoch
        drifted = [drift for drift in epoch if drift.absolute > 0]
        say(
            f"epoch {news.epoch} of {past.length} ({news.stage}): "
            f"{len(drifted)} of {len(epoch)} numbers differ"
        )
        if news.epoch >= past.length:
            raise _Enough

    try:
        fit(experiment, run, report=compare, device=device)
    except _Enough:
        return done
    except Diverged as error:
        done.diverged = str(error)
    return done
