"""compose.yaml: what it mounts is there, nothing is open beyond this machine, nothing unpinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
IN_THE_NETWORK_OF_THE_SERVICE = "tls"


def mounts(name: str) -> list[tuple[str, str]]:
    return [(m.split(":")[0], m.split(":")[1]) for m in SERVICES[name].get("volumes", [])]


@pytest.mark.parametrize("name", SERVICES)
def test_everything_that_is_mounted_exists(name: str) -> None:
    for source, _ in mounts(name):
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert SERVICES[name].get("network_mode") != "host"
    assert not SERVICES[name].get("privileged")


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    assert ":" in image
    assert not image.endswith(":latest")


def test_the_service_asks_for_a_key_and_is_confined() -> None:
    service = SERVICES["service"]
    assert service["environment"]["ACOUSTICSENSE_API_KEY"].startswith("${ACOUSTICSENSE_API_KEY:?")
    assert service["read_only"] is True
    # what `serve` would write to /tmp could not be executed there
    program = "/opt/venv/bin/acousticsense-haproxy"
    assert service["environment"]["RAY_SERVE_HAPROXY_BINARY_PATH"] == program
    assert '"$VENV/bin/acousticsense-haproxy"' in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_containers_give_up_what_they_do_not_need(name: str) -> None:
    assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_no_private_key_gets_into_image_or_repository() -> None:
    for ignored in (".dockerignore", ".gitignore"):
        assert "configs/tls/*.pem" in (ROOT / ignored).read_text().splitlines()
    assert not any(source == "./configs" for source, _ in mounts("service"))


def test_every_volume_is_given_to_the_user_that_writes_it() -> None:
    given = dict(mounts("volume-owner"))
    assert set(given) == set(COMPOSE["volumes"])
    assert set(given.values()) == set(SERVICES["volume-owner"]["entrypoint"][2:])


def test_prometheus_reads_where_ray_writes_its_ports() -> None:
    config = yaml.safe_load((ROOT / "configs" / "compose" / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    (path,) = job["file_sd_configs"][0]["files"]
    folder = Path(SERVICES["service"]["environment"]["RAY_TMPDIR"])
    assert Path(path) == folder / "ray" / "prom_metrics_service_discovery.json"
    assert ("ray", str(folder)) in mounts("prometheus")
    assert ("ray", str(folder)) in mounts("service")


def test_grafana_shows_our_dashboards() -> None:
    folder = ROOT / "configs" / "compose"
    (provider,) = yaml.safe_load((folder / "grafana-dashboards.yaml").read_text())["providers"]
    places = dict(mounts("grafana"))
    assert places["./configs/grafana"] == provider["options"]["path"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "configs" / "grafana" / home.name).exists()
    (source,) = yaml.safe_load((folder / "grafana-datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_the_proxy_with_tls_finds_its_settings() -> None:
    tls = SERVICES[IN_THE_NETWORK_OF_THE_SERVICE]
    assert tls["network_mode"] == "service:service"  # nginx.conf forwards to 127.0.0.1
    assert dict(mounts("tls"))["./configs/tls"] == str(Path(tls["command"][2]).parent)
    text = (ROOT / "configs" / "tls" / "nginx.conf").read_text()
    assert "listen 8443 ssl" in text
    assert any(port.endswith(":8443") for port in SERVICES["service"]["ports"])
