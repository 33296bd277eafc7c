"""The files of deploy/ agree with the program and with each other, as far as can be seen without running them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import heatmap_pipeline
from heatmap_pipeline.chain.settings import load_checked_settings
from heatmap_pipeline.orchestration.runs import packaged_file
from heatmap_pipeline.orchestration.shards import SHARD_TAG, workspace
from heatmap_pipeline.orchestration.ui import webserver
from heatmap_pipeline.settings import Settings, SettingsError
from heatmap_pipeline_tests.orchestration.ui.running import free_port

DEPLOY = Path(heatmap_pipeline.__file__).parents[1] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DAGSTER: dict[str, Any] = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
HELM: dict[str, Any] = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("heatmap")}
SHARDS = [service for name, service in sorted(OURS.items()) if name.startswith("shard-")]


def of_env_file(*, commented: bool = False) -> dict[str, str]:
    """Return the variables of env.example; with those that are commented out where that is asked for."""
    lines = (DEPLOY / "env.example").read_text().splitlines()
    found = (re.fullmatch(rf"{'#?' if commented else ''}([A-Z_]+)=(.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def settings_of(variables: dict[str, str]) -> Settings:
    """Return the settings that these variables mean; those that are none are refused."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return load_checked_settings()


@pytest.mark.parametrize("commented", [False, True])
def test_every_setting_of_the_env_file_is_legal(commented: bool) -> None:
    settings = settings_of(of_env_file(commented=commented))
    assert settings.shards == len(SHARDS)
    assert settings.store.startswith("s3://" if commented else "file:///")


def test_there_is_a_code_server_for_each_shard_where_the_workspace_looks_for_it() -> None:
    settings = settings_of(of_env_file())
    written = yaml.safe_load(workspace(settings, "shard-{}", 4000))["load_from"]
    for shard, entry in enumerate(written, 1):
        service = COMPOSE["services"][entry["grpc_server"]["host"]]
        assert service["environment"]["HEATMAP_SHARD"] == str(shard)
        command = service["command"]
        assert command[command.index("--port") + 1] == str(entry["grpc_server"]["port"])
    for name in ("daemon", "webserver"):
        assert "orchestration.shards 'shard-{}' 4000" in OURS[name]["command"][2]


def test_what_compose_puts_in_is_named_in_the_env_file() -> None:
    named = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    assert named <= of_env_file(commented=True).keys()
    asked = {
        value["env"] for value in DAGSTER["storage"]["postgres"]["postgres_db"].values() if isinstance(value, dict)
    }
    assert asked <= of_env_file().keys()


PLUGINS = ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins")


def docker_compose() -> str | None:
    """Return Docker Compose 2 or later as a program of its own, which needs no Docker to read a file; None without."""
    found = shutil.which("docker-compose", path=os.pathsep.join((os.environ["PATH"], *PLUGINS)))
    if found is None:
        return None
    said = subprocess.run([found, "version", "--short"], capture_output=True, text=True, timeout=60, check=False).stdout
    major, _, _ = said.strip().removeprefix("v").partition(".")
    return found if major.isdigit() and int(major) >= 2 else None


DOCKER_COMPOSE = docker_compose()


def compose_config(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `docker compose config` over the file of a folder."""
    assert DOCKER_COMPOSE is not None
    command = [DOCKER_COMPOSE, "-f", str(folder / "compose.yaml"), "config", *words]
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=variables)


@pytest.mark.skipif(DOCKER_COMPOSE is None, reason="Docker Compose 2 is missing: Debian 13's docker-compose")
@pytest.mark.parametrize("commented", [False, True])
def test_docker_compose_reads_the_file_with_the_env_file(commented: bool, tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose.yaml", tmp_path)
    variables = of_env_file(commented=commented)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    read = compose_config(tmp_path, "--format", "json")
    assert read.returncode == 0, read.stderr
    services = json.loads(read.stdout)["services"]
    wanted = {name for name, service in COMPOSE["services"].items() if commented or "profiles" not in service}
    assert services.keys() == wanted
    for name in OURS:
        assert services[name]["environment"]["HEATMAP_STORE"] == variables["HEATMAP_STORE"]
    del variables["POSTGRES_PASSWORD"]
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    refused = compose_config(tmp_path, "--quiet")
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD is missing a value" in refused.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_has_no_privilege_and_writes_nothing_but_its_volumes(name: str) -> None:
    service = OURS[name]
    assert service["user"] == "10001:10001"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("${") and ":-127.0.0.1:" in port for port in service.get("ports", ())), (
        "not to the world"
    )
    assert "healthcheck" in service or name == "serve", "the image has that of serve"


def test_the_image_is_not_roots_and_says_how_it_is() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    last = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 10001:10001" in last
    assert any(line.startswith("HEALTHCHECK ") for line in last)
    assert "RUN sh setup.sh fleet" in lines, "which compiles, as in a checkout"
    subprocess.run(["sh", "-n", DEPLOY / "entrypoint.sh"], check=True)


def test_dagsters_settings_of_a_fleet_are_ours_but_for_where_and_how_many() -> None:
    ours = yaml.safe_load(packaged_file("dagster.yaml").read_text())
    theirs = {name: value for name, value in DAGSTER.items() if name != "storage"}
    ours["concurrency"].pop("runs"), theirs["concurrency"].pop("runs")
    theirs["run_monitoring"].pop("poll_interval_seconds")
    assert theirs == ours


def test_kubernetes_has_the_same_queue_and_legal_settings() -> None:
    queue = HELM["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    limits = [{"key": SHARD_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}]
    runs = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["concurrency"]["runs"]
    assert queue["tagConcurrencyLimits"] == runs["tag_concurrency_limits"] == limits
    assert queue["maxConcurrentRuns"] == runs["max_concurrent_runs"]
    retries = HELM["dagsterDaemon"]["runRetries"]
    assert DAGSTER["run_retries"] == {
        "enabled": retries["enabled"],
        "max_retries": retries["maxRetries"],
        "retry_on_asset_or_op_failure": retries["retryOnAssetOrOpFailure"],
    }
    for kind in ("schedule", "sensor"):
        kept = DAGSTER["retention"][kind]["purge_after_days"]
        assert HELM["retention"][kind]["purgeAfterDays"] == kept
    assert HELM["retention"]["enabled"], "else the chart leaves the days out"
    assert HELM["global"]["postgresqlSecretName"], "where it is empty the chart makes one secret and looks for another"
    scheme = DAGSTER["storage"]["postgres"]["postgres_db"]["scheme"]
    assert HELM["postgresql"]["postgresqlScheme"] == scheme == "postgresql+psycopg2"
    deployments = HELM["dagster-user-deployments"]["deployments"]
    for shard, deployment in enumerate(deployments, 1):
        settings = settings_of({variable["name"]: variable["value"] for variable in deployment["env"]})
        assert (settings.shard, settings.shards) == (shard, len(deployments))
        assert not settings.catalogue, "of which a pod has no use"
        assert deployment["name"] == f"shard-{shard}"
        assert deployment["dagsterApiGrpcArgs"] == ["-m", "heatmap_pipeline.definitions"]
        assert deployment["includeConfigInLaunchedRuns"] == {"enabled": True}, "a run is of its shard by that alone"
        assert deployment["securityContext"]["readOnlyRootFilesystem"]
        assert {mount["name"] for mount in deployment["volumeMounts"]} == {
            each["name"] for each in deployment["volumes"]
        }
        written = {mount["mountPath"] for mount in deployment["volumeMounts"]}
        assert {str(settings.home), "/tmp"} <= written  # noqa: S108


def test_a_pod_of_a_run_has_no_more_privilege_than_its_code_server_and_the_same_room() -> None:
    pod = HELM["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    assert "resources" not in pod["containerConfig"], "those of the code server, which are handed on, go before them"
    for deployment in HELM["dagster-user-deployments"]["deployments"]:
        assert pod["containerConfig"]["securityContext"] == deployment["securityContext"]
        assert pod["podSpecConfig"]["securityContext"] == deployment["podSecurityContext"]


INSTALL = re.compile(r"helm upgrade --install (\S+) dagster/dagster --version (\S+) --values deploy/helm-values\.yaml")
KUBERNETES = (DEPLOY.parent / "docs" / "deploy.md").read_text()


def told_of(service: str, port: int) -> dict[str, str]:
    """Return the variables by which Kubernetes tells every pod of a service of its namespace."""
    name, address = service.upper().replace("-", "_"), "10.0.0.1"
    return {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_GRPC": str(port),
        f"{name}_PORT": f"tcp://{address}:{port}",
        f"{name}_PORT_{port}_TCP": f"tcp://{address}:{port}",
        f"{name}_PORT_{port}_TCP_PROTO": "tcp",
        f"{name}_PORT_{port}_TCP_PORT": str(port),
        f"{name}_PORT_{port}_TCP_ADDR": address,
    }


def test_a_service_of_kubernetes_may_be_called_as_we_are() -> None:
    ((release, _),) = set(INSTALL.findall(KUBERNETES))
    deployments = HELM["dagster-user-deployments"]["deployments"]
    services = {deployment["name"]: deployment["port"] for deployment in deployments}
    services |= {f"{release}-dagster-webserver": 80, f"{release}-postgresql": 5432}
    services |= {"heatmap": 8888, "heatmap-serve": 80, "heatmap-shard-1": 4000}
    told: dict[str, str] = {}
    for service, port in services.items():
        told |= told_of(service, port)
    assert settings_of(told) == settings_of({})
    for alone in ("HEATMAP_PORT", "HEATMAP_SHARD_1_PORT", "HEATMAP_SHARD_1_SERVICE_PORT_GRPC"):
        with pytest.raises(SettingsError, match=f"{alone} is not a setting"):
            settings_of({alone: "4000"})
    with pytest.raises(SettingsError, match="HEATMAP_SERVE_PORTS is not a setting"):
        settings_of(told | {"HEATMAP_SERVE_PORTS": "80"})


def test_chart_and_launcher_are_those_of_the_dagster_that_is_installed() -> None:
    assert INSTALL.findall(KUBERNETES) == INSTALL.findall((DEPLOY / "helm-values.yaml").read_text())
    ((_, chart),) = INSTALL.findall(KUBERNETES)
    assert chart == version("dagster")
    for text in (KUBERNETES, (DEPLOY / "Dockerfile").read_text()):
        assert re.findall(r"dagster-k8s==(\S+)", text) == [version("dagster-postgres")]


def test_every_secret_that_kubernetes_is_to_have_is_made_before() -> None:
    made = set(re.findall(r"kubectl create secret generic (\S+)", KUBERNETES))
    asked = {
        secret["name"] for each in HELM["dagster-user-deployments"]["deployments"] for secret in each["envSecrets"]
    }
    assert asked <= made
    assert HELM["global"]["postgresqlSecretName"] in made


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, with a program that is here in place of the one that is installed there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here, which looks at units")
    for path in (DEPLOY / "systemd").glob("*.*"):
        if path.suffix in (".service", ".timer"):
            (tmp_path / path.name).write_text(path.read_text().replace("/opt/heatmap/.venv/bin/heatmap", "/bin/true"))
    return sorted(tmp_path.iterdir())


def test_systemd_takes_the_units_and_finds_them_closed(units: list[Path]) -> None:
    assert len(units) == 4
    done = subprocess.run(["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for unit in units:
        if unit.suffix == ".service":
            words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{unit.name}: exposed more than 2.0 of 10: {done.stdout[-200:]}"


def test_the_guarded_webserver_listens_by_itself_where_nobody_hands_it_a_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: list[Any] = []

    class Script:
        name = "dagster-webserver"

        def load(self) -> Any:
            return lambda: None

    monkeypatch.setattr(webserver, "entry_points", lambda **_: [Script()])
    monkeypatch.setattr("uvicorn.run", None)
    monkeypatch.setattr("sys.argv", [])
    monkeypatch.setattr(webserver, "serve_guarded", lambda *given: bound.append(given))
    port = free_port()
    webserver.main(["bind", "127.0.0.1", str(port), "heatmap.example.org", "--workspace", "w.yaml"])
    ((door, hosts, names),) = bound
    with door:
        assert door.getsockname() == ("127.0.0.1", port)
    assert f"127.0.0.1:{port}" in hosts
    assert names == ["heatmap.example.org"]
