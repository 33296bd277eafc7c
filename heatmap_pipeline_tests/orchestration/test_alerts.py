"""Rules for alerts in a real run: evaluated, published, told to the webhook once, and listed by the endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from heatmap_pipeline_tests._webhook import listening
from heatmap_pipeline_tests.api.homes import ask as answer
from heatmap_pipeline_tests.api.homes import client, refused
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, real, run_job, write_archive

RULES = """
[[alert]]
name = "a zone is close"
when = "near"
within_percent = 3
volume = 10_000

[[alert]]
name = "zones come and go"
when = "zone"
volume = 10_000
"""
SELECT = "SELECT epoch_us(known_at), rule, kind, side, volume, words FROM alerts ORDER BY known_at, rowid"


@pytest.mark.slow
def test_a_run_tells_what_its_rules_find_once_and_the_endpoint_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "alerts.toml"
    rules.write_text(RULES)
    archive = write_archive(tmp_path / "archive", 3, BTC)
    more = {"models": ("delta",), "alerts": rules}
    with listening() as hook:
        settings = real(tmp_path / "home", archive, webhook=hook.url, **more)
        run_job(settings, 1, 2).ok()
        first = len(hook.bodies)
        assert {body["rule"] for body in hook.bodies} <= {"a zone is close"}
        hook.answers = [500] * 4  # the webhook is down for the first of the next ones
        monkeypatch.setattr("heatmap_pipeline.notices.BACKOFF", 0.01)
        run = run_job(settings, 3, dagster=True).ok()
        stored = ask(settings, SELECT, published=True)
        assert len(stored) > first + 5
        assert run.materialised[f"{BTC}/published_database"][None]["alerts_of_the_last_day"] == len(stored)
        assert sorted(body["words"] for body in hook.bodies) == sorted(words for *_, words in stored), "each once"
        rules.write_text("[[alert]]")  # as someone who edits it while the schedule runs
        assert "alerts_of_the_last_day" not in run_job(settings, 3).ok().materialised[f"{BTC}/published_database"][None]
        assert ask(settings, SELECT, published=True) == stored
        assert len(hook.bodies) == len(stored)
    assert hook.kinds() == ["alert"] * len(stored)
    body = hook.bodies[-1]
    assert body["content"] == f"heatmap alert: {BTC}: {body['words']} ({body['rule']}, {body['at']})"
    assert {"symbol", "model", "event", "side", "price", "low", "high", "peak", "volume"} <= set(body)
    with client(settings) as served:
        listed = answer(served, "/alerts", symbol=BTC, limit=500)["alerts"]
        assert [alert["words"] for alert in listed] == [words for *_, words in stored][::-1]
        assert answer(served, "/alerts", symbol=None, limit=2)["alerts"] == listed[:2]
        assert listed[0].keys() == {
            *("symbol", "model", "at", "rule", "kind", "side", "price", "low", "high", "peak", "volume", "words")
        }
        refused(served, 404, "/alerts", symbol="ETHUSDT")
        refused(served, 422, "/alerts", limit="501")
