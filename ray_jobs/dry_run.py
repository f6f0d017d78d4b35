"""What a study would do, without doing any of it."""

from typing import Any

from cluster import at_once, connect, this_machine, trial_shape
from console import StudyConsole
from drawing import draw
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
    search = job.space.search
    first = job.space.first_trials()
    trials = min(search.trials, most_trials(search, job.space) or search.trials)
    for number in range(trials):
        given = first[number].parameters if number < len(first) else None
        # Nothing is known of earlier trials: these are a sampler's first draws.
        drawn = draw(job.space, job.seed, number, [], given)
        name = drawn.experiment.hash if drawn.experiment else "cannot be"
        values = ", ".join(f"{key}={_short(value)}" for key, value in drawn.trial.params.items())
        console.message(f"trial {number} ({name}): {drawn.fault or values}")
    console.message(f"data: {checked.sets.description}")
    console.message(f"a trial: {shape}; {min(concurrent, trials)} of {trials} run at once")
    console.message("nothing was started")
    shut_down()
    return 0


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
