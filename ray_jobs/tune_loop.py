"""Tune trains what is left of a study; what the study needs before and after stands around it."""

import errno
from typing import TYPE_CHECKING

from optuna.trial import TrialState
from ray import tune

from budget import Spending, duration
from cluster import Shape
from console import StudyConsole
from data_card import StudyData
from driver import StudyCallback, StudySearcher, StudyStopper
from group_trial import run_group
from keeping import Keeper
from rank_agreement import disagreement_note
from recorder import Recorder
from stopping import StoppingRule
from stopping_rules import StoppingRules
from storage import trial_folder
from study import Study
from tracking import Tracker
from trial import run_trial
from watchdog import Watchdog

if TYPE_CHECKING:
    from study_job import Job


def train_trials(
    job: "Job",
    study: Study,
    tracker: Tracker,
    console: StudyConsole,
    data: StudyData,
    shape: Shape,
    concurrent: int,
) -> bool:
    """Train what is left of the study; tell whether it came to its end, or was interrupted.

    Raises OSError where no disk takes what trials write: they are left to be gone on with.
    """
    rules = _rules(study)
    recorder = Recorder(study, job.folder, tracker, data)
    recorder.settle()
    for number in study.left:
        recorder.catch_up(number, rules)
    spending = _spending(job, study, shape)
    stopper = StudyStopper(spending)
    if study.remaining == 0:
        console.message("all trials of this study have ended; choosing among them")
    elif not spending.spent():
        watchdog = Watchdog(console.message, shape)
        keeper = Keeper(study, job.folder, tracker, job.keep_bytes, console.message)
        rule = StoppingRule(rules, study.space.search.scheduler.metric)
        searcher = StudySearcher(study, job.folder, shape, stopper, recorder, console)
        callback = StudyCallback(
            study, recorder, rule, spending, stopper, watchdog, keeper, console, concurrent
        )
        tuner = tune.Tuner(
            tune.with_resources(run_trial if shape.workers == 1 else run_group, _resources(shape)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
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
                stop=stopper,
                failure_config=tune.FailureConfig(max_failures=2),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            callback.close()
            watchdog.close()
    if stopper.fault:
        raise OSError(errno.ENOSPC, stopper.fault)
    spent = spending.spent()
    if study.remaining and not spent:
        return False
    if spent:
        console.message(f"{spent}; choosing among the trials that ended")
    for trial in study.trials(TrialState.RUNNING):
        why = spent or f"the study ends with {study.wanted} trials"
        epochs = study.epochs_trained(trial.number)
        study.prune(trial.number, f"stopped after {epochs} epochs: {why}")
        recorder.ended(trial.number)
    _say_what_was_seen(study, rules, console)
    return True


def _rules(study: Study) -> StoppingRules:
    """Build the stopping rules as they were when the last score was stored."""
    scheduler = study.space.search.scheduler
    rules = scheduler.build()
    for number, epoch, score in study.past_scores(scheduler.metric):
        rules.remember(number, epoch, score)
    return rules


def _spending(job: "Job", study: Study, shape: Shape) -> Spending:
    """Go on counting from what earlier sessions spent."""
    trials = sum(study.seconds_of(trial.number)[0] for trial in study.trials())
    return Spending(
        job.budget,
        shape.workers * shape.gpus_per_worker,
        seconds_before=study.seconds,
        trial_seconds_before=trials,
    )


def _resources(shape: Shape) -> dict[str, float]:
    """Return what a trial's own process asks for."""
    if shape.workers == 1:
        return {"CPU": shape.cpus_per_worker, "GPU": shape.gpus_per_worker}
    # The trial itself only waits for its workers, which are counted apart from it; were it to ask
    # for a CPU, trials would starve their own workers.
    return {"CPU": 0, "node:__internal_head__": 0.001}


def _say_what_was_seen(study: Study, rules: StoppingRules, console: StudyConsole) -> None:
    """Say what the person should know of how the trials went."""
    complete = {t.number: study.epochs(t.number) for t in study.trials(TrialState.COMPLETE)}
    metric = study.space.search.scheduler.metric
    scores = {
        number: {epoch: found[metric] for epoch, found in epochs.items()}
        for number, epochs in complete.items()
    }
    longest = max((max(epochs) for epochs in scores.values()), default=0)
    if note := disagreement_note(scores, rules.rungs(longest)):
        console.message(note)
    spent = [study.seconds_of(trial.number) for trial in study.trials()]
    running, training = (sum(column) for column in zip(*spent, strict=True)) if spent else (0, 0)
    if running:
        console.message(
            f"trials ran for {duration(running)} together, {training / running:.0%} of it trained"
        )
