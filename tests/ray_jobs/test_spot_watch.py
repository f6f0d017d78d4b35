"""A spot machine's end is known to Ray before it comes."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import spot_watch
from metadata_server import Metadata, metadata_server
from spot_watch import ENDPOINT_VARIABLE, Notice, drain, main, read_notice
from study_commands import Place, new_place

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    with metadata_server() as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.endpoint)
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_place(tmp_path / "place") as place:
        yield place


def test_no_notice_is_none_and_one_says_when(metadata: Metadata):
    assert read_notice(metadata.endpoint) is None
    metadata.take_back_in(120)
    notice = read_notice(metadata.endpoint)
    assert notice
    assert notice.action == "terminate"
    assert 110 <= notice.seconds <= 120


def test_a_notice_counts_from_now_and_never_below_zero():
    text = '{"action": "stop", "time": "2026-01-01T12:01:30Z"}'
    assert Notice.of(text, NOW) == Notice("stop", 90)
    assert Notice.of(text.replace("12:01", "11:01"), NOW) == Notice("stop", 0)
    assert Notice.of('{"action": "hibernate"}', NOW) == Notice("hibernate", 120)


def test_an_answer_that_is_an_error_is_no_notice(metadata: Metadata):
    with pytest.raises(HTTPError):
        read_notice(f"{metadata.endpoint}/elsewhere")


def test_where_no_metadata_are_it_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv(ENDPOINT_VARIABLE, nowhere)
    assert main(["--every", "0.01"]) == 1
    assert f"no metadata at {nowhere}: " in capsys.readouterr().err


def test_where_ray_does_not_take_it_the_warning_is_tried_again_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    # A `ray` that refuses, beside the Python that is running.
    refusing = tmp_path / "ray"
    refusing.write_text('#!/bin/sh\necho "refused: $@"\nexit 1\n')
    refusing.chmod(0o755)
    monkeypatch.setattr(spot_watch.sys, "executable", str(tmp_path / "python"))
    assert drain(Notice("terminate", 2), "abc") == 1
    told = capsys.readouterr()
    assert told.err.count("refused: drain-node --reason DRAIN_NODE_REASON_PREEMPTION") >= 2
    assert "--node-id abc" in told.err


@pytest.mark.slow
def test_after_the_notice_ray_places_nothing_there_and_what_runs_goes_on(
    metadata: Metadata, place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_TMPDIR", str(place.ray))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    spot = cluster.add_node(num_cpus=2)
    try:
        ray.init(address=cluster.address, log_to_driver=False)

        class Trial:  # here, so that Ray sends it along
            def step(self) -> str:
                return ray.get_runtime_context().get_node_id()

        actor: Any = ray.remote(num_cpus=1)(Trial)
        there = NodeAffinitySchedulingStrategy(spot.node_id, soft=False)
        running = actor.options(scheduling_strategy=there).remote()
        assert ray.get(running.step.remote(), timeout=120) == spot.node_id

        metadata.take_back_in(100)
        monkeypatch.setenv("RAY_ADDRESS", str(cluster.address))
        assert main(["--every", "0.1", "--node-id", spot.node_id]) == 0

        # CPUs are free there, and yet it waits.
        late = actor.remote()
        ready, _ = ray.wait([late.step.remote()], timeout=5)
        assert not ready
        assert ray.get(running.step.remote(), timeout=60) == spot.node_id
        other = cluster.add_node(num_cpus=1)
        assert ray.get(late.step.remote(), timeout=120) == other.node_id
    finally:
        ray.shutdown()
        cluster.shutdown()
