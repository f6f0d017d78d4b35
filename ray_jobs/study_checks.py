"""What of a study cannot work, found before anything is started."""

from collections.abc import Sequence
from typing import NamedTuple

from cluster import Node, Shape, at_once, find_running, this_machine, trial_shape
from colorization.config import ConfigError
from colorization.data import PictureSets, check_batch_size
from colorization.experiment import Experiment, outline
from colorization.micro_batches import check_micro_batches
from colorization.score_names import PERCEPTUAL_SCORES, SAMPLE_SCORES
from data_card import StudyData, open_study_data
from samplers import check_sampler
from space import Space


class Checked(NamedTuple):
    """What is known of a study before it starts."""

    typical: Experiment  # in the middle of the space
    tried: list[Experiment]  # at its ends
    sets: PictureSets
    data: StudyData
    address: str | None  # of a running cluster, if there is one


def check_study(space: Space, workers: int, gpus_per_worker: float | None) -> Checked:
    """Raise ConfigError for what no trial could do; return what was found out."""
    check_sampler(space.search, space)
    tried = space.validate()
    typical = space.typical()
    sets, data = open_study_data(typical)
    address = find_running()
    if address is None:
        shape = trial_shape([this_machine()], workers, gpus_per_worker, typical.data.loader_workers)
        at_once([this_machine()], shape, None)
    for size in sorted({other.train.batch_size for other in tried}):
        check_batch_size(size, len(sets.train), workers)
    for other in tried:
        check_micro_batches(other.train.micro_batches, other.train.batch_size // workers)
    _check_perceptual(space, typical)
    _check_samples(space, typical)
    return Checked(typical, tried, sets, data, address)


def stops_nobody(space: Space, tried: Sequence[Experiment]) -> str | None:
    """Say so where the scheduler's first rung lies behind the end of every trial."""
    scheduler = space.search.scheduler
    if space.search.trials == 1 or scheduler.name == "none":
        return None
    longest = 0
    for experiment in tried:
        stages = experiment.train.stages.values()
        if any(stage.select and stage.steps for stage in stages):
            return None  # how many epochs these are depends on the pictures
        longest = max(longest, sum(stage.epochs or 0 for stage in stages if stage.select))
    if scheduler.build().rungs(longest):
        return None
    return (
        f"search.scheduler: {scheduler.name} will stop nobody: trials have {longest} epochs that "
        "select, and the first comparison comes later; lower search.scheduler.grace_period"
    )


def check_gpu_hours(gpu_hours: float | None, shape: Shape, nodes: list[Node]) -> None:
    """Raise ConfigError for a budget of GPU-hours that no trial would ever spend."""
    if gpu_hours is not None and not shape.gpus_per_worker:
        gpus = sum(node.gpus for node in nodes)
        raise ConfigError(
            f"--gpu-hours: found {gpu_hours:g}, but a trial of {shape} holds no GPU (the cluster "
            f"has {gpus:g}); give --time-budget, or --gpus-per-worker"
        )


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
