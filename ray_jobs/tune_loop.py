"""Tune trains what is left of a study; what the study needs before and after stands around it."""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState
from ray import tune

from budget import Spending, duration
from cause import TRIES
from cluster import Shape
from console import StudyConsole
from data_card import StudyData
from driver import Round, StudyCallback, StudySearcher, StudyStopper
from finals import FinalRound, qualified
from group_trial import run_group
from keeping import Keeper
from rank_agreement import disagreement_note
from recorder import Recorder
from stopping import StoppingRule
from stopping_rules import NoRules, StoppingRules
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

    First its search, then the finalists. Raises OSError where no disk takes what trials write: they
    are left to be gone on with.
    """
    recorder = Recorder(study, job.folder, tracker, data)
    recorder.settle()
    loop = _Loop(job, study, tracker, console, recorder, shape, concurrent)
    rules = _rules(study)
    for number in study.left:
        recorder.catch_up(number, rules)
    if study.remaining == 0:
        console.message("all trials of this study have ended; choosing among them")
    share = _share_of_search(job, study)
    if not loop.train(study, rules, share):
        return False
    why = loop.spent(share) or f"the study ends with {study.wanted} trials"
    loop.stop_unfinished(study.trials(TrialState.RUNNING), why)
    _say_what_was_seen(study, rules, console)
    if job.finalists:
        return loop.train_finalists()
    if study.qualified:
        study.qualified = []  # those of an earlier session decide no more
    loop.stop_unfinished(study.finals(TrialState.RUNNING), "the study goes on without finalists")
    return True


class _Loop:
    """Tune's loop around the trials of a study, its search's and then its finalists'."""

    def __init__(
        self,
        job: "Job",
        study: Study,
        tracker: Tracker,
        console: StudyConsole,
        recorder: Recorder,
        shape: Shape,
        concurrent: int,
    ) -> None:
        self._job, self._study, self._tracker = job, study, tracker
        self._console, self._recorder = console, recorder
        self._shape, self._concurrent = shape, concurrent
        self._spending = _spending(job, study, shape)

    def spent(self, share: float = 1.0) -> str | None:
        """Say which limit of the budget, or share of one, is reached."""
        return self._spending.spent(share)

    def train(self, trials: Round, rules: StoppingRules, share: float = 1.0) -> bool:
        """Train what is left of a round; tell whether it came to its end, or the budget did.

        It may take the budget up to a `share` of it.
        """
        if trials.remaining and not self.spent(share):
            self._tune(trials, rules, share)
        if not trials.remaining:
            return True
        if spent := self.spent(share):
            self._console.message(f"{spent}; choosing among the trials that ended")
        return spent is not None

    def train_finalists(self) -> bool:
        """Train the best trials again with several seeds; tell as `train` does."""
        study, job = self._study, self._job
        study.qualified = numbers = qualified(study, job.finalists)
        final = FinalRound(study, numbers, job.seeds)
        rules = NoRules()
        for number in final.left:
            self._recorder.catch_up(number, rules)
        if final.remaining and (spent := self.spent()):
            self._console.message(f"{spent}: {final.remaining} runs of finalists are left out")
        elif final.remaining:
            self._console.more_trials(final.remaining)
            self._console.message(
                f"finalists: trials {', '.join(map(str, numbers))} are trained again, "
                f"{job.seeds} seeds each"
            )
            if not self.train(final, rules):
                return False
        why = self.spent() or "it is no run of a finalist any more"
        self.stop_unfinished(study.finals(TrialState.RUNNING), why)
        return True

    def stop_unfinished(self, trials: Sequence[FrozenTrial], why: str) -> None:
        """Close the trials that the study ends without."""
        for trial in trials:
            epochs = self._study.epochs_trained(trial.number)
            self._study.prune(trial.number, f"stopped after {epochs} epochs: {why}")
            self._recorder.ended(trial.number)

    def _tune(self, trials: Round, rules: StoppingRules, share: float) -> None:
        job, study, console, shape = self._job, self._study, self._console, self._shape
        stopper = StudyStopper(self._spending, share)
        watchdog = Watchdog(console.message, shape)
        keeper = Keeper(study, job.folder, self._tracker, job.keep_bytes, console.message)
        rule = StoppingRule(rules, study.space.search.scheduler.metric)
        searcher = StudySearcher(study, trials, job.folder, shape, stopper, self._recorder, console)
        callback = StudyCallback(
            study,
            trials,
            self._recorder,
            rule,
            self._spending,
            stopper,
            watchdog,
            keeper,
            console,
            self._concurrent,
        )
        tuner = tune.Tuner(
            tune.with_resources(run_trial if shape.workers == 1 else run_group, _resources(shape)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=rule,
                num_samples=trials.remaining,
                max_concurrent_trials=self._concurrent,
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
                failure_config=tune.FailureConfig(max_failures=TRIES),
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


def _rules(study: Study) -> StoppingRules:
    """Build the stopping rules as they were when the last score was stored."""
    scheduler = study.space.search.scheduler
    rules = scheduler.build()
    for number, epoch, score in study.past_scores(scheduler.metric):
        rules.remember(number, epoch, score)
    return rules


def _share_of_search(job: "Job", study: Study) -> float:
    """Return which share of a budget the search may take, so that its finalists have the rest.

    That of its trials among all runs, the best recipe's counted. A finalist's run is a whole one,
    most trials are stopped early: no more than is needed is kept back.
    """
    finals = (job.finalists + 1) * job.seeds if job.finalists else 0
    return study.wanted / (study.wanted + finals)


def _spending(job: "Job", study: Study, shape: Shape) -> Spending:
    """Go on counting from what earlier sessions spent."""
    there = [*study.trials(), *study.finals()]
    trials = sum(study.seconds_of(trial.number)[0] for trial in there)
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
