"""Kubernetes manifests rendered by kustomize and validated strictly, as a cluster would.

Three checks: the schemas of the custom resources, made strict so that an unknown field is an
error, with their CEL rules; the rules of KubeRay's operator, which it applies after the API server
has accepted a manifest; and the schemas of Kubernetes' own kinds.
"""

from __future__ import annotations

import copy
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celpy
import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.paths import ROOT

OVERLAYS = sorted(path.name for path in (ROOT / "k8s" / "overlays").iterdir())
CRD_VARIABLE = "ACOUSTICSENSE_TEST_CRDS"
KUBERNETES_VERSION = "1.34"
FOREIGN = ("monitoring.coreos.com/v1", "kueue.x-k8s.io/v1beta1")
"""API versions of other operators, without schemas here: only the name is checked."""

Manifest = dict[str, Any]


@functools.cache
def _render(overlay: str) -> str:
    kubectl, kustomize = shutil.which("kubectl"), shutil.which("kustomize")
    if not (kubectl or kustomize):
        pytest.skip("neither kubectl nor kustomize is installed")
    command = [kubectl, "kustomize"] if kubectl else [str(kustomize), "build"]
    done = subprocess.run(
        [*map(str, command), str(ROOT / "k8s" / "overlays" / overlay)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifests(overlay: str) -> list[Manifest]:
    """All manifests that `kubectl apply -k` would send for an overlay."""
    return [each for each in yaml.safe_load_all(_render(overlay)) if each]


def find(overlay: str, kind: str) -> Manifest:
    return next(each for each in manifests(overlay) if each["kind"] == kind)


def crd_folder() -> Path:
    folder = Path(os.environ.get(CRD_VARIABLE, ROOT.parent / "shared" / "crds"))
    if not folder.is_dir():
        pytest.skip(f"no folder of KubeRay CRDs: set {CRD_VARIABLE}")
    return folder


@functools.cache
def _crd_schema(kind: str) -> Manifest:
    text = (crd_folder() / f"ray.io_{kind.lower()}s.yaml").read_text()
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    schema = next(v for v in versions if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    _make_strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return dict(schema)


def _make_strict(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _make_strict(each)
    if not isinstance(schema, dict):
        return
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not is_open:
        schema["additionalProperties"] = False
    for each in schema.values():
        _make_strict(each)


def problems(manifest: Manifest) -> list[str]:
    """Problems that any of the three checks finds in a manifest."""
    if manifest["apiVersion"].startswith("ray.io/"):
        return _schema_problems(manifest) or operator_problems(manifest)
    if manifest["apiVersion"] in FOREIGN:
        return [] if re.fullmatch(r"[a-z0-9-]{1,63}", manifest["metadata"]["name"]) else ["name"]
    try:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']}: {error.message}"]
    return []


def _schema_problems(manifest: Manifest) -> list[str]:
    schema = _crd_schema(manifest["kind"])
    found = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    ]
    return found + list(_cel_problems(schema, manifest, ""))


def _cel_problems(schema: Manifest, value: Any, where: str) -> Iterator[str]:
    """Problems by CEL rules on creation; rules that compare with an old value are skipped."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{where}: {rule['message']}"
    if isinstance(value, dict):
        for name, each in value.items():
            nested = schema.get("properties", {}).get(name)
            if nested:
                yield from _cel_problems(nested, each, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for each in value:
            yield from _cel_problems(schema["items"], each, where)


def _holds(rule: str, value: Any) -> bool:
    environment = celpy.Environment()
    program = environment.program(environment.compile(rule))
    return bool(program.evaluate({"self": celpy.json_to_cel(value)}))


def operator_problems(manifest: Manifest) -> list[str]:
    """Broken rules of KubeRay 1.7's controllers, which ignore a manifest that breaks one."""
    kind, spec, name = manifest["kind"], manifest["spec"], manifest["metadata"]["name"]
    longest = {"RayService": 47, "RayJob": 47, "RayCronJob": 36, "RayCluster": 53}[kind]
    found = []
    if len(name) > longest:
        found.append(f"name has {len(name)} characters, limit is {longest}")
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        found.append("name is not a DNS-1035 label")
    if kind == "RayCluster":
        return found + list(_cluster_problems(spec))
    if kind == "RayService":
        return found + list(_service_problems(spec))
    if kind == "RayCronJob":
        if len(spec["schedule"].split()) != 5 or "TZ" in spec["schedule"]:
            found.append("schedule is not a standard cron line of five fields")
        spec = spec["jobTemplate"]
    return found + list(_job_problems(spec))


def _service_problems(spec: Manifest) -> Iterator[str]:
    cluster = spec["rayClusterConfig"]
    upgrade = spec.get("upgradeStrategy", {})
    if upgrade.get("type") not in ("NewCluster", "NewClusterWithIncrementalUpgrade", "None"):
        yield "upgradeStrategy.type is unknown"
    if upgrade.get("type") == "NewClusterWithIncrementalUpgrade":
        if not cluster.get("enableInTreeAutoscaling"):
            yield "an incremental upgrade needs the autoscaler"
        step = upgrade.get("clusterUpgradeOptions", {}).get("stepSizePercent", -1)
        if not 0 <= step <= upgrade.get("clusterUpgradeOptions", {}).get("maxSurgePercent", 100):
            yield "stepSizePercent is out of range"
    if cluster["headGroupSpec"].get("headService", {}).get("metadata", {}).get("name"):
        yield "headService must not have a name"
    yield from _cluster_problems(cluster)


def _job_problems(spec: Manifest) -> Iterator[str]:
    if not (spec.get("rayClusterSpec") or spec.get("clusterSelector")):
        yield "a job needs a cluster"
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "suspend needs shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if spec.get("deletionStrategy") and spec.get("shutdownAfterJobFinishes"):
        yield "deletionStrategy and shutdownAfterJobFinishes exclude each other"
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(name, 1) <= 0:
            yield f"{name} must be positive"
    yield from _cluster_problems(spec.get("rayClusterSpec", {"headGroupSpec": None}))


def _cluster_problems(spec: Manifest) -> Iterator[str]:
    if not spec["headGroupSpec"]:
        return
    groups = [spec["headGroupSpec"], *spec.get("workerGroupSpecs", [])]
    names = [group.get("groupName") for group in groups[1:]]
    if len(set(names)) != len(names):
        yield "groupName is not unique"
    version = tuple(int(part) for part in spec.get("rayVersion", "0.0").split(".")[:2])
    is_v2 = spec.get("autoscalerOptions", {}).get("version") == "v2"
    for group in groups:
        yield from _group_problems(group, version, is_v2)
    if spec.get("authOptions", {}).get("mode") == "token" and version < (2, 52):
        yield "token authentication needs rayVersion 2.52"
    yield from _storage_problems(spec)


def _group_problems(group: Manifest, version: tuple[int, ...], is_v2: bool) -> Iterator[str]:
    pod = group["template"]["spec"]
    if not pod.get("containers"):
        yield "a group needs a container"
    start = group.get("rayStartParams", {})
    if group.get("resources") and start.keys() & {"num-cpus", "num-gpus", "memory", "resources"}:
        yield "resources and rayStartParams exclude each other"
    if "labels" in start:
        yield "labels belong to the group, not to rayStartParams"
    if group.get("minReplicas", 0) > group.get("maxReplicas", 1 << 31):
        yield "minReplicas is above maxReplicas"
    if "idleTimeoutSeconds" in group and not is_v2:
        yield "idleTimeoutSeconds of a group needs autoscaler v2"
    if group.get("priority") and (version < (2, 56) or not is_v2):
        yield "priority needs rayVersion 2.56 and autoscaler v2"
    if is_v2 and pod.get("restartPolicy", "Never") != "Never":
        yield "autoscaler v2 needs restartPolicy Never"


def _storage_problems(spec: Manifest) -> Iterator[str]:
    options = spec.get("gcsFaultToleranceOptions")
    head = spec["headGroupSpec"]
    names = {each["name"] for each in head["template"]["spec"]["containers"][0].get("env", [])}
    if names & {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}:
        yield "Redis is set through gcsFaultToleranceOptions only"
    if options and {"redis-password", "redis-username"} & head.get("rayStartParams", {}).keys():
        yield "Redis is set through gcsFaultToleranceOptions only"
    if not options:
        return
    redis = options.keys() & {"redisAddress", "redisUsername", "redisPassword"}
    if options.get("backend") == "rocksdb" and redis:
        yield "backend rocksdb does not accept Redis settings"
    if options.get("backend", "redis") == "redis" and "storage" in options:
        yield "storage needs rocksdb"


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with one value changed; the path is dotted, numbers are list indices."""
    copied = copy.deepcopy(manifest)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = copied
    for part in parents:
        place = place[part]
    place[last] = value
    return copied


def pod_templates(value: Any, where: str = "") -> Iterator[tuple[str, Manifest]]:
    """(path, pod specification) of every pod template in a manifest."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield where, value
        for name, each in value.items():
            yield from pod_templates(each, f"{where}.{name}")
    if isinstance(value, list):
        for i, each in enumerate(value):
            yield from pod_templates(each, f"{where}.{i}")
