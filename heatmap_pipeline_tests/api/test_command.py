"""`heatmap serve` as a process, its messages, and the settings of the endpoint."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from heatmap_pipeline.api import memory, server
from heatmap_pipeline.settings import Settings, SettingsError, load_settings
from heatmap_pipeline_tests._forked import Fork
from heatmap_pipeline_tests._homes import heatmap, refused, start
from heatmap_pipeline_tests.api.homes import day


@pytest.mark.slow
def test_a_server_from_start_to_end(published: Settings) -> None:
    process = start("serve", "--port", 0, "--home", published.home, HEATMAP_API_STALE_HOURS=1e7)
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first.startswith("heatmap page and endpoint on http://127.0.0.1:")
        assert first.endswith(f" for {published.home}; stop it with Ctrl-C\n")
        assert process.stdout.readline() == f"serving BTCUSDT {day(1)} .. {day(5)}, turnover, delta (simulated)\n"
        address = first.split(" ")[5]
        with urllib.request.urlopen(f"{address}/health", timeout=20) as answer:  # noqa: S310
            assert json.load(answer)["status"] == "ok"
        port = address.rsplit(":", 1)[1]
        refused(heatmap("serve", "--port", port, "--home", published.home), 1, f"port {port}", "taken", "--port")
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_the_lines_of_a_server_are_json_where_that_is_wanted(published: Settings) -> None:
    """All of what it prints, errors too; it is a fork of this process."""
    token = "open-sesame"  # noqa: S105
    wanted = {"log_format": "json", "api_token": SecretStr(token), "api_stale_hours": 1e7}
    settings = published.model_copy(update=wanted)
    with Fork(lambda say: server.serve(settings, "127.0.0.1", 0, say), printed=True) as process:
        first = json.loads(process.said.readline())
        address = str(first["message"]).split(" ")[5]
        for path, given in (("/ready", {}), ("/metrics", {"Authorization": f"Bearer {token}"}), (f"/?a={token}", {})):
            with suppress(urllib.error.HTTPError):
                request = urllib.request.Request(f"{address}{path}", headers=given)  # noqa: S310
                with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                    content = answer.read().decode()
        os.kill(process.pid, signal.SIGTERM)
        rest = process.said.read()
        assert process.wait() in (0, -signal.SIGTERM)
    entries = [json.loads(line) for line in rest.splitlines()]
    asked = [entry for entry in entries if entry["event"] == "request"]
    assert [(entry["path"], entry["status"]) for entry in asked] == [("/ready", 200), ("/metrics", 200), ("/", 401)]
    assert {entry["client"] for entry in asked} == {"127.0.0.1"}
    assert len(entries) == len(asked) + 2, "what is served of each symbol is a notice"
    assert "heatmap_connections 1.0" in content
    assert token not in rest


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have no server start; return what is told before it would."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    return []


def test_open_to_others_without_a_token_is_warned_of(told: list[str], tmp_path: Path) -> None:
    server.serve(load_settings(home=tmp_path), "127.0.0.1", 0, told.append)
    assert len(told) == 1
    server.serve(load_settings(home=tmp_path), "0.0.0.0", 0, told.append)  # noqa: S104
    assert told[2].startswith("warning: whoever reaches 0.0.0.0 can read it all; set HEATMAP_API_TOKEN")
    server.serve(load_settings(home=tmp_path, api_token="12345678"), "0.0.0.0", 0, told.append)  # noqa: S104, S106
    assert len(told) == 4


def test_wrong_usage() -> None:
    assert "write a whole number from 0 to 65535" in heatmap("serve", "--port", 70000).output
    refused(heatmap("serve", "--host", "192.0.2.1", "--port", 0), 1, "cannot listen on 192.0.2.1", "--host")


def test_the_command_starts_without_the_server() -> None:
    heavy = "('fastapi', 'uvicorn', 'numba', 'duckdb')"
    code = f"import heatmap_pipeline.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    variables: dict[str, Any] = {
        "TOKEN": "12345678",
        "CORS_ORIGINS": "https://example.org, http://localhost:3000,https://example.org",
        "CACHE_MB": 64,
        "CACHE_SECONDS": 30,
        "CONCURRENCY": 4,
        "QUEUE": 0,
        "STALE_HOURS": 12.5,
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"HEATMAP_API_{name}", str(value))
    settings = load_settings()
    assert settings.api_token is not None
    assert settings.api_token.get_secret_value() == "12345678"
    assert settings.api_cors_origins == ("https://example.org", "http://localhost:3000")
    assert (settings.api_cache_mb, settings.api_cache_seconds) == (64, 30)
    assert (settings.api_concurrency, settings.api_queue, settings.api_stale_hours) == (4, 0, 12.5)
    assert "12345678" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TOKEN", "short", "HEATMAP_API_TOKEN = ***: a token is at least 8 printable"),
        ("TOKEN", "with a blank", "HEATMAP_API_TOKEN = ***"),
        ("CORS_ORIGINS", "example.org", "'example.org' is not an origin; write https://example.org"),
        ("CORS_ORIGINS", "https://example.org/path", "is not an origin"),
        ("PROXIES", "10.0.0.0/33", "'10.0.0.0/33' is not an address; write 127.0.0.1"),
        ("CACHE_MB", "0", "write a number from 1 on"),
        ("CACHE_SECONDS", "0", "write a number above 0"),
        ("CONCURRENCY", "0", "write a number from 1 on"),
        ("QUEUE", "-1", "write a number from 0 on"),
        ("STALE_HOURS", "nan", "HEATMAP_API_STALE_HOURS"),
    ],
)
def test_settings_that_mean_nothing(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"HEATMAP_API_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert said in str(error.value)
    assert name != "TOKEN" or value not in str(error.value)


_AGAIN_AND_AGAIN = """
import resource, sys
import numpy as np
from heatmap_pipeline.api import memory
if sys.argv[1] == "reused":
    memory.reuse()
def answer():
    np.ones(40 << 17)  # 40 MiB
answer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    answer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only the allocator of Linux gives memory back at once")
def test_memory_is_asked_for_once() -> None:
    """Pages that the system hands out anew are counted; it fails when the parameters do nothing any more."""
    pages = {
        way: int(subprocess.run([sys.executable, "-c", _AGAIN_AND_AGAIN, way], check=True, capture_output=True).stdout)
        for way in ("reused", "left alone")
    }
    assert pages["reused"] < 10
    assert pages["left alone"] > 100


@pytest.mark.parametrize("moved", ["not this allocator", "not these parameters", "no library"])
def test_an_allocator_that_cannot_be_told_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moved: str
) -> None:
    def library(_: None) -> object:
        if moved == "no library":
            raise OSError
        return SimpleNamespace(**({"mallopt": lambda *_: 0} if moved == "not these parameters" else {}))

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", library)
    memory.reuse()
    (record,) = caplog.records
    assert record.message.endswith("they take up to twice the processor time")
    monkeypatch.setattr(sys, "platform", "darwin")
    memory.reuse()
    assert len(caplog.records) == 1, "nothing is expected elsewhere"
