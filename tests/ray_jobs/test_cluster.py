import os
import socket
import threading

import pytest
import ray

import cluster
from cluster import Node, Shape, at_once, connect, find_running, this_machine, trial_shape
from colorization.config import ConfigError

LAPTOP = Node("laptop", 2, 0)
GPU_NODE = Node("gpu", 16, 4)


def test_a_worker_gets_a_gpu_where_there_are_any():
    assert trial_shape([LAPTOP, GPU_NODE], 2, None, 0) == Shape(2, 1, 1)
    assert trial_shape([LAPTOP], 2, None, 0) == Shape(2, 1, 0)
    assert trial_shape([GPU_NODE], 1, 0.5, 0).gpus_per_worker == 0.5


def test_loader_processes_ask_for_cpus_only_beside_a_gpu():
    assert trial_shape([GPU_NODE], 1, None, 3).cpus_per_worker == 4
    assert trial_shape([LAPTOP], 1, None, 3).cpus_per_worker == 1


def test_trials_at_once_come_from_the_scarcest_resource():
    assert at_once([GPU_NODE], Shape(1, 1, 1), None) == 4  # GPUs
    assert at_once([GPU_NODE], Shape(1, 8, 1), None) == 2  # CPUs
    assert at_once([GPU_NODE, GPU_NODE], Shape(3, 1, 1), None) == 2  # a trial spans machines


def test_a_worker_does_not_span_machines():
    nodes = [Node("a", 3, 0), Node("b", 3, 0)]
    assert at_once(nodes, Shape(1, 2, 0), None) == 2  # not three of two CPUs


def test_a_gpu_is_shared_by_whole_workers_only():
    assert Node("a", 16, 2).holds(Shape(1, 1, 0.4)) == 4  # two each, a rest of 0.2 on both
    assert Node("a", 16, 2).holds(Shape(1, 1, 0.5)) == 4
    assert Node("a", 16, 4).holds(Shape(1, 1, 2)) == 2


def test_concurrent_lowers_the_number_and_never_raises_it():
    assert at_once([GPU_NODE], Shape(1, 1, 1), 3) == 3
    assert at_once([GPU_NODE], Shape(1, 1, 1), 30) == 4


def test_a_trial_that_never_fits_is_refused_with_the_arithmetic():
    with pytest.raises(ConfigError) as refused:
        at_once([LAPTOP, GPU_NODE], Shape(5, 1, 1), None)
    message = str(refused.value)
    assert "5 workers x (1 CPU + 1 GPU) never fits" in message
    assert "5 needed, the cluster holds 4" in message
    assert "laptop: 2 CPU, 0 GPU hold 0" in message
    assert "gpu: 16 CPU, 4 GPU hold 4" in message


def test_a_shape_is_written_for_a_person():
    assert str(Shape(1, 1, 0)) == "1 worker x (1 CPU)"
    assert str(Shape(2, 3, 0.5)) == "2 workers x (3 CPU + 0.5 GPU)"


def test_this_machine_counts_the_processors_it_may_use():
    assert this_machine().cpus == len(os.sched_getaffinity(0))


@pytest.fixture
def address_file(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def test_without_an_address_there_is_no_running_cluster(address_file):
    assert find_running() is None


def test_ray_address_is_taken_as_it_is(address_file, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert find_running() == "head:6379"


def test_a_cluster_that_answers_on_this_machine_is_found(address_file):
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        address_file.write_text(f"{address}\n")
        assert find_running() == address


@pytest.mark.parametrize("content", ["", "nonsense", "127.0.0.1:x"])
def test_an_address_file_that_outlived_its_cluster_is_left_alone(address_file, content):
    address_file.write_text(content)
    assert find_running() is None
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    address_file.write_text(f"127.0.0.1:{port}")
    assert find_running() is None


def test_a_local_ray_that_does_not_start_is_tried_once_more_and_told_in_a_line(monkeypatch):
    tries = []

    def fails(**options: object) -> None:
        tries.append(options["address"])
        raise RuntimeError(f"the node died, {len(tries)}\nand much more")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(ConfigError) as refused:
        connect(None)
    assert tries == ["local", "local"]
    assert "does not start on this machine, tried twice: RuntimeError: the node died, 2;" in str(
        refused.value
    )
    assert "\n" not in str(refused.value)


def test_a_start_that_hangs_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "_LATE", 0.0)
    with cluster.said_when_late("starting Ray"):
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(10)
    assert "starting Ray takes more than 0 s and may have hung: its logs" in capfd.readouterr().err
