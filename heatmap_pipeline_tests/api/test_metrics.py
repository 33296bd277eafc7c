"""GET /metrics and GET /ready: what a monitor and a load balancer are told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.ended import Ended, record_end
from heatmap_pipeline.store.last_run import write_last_run
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.api.homes import BTC, ETH, HEATMAP, TestClient, ask, client, day

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(one: TestClient, **headers: str) -> Samples:
    """Return what /metrics says, read as Prometheus reads it."""
    answer = one.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["cache-control"] == "no-store"
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[(name, frozenset(labels.items()))]


@pytest.fixture
def home(published: Settings, tmp_path: Path) -> Settings:
    """A copy of the published home, for what runs write into it."""
    shutil.copyfile(published.home / "heatmap.duckdb", tmp_path / "heatmap.duckdb")
    return published.model_copy(update={"home": tmp_path})


@pytest.fixture
def one(home: Settings) -> Iterator[TestClient]:
    with client(home) as running:
        yield running


def test_requests_are_counted_by_route_and_status(one: TestClient) -> None:
    for _ in range(3):
        body = one.get("/symbols", headers={"Accept-Encoding": "identity"}).content
    one.get(HEATMAP)
    for name in ("a", "b"):
        one.get(f"/nothing/{name}")
    found = samples(one)
    assert of(found, "heatmap_http_requests_total", route="/symbols", status="200") == 3
    assert of(found, "heatmap_http_requests_total", route=HEATMAP, status="422") == 1
    assert of(found, "heatmap_http_requests_total", route="other", status="404") == 2
    assert of(found, "heatmap_http_response_bytes_total", route="/symbols") == 3 * len(body)
    assert of(found, "heatmap_http_request_seconds_count", route="/symbols") == 3
    assert of(found, "heatmap_http_request_seconds_bucket", route="/symbols", le="+Inf") == 3
    assert 0 < of(found, "heatmap_http_request_seconds_sum", route="/symbols") < 60
    assert of(samples(one), "heatmap_http_requests_total", route="/metrics", status="200") == 1


def test_cache_queue_and_publication(one: TestClient, home: Settings) -> None:
    for _ in range(3):
        ask(one, interval="4h")
    found = samples(one)
    assert of(found, "heatmap_cache_requests_total", result="hit") == 2
    assert of(found, "heatmap_cache_requests_total", result="miss") == 1
    assert of(found, "heatmap_cache_entries") == 1
    assert of(found, "heatmap_cache_bytes") > 100
    assert of(found, "heatmap_questions", state="waiting") == of(found, "heatmap_questions", state="working") == 0
    assert of(found, "heatmap_publication_open") == of(found, "heatmap_publication_loads_total") == 1
    assert of(found, "heatmap_publication_unreadable") == 0
    written = (home.home / "heatmap.duckdb").stat().st_mtime
    assert of(found, "heatmap_publication_age_seconds") == pytest.approx(
        datetime.now(UTC).timestamp() - written, abs=20
    )
    behind = (datetime.now(UTC).date() - timedelta(days=1) - day(5)).days
    for symbol in (BTC, ETH):
        assert of(found, "heatmap_days_behind", symbol=symbol) == pytest.approx(behind, abs=1)
        assert 0 < of(found, "heatmap_located_share", symbol=symbol) <= 1
    assert ("heatmap_run_failed", frozenset()) not in found, "no run is known of"


def test_a_symbol_that_has_ended_does_not_grow_old(published: Settings, tmp_path: Path) -> None:
    shutil.copytree(published.home / "warehouse", tmp_path / "warehouse")
    warehouse = Warehouse(tmp_path)
    with warehouse.connect(ETH) as con:
        record_end(con, ETH, Ended(day(5), "the exchange says SETTLING"))
    publish(warehouse, [BTC, ETH])
    with client(published.model_copy(update={"home": tmp_path})) as ended:
        assert ended.get("/ready").status_code == 200
        found = samples(ended)
    for name in ("heatmap_days_behind", "heatmap_data_age_seconds"):
        assert {labels for of_name, labels in found if of_name == name} == {frozenset({("symbol", BTC)})}
    assert 0 < of(found, "heatmap_located_share", symbol=ETH) <= 1


def test_the_newest_run(one: TestClient, home: Settings) -> None:
    began = datetime(2026, 1, 1, 12, tzinfo=UTC)
    ended = began + timedelta(seconds=90)
    write_last_run(home.home, [BTC, ETH], [ETH], began=began, ended=ended, failed=True)
    found = samples(one)
    assert of(found, "heatmap_run_end_timestamp_seconds") == ended.timestamp()
    assert of(found, "heatmap_run_duration_seconds") == 90
    assert of(found, "heatmap_run_failed") == 1
    assert of(found, "heatmap_run_symbol_failed", symbol=ETH) == 1
    assert of(found, "heatmap_run_symbol_failed", symbol=BTC) == 0


def test_the_token_guards_it_as_everything_else(home: Settings) -> None:
    with client(home.model_copy(update={"api_token": SecretStr("12345678")})) as one:
        assert one.get("/metrics").status_code == 401
        found = samples(one, Authorization="Bearer 12345678")
        assert of(found, "heatmap_http_requests_total", route="/metrics", status="401") == 1
        assert one.get("/ready").status_code == 200, "who sends traffic knows no token"


def test_ready_is_about_answers_and_health_about_age(one: TestClient) -> None:
    ready = one.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["version"] == one.get("/symbols").json()["version"]
    assert one.get("/health").status_code == 503, "days of years ago are served, and stale"


def test_not_ready_before_anything_is_published(tmp_path: Path, published: Settings) -> None:
    with client(published.model_copy(update={"home": tmp_path})) as one:
        answer = one.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
        assert "nothing is published yet" in answer.json()["reason"]
        assert of(samples(one), "heatmap_publication_open") == 0
        shutil.copyfile(published.home / "heatmap.duckdb", tmp_path / "heatmap.duckdb")
        one.app.state.service.publications._looked = -1e9  # type: ignore[attr-defined]  # as if a second had passed
        assert one.get("/ready").status_code == 200


def test_not_ready_while_it_does_not_answer(one: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    one.get("/symbols")
    monkeypatch.setattr("heatmap_pipeline.api.health._READY_SECONDS", 0.05)
    version = one.app.state.service.publications.version  # type: ignore[attr-defined]
    with version._reading:  # a question that does not end
        answer = one.get("/ready")
    assert (answer.status_code, answer.json()["version"]) == (503, None)
    assert "does not answer" in answer.json()["reason"]
    assert one.get("/ready").status_code == 200
