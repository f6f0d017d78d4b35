"""The doctor on a real cluster: nodes of Ray on this machine, and faults planted there."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from doctor import main
from rounds import listed
from study_commands import ROOT, Place, new_place

PATH = os.pathsep.join(str(ROOT / folder) for folder in ("ray_jobs", "."))


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_cluster_that_does_not_answer_is_a_fault_and_is_not_waited_for(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    assert main([]) == 1
    told = capsys.readouterr().out
    assert f"FAULT no Ray cluster answers at 127.0.0.1:{closed_port}: " in told
    assert "-> `ray up cluster.yaml` starts one" in told


def node(address: str, alive: bool, reason: int = 0) -> dict[str, object]:
    return {"NodeManagerAddress": address, "Alive": alive, "DeathReason": reason}


def test_nodes_that_were_given_back_or_replaced_are_not_lost():
    nodes = [
        node("a", True),
        node("a", False, 2),  # an earlier process of a machine that is back
        node("b", False, 1),  # `ray stop`
        node("c", False, 4),  # idle, ended by the autoscaler
        node("d", False, 2),
        node("d", False, 2),
    ]
    assert [(n["NodeManagerAddress"], n["Alive"]) for n in listed(nodes)] == [
        ("a", True),
        ("d", False),
    ]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_place(tmp_path / "place") as place:
        yield place


@pytest.fixture
def cluster(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes; on the second one Python finds another version of optuna first."""
    other = tmp_path / "other"
    (other / "optuna-9.9.9.dist-info").mkdir(parents=True)
    (other / "optuna-9.9.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: optuna\nVersion: 9.9.9\n"
    )
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("RAY_TMPDIR", str(place.ray))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": f"{other}{os.pathsep}{PATH}"})
    assert second
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_planted_faults_are_found_and_without_them_all_is_well(
    cluster: Cluster, place: Place, closed_port: int, tmp_path: Path
):
    found = tmp_path / "found.json"
    words = ["--storage", str(place.storage), "--json", str(found)]
    environment = {"RAY_ADDRESS": cluster.address, "PYTHONPATH": PATH}
    dead = {**environment, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{closed_port}"}

    ill = place.run("doctor.py", *words, env=dead)
    assert ill.code == 1, ill.output
    data = json.loads(found.read_text())
    assert [(fault["where"].partition(" ")[0] == "MLflow") for fault in data["faults"]] == [
        False,
        True,
    ], ill.output
    assert " 9.9.9 there, " in data["faults"][0]["found"]
    assert "FAULT MLflow: " in ill.output
    assert "-> start the server, or set MLFLOW_TRACKING_URI" in ill.output
    assert data["all_reduce"]["machines"] == 2
    assert min(data["all_reduce"]["rates"].values()) > 0
    assert len(data["machines"]) == 2
    assert all(machine["report"] and machine["arrived"] for machine in data["machines"])

    (lost,) = cluster.worker_nodes
    cluster.remove_node(lost)
    cluster.add_node(num_cpus=1)
    well = place.run("doctor.py", *words, env=environment)
    assert well.code == 0, well.output
    assert "no fault found" in well.output
    assert "the first study makes " in well.output
    assert not [*place.storage.iterdir()]
