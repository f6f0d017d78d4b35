"""A cluster that grows is counted on as it may become, and waited for."""

from pathlib import Path

import pytest
import ray
import yaml
from ray.cluster_utils import AutoscalingCluster

import growth
from cluster import Node, Shape, machines
from colorization.config import ConfigError
from growth import Growth, read_growth, wait_for_all, wait_for_room

HEAD = Node("head", 8, 0)
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    """The project's own file as `ray up` leaves it on the head: AWS has said what machines have."""
    said = yaml.safe_load((PROJECT / "cluster.yaml").read_text())
    for kind in said["available_node_types"].values():
        gpus = {"GPU": 1} if kind["node_config"]["InstanceType"].startswith("g") else {}
        kind["resources"] = {"CPU": 8, **gpus}
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(said))
    return file


def test_gpus_that_are_not_there_yet_are_counted_on(cluster_file):
    grown = read_growth(cluster_file)
    assert grown.always == 1
    coming = grown.may_come([HEAD])
    assert coming == [Node("gpu_spot (to come)", 8, 1)] * 8  # no ones on demand beside them


def test_machines_that_have_come_are_not_counted_twice(cluster_file):
    there = [HEAD, Node("10.0.0.7", 8, 1), Node("10.0.0.8", 8, 1)]
    assert len(read_growth(cluster_file).may_come(there)) == 6


def test_machines_of_ones_own_are_waited_for_and_none_is_invented(tmp_path):
    file = tmp_path / "local.yaml"
    kind = {"node_config": {}, "resources": {}, "min_workers": 2, "max_workers": 2}
    said = {
        "provider": {"type": "local"},
        "max_workers": 2,
        "head_node_type": "local.cluster.node",
        "available_node_types": {"local.cluster.node": kind},
    }
    file.write_text(yaml.safe_dump(said))
    assert read_growth(file) == Growth(always=3, at_most=2)
    assert read_growth(file).may_come([HEAD]) == []


def test_a_machine_that_heads_no_such_cluster_does_not_grow(tmp_path):
    assert read_growth(tmp_path / "none.yaml").may_come([HEAD]) == []


def test_a_machine_that_does_not_come_is_gone_on_without_and_said(monkeypatch):
    monkeypatch.setattr(growth, "machines", lambda: [HEAD])
    said: list[str] = []
    assert wait_for_all([HEAD], 2, said.append, patience=0.01) == [HEAD]
    assert said == [
        "1 of 2 machines are there; waits 0.01 s for the others",
        "goes on with 1 machines: head",
    ]


@pytest.mark.slow
def test_an_autoscaler_brings_what_a_trial_needs_and_what_it_cannot_bring_is_an_error():
    worker = {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0}
    cluster = AutoscalingCluster(
        head_resources={"CPU": 0}, worker_node_types={"gpu": worker | {"max_workers": 2}}
    )
    cluster.start()
    try:
        ray.init(address="auto", log_to_driver=False)
        said: list[str] = []
        found = wait_for_room(machines(), Shape(2, 1, 1), said.append, patience=120)
        assert sum(node.gpus for node in found) == 2
        assert said[0].startswith("waits for machines that hold 2 workers x (1 CPU + 1 GPU)")
        with pytest.raises(ConfigError, match=r"no machines for 3 workers .* came within"):
            wait_for_room(machines(), Shape(3, 1, 1), said.append, patience=3)
    finally:
        ray.shutdown()
        cluster.shutdown()
