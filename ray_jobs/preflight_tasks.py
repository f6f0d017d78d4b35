"""What a preflight lets the cluster's machines do, in processes of their own."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

import node_memory
from colorization.config import ConfigError, parse
from colorization.data.picture_sets import PictureSet
from colorization.data.splits import SPLITS
from colorization.distributed import current_ranks
from colorization.experiment import Experiment
from colorization.pictures import UnreadablePicture
from colorization.process_group import process_group
from colorization.rehearsal import gradient_difference, rehearse_step
from colorization.stage_data import open_stage_data
from data_card import open_study_data
from shared_folder import meet
from shared_memory import clear_shared_memory

_HOPELESS = 2.5  # estimates are in float32, and of what is kept alone


class Rehearsed(NamedTuple):
    """What a training step takes of one worker's memory."""

    needed: int  # bytes
    available: int  # bytes that there are for each worker
    played: bool  # whether the step was, or is so far too large that only its estimate is known


class NodeAnswer(NamedTuple):
    """What a machine says of the pictures and of the study's folder; "" where all is well."""

    hashes: dict[str, str]  # as StudyData.hashes
    data_fault: str
    folder_fault: str


def rehearse(
    experiment: dict[str, Any], estimate: int, workers: int, here: int, gpus_per_worker: float
) -> Rehearsed:
    """Play a training step of one of the `workers` of a trial; `here` workers run on the machine.

    One whose `estimate`, in bytes, is far beyond what there is is not: the machine's other programs
    would suffer.
    Raises what the step does where the memory does not suffice; a worker that the system ends for
    want of memory does not answer.
    """
    device = None if gpus_per_worker else torch.device("cpu")
    available = node_memory.for_one_worker(here, gpus_per_worker)
    if estimate / workers > _HOPELESS * available:
        return Rehearsed(estimate // workers, available, played=False)
    memory = rehearse_step(parse(Experiment, experiment), device, share=workers)
    return Rehearsed(memory.total, available, played=True)


def look_around(experiment: dict[str, Any], meeting: str, token: str, me: str) -> NodeAnswer:
    """Read a picture of each set and meet the driver in a folder of the study's storage.

    The driver has written `token` into the file `driver` there; this machine writes it into the
    file `me`. Shared memory that dead processes left here is freed.
    """
    clear_shared_memory()
    folder_fault = meet(Path(meeting), token, me)
    try:
        parsed = parse(Experiment, experiment)
        sets, data = open_study_data(parsed)
        for split in SPLITS:
            _read_one(split, getattr(sets, split))
        for stage, opened in open_stage_data(parsed).items():
            _read_one(f"train of stage {stage}", opened.train)
    except (ConfigError, UnreadablePicture, OSError) as error:
        return NodeAnswer({}, str(error) or type(error).__name__, folder_fault)
    return NodeAnswer(data.hashes, "", folder_fault)


def _read_one(what: str, pictures: PictureSet) -> None:
    try:
        pictures.picture(0)
    except UnreadablePicture as error:
        raise ConfigError(f"{what}: {pictures.name(0)} cannot be read: {error}") from error


def compare_gradients(
    experiment: dict[str, Any], storage: str, workers: int, cpus: float, gpus: float
) -> float:
    """Form a group of workers as a trial does; return by how much their gradients are wrong."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from introduction import OwnProcessGroup

    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    trainer = TorchTrainer(
        _compare_on_rank,
        train_loop_config={"experiment": experiment},
        torch_config=OwnProcessGroup(),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name="gradients",
            storage_path=storage,
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )
    difference = trainer.fit().return_value
    assert isinstance(difference, float)
    return difference


def _compare_on_rank(config: dict[str, Any]) -> float:
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with process_group(device):
        return gradient_difference(parse(Experiment, config["experiment"]), current_ranks(device))
