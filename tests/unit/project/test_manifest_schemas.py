"""Every manifest is valid, and the check finds what the API servers would refuse."""

from __future__ import annotations

import pytest

from tests.support.kuberay import (
    OVERLAYS,
    changed,
    find,
    manifests,
    problems,
)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid(overlay: str) -> None:
    for manifest in manifests(overlay):
        assert problems(manifest) == [], manifest["metadata"]["name"]


CLUSTER = "spec.rayClusterConfig"

HEAD = f"{CLUSTER}.headGroupSpec"

WRONG = [
    ("spec.serveConfigV3", "x", "serveConfigV3"),
    (f"{HEAD}.template.spec.containers.0.imagePullPolice", "x", "imagePullPolice"),
    (f"{CLUSTER}.workerGroupSpecs.0.minReplica", 1, "minReplica"),
    (f"{CLUSTER}.workerGroupSpecs.0.minReplicas", "1", "is not of type"),
    (f"{CLUSTER}.workerGroupSpecs.0.minReplicas", 99, "above maxReplicas"),
    (f"{CLUSTER}.workerGroupSpecs.0.template.spec.restartPolicy", "Always", "restartPolicy Never"),
    (f"{CLUSTER}.workerGroupSpecs.0.resources", {"cpu": "2"}, "exclude each other"),
    (f"{CLUSTER}.rayVersion", "2.51.0", "needs rayVersion 2.52"),
    (f"{CLUSTER}.authOptions.mode", "open", "is not one of"),
    (f"{CLUSTER}.autoscalerOptions.version", "v3", "is not one of"),
    (f"{CLUSTER}.managedBy", "someone", "managedBy"),
    (f"{HEAD}.rayStartParams.labels", "a=b", "labels belong"),
    (f"{HEAD}.headService", {"metadata": {"name": "x"}}, "must not have a name"),
    (f"{HEAD}.template.spec.containers.0.env.0.name", "RAY_REDIS_ADDRESS", "Redis"),
    (f"{CLUSTER}.gcsFaultToleranceOptions", {"backend": "rocksdb", "redisAddress": "a"}, "rocksdb"),
    (f"{CLUSTER}.gcsFaultToleranceOptions", {"storage": {"size": "1Gi"}}, "storage needs rocksdb"),
    ("spec.upgradeStrategy.type", "Blue", "upgradeStrategy.type"),
    ("spec.rayClusterDeletionDelaySeconds", -1, "less than the minimum"),
    ("metadata.name", "a" * 48, "limit is 47"),
    ("metadata.name", "9lives", "DNS-1035"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "expected"), WRONG)
def test_wrong_services_are_refused(path: str, value: object, expected: str) -> None:
    found = problems(changed(find("cpu", "RayService"), path, value))
    assert any(expected in problem for problem in found), found


WRONG_JOBS = [
    ("spec.ttlSecondsAfterFinish", 1, "ttlSecondsAfterFinish"),
    ("spec.shutdownAfterJobFinishes", False, "needs shutdownAfterJobFinishes"),
    ("spec.activeDeadlineSeconds", 0, "must be positive"),
    ("spec.managedBy", "someone", "managedBy"),
    ("spec.deletionStrategy", {"onSuccess": {"policy": "DeleteSelf"}}, "onFailure"),
    ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", 9, "above maxReplicas"),
]


@pytest.mark.parametrize(("path", "value", "expected"), WRONG_JOBS)
def test_wrong_jobs_are_refused(path: str, value: object, expected: str) -> None:
    found = problems(changed(find("batch", "RayJob"), path, value))
    assert any(expected in problem for problem in found), found


def test_a_wrong_nightly_job_is_refused() -> None:
    nightly = find("batch", "RayCronJob")
    assert problems(changed(nightly, "spec.schedule", "TZ=UTC 0 1 * * *"))
    assert problems(changed(nightly, "spec.concurrencyPolicy", "Forbid"))
    assert problems(changed(nightly, "metadata.name", "a" * 37))


def test_wrong_objects_of_kubernetes_are_refused() -> None:
    policy = next(each for each in manifests("cpu") if each["kind"] == "NetworkPolicy")
    assert problems(changed(policy, "spec.podSelectors", {}))
    budget = find("cpu", "PodDisruptionBudget")
    assert problems(changed(budget, "spec.minAvailabe", 1))
