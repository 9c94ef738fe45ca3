"""Configuration of Ray's fake node provider: its nodes are processes on the head's host.

The autoscaler is the real one; only the provider, which would rent machines, is Ray's fake.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HEAD_ID = "f" * 51 + "00000"
"""Node id of the head; the fake provider requires this value."""

GPU_TYPE = "gpu"


def environment() -> dict[str, str]:
    """Environment variables that the head needs for the fake provider."""
    return {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }


def write_config(path: Path, gcs_address: str, n_cpus: int, max_gpu_nodes: int) -> None:
    """Write the autoscaler's configuration: a head, and 0 to max_gpu_nodes GPU nodes.

    Args:
        path: JSON file to write.
        gcs_address: host:port of the head's GCS.
        n_cpus: number of CPUs that the head was started with.
        max_gpu_nodes: maximum number of GPU nodes.
    """
    commands = (
        "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
        "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files",
        "rsync_exclude", "rsync_filter",
    )  # fmt: skip
    gpu = {"CPU": 1, "GPU": 1, "object_store_memory": 80_000_000}
    config: dict[str, Any] = {
        "cluster_name": "fake",
        "max_workers": max_gpu_nodes,
        "provider": {
            "type": "external",  # a built-in name needs an example file that the wheel lacks
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": gcs_address,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": n_cpus}, "node_config": {}, "max_workers": 0},
            GPU_TYPE: {
                "resources": gpu, "node_config": {}, "min_workers": 0, "max_workers": max_gpu_nodes,
            },
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
        **{name: [] for name in commands},
    }  # fmt: skip
    path.write_text(json.dumps(config))
