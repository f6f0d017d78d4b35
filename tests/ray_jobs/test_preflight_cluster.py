"""What a preflight finds on a real cluster: two nodes of Ray on this machine."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

import preflight_cluster
from cluster import Node, Shape
from colorization.experiment import Experiment
from data_card import DataCard, StudyData, open_study_data
from largest_trial import Largest
from preflight import preflight
from preflight_cluster import check_gradients, check_memory, check_nodes, other_machines
from study_commands import ROOT

pytestmark = pytest.mark.slow

MakeTiny = Callable[..., Experiment]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """Two nodes with a CPU each, told apart by Ray alone."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("ray_jobs", "."))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = path
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield [Node(n["NodeID"][:6], n["Resources"]["CPU"], 0, n["NodeID"]) for n in ray.nodes()]
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def test_other_machines_read_the_pictures_and_meet_the_driver_in_its_folder(
    nodes: list[Node], tiny: MakeTiny, tmp_path: Path
):
    others = other_machines(nodes, Shape(1, 1, 0))
    assert len(others) == 1
    found = check_nodes(others, tmp_path / "study", tiny(), open_study_data(tiny())[1])
    assert [(check.name, check.state) for check in found] == [("data", "ok"), ("storage", "ok")]
    assert not [*(tmp_path / "study").iterdir()]


def only(experiment: Experiment) -> Largest:
    """The largest and smallest of a space that gives nothing else."""
    return Largest(experiment, 1, experiment, 1, 1, 1)


def test_a_machine_that_has_other_pictures_fails(nodes: list[Node], tiny: MakeTiny, tmp_path: Path):
    (card,) = open_study_data(tiny())[1].cards
    other = DataCard(None, card.source, "0123", card.counts, card.split)
    others = other_machines(nodes, Shape(1, 1, 0))
    data, folder = check_nodes(others, tmp_path, tiny(), StudyData((other,)))
    assert data.state == "failed"
    assert f"its pictures are others: hash {card.hash}, the driver's 0123" in data.found
    assert folder.state == "ok"


def test_a_step_that_fits_is_played_on_each_machine(nodes: list[Node], tiny: MakeTiny):
    found = check_memory(nodes, Shape(1, 1, 0), None, tiny(), only(tiny()))
    assert found.state == "ok", found
    assert "a worker takes" in found.found


def test_where_a_hundred_thousand_workers_share_a_machine_no_step_fits(
    nodes: list[Node], tiny: MakeTiny
):
    crowded = [Node("crowded", 100_000, 0, nodes[0].id)]
    wide = tiny("model.generator.width=8")
    found = check_memory(crowded, Shape(1, 1, 0), None, tiny(), Largest(wide, 2, tiny(), 1, 2, 2))
    assert found.state == "failed", found
    assert found.found.startswith("the smallest trial: a worker takes ")
    assert "large are model.generator.width=8: " in found.mend
    assert "train.activation_checkpointing=true" in found.mend


def test_a_step_that_cannot_be_played_fails_with_its_error(nodes: list[Node], tiny: MakeTiny):
    missing = tiny("train.stages.adversarial.freeze=[generator.nothing]")
    found = check_memory(nodes, Shape(1, 1, 0), None, tiny(), only(missing))
    assert found.state == "failed", found
    assert found.found.startswith("a training step fails: on ")
    assert "generator.nothing" in found.found
    assert found.mend.startswith("see the error; `python -m colorization train`")


def test_machines_that_do_not_answer_in_time_are_warnings(
    nodes: list[Node], tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(preflight_cluster, "_PATIENCE", 0.01)  # no process starts as fast
    others = other_machines(nodes, Shape(1, 1, 0))
    data, folder = check_nodes(others, tmp_path, tiny(), open_study_data(tiny())[1])
    memory = check_memory(nodes, Shape(1, 1, 0), None, tiny(), only(tiny()))
    gradients = check_gradients(Shape(2, 1, 0), tiny(), tmp_path)
    for check in (data, folder, memory, gradients):
        assert check.state == "warning", check
        assert "within 0.01 s" in check.found
        assert check.mend.startswith("see that the machines")


def test_a_step_that_is_hopelessly_large_is_not_played_and_fails_only_if_all_are(
    nodes: list[Node], tiny: MakeTiny
):
    wide = tiny("model.generator.width=8")
    both = Largest(wide, 10**15, tiny(), 1, 2, 2)
    found = check_memory(nodes, Shape(1, 1, 0), None, tiny(), both)
    assert found.state == "warning", found
    assert "a worker would take, by estimate, 1000000.0 GB of" in found.found
    assert "the smallest one: a worker takes" in found.found
    alone = Largest(wide, 10**15, wide, 10**15, 1, 1)
    assert check_memory(nodes, Shape(1, 1, 0), None, tiny(), alone).state == "failed"


def test_two_workers_get_the_gradients_of_one(nodes: list[Node], tiny: MakeTiny, tmp_path: Path):
    found = check_gradients(Shape(2, 1, 0), tiny(), tmp_path)
    assert found.state == "ok", found
    assert "2 ranks and one differ by" in found.found
    assert not [*tmp_path.iterdir()]


def test_a_trial_without_a_place_skips_what_would_need_one(
    nodes: list[Node], tiny: MakeTiny, new_store, tmp_path: Path
):
    found = preflight(
        folder=tmp_path / "study",
        tracking_uri=new_store(tmp_path),
        nodes=nodes,
        shape=Shape(3, 1, 0),
        concurrent=None,
        trials=2,
        typical=tiny(),
        tried=[tiny()],
        data=open_study_data(tiny())[1],
    )
    states = {check.name: check.state for check in found}
    assert states.pop("trial shape") == "failed"
    assert states.pop("MLflow") == states.pop("disk") == "ok"
    assert set(states.values()) == {"skipped"}
    assert not (tmp_path / "study").exists()
