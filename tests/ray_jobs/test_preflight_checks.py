"""What a preflight finds, on this machine and on a cluster's, and how it is shown."""

import io
import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from cluster import Node, Shape
from colorization.config import dump
from colorization.experiment import Experiment
from data_card import open_study_data
from largest_trial import find_largest
from node_memory import control_groups, free_memory, left_in_group
from preflight import Check, has_failed, preflight_lines, preflight_table
from preflight_checks import check_disk, check_mlflow, check_place
from preflight_tasks import look_around

MakeTiny = Callable[..., Experiment]
LAPTOP = Node("laptop", 2, 0)


def test_a_trial_that_fits_is_counted():
    found = check_place([LAPTOP], Shape(1, 1, 0), None)
    assert found == Check("trial shape", "ok", "1 worker x (1 CPU), 2 at once on 1 machine")


def test_a_trial_that_never_fits_fails_with_the_arithmetic_and_the_mend():
    found = check_place([LAPTOP], Shape(3, 1, 0), None)
    assert found.state == "failed"
    assert "3 needed, the cluster holds 2 (laptop: 2 CPU, 0 GPU hold 2)" in found.found
    assert found.mend == "ask for fewer --workers, or a smaller --gpus-per-worker"


def test_a_database_is_written_to_and_left_as_it_was(new_store, tmp_path: Path):
    uri = new_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        before = [*connection.iterdump()]
        assert check_mlflow(uri) == Check("MLflow", "ok", f"{tmp_path}/mlflow.db is writable")
        assert [*connection.iterdump()] == before


@pytest.mark.parametrize("fault", ["a folder", "no database"])
def test_a_database_that_takes_no_records_is_a_warning(fault: str, tmp_path: Path):
    path = tmp_path / "mlflow.db"
    path.mkdir() if fault == "a folder" else path.write_text("something else" * 1000)
    found = check_mlflow(f"sqlite:///{path}")
    assert found.state == "warning"
    assert str(path) in found.found
    assert "ray_jobs/sync.py" in found.mend


def test_a_database_is_found_without_its_options_and_none_is_made(new_store, tmp_path: Path):
    missing = check_mlflow(f"sqlite:///{tmp_path}/mlflow.db?timeout=30")
    assert missing.state == "warning"
    assert not [*tmp_path.iterdir()]
    assert check_mlflow(f"{new_store(tmp_path)}?timeout=30").state == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    "address", ["http://me:secret@127.0.0.1:9/", "mysql+nothing://me:secret@host/x", "ftp://x"]
)
def test_whatever_is_wrong_with_an_address_is_a_warning_without_its_password(address: str):
    found = check_mlflow(address)
    assert found.state == "warning"
    assert found.found.startswith(address.replace("secret", "***"))
    assert "secret" not in f"{found}"


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"experiments": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    """An address that answers as MLflow's server does where it has no experiments."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_answers_is_fine_and_that_no_write_was_tried_is_said(server: str):
    assert check_mlflow(server) == Check("MLflow", "ok", f"{server} answers; no write was tried")


def test_a_server_that_is_down_is_a_warning():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    found = check_mlflow(dead)
    assert found.state == "warning"
    assert found.found.startswith(dead)


def test_room_for_checkpoints_is_compared_with_what_the_study_needs(tiny: MakeTiny, tmp_path):
    folder = tmp_path / "not" / "made" / "yet"
    assert check_disk(folder, tiny(), 12).state == "ok"
    found = check_disk(folder, tiny(), 10**12)
    assert found.state == "warning"
    assert found.mend.startswith("--keep-gb ")


def test_more_checkpoints_that_are_kept_need_more_room(tiny: MakeTiny, tmp_path):
    few = check_disk(tmp_path, tiny("train.keep=2"), 10**6).found
    many = check_disk(tmp_path, tiny("train.keep=9"), 10**6).found
    assert few != many


def test_the_largest_experiment_is_the_one_with_most_to_keep(tiny: MakeTiny):
    wide = tiny("model.generator.width=32")
    found = find_largest([tiny("model.lambda_l1=1"), wide, tiny("train.batch_size=4")], tiny())
    assert found.experiment == wide
    assert found.estimated == found.kinds


def test_experiments_that_differ_in_numbers_alone_are_estimated_once(tiny: MakeTiny):
    tried = [tiny(f"train.learning_rate={rate}") for rate in (0.1, 0.01, 0.001)]
    assert find_largest(tried, tiny()).kinds <= 2


def test_without_time_the_typical_and_the_smallest_experiment_alone_are_estimated(tiny: MakeTiny):
    wide = tiny("model.adversarial={name: hinge}", "model.generator.width=32")
    small = tiny("model.adversarial={name: wasserstein}", "model.generator.width=4")
    found = find_largest([wide, small], tiny(), seconds=-1)
    assert (found.estimated, found.kinds) == (2, 3)
    assert wide not in (found.experiment, found.smallest)


def test_a_limit_of_a_container_is_what_is_left_of_it(tmp_path: Path):
    assert left_in_group(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert left_in_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert left_in_group(tmp_path) == (1000, 450)


def test_a_limit_of_version_1_counts_too(tmp_path: Path):
    (tmp_path / "memory.usage_in_bytes").write_text("700\n")
    (tmp_path / "memory.stat").write_text("inactive_file 10\ntotal_inactive_file 150\n")
    (tmp_path / "memory.limit_in_bytes").write_text(f"{(1 << 63) - 4096}\n")
    assert left_in_group(tmp_path) is None
    (tmp_path / "memory.limit_in_bytes").write_text("1000\n")
    assert left_in_group(tmp_path) == (1000, 450)


def test_all_groups_around_a_process_are_looked_at(tmp_path: Path):
    def names(own: str) -> set[str]:
        return {str(folder.relative_to(tmp_path)) for folder in control_groups(own, tmp_path)}

    assert names("") == {".", "memory"}
    assert names("0::/slurm/job_7/step\n") == {
        *(".", "slurm", "slurm/job_7", "slurm/job_7/step", "memory"),
    }
    assert names("5:cpu,memory:/docker/abc\n1:name=systemd:/x\n0::/\n") == {
        *(".", "memory", "memory/docker", "memory/docker/abc"),
    }


def test_there_is_some_free_memory():
    assert 0 < free_memory() < 1 << 50


def test_a_machine_that_has_the_pictures_and_the_folder_says_so(tiny: MakeTiny, tmp_path: Path):
    (tmp_path / "driver").write_text("word")
    answer = look_around(dump(tiny()), str(tmp_path), "word", "machine")
    assert (answer.data_fault, answer.folder_fault) == ("", "")
    assert answer.hashes == open_study_data(tiny())[1].hashes
    assert (tmp_path / "machine").read_text() == "word"


def test_a_machine_without_the_pictures_names_what_is_missing(tiny: MakeTiny, tmp_path: Path):
    missing = tmp_path / "pictures"
    experiment = tiny(f"data.source={{name: folder, path: {missing}}}")
    (tmp_path / "driver").write_text("word")
    answer = look_around(dump(experiment), str(tmp_path), "word", "machine")
    assert str(missing) in answer.data_fault
    assert answer.folder_fault == ""


def test_a_folder_that_is_another_one_there_is_not_written_to(tiny: MakeTiny, tmp_path: Path):
    meeting = tmp_path / "study" / "meeting"
    answer = look_around(dump(tiny()), str(meeting), "word", "machine")
    assert answer.folder_fault.startswith(f"{tmp_path / 'study'} is not the driver's")
    assert not [*tmp_path.iterdir()]


CHECKS = [
    Check("trial shape", "ok", "1 worker x (1 CPU)"),
    Check("data", "failed", "b: no folder [/data]", "mount /data on each machine"),
    Check("gradients", "skipped", "one worker"),
]


def test_a_table_shows_each_check_with_its_mend():
    console = Console(width=100, record=True, file=io.StringIO(), color_system="standard")
    console.print(preflight_table(CHECKS))
    styled = console.export_text(styles=True, clear=False)
    text = console.export_text()
    assert "no folder [/data]" in text
    assert "-> mount /data on each machine" in text
    assert "\x1b[31m" in next(line for line in styled.splitlines() if "no folder" in line)


def test_in_a_pipe_a_check_is_a_line():
    assert preflight_lines(CHECKS) == [
        "preflight trial shape: ok: 1 worker x (1 CPU)",
        "preflight data: failed: b: no folder [/data] -> mount /data on each machine",
        "preflight gradients: skipped: one worker",
    ]


def test_a_single_failure_keeps_a_study_from_starting():
    assert has_failed(CHECKS)
    assert not has_failed([check for check in CHECKS if check.state != "failed"])
