"""The checks of a preflight that the cluster's machines make."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from cluster import Node, Shape, at_once
from colorization.config import dump, flatten
from colorization.experiment import Experiment
from data_card import StudyData
from failure import failure_of
from largest_trial import Largest
from on_nodes import ended, on_node
from preflight_checks import Check, size_text
from preflight_tasks import NodeAnswer, Rehearsed, compare_gradients, look_around, rehearse
from shared_folder import came, meeting_place

_PATIENCE = 180.0  # seconds for a task, with the wait for a busy machine
_LARGEST_DIFFERENCE = 1e-3  # of gradients that are the same but for round-off
_ANSWER = "see that the machines answer and have room"
_REACH = (
    "see that the machines reach each other (a firewall; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME "
    "names the network)"
)
_DATA, _FOLDER, _MEMORY, _GRADIENTS = "data", "storage", "memory", "gradients"


def other_machines(nodes: Sequence[Node], shape: Shape) -> list[Node]:
    """Return the machines that trials may run on, without the driver's."""
    here = ray.get_runtime_context().get_node_id()
    return [node for node in nodes if node.id != here and node.holds(shape)]


def check_nodes(
    others: Sequence[Node], folder: Path, experiment: Experiment, data: StudyData
) -> list[Check]:
    """Tell whether every machine has the pictures and the study's folder.

    The driver's own has opened the pictures already, and is not asked.
    """
    if not others:
        here = "the driver has opened the pictures, and trials run on its machine alone"
        alone = "trials run on the driver's machine alone"
        return [Check(_DATA, "ok", here), Check(_FOLDER, "ok", alone)]
    with meeting_place(folder) as (meeting, token):
        tasks = {
            node.name: on_node(node.id, look_around, num_cpus=0).remote(
                dump(experiment), str(meeting), token, node.id
            )
            for node in others
        }
        arrived = ended(tasks, _PATIENCE)
        answers = {name: _answer_of_node(tasks[name]) for name in arrived}
        unseen = {
            node.name
            for node in others
            if node.name in arrived
            and not answers[node.name].folder_fault
            and not came(meeting / node.id, token)
        }
    silent = [name for name in tasks if name not in arrived]
    data_faults = {
        name: answer.data_fault or _other_data(answer.hashes, data)
        for name, answer in answers.items()
    }
    folder_faults = {
        name: answer.folder_fault or ("its files do not arrive here" if name in unseen else "")
        for name, answer in answers.items()
    }
    count = f"{len(others) + 1} machines"
    source = flatten(dump(experiment.data.source)).get("path", "the pictures")
    return [
        _of_faults(
            _DATA,
            data_faults,
            silent,
            f"{count} read the same pictures",
            f"mount {source} on each machine under the same path",
        ),
        _of_faults(
            _FOLDER,
            folder_faults,
            silent,
            f"{count} read and write {folder}",
            "give a --storage that all machines share under the same path (NFS, or a bucket "
            "mounted as one)",
        ),
    ]


def check_memory(
    nodes: Sequence[Node],
    shape: Shape,
    concurrent: int | None,
    typical: Experiment,
    largest: Largest,
) -> Check:
    """Play one training step of the largest trial where trials run; of the smallest, if that fails.

    The smallest one must fit.
    """
    running = at_once([*nodes], shape, concurrent) * shape.workers
    hosts = [node for node in nodes if node.holds(shape)]
    found = _rehearse(largest.experiment, largest.size, hosts, shape, running)
    what = "the largest trial"
    if largest.estimated < largest.kinds:
        what += f" (of {largest.estimated} of {largest.kinds} kinds)"
    if found.fits:
        return Check(_MEMORY, "ok", f"{what}: {found.text}")
    if not found.lacks_memory:
        return _other_trouble(found)
    large = _what_is_large(largest.experiment, typical)
    if largest.experiment != largest.smallest:
        small = _rehearse(largest.smallest, largest.smallest_size, hosts, shape, running)
        if small.fits:
            again = (
                "trials of that size are tried again with activation checkpointing and "
                "micro-batches, and fail if that does not suffice"
            )
            return Check(
                _MEMORY,
                "warning",
                f"{what}: {found.text}; the smallest one: {small.text}; {again}",
                f"{large}{_SMALLER}",
            )
        if not small.lacks_memory:
            return _other_trouble(small)
        found = small
    return Check(_MEMORY, "failed", f"the smallest trial: {found.text}", f"{large}{_SMALLER}")


_SMALLER = (
    "train.activation_checkpointing=true, a smaller train.batch_size, more --workers, "
    "or a smaller --concurrent"
)


class _Found(NamedTuple):
    """How a rehearsal went; `fits` None: nobody knows."""

    fits: bool | None
    text: str
    cause: str = "out of memory"

    @property
    def lacks_memory(self) -> bool:
        """Whether the step needs more memory than there is."""
        return self.fits is False and self.cause == "out of memory"


def _other_trouble(found: _Found) -> Check:
    """Say why no step was played to its end, where memory is not the reason."""
    if found.fits is None:
        return Check(_MEMORY, "warning", found.text, _ANSWER)
    mend = "see the error; `python -m colorization train` with these settings shows all of it"
    return Check(_MEMORY, "failed", f"a training step fails: {found.text}", mend)


def _rehearse(
    experiment: Experiment, size: int, hosts: Sequence[Node], shape: Shape, running: int
) -> _Found:
    """Play a step on each machine; return what the one with the least room found."""
    resources = {"num_cpus": shape.cpus_per_worker, "num_gpus": shape.gpus_per_worker}
    tasks = {
        node.name: on_node(node.id, rehearse, **resources).remote(
            dump(experiment),
            size,
            shape.workers,
            min(node.holds(shape), running),
            shape.gpus_per_worker,
        )
        for node in hosts
    }
    arrived = ended(tasks, _PATIENCE)
    found = [
        _rehearsed(name, task)
        if name in arrived
        else _Found(None, f"no step was played on {name} within {_PATIENCE:g} s")
        for name, task in tasks.items()
    ]
    for state in (False, None):
        for one in found:
            if one.fits is state:
                return one
    return found[0]


def _rehearsed(name: str, task: Any) -> _Found:
    try:
        answer: Rehearsed = ray.get(task)
    except RayError as error:
        failure = failure_of(error)
        # What the system ends for want of memory says nothing.
        cause = "out of memory" if failure.cause == "worker lost" else failure.cause
        return _Found(False, f"on {name}: {failure.reason}", cause)
    takes = "takes" if answer.played else "would take, by estimate,"
    text = (
        f"a worker {takes} {size_text(answer.needed)} of {size_text(answer.available)} that each "
        f"may have on {name}"
    )
    return _Found(answer.needed <= answer.available, text)


def _what_is_large(largest: Experiment, typical: Experiment) -> str:
    """Name the settings that may make an experiment larger than the typical one."""
    usual = flatten(dump(typical))
    sizes = [
        f"{key}={value}"
        for key, value in flatten(dump(largest)).items()
        if not isinstance(value, float) and usual.get(key) != value
    ]
    return f"large are {', '.join(sizes[:5])}: " if sizes else ""


def check_gradients(shape: Shape, typical: Experiment, folder: Path) -> Check:
    """Compare the gradients of a group of workers with those that one rank computes alone."""
    if shape.workers == 1:
        return Check(_GRADIENTS, "skipped", "one worker a trial: nothing to compare")
    with meeting_place(folder) as (place, _):
        here = ray.get_runtime_context().get_node_id()
        compared = on_node(here, compare_gradients, num_cpus=0)
        task = compared.remote(dump(typical), str(place), *shape)
        if not ended({"": task}, _PATIENCE):
            found = f"{shape.workers} workers have not met within {_PATIENCE:g} s"
            return Check(_GRADIENTS, "warning", found, f"{_REACH}, and have room")
        try:
            difference: float = ray.get(task)
        except RayError as error:
            failure = failure_of(error)
            mend = f"{_REACH}; or --workers 1" if failure.cause == "network" else "--workers 1"
            return Check(_GRADIENTS, "failed", failure.reason, mend)
    found = f"{shape.workers} ranks and one differ by {difference:.1e} of the gradient's norm"
    if difference <= _LARGEST_DIFFERENCE:
        return Check(_GRADIENTS, "ok", found)
    mend = (
        "--workers 1; suspect a part of the model that each rank computes by itself (statistics of "
        "its own, a parameter that is frozen at first), or mixed versions of torch on the machines"
    )
    return Check(_GRADIENTS, "failed", found, mend)


def _answer_of_node(task: Any) -> NodeAnswer:
    try:
        return ray.get(task)
    except RayError as error:
        fault = failure_of(error).reason
    return NodeAnswer({}, fault, fault)


def _other_data(hashes: Mapping[str, str], data: StudyData) -> str:
    for stage, expected in data.hashes.items():
        if (found := hashes.get(stage)) != expected:
            whose = f"stage {stage}'s pictures" if stage else "its pictures"
            return f"{whose} are others: hash {found}, the driver's {expected}"
    return ""


def _of_faults(
    name: str, faults: Mapping[str, str], silent: Sequence[str], well: str, mend: str
) -> Check:
    said = [f"{node}: {fault}" for node, fault in faults.items() if fault]
    waited = [f"{node}: no answer within {_PATIENCE:g} s" for node in silent]
    if said:
        return Check(name, "failed", "; ".join([*said, *waited]), mend)
    if waited:
        return Check(name, "warning", "; ".join(waited), _ANSWER)
    return Check(name, "ok", well)
