"""What runs on the cluster: one trial is one fit(), in its Tune actor or in each of its workers."""

import gc
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from cause import MAY_PASS, Failure
from colorization.config import parse
from colorization.distributed import current_ranks
from colorization.experiment import Experiment, count_players
from colorization.export import export
from colorization.loss_log import Diverged
from colorization.memory_saving import describe_saving, with_less_memory
from colorization.training import Report, fit
from directory_lock import sole_writer
from failure import failure_of
from out_of_memory import Memory, note_out_of_memory, note_saving, read_memory
from shared_memory import clear_shared_memory

log = logging.getLogger("colorization")

Row = dict[str, Any]


def run_trial(config: dict[str, Any]) -> None:
    """Train a trial of one worker in this very process; Tune calls this.

    What would fail again in the same way is reported as `failed`, with its `cause`, and not
    retried; what ran out of memory is tried once more with less.
    """
    from ray import tune

    clear_shared_memory()  # of trials that were killed on this machine
    with trial_log(config):
        # Without a GPU of its own the trial must not find one that others were given.
        device = None if config["gpus_per_worker"] else torch.device("cpu")
        run_in_process(config, tune.report, device)


def run_in_process(
    config: dict[str, Any], report: Callable[[Row], None], device: torch.device | None
) -> None:
    """Train as one of the trial's workers, each of which reports.

    One that is alone goes on by itself with less memory; several are started again.
    """
    run = Path(config["directory"])
    asked = parse(Experiment, config["experiment"])
    alone = config["workers"] == 1
    while True:
        memory = read_memory(run)
        saving = memory.first is not None
        experiment = with_less_memory(asked, config["workers"]) if saving else asked
        how = describe_saving(experiment) if saving else ""
        if memory.second or (memory.first and experiment == asked):
            report(failed_row(_infeasible(experiment, config["workers"], memory), how))
            return
        failure = _attempt(experiment, run, alone, report, device, how)
        if failure is None:
            return
        if failure.cause != "out of memory":
            report(failed_row(failure, how))
            return
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _attempt(
    experiment: Experiment,
    run: Path,
    alone: bool,
    report: Callable[[Row], None],
    device: torch.device | None,
    saving: str,
) -> Failure | None:
    """Train; return what would fail again in the same way, and lack of memory.

    Nothing of the error is returned: its frames hold the tensors that filled the memory.
    """
    first = current_ranks(device).first
    try:
        with sole_writer(run) if first else nullcontext():
            if first and saving:
                note_saving(run)
                log.warning("out of memory before: goes on with %s", saving)
            fit(
                experiment, run, report=lambda news: report(report_row(news, saving)), device=device
            )
            if first:
                export(run, run / "model")
    except Diverged as error:  # met by all ranks at once
        return failure_of(error)
    except Exception as error:
        failure = failure_of(error)
        if failure.cause == "out of memory":
            note_out_of_memory(run, failure.reason)
        # Perhaps met by this rank only: the group must end. Others may go well another time.
        if not alone or failure.cause in MAY_PASS:
            raise
        log.error(traceback.format_exc())
        return failure
    return None


def _infeasible(experiment: Experiment, workers: int, memory: Memory) -> Failure:
    parameters = sum(count_players(experiment).values())
    return Failure(
        "out of memory",
        f"infeasible: out of memory with {describe_saving(experiment)} too, at train.batch_size="
        f"{experiment.train.batch_size} on {workers} worker{'s' * (workers > 1)}, data.size="
        f"{experiment.data.size} and {parameters:,} parameters: {memory.second or memory.first}",
    )


def failed_row(failure: Failure, saving: str) -> Row:
    """Return what the driver is told of a trial that is not to be tried again."""
    return {"failed": failure.reason, "cause": failure.cause, "memory_saving": saving}


def report_row(news: Report, saving: str = "") -> Row:
    """Return what the driver is told of an epoch, and how memory was saved in it."""
    row: Row = {
        "epoch": news.epoch,
        "stage": news.stage,
        "scores": news.metrics,
        "gray": news.gray,
        "grid": str(news.grid) if news.grid else None,
        "last": news.last,
        "memory_saving": saving,
    }
    if news.selecting_epoch is not None:
        row["selecting_epoch"] = news.selecting_epoch
    return row


@contextmanager
def trial_log(config: dict[str, Any]) -> Iterator[None]:
    """Write the library's warnings, and what ended a trial, into the trial's own log."""
    run = Path(config["directory"])
    run.mkdir(parents=True, exist_ok=True)
    handler = _TrialLog(run / "trial.log", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except Exception:
        log.error(traceback.format_exc())
        raise
    finally:
        log.removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _TrialLog(logging.FileHandler):
    """A log whose own trouble, of a full disk, does not hide the trial's."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Print nothing: what ended the trial is reported as well."""
