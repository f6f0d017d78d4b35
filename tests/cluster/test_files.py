"""The files that clusters are made from are what Ray and Kubernetes take."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster_hosts import ROOT
from three_hosts import derived

# What is alike in both files, so that neither goes its own way.
ALIKE = (
    "file_mounts",
    "rsync_exclude",
    "setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    """The objects for Kubernetes by kind and name."""
    found = {}
    for name in ("kubernetes.yaml", "kubernetes-job.yaml"):
        for one in yaml.safe_load_all((ROOT / "cluster" / name).read_text(encoding="utf-8")):
            meta = one["metadata"]
            found[f"{one['kind']}/{meta.get('name', meta.get('generateName'))}"] = one
    return found


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster/local.yaml"])
def test_ray_takes_the_file(name):
    config = prepare_config(read(name))
    validate_config(config)
    validate_config(prepare_config(derived("10.0.0.2", ["10.0.0.3"], Path("key"))))
    with pytest.raises(ValidationError, match="Additional properties"):  # it does look
        validate_config(config | {"max_worker": 3})


def test_the_variants_differ_in_machines_and_settings_alone():
    cloud, own = read("cluster.yaml"), read("cluster/local.yaml")
    for key in ALIKE:
        assert cloud[key] == own[key]


def test_the_head_is_never_lent_and_spot_machines_come_first():
    kinds = read("cluster.yaml")["available_node_types"]
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    spot, fallback = kinds["gpu_spot"], kinds["gpu_on_demand"]
    assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot["priority"] > fallback["priority"]
    assert spot | {"priority": fallback["priority"]} == fallback


def test_what_is_copied_to_the_machines_is_the_project_and_all_that_setup_needs():
    mounts = read("cluster.yaml")["file_mounts"]
    sources = {Path(source).parts[0] for target, source in mounts.items() if "~/col" in target}
    # Ray reads, to tell whether it changed, even what it is told not to copy.
    assert not sources & {".", ".git", ".venv", "runs", "data", "shared"}
    assert {"colorization", "ray_jobs", "search_spaces", "cluster"} <= sources
    assert {"Makefile", "pyproject.toml", "requirements.txt", "README.md"} <= sources
    assert all(
        target == f"~/colorization/{source}"
        for target, source in mounts.items()
        if source in sources
    )
    assert all((ROOT / source).exists() for source in sources)


def test_the_settings_are_quoted_so_that_addresses_and_passwords_stay_whole():
    for name in ("cluster.yaml", "cluster/local.yaml"):
        [written] = read(name)["initialization_commands"]
        settings = re.findall(r"^[A-Z_]+=(.*)$", written, re.MULTILINE)
        assert settings
        assert all(value[0] == value[-1] == "'" for value in settings)


@pytest.mark.parametrize("script", ["setup.sh", "storage.sh", "mlflow.sh", "environment.sh"])
def test_the_shell_can_read_the_scripts(script):
    subprocess.run(["bash", "-n", str(ROOT / "cluster" / script)], check=True)


def test_on_kubernetes_all_containers_have_the_same_image_and_sizes(manifests):
    cluster = manifests["RayCluster/colorization"]["spec"]
    assert cluster["rayVersion"] == pinned("ray")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [c for g in groups for c in g["template"]["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        # Ray takes what it may use from the limits, Kubernetes places by the requests.
        assert container["resources"]["limits"] == container["resources"]["requests"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_on_kubernetes_every_mount_has_its_volume_and_every_volume_its_claim(manifests):
    cluster = manifests["RayCluster/colorization"]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                assert f"PersistentVolumeClaim/{claim['claimName']}" in manifests
    shared = manifests["PersistentVolumeClaim/colorization"]["spec"]
    assert shared["accessModes"] == ["ReadWriteMany"]


def test_on_kubernetes_all_pods_share_one_storage_which_jobs_write_to(manifests):
    cluster = manifests["RayCluster/colorization"]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        container = group["template"]["spec"]["containers"][0]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert environment["COLORIZATION_STORAGE"] in mounted


def test_on_kubernetes_tokens_are_asked_for_and_the_job_finds_its_cluster(manifests):
    cluster, job = manifests["RayCluster/colorization"], manifests["RayJob/tune-gan-"]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert job["spec"]["entrypoint"] == "python tune.py --model gan"
    assert "WORKDIR /app/ray_jobs" in (ROOT / "cluster" / "Dockerfile").read_text()


def test_mlflow_on_kubernetes_is_reached_on_loopback_alone(manifests):
    pod = manifests["RayCluster/colorization"]["spec"]["headGroupSpec"]["template"]["spec"]
    [mlflow] = [one for one in pod["containers"] if one["name"] == "mlflow"]
    assert "127.0.0.1" in mlflow["command"]
    assert "ports" not in mlflow


def pinned(package: str) -> str:
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(\S+)", pins, re.MULTILINE)
    assert found
    return found.group(1)
