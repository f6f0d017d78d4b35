"""One study from its settings to its registered winner: what tune.py and train.py share."""

import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cluster import Node, Shape, at_once, connect, find_running, this_machine, trial_shape
from colorization import config
from colorization.config import ConfigError
from colorization.data import PictureSets, check_batch_size
from colorization.experiment import Experiment, outline
from colorization.score_names import PERCEPTUAL_SCORES, SAMPLE_SCORES
from console import StudyConsole
from data_card import StudyData, open_study_data
from space import Space
from storage import lock_folder, trial_folder

if TYPE_CHECKING:
    from study import Study
    from tracking import Tracker


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
    ConfigError before Ray is started for what cannot work.
    """
    experiment, sets, data, address = _check(job)
    for name in sets.unreadable:
        console.message(f"left out: {name}")

    from handover import hand_over
    from mlflow_store import check_uri, default_tracking_uri
    from study import Study
    from tracking import Tracker

    uri = default_tracking_uri(job.storage)
    check_uri(uri)
    lock = lock_folder(job.folder, "give this study another --name")
    study = Study(job.folder, job.name, job.space, job.seed, job.space.search.trials)
    study.use_data(data.hashes)
    tracker = Tracker(job.folder, uri, "colorization", job.name, console.message)
    status: Any = "FAILED"
    interrupted = False
    try:
        with ThreadPoolExecutor(1) as beside:  # a new MLflow database takes as long as Ray's start
            opening = beside.submit(tracker.start)
            nodes = connect(address)
            opening.result()
        # What `ray job stop` sends. Set after Ray's start, which sets a handler that aborts.
        signal.signal(signal.SIGTERM, _interrupt)
        shape, concurrent = _fit_in(job, experiment, nodes)
        params = _parent_params(job, shape) | data.params
        tracker.parent(params, {"data": sets.description})
        tracker.inputs(None, data.inputs("train", "validation", "test"))
        where = f"the cluster at {address}" if address else "this machine"
        console.begin(
            job.name,
            f"{len(job.space.parameters())} settings searched; {sets.description}",
            f"{shape}, {concurrent} at once on {where}",
            job.space.search.trials,
        )
        interrupted = _train_trials(job, study, tracker, console, data, shape, concurrent)
        if interrupted:
            status = "KILLED"
            return 130
        done = hand_over(job, study, tracker, console, sets)
        status = "FINISHED" if done else "FAILED"
        return 0 if done else 1
    except KeyboardInterrupt:
        status, interrupted = "KILLED", True
        return 130
    finally:
        tracker.parent_ended(status)
        tracker.close()
        if interrupted:
            console.message(
                f"interrupted; the same command with --name {job.name} goes on from here"
            )
        _shut_down()
        lock.close()


def _check(job: Job) -> tuple[Experiment, PictureSets, StudyData, str | None]:
    """Find what cannot work before anything starts.

    Returns a typical experiment, its pictures, what all pictures are, and the address of a running
    cluster, if there is one.
    """
    tried = job.space.validate()
    experiment = job.space.typical()
    sets, data = open_study_data(experiment)
    address = find_running()
    if address is None:
        _fit_in(job, experiment, [this_machine()])
    for size in sorted({other.train.batch_size for other in tried}):
        check_batch_size(size, len(sets.train), job.workers)
    _check_perceptual(job.space, experiment)
    _check_samples(job.space, experiment)
    return experiment, sets, data, address


def _fit_in(job: Job, experiment: Experiment, nodes: list[Node]) -> tuple[Shape, int]:
    """Return what a trial asks for and how many run at once; ConfigError where none ever fits."""
    shape = trial_shape(nodes, job.workers, job.gpus_per_worker, experiment.data.loader_workers)
    return shape, at_once(nodes, shape, job.concurrent)


def _check_samples(space: Space, experiment: Experiment) -> None:
    """Refuse scores of several samples as objectives of a model that has no randomness."""
    wanted = SAMPLE_SCORES.keys() & space.search.objective.keys()
    if wanted and not outline(experiment).stochastic:
        raise ConfigError(
            f"search.objective: {', '.join(sorted(wanted))} are scores of stochastic models; "
            f"{experiment.model.name} gives one answer a picture"
        )


def _check_perceptual(space: Space, experiment: Experiment) -> None:
    """Refuse FID and LPIPS as objectives where they would not be scored."""
    wanted = PERCEPTUAL_SCORES.keys() & space.search.objective.keys()
    if not wanted:
        return
    if not experiment.train.perceptual:
        raise ConfigError(
            f"search.objective: {', '.join(sorted(wanted))} need train.perceptual=true"
        )
    from colorization.perceptual import perceptual_scores

    scores, left_out = perceptual_scores("cpu")
    if any(getattr(scores, name, None) is None for name in wanted):
        raise ConfigError(f"search.objective: {', '.join(sorted(wanted))}: {left_out}")


def dry_run(job: Job, console: StudyConsole) -> int:
    """Print what a study would do: sampled experiments, a trial's shape, how many at once."""
    import optuna

    experiment, sets, _, address = _check(job)
    nodes = connect(address) if address else [this_machine()]
    shape, concurrent = _fit_in(job, experiment, nodes)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=job.seed))
    for parameters in job.space.first_parameters():
        study.enqueue_trial(parameters)
    for name, distribution in job.space.parameters().items():
        console.message(f"{name}: {distribution}")
    for number in range(job.space.search.trials):
        trial = study.ask()
        sampled = job.space.sample(trial)
        values = ", ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        console.message(f"trial {number} ({sampled.hash}): {values}")
    console.message(f"data: {sets.description}")
    console.message(f"a trial: {shape}; {concurrent} of {job.space.search.trials} run at once")
    console.message("nothing was started")
    _shut_down()
    return 0


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _interrupt(*_: object) -> None:
    """Turn SIGTERM into what Tune ends cleanly on."""
    os.kill(os.getpid(), signal.SIGINT)


def _train_trials(
    job: Job,
    study: "Study",
    tracker: "Tracker",
    console: StudyConsole,
    data: StudyData,
    shape: Shape,
    concurrent: int,
) -> bool:
    """Let Tune train what is left of the study; tell whether it was interrupted."""
    from ray import tune

    from driver import StudyCallback, StudySearcher
    from stopping import Rungs, StoppingRule
    from trial import run_trial

    rung = job.space.search.rung
    rungs = Rungs(rung.grace_period, rung.reduction_factor)
    for number, epoch, score in study.past_scores(rung.metric):
        rungs.record(number, epoch, score)
    rule = StoppingRule(rungs, rung.metric)
    callback = StudyCallback(study, job.folder, rule, tracker, console, data)
    if study.remaining == 0:
        console.message("all trials of this study have ended; choosing among them")
        return False
    if shape.workers == 1:
        resources: Mapping[str, float] = {
            "CPU": shape.cpus_per_worker,
            "GPU": shape.gpus_per_worker,
        }
    else:
        # The trial itself only waits for its workers, which are counted apart from it; were it to
        # ask for a CPU, trials would starve their own workers.
        resources = {"CPU": 0, "node:__internal_head__": 0.001}
    tuner = tune.Tuner(
        tune.with_resources(run_trial, dict(resources)),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, job.folder, shape, console),
            scheduler=rule,
            num_samples=study.remaining,
            max_concurrent_trials=concurrent,
            reuse_actors=shape.workers == 1,
            trial_dirname_creator=lambda trial: (
                trial_folder(job.folder, trial.config["number"]).name
            ),
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(job.folder),
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=2),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        callback.interrupt()
    return study.remaining > 0


def _parent_params(job: Job, shape: Shape) -> dict[str, Any]:
    search = config.flatten(config.dump(job.space.search))
    search.pop("trials")  # may grow when the study is continued; MLflow's parameters cannot change
    return {
        "model": job.family,
        "space": job.space.hash,
        "seed": job.seed,
        "trial_shape": str(shape),
        **{f"search.{key}": value for key, value in search.items()},
    }


def _shut_down() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
