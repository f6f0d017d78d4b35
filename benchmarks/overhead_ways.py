"""The ways to run trials that overhead.py compares, each a command of its own: the same trials.

`python benchmarks/overhead_ways.py WAY FOLDER --epochs 2 12 2 12` trains them one after the other
and writes `ends.json`: of each trial its epochs, and when it ended (time.time()).
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from colorization.config import parse
from colorization.experiment import Experiment
from colorization.training import Report, fit

# A step an epoch of what is hardly a network: nearly all that is left is what surrounds training.
EXPERIMENT: Mapping[str, Any] = {
    "data": {"source": {"name": "sample", "crops": 2, "scoring_crops": 2}, "size": 32},
    "model": {"name": "unet", "generator": {"name": "unet", "width": 4, "dropout": 0.0}},
    "train": {"batch_size": 2, "precision": "float32", "grid_pictures": 1},
}

Way = Literal[
    "fit alone",
    "Optuna, journal file",
    "Optuna, SQLite",
    "Ray Tune",
    "Ray Tune, actors reused",
    "Ray Tune and Train, 2 workers",
]


class End(NamedTuple):
    """A trial that ended."""

    epochs: int
    time: float


def experiment_of(epochs: int) -> Experiment:
    """Return the experiment of so many epochs."""
    train = {**EXPERIMENT["train"], "stages": {"l1": {"turns": "l1", "epochs": epochs}}}
    return parse(Experiment, {**EXPERIMENT, "train": train})


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the trials in one of the ways; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=get_args(Way))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, nargs="+", required=True, help="of each trial")
    options = parser.parse_args(arguments)
    ways: dict[Way, Callable[[Path, Sequence[int]], list[End]]] = {
        "fit alone": _alone,
        "Optuna, journal file": _optuna_journal,
        "Optuna, SQLite": _optuna_sqlite,
        "Ray Tune": lambda folder, epochs: _tune(folder, epochs, False),
        "Ray Tune, actors reused": lambda folder, epochs: _tune(folder, epochs, True),
        "Ray Tune and Train, 2 workers": lambda folder, epochs: _tune(folder, epochs, False, 2),
    }
    ends = ways[options.way](options.folder, options.epochs)
    (options.folder / "ends.json").write_text(json.dumps(ends), encoding="utf-8")
    return 0


def _alone(folder: Path, epochs: Sequence[int]) -> list[End]:
    ends: list[End] = []
    for number, count in enumerate(epochs):
        fit(experiment_of(count), folder / f"{number:04d}", device="cpu")
        ends.append(End(count, time.time()))
    return ends


def _optuna_journal(folder: Path, epochs: Sequence[int]) -> list[End]:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return _optuna(folder, epochs, storage)


def _optuna_sqlite(folder: Path, epochs: Sequence[int]) -> list[End]:
    return _optuna(folder, epochs, f"sqlite:///{folder / 'optuna.db'}")


def _optuna(folder: Path, epochs: Sequence[int], storage: Any) -> list[End]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ends: list[End] = []

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True)  # TPE's drawing is counted

        def report(news: Report) -> None:
            trial.report(news.metrics["ab_mae"], news.epoch)
            trial.should_prune()  # asked, as it would be; the answer is not followed

        count = epochs[trial.number]
        outcome = fit(
            experiment_of(count), folder / f"{trial.number:04d}", report=report, device="cpu"
        )
        return outcome.history[-1]["ab_mae"]

    def ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        ends.append(End(epochs[trial.number], time.time()))

    study = optuna.create_study(storage=storage, pruner=optuna.pruners.SuccessiveHalvingPruner())
    study.optimize(objective, n_trials=len(epochs), callbacks=[ended])
    return ends


def _train_in_actor(config: dict[str, Any]) -> None:
    from ray import tune

    def report(news: Report) -> None:
        tune.report(news.metrics)

    fit(
        experiment_of(config["trial"]["epochs"]),
        Path(config["trial"]["run"]),
        report=report,
        device="cpu",
    )


def _train_in_group(config: dict[str, Any]) -> None:
    import ray.train
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def worker(config: dict[str, Any]) -> None:
        def report(news: Report) -> None:
            ray.train.report(news.metrics)

        fit(
            experiment_of(config["trial"]["epochs"]),
            Path(config["trial"]["run"]),
            report=report,
            device="cpu",
        )

    TorchTrainer(
        worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(storage_path=config["trial"]["run"], callbacks=[TuneReportCallback()]),
    ).fit()


def _tune(folder: Path, epochs: Sequence[int], reuse: bool, workers: int = 1) -> list[End]:
    """Let Ray Tune train them with its defaults: its own log files, no early stopping."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # else it prints whatever `verbose` says
    import ray
    from ray import tune

    ends: list[End] = []

    class Ends(tune.Callback):
        """Notes when trials end."""

        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            ends.append(End(trial.config["trial"]["epochs"], time.time()))

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles it into its snapshots

    ray.init(address="local", num_cpus=2, dashboard_host="127.0.0.1", log_to_driver=False)
    # A trial of several workers holds nothing itself, or it would starve them.
    alone = {"CPU": 1.0} if workers == 1 else {"CPU": 0, "node:__internal_head__": 0.001}
    trials = [
        {"epochs": count, "run": str(folder / f"{number:04d}")}
        for number, count in enumerate(epochs)
    ]
    tuner = tune.Tuner(
        tune.with_resources(_train_in_actor if workers == 1 else _train_in_group, alone),
        param_space={"trial": tune.grid_search(trials)},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=reuse),
        run_config=tune.RunConfig(
            name="bare", storage_path=str(folder), callbacks=[Ends()], verbose=0
        ),
    )
    tuner.fit()
    ray.shutdown()
    return ends


if __name__ == "__main__":
    raise SystemExit(main())
