"""What a study would do, without doing any of it."""

from typing import Any

from optuna.trial import FrozenTrial

from cluster import at_once, connect, this_machine, trial_shape
from console import StudyConsole
from drawing import adopted, draw
from past_study import PastStudy, is_adopted, is_final, is_own
from samplers import most_trials
from study_checks import check_gpu_hours, check_study
from study_job import Job, shut_down


def dry_run(job: Job, console: StudyConsole) -> int:
    """Print sampled experiments, a trial's shape, how many run at once; return exit status 0."""
    checked = check_study(job.space, job.workers, job.gpus_per_worker)
    nodes = connect(checked.address) if checked.address else [this_machine()]
    loaders = checked.typical.data.loader_workers
    shape = trial_shape(nodes, job.workers, job.gpus_per_worker, loaders)
    concurrent = at_once(nodes, shape, job.concurrent)
    check_gpu_hours(job.budget.gpu_hours, shape, nodes)
    for name, distribution in job.space.parameters().items():
        console.message(f"{name}: {distribution}")
    known = _known(job)
    own = [(number, trial) for number, trial in enumerate(known) if is_own(trial)]
    here = [(number, trial) for number, trial in enumerate(known) if not is_adopted(trial)]
    searched = [trial for trial in known if not is_final(trial)]
    for number, trial in here:
        if not trial.state.is_finished():
            epochs = trial.user_attrs.get("epochs", 0)
            console.message(f"trial {number}: goes on after {epochs} epochs")
    search = job.space.search
    first = job.space.first_trials()
    trials = min(search.trials, most_trials(search, job.space) or search.trials)
    for later, index in enumerate(range(len(own), trials)):
        given = first[index].parameters if index < len(first) else None
        # What trials score before it is not known: this is what would be drawn now.
        drawn = draw(job.space, job.seed, index, searched, given)
        name = drawn.experiment.hash if drawn.experiment else "cannot be"
        values = ", ".join(f"{key}={_short(value)}" for key, value in drawn.trial.params.items())
        console.message(f"trial {len(known) + later} ({name}): {drawn.fault or values}")
    if job.finalists:
        console.message(
            f"then the best {job.finalists}, and the best recipe, are trained again with "
            f"{job.seeds} seeds each, as far as they were not yet"
        )
    console.message(f"data: {checked.sets.description}")
    left = trials - sum(trial.state.is_finished() for _, trial in own)
    console.message(f"a trial: {shape}; {min(concurrent, left)} of {left} run at once")
    console.message("nothing was started")
    shut_down()
    return 0


def _known(job: Job) -> list[FrozenTrial]:
    """Return the trials that the study has, or would take over when it begins."""
    if past := PastStudy.find(job.storage, job.name):
        return past.trials
    if job.adopted is None:
        return []
    taken = (adopted(job.space, job.adopted, trial) for trial in job.adopted.trials)
    return [trial for trial in taken if trial]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
