"""Where Ray puts a trial's workers: nodes of several sizes on this machine."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from chunk_work import start_ray
from group_trial import scaling
from study_commands import new_place

pytestmark = pytest.mark.slow

SIZES = {"small": 1, "large": 3, "medium": 2}  # CPUs
NEVER = 5.0  # seconds after which what has not been reserved is taken to wait


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Nodes without GPUs of three sizes, and one with a GPU that Ray alone believes in."""
    monkeypatch = pytest.MonkeyPatch()
    with new_place(tmp_path_factory.mktemp("placement") / "place") as place:
        monkeypatch.setenv("RAY_TMPDIR", str(place.ray))
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        try:
            nodes = {name: cluster.add_node(num_cpus=cpus) for name, cpus in SIZES.items()}
            nodes["gpu"] = cluster.add_node(num_cpus=4, num_gpus=1, resources={"gpu_node": 1})
            ray.init(address=cluster.address, log_to_driver=False)
            yield {node.node_id: name for name, node in nodes.items()}
        finally:
            ray.shutdown()
            cluster.shutdown()
            monkeypatch.undo()


def reserve(workers: int, gpus: float = 0, cpus: float = 1) -> PlacementGroup:
    """Reserve what a trial of so many workers does."""
    config = {"workers": workers, "cpus_per_worker": cpus, "gpus_per_worker": gpus}
    asked: Any = scaling(config)
    bundle = asked.resources_per_worker
    return placement_group([bundle] * workers, strategy=asked.placement_strategy)


def where(group: PlacementGroup, names: dict[str, str]) -> list[str]:
    nodes = placement_group_table(group)["bundles_to_node_id"].values()
    return sorted(names[node] for node in nodes)


@pytest.fixture
def without_the_gpu_node(names: dict[str, str]) -> Iterator[dict[str, str]]:
    """The CPUs of the node with a GPU are taken."""
    taken = placement_group([{"CPU": 4, "gpu_node": 1}])
    assert taken.wait(60)
    yield names
    remove_placement_group(taken)


def test_workers_go_onto_one_node_where_they_fit_and_else_onto_few(
    without_the_gpu_node: dict[str, str],
):
    names = without_the_gpu_node
    groups = [reserve(2)]
    assert groups[0].wait(60)
    groups.append(reserve(2))
    assert groups[1].wait(60)
    assert sorted(where(group, names)[0] for group in groups) == ["large", "medium"]
    assert all(len({*where(group, names)}) == 1 for group in groups)
    groups.append(reserve(2))  # one CPU is left on each of two nodes
    assert groups[2].wait(60)
    assert where(groups[2], names) == ["large", "small"]
    for group in groups:
        remove_placement_group(group)


def test_a_trial_holds_all_it_needs_or_nothing(without_the_gpu_node: dict[str, str]):
    first, second = reserve(4), reserve(4)  # of six CPUs
    assert first.wait(60)
    assert not second.wait(NEVER)
    third = reserve(2)  # what the second one waits for is free to others
    assert third.wait(60)
    remove_placement_group(third)
    remove_placement_group(first)
    assert second.wait(60)
    remove_placement_group(second)


def test_four_trials_share_a_gpu_by_quarters_and_a_fifth_waits(names: dict[str, str]):
    groups = [reserve(1, gpus=0.25, cpus=0.5) for _ in range(5)]
    assert [group.wait(60) for group in groups[:4]] == [True] * 4
    assert not groups[4].wait(NEVER)
    assert {place for group in groups[:4] for place in where(group, names)} == {"gpu"}
    remove_placement_group(groups[0])
    assert groups[4].wait(60)
    for group in groups[1:]:
        remove_placement_group(group)


class Where:
    """A worker of a preparation that says where it is."""

    def __init__(self) -> None:
        self._node = ray.get_runtime_context().get_node_id()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"node": self._node}


def test_workers_of_a_preparation_take_machines_without_gpus_first(names: dict[str, str]):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    data = start_ray().data
    rows = data.from_items([{"x": 0}] * 12, override_num_blocks=12)
    found = rows.map(Where, compute=data.ActorPoolStrategy(size=5), num_cpus=1)
    nodes = {names[row["node"]] for row in found.iter_rows()}
    assert nodes
    assert "gpu" not in nodes
