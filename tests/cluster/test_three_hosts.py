"""A real cluster of three hosts: brought up, used, broken and taken down as a person would.

The tests go on with one cluster, in their order; the last one takes it down.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from mlflow_store import EXPERIMENT

# isort: split
from mlflow import MlflowClient

from cluster_hosts import ROOT, wait_until, why_none
from past_study import PastStudy
from three_hosts import SHARED, ThreeHosts

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

EPOCHS = 8
SPACE = f"""
search:
  trials: 1
  scheduler: {{grace_period: 50}}
experiment:
  data: {{source: {{name: sample, crops: 256, scoring_crops: 8}}, size: 32}}
  model:
    name: gan
    generator: {{name: unet, width: 16}}
    discriminator: {{name: patch, width: 16, layers: 1}}
    lambda_l1: !loguniform [1, 1000]
  train:
    batch_size: 16
    learning_rate: 0.002
    grid_pictures: 2
    stages:
      head_start: {{turns: l1, epochs: 1, select: false}}
      adversarial: {{turns: adversarial, epochs: {EPOCHS - 1}}}
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[ThreeHosts]:
    if lacking := why_none():
        warnings.warn(f"THE CLUSTER WAS NOT TESTED: {lacking}", stacklevel=1)
        pytest.skip(lacking)
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))  # of a short path, for sockets
    with ThreeHosts(folder) as made:
        (made.shared / "space.yaml").write_text(SPACE)
        made.up()
        yield made
    shutil.rmtree(folder)


def start(hosts: ThreeHosts, name: str, *more: str) -> None:
    """Submit a study of one trial on two workers."""
    words = ["--model", "gan", "--space", f"{SHARED}/space.yaml", "--name", name]
    hosts.submit(name, "python", "tune.py", *words, "--workers", "2", "--preflight", "off", *more)


def resume(hosts: ThreeHosts, name: str, job: str) -> None:
    words = ["--name", name, "--resume", "--preflight", "off"]
    hosts.submit(job, "python", "tune.py", *words)


def assert_whole(hosts: ThreeHosts, name: str, trials: int = 1) -> None:
    """See that a study has its trials, each epoch once, and that nothing is left running."""
    past = PastStudy.open(hosts.shared, name, "")
    assert len(past.trials) == trials
    ended = {trial.number: trial.state.name for trial in past.trials}
    assert {*ended.values()} <= {"COMPLETE", "PRUNED"}, past.trials
    client = MlflowClient(hosts.mlflow)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`colorization.study` = '{name}'")
    own = {int(run.data.tags["trial"]): run for run in found if "trial" in run.data.tags}
    assert len(found) == trials + 1
    assert [run.info.status for run in found if run not in own.values()] == ["FINISHED"]
    for number, state in ended.items():
        stopped_early = state == "PRUNED"
        assert own[number].info.status == ("KILLED" if stopped_early else "FINISHED")
        history = client.get_metric_history(own[number].info.run_id, "ab_mae")
        epochs = past.trials[number].user_attrs["epochs"]
        assert sorted(point.step for point in history) == list(range(1, epochs + 1))
    assert hosts.trial_processes() == []


def hosts_of(hosts: ThreeHosts, name: str, trial: int = 0) -> set[str]:
    """Return the hosts on which a trial's ranks were, as its records have them."""
    folder = hosts.shared / "studies" / name / f"trial-{trial:04d}" / "surroundings"
    files = folder.glob("epoch-*.json")
    return {machine["host"] for f in files for machine in json.loads(f.read_text())["machines"]}


def test_the_literal_command_searches_with_trials_that_span_two_hosts(hosts):
    words = ["--model", "gan", "--trials", "2", "--workers", "2"]
    shorter = [f"train.stages.{stage}.epochs=2" for stage in ("head_start", "adversarial")]
    hosts.submit("literal", "python", "tune.py", *words, *shorter)
    assert hosts.wait_for("literal") == "SUCCEEDED", hosts.logs("literal")
    assert "preflight gradients: ok: 2 ranks and one differ by" in hosts.logs("literal")
    [study] = [f.name for f in (hosts.shared / "studies").iterdir() if f.name.startswith("gan-")]
    # Training itself ends where the ranks' weights are not the same after an epoch.
    assert hosts_of(hosts, study, 0) == hosts_of(hosts, study, 1) == {"host1", "host2"}
    assert_whole(hosts, study, 2)


def test_local_changes_are_tried_on_all_hosts_without_ray_up(hosts, tmp_path):
    copy = tmp_path / "project"
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "shared", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    library = copy / "colorization" / "__init__.py"
    mark = "import pathlib, socket\n"
    mark += f"pathlib.Path('{SHARED}/changed-' + socket.gethostname()).touch()\n"
    library.write_text(library.read_text() + mark)
    (copy / "search_spaces" / "mine.yaml").write_text(SPACE.replace(f"{EPOCHS - 1}", "1"))
    words = ["--model", "gan", "--space", "search_spaces/mine.yaml", "--name", "changed"]
    words += ["--workers", "2"]
    hosts.submit("changed", "python", "ray_jobs/tune.py", *words, working_dir=copy)
    assert hosts.wait_for("changed") == "SUCCEEDED", hosts.logs("changed")
    assert {f.name for f in hosts.shared.glob("changed-*")} == {
        f"changed-host{n}" for n in range(3)
    }


def test_a_killed_worker_process_costs_no_more_than_an_epoch(hosts):
    start(hosts, "process")
    hosts.wait_for_epochs("process", 0, 2)
    hosts.workers[0].run("pkill -9 -f ^ray::RayTrainWorker")
    done = hosts.epochs("process", 0)
    assert hosts.wait_for("process") == "SUCCEEDED", hosts.logs("process")
    sessions = hosts.shared / "studies" / "process" / "trial-0000" / "surroundings"
    first_of_second = max(int(f.stem.removeprefix("epoch-")) for f in sessions.glob("epoch-*.json"))
    assert first_of_second >= done
    assert_whole(hosts, "process")


def test_a_host_that_is_lost_in_training_and_comes_back_is_used_again(hosts):
    start(hosts, "host")
    hosts.wait_for_epochs("host", 0, 2)
    lost = hosts.workers[1]
    lost.kill()
    wait_until(lambda: lost.address not in hosts.alive(), "the loss of a host", 120)
    lost.boot()
    assert hosts.wait_for("host") == "SUCCEEDED", hosts.logs("host")
    assert_whole(hosts, "host")
    everybody = {host.address for host in (hosts.head, *hosts.workers)}
    wait_until(lambda: hosts.alive() == everybody, "the host in the dashboard", 60)


def test_a_stopped_job_closes_its_records_and_another_one_goes_on(hosts):
    start(hosts, "stopped")
    hosts.wait_for_epochs("stopped", 0, 2)
    hosts.call("ray", "job", "stop", "stopped")
    assert hosts.status("stopped") == "STOPPED"
    assert "interrupted; --name stopped --resume goes on from here" in hosts.logs("stopped")
    client = MlflowClient(hosts.mlflow)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`colorization.study` = 'stopped'")
    assert {run.info.status for run in runs} == {"KILLED"}
    wait_until(lambda: not hosts.trial_processes(), "the end of the trial's processes", 60)
    resume(hosts, "stopped", "stopped-2")
    assert hosts.wait_for("stopped-2") == "SUCCEEDED", hosts.logs("stopped-2")
    assert_whole(hosts, "stopped")


def test_a_study_whose_driver_is_killed_is_gone_on_with_by_another_job(hosts):
    start(hosts, "driver")
    hosts.wait_for_epochs("driver", 0, 2)
    hosts.head.run("pkill -9 -f '^python tune.py'")
    assert hosts.wait_for("driver") == "FAILED"
    wait_until(lambda: not hosts.trial_processes(), "the end of the trial's processes", 60)
    resume(hosts, "driver", "driver-2")
    assert hosts.wait_for("driver-2") == "SUCCEEDED", hosts.logs("driver-2")
    assert_whole(hosts, "driver")


def test_mlflow_that_dies_is_started_again_and_gets_all_that_it_missed(hosts):
    start(hosts, "records")
    hosts.wait_for_epochs("records", 0, 1)
    hosts.head.run("pkill -9 -f '[m]lflow server'")
    assert hosts.wait_for("records") == "SUCCEEDED", hosts.logs("records")
    assert_whole(hosts, "records")


def test_a_request_without_the_token_is_refused(hosts):
    for token in ("", "0123456789abcdef" * 4):
        with pytest.raises(HTTPError) as refused:
            hosts.ask("/api/jobs/", token)
        assert refused.value.code in (401, 403)
    no_token = {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        ["ray", "job", "list"],
        env=hosts.environment | no_token | {"HOME": str(hosts.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0


def test_nothing_but_ray_and_ssh_listens_beyond_loopback_on_the_head(hosts):
    lines = hosts.head.run("ss -ltnpH").stdout.splitlines()
    beyond = [line for line in lines if "127.0.0.1" not in line.split()[3]]
    assert beyond
    for line in beyond:
        pid = int(line.partition("pid=")[2].partition(",")[0])
        program = hosts.head.run(f"tr '\\0' ' ' < /proc/{pid}/cmdline").stdout
        rays = ("site-packages/ray/", "ray::", "ray.util.client.server", "sshd")
        assert any(one in program for one in rays), line
    local = [line for line in lines if line.split()[3] in ("127.0.0.1:5000", "127.0.0.1:8265")]
    assert len(local) == 2


def test_the_doctor_finds_a_healthy_cluster_well(hosts):
    hosts.submit("well", "python", "doctor.py")
    assert hosts.wait_for("well") == "SUCCEEDED", hosts.logs("well")
    assert "no fault found" in hosts.logs("well")


def test_the_doctor_finds_another_version_a_storage_apart_mlflow_down_and_a_closed_way(hosts):
    head, one, other = hosts.head, *hosts.workers
    packages = Path(sys.prefix).resolve() / "lib"
    [metadata] = packages.glob("python3*/site-packages/optuna-[0-9]*.dist-info/METADATA")
    one.run(f"sed 's/^Version: .*/Version: 0.0.1/' {metadata} > ~/METADATA")
    one.run(f"mount --bind ~/METADATA {metadata}")
    one.run("echo '# changed' >> ~/colorization/colorization/color.py")
    other.run(f"ip route add blackhole {one.address}")
    head.run("pkill -9 -f '[c]luster/mlflow.sh'; pkill -9 -f '[m]lflow[. ]server'")
    hosts.submit("ill", "python", "doctor.py", "--storage", "/tmp/apart")
    assert hosts.wait_for("ill") == "FAILED"
    told = hosts.logs("ill")
    assert f"FAULT {one.address} (host1): optuna 0.0.1 there" in told
    assert f"FAULT {one.address} (host1): the project's code is another" in told
    assert f"FAULT {other.address} (host2): /tmp/apart is not the driver's" in told
    assert "FAULT MLflow: " in told
    assert "cannot be reached from" in told
    # Each with its mend; and all is well again.
    assert told.count("\n  -> ") == told.count("FAULT ")
    one.run(f"umount {metadata}; sed -i '$d' ~/colorization/colorization/color.py")
    other.run(f"ip route delete blackhole {one.address}")
    head.run(". ~/colorization/cluster/environment.sh && bash ~/colorization/cluster/mlflow.sh")


def test_ray_down_ends_the_head_and_ray_stop_what_is_left_of_workers(hosts):
    hosts.down()
    for host in (hosts.head, *hosts.workers):
        if host is not hosts.head:  # Ray 2.60 leaves those of the provider `local` to themselves
            host.run(". ~/colorization/cluster/environment.sh && ray stop")
        what = f"the end of all on {host.name}"
        try:
            wait_until(lambda host=host: not host.processes(), what, 180)
        except RuntimeError as error:
            raise AssertionError(f"{error}: {host.processes()}") from None
