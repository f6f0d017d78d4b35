"""The resources that Ray Train reserves for groups of workers, and those whose trial has died.

A group's reservation (a placement group) outlives the trial that made it: Ray frees it only once
the whole job has ended. Ray Train's own cleaner learns of it only when the workers are up, so that
a trial which dies while they start would hold their CPUs and GPUs for the rest of the study, and
its own next try would wait for ever.
"""

from typing import Any, NamedTuple

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.state import list_actors, list_placement_groups

from cluster import Shape

_PATIENCE = 30.0  # seconds that a group may wait for resources before it is said
_AGAIN = 600.0
_GRACE = 20.0  # seconds without any worker after which a group's resources are freed
_ANSWER = 10  # seconds for an answer of Ray's dashboard
_MOST = 10_000  # what it lists
# A worker's states in their order, so that one that passes on to the next is not missed.
_LIVE = ("DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING", "ALIVE")


class Look(NamedTuple):
    """What a look at the groups found."""

    freed: list[str]  # whole messages
    waiting: int  # groups that have long waited for resources


class WorkerGroups:
    """The reservations of this job's groups of workers, told by their shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._empty: dict[str, float] = {}  # group -> since when
        self._pending: dict[str, float] = {}  # group -> since when, or when it was last said

    def look(self, now: float) -> Look:
        """Free the reservations without a worker, count those that wait; may take seconds.

        Raises what Ray raises where it does not answer.
        """
        pending, empty = self._find()
        self._pending = {group: self._pending.get(group, now) for group in pending}
        self._empty = {group: self._empty.get(group, now) for group in empty}
        waiting = [group for group, since in self._pending.items() if now - since >= _PATIENCE]
        for group in waiting:
            self._pending[group] = now + _AGAIN - _PATIENCE
        return Look(
            [self._remove(group) for group, since in self._empty.items() if now - since >= _GRACE],
            len(waiting),
        )

    def _find(self) -> tuple[list[str], list[str]]:
        """List the groups that wait for resources and those that hold some without a worker."""
        job = ray.get_runtime_context().get_job_id()
        groups: list[Any] = list_placement_groups(
            filters=[("creator_job_id", "=", job)], limit=_MOST, timeout=_ANSWER, detail=True
        )
        groups = [group for group in groups if self._is_of_workers(group.bundles or [])]
        pending = [g.placement_group_id for g in groups if g.state == "PENDING"]
        created = [g.placement_group_id for g in groups if g.state == "CREATED"]
        if not created:
            return pending, []
        used: set[str | None] = set()
        for state in _LIVE:  # those of a month that are dead would be too many to list
            actors: list[Any] = list_actors(
                filters=[("job_id", "=", job), ("state", "=", state)],
                limit=_MOST,
                timeout=_ANSWER,
                detail=True,
            )
            if len(actors) >= _MOST:
                return pending, []  # any of the groups may be used by one that is not listed
            used |= {actor.placement_group_id for actor in actors}
        return pending, [group for group in created if group not in used]

    def _is_of_workers(self, bundles: list[dict[str, Any]]) -> bool:
        """Tell a group of workers from what Tune reserves for the trial itself, a single bundle."""
        shape = self._shape
        return len(bundles) == shape.workers and all(
            bundle["unit_resources"].get("CPU", 0) == shape.cpus_per_worker
            and bundle["unit_resources"].get("GPU", 0) == shape.gpus_per_worker
            for bundle in bundles
        )

    def _remove(self, group: str) -> str:
        ray.util.remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))
        return f"freed {self._shape}, which a trial that died had reserved"
