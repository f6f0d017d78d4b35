"""What runs on the cluster: one trial is one fit(), in its Tune actor or in a group of workers."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from colorization.config import ConfigError, parse
from colorization.distributed import current_ranks
from colorization.experiment import Experiment
from colorization.export import export
from colorization.loss_log import Diverged
from colorization.training import Report, fit
from failure import reason_of


def run_trial(config: dict[str, Any]) -> None:
    """Train a trial; Tune calls this.

    One worker trains in this very process. Several are a Ray Train job, whose reports come through
    here. What would fail again in the same way is reported as `failed` and not retried.
    """
    if config["workers"] == 1:
        from ray import tune

        with _log_file(config):
            # Without a GPU of its own the trial must not find one that others were given.
            device = None if config["gpus_per_worker"] else torch.device("cpu")
            _fit(config, tune.report, device)
        return
    from ray import tune
    from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    resources = {"CPU": config["cpus_per_worker"]}
    if config["gpus_per_worker"]:
        resources["GPU"] = config["gpus_per_worker"]
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=config["workers"],
            use_gpu=config["gpus_per_worker"] > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=config["directory"],
            callbacks=[TuneReportCallback()],
            # A worker or a node may die: the group goes on from the run's last checkpoint.
            failure_config=FailureConfig(max_failures=2, controller_failure_limit=2),
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:  # tried again twice; Tune need not multiply that by its own
        tune.report({"failed": reason_of(error)})


def _run_worker(config: dict[str, Any]) -> None:
    import ray.train
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _log_file(config):
        _fit(config, ray.train.report, device)


def _fit(
    config: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
    device: torch.device | None,
) -> None:
    run = Path(config["directory"])
    experiment = parse(Experiment, config["experiment"])
    alone = config["workers"] == 1
    try:
        fit(experiment, run, report=lambda news: report(_row(news)), device=device)
        if current_ranks(device).first:
            export(run, run / "model")
    except Diverged as error:  # met by all ranks at once
        report({"failed": str(error)})
    except (ConfigError, torch.OutOfMemoryError) as error:
        if not alone:
            raise  # perhaps met by this rank only: the group must end
        logging.getLogger("colorization").error(traceback.format_exc())
        report({"failed": f"{type(error).__name__}: {error}"})


def _row(news: Report) -> dict[str, Any]:
    row: dict[str, Any] = {
        "epoch": news.epoch,
        "stage": news.stage,
        "scores": news.metrics,
        "gray": news.gray,
        "grid": str(news.grid) if news.grid else None,
        "last": news.last,
    }
    if news.selecting_epoch is not None:
        row["selecting_epoch"] = news.selecting_epoch
    return row


@contextmanager
def _log_file(config: dict[str, Any]) -> Iterator[None]:
    """Write the library's warnings, and what ended a trial, into the trial's own log."""
    run = Path(config["directory"])
    run.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(run / "trial.log", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("colorization")
    logger.addHandler(handler)
    try:
        yield
    except Exception:
        logger.error(traceback.format_exc())
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
