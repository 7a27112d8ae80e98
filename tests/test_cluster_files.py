"""The cluster files that are shipped: valid for the installed Ray, equal where they share."""

import copy
import functools
import json
import operator
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from commands import ROOT
from jsonschema import Draft202012Validator
from ray.autoscaler._private import aws
from ray.autoscaler._private.util import prepare_config, validate_config

from tuning.compute import cluster

CLUSTERS = ("ray_cluster.yaml", "infra/on_premises.yaml")
SCRIPTS = sorted((ROOT / "infra").rglob("*.sh"))


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_every_yaml_file_that_is_shipped_is_validated_here():
    shipped = subprocess.run(
        ["git", "ls-files", "*.yaml", "*.yml"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert sorted(shipped) == sorted([*CLUSTERS, "infra/kubernetes.yaml"])


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_accepts_the_file(name):
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_refuses_a_misspelt_one(name):
    wrong = {**read(name), "idle_timeout_minuets": 5}
    with pytest.raises(Exception, match="idle_timeout_minuets"):
        validate_config(prepare_config(wrong))


def test_both_clusters_are_the_same_but_for_their_machines():
    cloud, hosts = map(read, CLUSTERS)
    for part in ("cluster_name", "file_mounts", "rsync_exclude", "worker_setup_commands"):
        assert cloud[part] == hosts[part]
    assert cloud["worker_start_ray_commands"] == hosts["worker_start_ray_commands"]


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_is_brought_to_the_nodes_is_there_and_holds_no_data(name):
    mounts = read(name)["file_mounts"]
    own = [local for local in mounts.values() if not local.startswith("~")]
    assert all((ROOT / local).exists() for local in own)
    assert {"mianet", "tuning", "infra", "pyproject.toml", "constraints.txt"} <= set(own)


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_scripts_that_it_calls_exist(name):
    called = re.findall(r"~/mianet/(infra/\S+)", (ROOT / name).read_text())
    assert len(called) >= 5
    assert all((ROOT / script).is_file() for script in called)


def test_gpu_workers_are_spot_instances_that_come_from_nothing():
    cluster = read(CLUSTERS[0])
    gpu = cluster["available_node_types"]["gpu"]
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == cluster["max_workers"]
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    head = cluster["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_dashboard_listens_inside_alone(name):
    (start,) = [c for c in read(name)["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("said", ["No usable subnets found", "Private key file"])
def test_ray_still_says_what_docs_cluster_explains(said):
    """AWS's own words (quotas, credentials) are not here to compare with."""
    assert said in (Path(aws.__path__[0]) / "config.py").read_text()
    assert said in (ROOT / "docs/cluster.md").read_text()


@pytest.mark.parametrize(
    "path", [*SCRIPTS, *(ROOT / name for name in CLUSTERS)], ids=lambda p: p.name
)
def test_no_secret_is_shipped(path):
    assert not re.search(
        r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE|passw(or)?d\s*[=:]\s*\w", path.read_text()
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_bash_can_read_the_script(path):
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=10)


def manifests():
    return list(yaml.safe_load_all((ROOT / "infra/kubernetes.yaml").read_text()))


def schema_of(name):
    """KubeRay's fields with Kubernetes' own in them; what is not listed is refused."""
    kuberay, kubernetes = (
        json.loads((ROOT / "tests" / f"{part}_schema.json").read_text())
        for part in ("kuberay", "kubernetes")
    )
    definitions = kuberay["$defs"] | kubernetes["$defs"]
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": definitions})


HEAD = ("spec", "rayClusterSpec", "headGroupSpec")
HEAD_POD = (*HEAD, "template", "spec")
WORKERS = ("spec", "rayClusterSpec", "workerGroupSpecs", 0)
CONTAINER = (*WORKERS, "template", "spec", "containers", 0)
LEFT_OUT = object()


def changed(manifest, path, value):
    wrong = copy.deepcopy(manifest)
    *way, last = path
    place = functools.reduce(operator.getitem, way, wrong)
    if value is LEFT_OUT:
        del place[last]
    else:
        place[last] = value
    return wrong


class TestKubernetes:
    """The manifest against KubeRay's published fields and Kubernetes' published schema."""

    @pytest.fixture
    def workers(self):
        workers, _ = manifests()
        return workers

    @pytest.fixture
    def job(self):
        _, job = manifests()
        return job

    def test_it_is_valid(self, workers, job):
        schema_of("io.k8s.api.core.v1.ConfigMap").validate(workers)
        schema_of("RayJob").validate(job)

    def test_the_driver_is_told_of_the_workers_that_may_come(
        self, workers, job, tmp_path, monkeypatch
    ):
        assert (workers["apiVersion"], workers["kind"]) == ("v1", "ConfigMap")
        path = tmp_path / "workers.yaml"
        path.write_text(workers["data"][path.name])
        cluster_spec = job["spec"]["rayClusterSpec"]
        for group in (cluster_spec["headGroupSpec"], *cluster_spec["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            (container,) = pod["containers"]
            told = {entry["name"]: entry["value"] for entry in container["env"]}
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert told[cluster.AUTOSCALING_VARIABLE] == f"{mounts['workers']}/{path.name}"
            (volume,) = [v for v in pod["volumes"] if v["name"] == "workers"]
            assert volume["configMap"]["name"] == workers["metadata"]["name"]
        monkeypatch.setenv(cluster.AUTOSCALING_VARIABLE, str(path))
        head_alone = [{"Alive": True, "Resources": {"CPU": 0}, "NodeID": "0" * 56}]
        monkeypatch.setattr(cluster.ray, "nodes", lambda: head_alone)
        (gpu,) = cluster_spec["workerGroupSpecs"]
        limits = gpu["template"]["spec"]["containers"][0]["resources"]["limits"]
        share = cluster.share_resources(8)
        assert share.workers == gpu["maxReplicas"]
        assert (share.cpus, share.gpus) == (int(limits["cpu"]), int(limits["nvidia.com/gpu"]))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ((*HEAD[:2], "enableInTreeAutoscalling"), True),
            ((*HEAD_POD, "restartPolcy"), "Never"),
            ((*CONTAINER, "volumeMount"), []),
            ((*CONTAINER, "env", 0, "valueForm"), {}),
            ((*HEAD_POD, "volumes", 0, "persistentVolumeClaim", "claim"), "mianet-data"),
            ((*HEAD, "template", "metadata"), {"labels": {}, "lables": {}}),
        ],
    )
    def test_a_field_that_is_not_known_is_refused(self, job, path, value):
        assert not schema_of("RayJob").is_valid(changed(job, path, value))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ((*HEAD[:2], "authOptions", "mode"), "open"),
            ((*HEAD, "rayStartParams", "num-cpus"), 0),
            (("spec", "submissionMode"), "Cluster"),
            (("spec", "backoffLimit"), "0"),
            ((*WORKERS, "maxReplicas"), "8"),
            ((*CONTAINER, "env", 0, "value"), 5000),
            ((*CONTAINER, "resources", "limits", "memory"), "14 GiB"),
            ((*CONTAINER, "resources", "limits", "cpu"), 0.5),
            ((*CONTAINER, "volumeMounts", 0, "readOnly"), "yes"),
            ((*WORKERS, "template", "spec", "tolerations"), None),
            ((*WORKERS, "template", "spec", "tolerations"), [{"tolerationSeconds": "60"}]),
        ],
    )
    def test_a_value_of_another_type_is_refused(self, job, path, value):
        assert not schema_of("RayJob").is_valid(changed(job, path, value))

    @pytest.mark.parametrize(
        "path",
        [
            HEAD,
            (*HEAD, "template"),
            (*HEAD_POD, "containers"),
            (*WORKERS, "groupName"),
            (*WORKERS, "minReplicas"),
            (*CONTAINER, "name"),
            (*CONTAINER, "env", 0, "name"),
            (*CONTAINER, "volumeMounts", 0, "mountPath"),
            (*HEAD_POD, "volumes", 0, "persistentVolumeClaim", "claimName"),
        ],
    )
    def test_a_field_that_is_required_may_not_be_left_out(self, job, path):
        assert not schema_of("RayJob").is_valid(changed(job, path, LEFT_OUT))

    def test_it_names_the_pinned_ray_and_asks_for_the_token(self, job):
        spec = job["spec"]["rayClusterSpec"]
        assert spec["rayVersion"] == version("ray")
        assert spec["authOptions"] == {"mode": "token"}
        (gpu,) = spec["workerGroupSpecs"]
        assert (gpu["minReplicas"], gpu["replicas"]) == (0, 0)
