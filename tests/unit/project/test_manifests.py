"""Content of every overlay: restricted, and generated from the service's own files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from acousticsense.cli.serve import HAPROXY_FLAGS, SERVE_FLAGS
from deployments.rendering.dashboards import load_panels, render_dashboards
from deployments.rendering.manifests import merge, render_patches
from deployments.serve_check import check_serve_config
from deployments.strict import read_yaml
from tests.support.kuberay import (
    OVERLAYS,
    ROOT,
    Manifest,
    find,
    manifests,
    pod_templates,
)

SERVICES = [name for name in OVERLAYS if not name.startswith("batch")]

SECRET_NAMES = re.compile("PASSWORD|SECRET|TOKEN|KEY")

VOLUMES = ("emptyDir", "configMap", "projected", "persistentVolumeClaim")
READ_ONLY = {"readOnly": True}

PORT = 8000


def serve_config(overlay: str) -> dict[str, Any]:
    text = find(overlay, "RayService")["spec"]["serveConfigV2"]
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def test_the_written_files_are_those_of_their_sources() -> None:
    for path, text in {**render_patches(), **render_dashboards()}.items():
        assert path.read_text() == text, f"{path.name}: run `acousticsense k8s render`"


@pytest.mark.parametrize("overlay", SERVICES)
def test_the_cluster_runs_serve_config_with_the_named_changes_only(
    overlay: str, tmp_path: Path
) -> None:
    profile = {"gpu": "gpu", "ha": "ha", "ha-rocksdb": "ha"}.get(overlay, "cpu")
    changes = read_yaml(ROOT / "k8s" / "serve" / profile / "changes.yaml")
    assert serve_config(overlay) == merge(read_yaml(ROOT / "serve_config.yaml"), changes)
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(serve_config(overlay)))
    assert check_serve_config(path) == []


def test_a_change_to_what_is_not_there_is_an_error() -> None:
    base = {"deployments": [{"name": "A", "n": 1, "m": {"x": 1, "y": 2}}]}
    changes = {"deployments": [{"name": "A", "n": None, "m": {"y": 3}}], "new": 1}
    assert merge(base, changes) == {"deployments": [{"name": "A", "m": {"x": 1, "y": 3}}], "new": 1}
    with pytest.raises(Exception, match="has no such item"):
        merge(base, {"deployments": [{"name": "B"}]})
    added = {"name": "A-ast", "n": 2}
    assert merge(base, {"deployments": [added]})["deployments"][1] == added


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_file_of_the_settings_is_where_the_service_looks_for_it(overlay: str) -> None:
    data = find(overlay, "ConfigMap")["data"]
    served = (*(ROOT / "configs").glob("*.yaml"), *(ROOT / "configs" / "taxonomies").glob("*"))
    names = {str(path.relative_to(ROOT / "configs")) for path in served} - {"kustomization.yaml"}
    volumes = [
        volume["configMap"]
        for manifest in manifests(overlay)
        for _, pod in pod_templates(manifest)
        for volume in pod.get("volumes", [])
        if volume["name"] == "configs"
    ]
    assert volumes
    for volume in volumes:
        assert {each["path"] for each in volume["items"]} == names
        for each in volume["items"]:
            assert (ROOT / "configs" / each["path"]).read_text() == data[each["key"]]


@pytest.mark.parametrize("overlay", SERVICES)
def test_the_fewest_replicas_fit_the_fewest_workers(overlay: str) -> None:
    """Otherwise the service never becomes ready, or the autoscaler adds nodes at once."""
    cluster = find(overlay, "RayService")["spec"]["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = cluster["workerGroupSpecs"]
    cpus = sum(g["minReplicas"] * float(g["rayStartParams"]["num-cpus"]) for g in groups)
    (application,) = serve_config(overlay)["applications"]
    needed, per_replica = 0.0, []
    for deployment in application["deployments"]:
        scaling = deployment["autoscaling_config"]
        assert scaling["min_replicas"] <= scaling["max_replicas"]
        n_cpus = deployment.get("ray_actor_options", {}).get(
            "num_cpus", application["args"]["classify_cpus"]
        )
        needed += scaling["min_replicas"] * n_cpus
        per_replica.append(n_cpus)
    assert needed <= cpus
    assert max(per_replica) <= min(float(g["rayStartParams"]["num-cpus"]) for g in groups)
    for group in groups:
        requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
        gpus = requests.get("nvidia.com/gpu", "0")
        assert gpus == group["rayStartParams"].get("num-gpus", "0")
        logical, real = float(group["rayStartParams"]["num-cpus"]), float(requests["cpu"])
        if gpus == "0":
            assert logical == real
        else:  # for the model only: other stages would keep the node alive
            assert logical == application["args"]["classify_cpus"] <= real


@pytest.mark.parametrize("overlay", SERVICES)
def test_pods_have_the_flags_of_the_command(overlay: str) -> None:
    names = (
        "RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_HAPROXY_TUNE_BUFSIZE",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S", "RAY_SERVE_HAPROXY_RETRY_ON",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S",
    )  # fmt: skip
    flags = SERVE_FLAGS | {name: HAPROXY_FLAGS[name] for name in names}
    if overlay.startswith("ha"):  # slower, but no request is lost with a node
        flags |= {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
    cluster = find(overlay, "RayService")["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        environment = {
            each["name"]: each.get("value")
            for each in group["template"]["spec"]["containers"][0]["env"]
        }
        assert flags.items() <= environment.items()
        assert environment["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_but_the_services_port_is_exposed(overlay: str) -> None:
    for manifest in manifests(overlay):
        assert manifest["kind"] not in ("Ingress", "Gateway", "HTTPRoute")
        if manifest["kind"] == "Service":
            assert manifest["spec"].get("type", "ClusterIP") == "ClusterIP"
            assert {port["port"] for port in manifest["spec"].get("ports", [])} <= {PORT}
        if manifest["kind"] == "RayService" and "serveService" in manifest["spec"]:
            service = manifest["spec"]["serveService"]["spec"]
            assert service["type"] == "ClusterIP"
            assert [port["port"] for port in service["ports"]] == [PORT]
        if manifest["kind"] in ("RayService", "RayJob"):
            spec = manifest["spec"]
            head = (spec.get("rayClusterConfig") or spec["rayClusterSpec"])["headGroupSpec"]
            assert head["serviceType"] == "ClusterIP"
            assert not head.get("enableIngress")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_is_closed_but_for_what_is_named(overlay: str) -> None:
    policies = {
        m["metadata"]["name"]: m for m in manifests(overlay) if m["kind"] == "NetworkPolicy"
    }
    deny = policies.pop("default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies.values():
        assert policy["spec"]["podSelector"]
        for rule in policy["spec"].get("ingress", []):
            if policy["metadata"]["name"] == "gateway":  # admits callers from any address
                assert {port["port"] for port in rule["ports"]} == {80, 15021}
                continue
            assert rule["from"]
            for peer in rule["from"]:
                if peer.get("namespaceSelector") == {} and "podSelector" not in peer:
                    assert [port["port"] for port in rule["ports"]] == [PORT]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_restricted(overlay: str) -> None:
    """Pod Security Standards, profile restricted, and a read-only root beyond it."""
    for manifest in manifests(overlay):
        for where, pod in pod_templates(manifest):
            assert pod["securityContext"]["runAsNonRoot"] is True, where
            assert pod["securityContext"]["runAsUser"] > 0, where
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert pod["automountServiceAccountToken"] is False, where
            assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}, where
            for volume in pod.get("volumes", []):
                assert not volume.keys() - {"name", *VOLUMES}, where
                assert volume.get("persistentVolumeClaim", READ_ONLY)["readOnly"], where
            for container in [*pod["containers"], *pod.get("initContainers", [])]:
                _check_container(container, where)
        if manifest["kind"] == "RayService":
            _check_context(manifest["spec"]["rayClusterConfig"]["autoscalerOptions"], "autoscaler")


def _check_container(container: Manifest, where: str) -> None:
    _check_context(container, where)
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, where
    assert "memory" in container["resources"]["limits"], where
    assert ":" in container["image"], where
    assert not container["image"].endswith(":latest"), where
    assert not any("hostPort" in port for port in container.get("ports", [])), where


def _check_context(container: Manifest, where: str) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False, where
    assert context["readOnlyRootFilesystem"] is True, where
    assert context["capabilities"] == {"drop": ["ALL"]}, where
    assert not context.get("privileged"), where


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_named_and_never_written(overlay: str) -> None:
    for manifest in manifests(overlay):
        assert manifest["kind"] != "Secret"
        for where, pod in pod_templates(manifest):
            for container in pod["containers"]:
                for variable in container.get("env", []):
                    if SECRET_NAMES.search(variable["name"]):
                        assert "secretKeyRef" in variable["valueFrom"], f"{where} {variable}"
        options = manifest["spec"].get("rayClusterConfig", {}) if "spec" in manifest else {}
        password = options.get("gcsFaultToleranceOptions", {}).get("redisPassword", {})
        assert "value" not in password


def test_the_queue_covers_what_the_job_asks_for() -> None:
    """Kueue never admits a job that requests a resource which its queue does not cover."""
    groups = find("batch-kueue", "ClusterQueue")["spec"]["resourceGroups"]
    covered = {name for group in groups for name in group["coveredResources"]}
    for _, pod in pod_templates(find("batch-kueue", "RayJob")):
        for container in pod["containers"]:
            assert container["resources"]["requests"].keys() <= covered


def test_no_two_jobs_write_to_one_output() -> None:
    entrypoints = [
        find("batch", "RayJob")["spec"]["entrypoint"],
        find("batch", "RayCronJob")["spec"]["jobTemplate"]["entrypoint"],
    ]
    outputs = [re.search(r"--out (\S+)", text) for text in entrypoints]
    assert len({found[1] for found in outputs if found}) == 2
    assert find("batch", "RayCronJob")["spec"]["jobTemplate"]["backoffLimit"] == 0


@pytest.mark.parametrize("overlay", SERVICES)
def test_the_budget_covers_the_workers(overlay: str) -> None:
    budget = find(overlay, "PodDisruptionBudget")["spec"]
    wanted = dict(budget["selector"]["matchLabels"])
    assert wanted.pop("ray.io/node-type") == "worker"
    for group in find(overlay, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        assert wanted.items() <= group["template"]["metadata"]["labels"].items()
    assert isinstance(budget["minAvailable"], int)


def test_dashboards_are_what_grafana_loads() -> None:
    panels = load_panels()
    for path in sorted((ROOT / "configs" / "grafana").glob("*.json")):
        dashboard = json.loads(path.read_text())
        assert len(dashboard["panels"]) == len(panels[path.stem])
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]}
        assert len(places) == len(dashboard["panels"])
        assert all(target["expr"] for p in dashboard["panels"] for target in p["targets"])


def test_every_alert_has_its_chapter() -> None:
    chapters = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    groups = find("monitoring", "PrometheusRule")["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["alert"] for rule in rules] == chapters
    for rule in rules:
        anchor = f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook"] == anchor
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
