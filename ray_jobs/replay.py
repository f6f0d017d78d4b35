"""Train a run of MLflow again, and show the drift of its scores: replay.py RUN_ID."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from command_line import run_with_errors, split_settings

if TYPE_CHECKING:
    from rich.console import Console

    from past_run import PastRun
    from replaying import Replay

_MOST_DIFFERENCES = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a run; return 0 where no number drifts, 1 where one does, 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="replay.py", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN_ID key=value",
        help="a trial's run in MLflow; what may lie elsewhere here, e.g. data.source.path=/PATH",
    )
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    parser.add_argument("--threads", type=int, help="torch computes with (as the run had)")
    parser.add_argument("--out", help="new folder that the replayed run is kept in (none is kept)")
    options = parser.parse_intermixed_args(arguments)
    named, settings = split_settings(options.words)
    if len(named) != 1:
        parser.error(f"one RUN_ID is needed, found {', '.join(named) or 'none'}")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads: found {options.threads}, 1 at least")
    return run_with_errors(
        lambda: run(
            named[0], settings, options.tracking_uri, options.storage, options.threads, options.out
        )
    )


def run(
    run_id: str,
    settings: Sequence[str],
    tracking_uri: str | None,
    storage: str | None,
    threads: int | None,
    out: str | None,
) -> int:
    """Replay a run and print what came of it; return the exit status.

    Raises ConfigError for what cannot be replayed, before anything is trained.
    """
    import torch
    from rich.console import Console

    from past_run import read_past_run, tracking_uri_of
    from replaying import device_of, moved, replay, require_data

    past = read_past_run(run_id, tracking_uri_of(tracking_uri, storage))
    experiment = moved(past, settings)
    with ExitStack() as cleaning:
        folder = _folder(out, cleaning)
        require_data(past, experiment)
        device = device_of(past)
        console = Console(highlight=False, soft_wrap=True)

        def say(text: str) -> None:
            console.print(text, markup=False)

        study = past.tags.get("study") or past.tags.get("colorization.study", "?")
        say(f"replaying {past.name} of study {study} in {folder}")
        if past.surroundings is None:
            count = threads or torch.get_num_threads()
            say(
                "what the run was trained in is not recorded: it is from before that was. Trained "
                f"now on {device.type} with {count} threads (--threads), which may differ from "
                "then: drift says little of the code"
            )
        done = replay(past, experiment, folder, device, threads, say)
    return _conclude(past, done, console)


def _folder(out: str | None, cleaning: ExitStack) -> Path:
    """Return an empty folder to train in: a run that is there already would be gone on with."""
    from colorization.config import ConfigError

    if out is None:
        return Path(cleaning.enter_context(tempfile.TemporaryDirectory(prefix="replay-")))
    folder = Path(out).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out: {folder} is there already; an empty or a new folder is needed")
    return folder


def _conclude(past: "PastRun", done: "Replay", console: "Console") -> int:
    from drift import differences, largest
    from replay_tables import differences_table, scores_table

    last = past.length
    chosen = {done.best_epoch or last: "best epoch", last: "last epoch"}
    for epoch, what in chosen.items():
        console.print(scores_table(f"{what}, {epoch}", epoch, done.found))
    then = past.surroundings
    if then is None:
        console.print("what the run was trained in is not recorded: it is from before that was")
    else:
        found = differences(then, done.surroundings)
        if len(past.sessions) > 1:
            begun = ", ".join(map(str, past.sessions))
            console.print(f"trained in {len(past.sessions)} sessions, from epochs {begun} on")
        if found:
            console.print(differences_table(found[:_MOST_DIFFERENCES]))
            if len(found) > _MOST_DIFFERENCES:
                console.print(f"and {len(found) - _MOST_DIFFERENCES} more")
        else:
            console.print("nothing differs in what it was trained in")
    if done.diverged:
        console.print(f"the replay ended in epoch {done.epochs + 1}: {done.diverged}", markup=False)
        return 1
    if done.epochs < last:
        console.print(f"the replay has {done.epochs} epochs, the run {last}: its data is another")
        return 1
    worst = largest(done.found)
    if worst is None:
        console.print(f"no drift: {len(done.found)} numbers of {last} epochs are equal bit for bit")
        return 0
    first = min(drift.epoch for drift in done.found if drift.absolute > 0)
    count = sum(drift.absolute > 0 for drift in done.found)
    console.print(
        f"drift: {count} of {len(done.found)} numbers differ, from epoch {first} on; the largest: "
        f"{worst.name} of epoch {worst.epoch}, {worst.then:.6g} then, {worst.now:.6g} now "
        f"({worst.relative:.2%})",
        markup=False,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
