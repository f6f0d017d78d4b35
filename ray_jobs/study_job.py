"""One study from its settings to its registered winner: what tune.py and train.py share."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from budget import Budget
from cluster import Node, Shape, at_once, connect, trial_shape
from colorization import config
from colorization.config import ConfigError
from console import StudyConsole
from past_study import PastStudy, cut_half_line
from space import Space
from storage import lock_folder
from study_checks import Checked, check_gpu_hours, check_study, stops_nobody

if TYPE_CHECKING:
    from tracking import RunStatus, Tracker


@dataclass(frozen=True)
class Job:
    """What a study is asked to do; flags of the command line end here."""

    space: Space
    name: str
    storage: Path
    workers: int
    gpus_per_worker: float | None
    concurrent: int | None
    promotion: Literal["if-better", "always", "never"]
    seed: int
    finalists: int  # how many of the best trials are trained again, and
    seeds: int  # how often each
    budget: Budget
    keep_bytes: int | None  # of checkpoints
    preflight: bool
    adopted: PastStudy | None  # whose trials are known from the start
    flags: Mapping[str, Any]  # as they were given, for a study that is resumed

    @property
    def folder(self) -> Path:
        """Return the study's directory."""
        return self.storage / "studies" / self.name

    @property
    def family(self) -> str:
        """Return the name of the model's family, gan for instance."""
        return self.space.tree["model"]["name"]


def run(job: Job, console: StudyConsole) -> int:
    """Train a study's trials, register the winner; return the exit status.

    0: a winner was found (and registered). 1: no trial finished. 130: interrupted. Raises
    ConfigError before Ray is started for what cannot work, and before any trial is for what the
    preflight finds.
    """
    checked = check_study(job.space, job.workers, job.gpus_per_worker)
    if job.adopted:
        job.adopted.require_data(checked.data.hashes)
    for name in checked.sets.unreadable:
        console.message(f"left out: {name}")

    from mlflow_store import EXPERIMENT, check_uri, default_tracking_uri, without_password
    from shared_memory import clear_shared_memory
    from tracking import Tracker

    uri = default_tracking_uri(job.storage)
    check_uri(uri)
    with ExitStack() as cleaning:
        try:
            cleaning.enter_context(lock_folder(job.folder, "or give this study another --name"))
        except OSError as error:
            raise ConfigError(f"--storage: cannot write into {job.folder}: {error}") from error
        cleaning.callback(clear_shared_memory)
        cleaning.callback(shut_down)
        clear_shared_memory()
        if cut := cut_half_line(job.folder):
            console.message(f"half a record, {cut} bytes, at the end of the journal is left out")
        tracker = Tracker(job.folder, uri, EXPERIMENT, job.name, console.message)
        cleaning.callback(tracker.close)
        if tracker.has_moved:
            console.message(
                "its records went to MLflow at another address before: all of them are sent to "
                f"{without_password(uri)} (MLFLOW_TRACKING_URI says where)"
            )
        with ThreadPoolExecutor(1) as beside:  # a new MLflow database takes as long as Ray's start
            opening = beside.submit(tracker.start)
            nodes = connect(checked.address)
            opening.result()
        from growth import Growth, read_growth, wait_for_all, wait_for_room  # Ray is set up by now

        # What `ray job stop` sends. Set after Ray's start, which sets a handler that aborts.
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, _interrupt)
        growth = read_growth() if checked.address else Growth()
        nodes = wait_for_all(nodes, growth.always, console.message)
        expected = [*nodes, *growth.may_come(nodes)]
        loaders = checked.typical.data.loader_workers
        shape = trial_shape(expected, job.workers, job.gpus_per_worker, loaders)
        concurrent = at_once(expected, shape, job.concurrent)
        check_gpu_hours(job.budget.gpu_hours, shape, expected)
        nodes = wait_for_room(nodes, shape, console.message)
        if job.preflight:
            _preflight(job, checked, uri, nodes, shape, concurrent, console)
        return _run_study(job, checked, shape, concurrent, tracker, console)


def _preflight(
    job: Job,
    checked: Checked,
    tracking_uri: str,
    nodes: Sequence[Node],
    shape: Shape,
    concurrent: int,
    console: StudyConsole,
) -> None:
    """Show what the trials will meet; raise ConfigError for what would make all of them fail."""
    from preflight import has_failed, preflight, preflight_lines, preflight_table

    checks = preflight(
        folder=job.folder,
        tracking_uri=tracking_uri,
        nodes=nodes,
        shape=shape,
        concurrent=concurrent,
        trials=job.space.search.trials,
        typical=checked.typical,
        tried=checked.tried,
        data=checked.data,
    )
    console.table(preflight_table(checks), preflight_lines(checks))
    if has_failed(checks):
        failed = ", ".join(check.name for check in checks if check.state == "failed")
        raise ConfigError(
            f"preflight: {failed} failed, see above; nothing was started (--preflight off goes on "
            "all the same)"
        )


def _run_study(
    job: Job,
    checked: Checked,
    shape: Shape,
    concurrent: int,
    tracker: "Tracker",
    console: StudyConsole,
) -> int:
    """Open the study, train, hand over; its MLflow run is closed whatever happens."""
    from failure import is_no_disk
    from handover import hand_over
    from provenance import tell_driver
    from study import Study
    from tune_loop import train_trials

    search = job.space.search
    study = Study(job.folder, job.name, job.space, job.seed, search.trials)
    study.use_data(checked.data.hashes)
    study.flags, study.shape = job.flags, shape._asdict()
    if job.adopted:
        count = study.adopt(job.adopted)
        there = len(job.adopted.trials)
        console.message(f"{count} of the {there} trials of {job.adopted.name} fit and are known")
    status: RunStatus = "FAILED"
    described = {"data": checked.sets.description, "study": job.name, "model": job.family}
    where = f"the cluster at {checked.address}" if checked.address else "this machine"
    try:
        started = described | {"state": "RUNNING"}
        tracker.parent(_parent_params(job, shape) | checked.data.params, started)
        tell_driver(tracker, job.folder)
        tracker.inputs(None, checked.data.inputs("train", "validation", "test"))
        console.begin(
            job.name,
            f"{len(job.space.parameters())} settings searched; {checked.sets.description}",
            f"{shape}, {concurrent} at once on {where}",
            study.wanted,
        )
        if said := stops_nobody(job.space, checked.tried):
            console.message(said)
        if not train_trials(job, study, tracker, console, checked.data, shape, concurrent):
            raise KeyboardInterrupt
        done = hand_over(job, study, tracker, console, checked.sets)
        status = "FINISHED" if done else "FAILED"
        return 0 if done else 1
    except OSError as error:
        if not is_no_disk(error):
            raise
        raise ConfigError(
            f"{error.strerror}: the study stops, for no trial could be written. Make room on the "
            f"disk of {job.folder}, then go on by --name {job.name} --resume"
        ) from error
    except KeyboardInterrupt:
        status = "KILLED"
        console.message(f"interrupted; --name {job.name} --resume goes on from here")
        return 130
    finally:
        tracker.parent_ended(status, {"state": status})


def _interrupt(*_: object) -> None:
    """Turn SIGTERM into what Tune ends cleanly on."""
    os.kill(os.getpid(), signal.SIGINT)


def _parent_params(job: Job, shape: Shape) -> dict[str, Any]:
    search = config.flatten(config.dump(job.space.search))
    for changing in ("trials", "winner"):  # at a resume; MLflow's parameters cannot
        search.pop(changing)
    return {
        "model": job.family,
        "space": job.space.hash,
        "seed": job.seed,
        "trial_shape": str(shape),
        **{f"search.{key}": value for key, value in search.items()},
    }


def shut_down() -> None:
    """Leave Ray, where this process is part of one."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
