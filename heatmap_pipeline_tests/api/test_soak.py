"""Mixed load with publications in between: no error, no mixed version, no growth of memory.

Takes minutes, so it only runs when told for how many seconds (10 minutes is what the endpoint is held to), and prints
what it saw:

    HEATMAP_TEST_SOAK=600 pytest heatmap_pipeline_tests/api/test_soak.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from orjson import loads

from heatmap_pipeline_tests.api._judge import SLACK, Facts, Got, Report, read_heatmap
from heatmap_pipeline_tests.api._load import Load, serving
from heatmap_pipeline_tests.api.homes import BTC, ETH, compute, day, publish_all, settings_of

SECONDS = float(os.environ.get("HEATMAP_TEST_SOAK", "0"))


@pytest.mark.slow
@pytest.mark.skipif(SECONDS <= 0, reason="takes minutes; set HEATMAP_TEST_SOAK to a number of seconds")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_ten_minutes_of_mixed_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_of(tmp_path / "home")
    for symbol in (BTC, ETH):
        compute(settings, symbol, [day(number) for number in range(1, 5)])
    publish_all(settings, BTC, ETH)
    records = tmp_path / "records.jsonl"
    command = [sys.executable, "-m", "heatmap_pipeline_tests.api._publisher", str(settings.home), str(records)]
    # So little is kept that the cache is full before memory is first measured.
    with serving(settings.home, HEATMAP_API_CACHE_MB=64, HEATMAP_API_STALE_HOURS=1e7) as (port, process):
        pause = str(max(min(10.0, SECONDS / 10), 1.0))
        with subprocess.Popen([*command, pause], stdin=subprocess.PIPE) as publisher:
            report = Load(port, process.pid).run(SECONDS)
            assert publisher.poll() is None, "the publisher failed"
            assert publisher.stdin is not None
            publisher.stdin.close()
        assert publisher.returncode == 0
    report.records = [loads(line) for line in records.read_text().splitlines()]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(report.lines()) + "\n")
    problems = report.problems()
    assert not problems, (len(problems), problems[:10])
    statuses = {one.status for one in report.got}
    assert {200, 304} <= statuses <= {200, 304, 503}
    assert sum(one.status == 503 for one in report.got) < len(report.got) / 100
    assert len(report.records) > SECONDS / 30
    assert report.files[-1] <= max(report.files[: len(report.files) // 5 + 1]) + 3, "files stay open"
    if SECONDS >= 300:  # before that it still fills what it may keep
        assert report.growth() <= 1.2, report.memory


# -- whether it would be seen


def told(number: int, total: float) -> Facts:
    """Return the record of a publication, 100 s after the one before."""
    model = {"as_of": "2024-01-07T00:00:00Z", "coverage": 0.5, "long": total, "short": 2 * total}
    model["consumed"] = {"2024-01-05": total, "2024-01-06": 1.0}
    symbol = {"price": 1.0, "volume": {"2024-01-06": total}, "models": {"delta": model}}
    return {"number": number, "begun": 100.0 * number, "done": 100.0 * number, "symbols": {BTC: symbol}}


def answered(asked: float, total: float, **facts: Any) -> Got:
    """Return an answer with the totals of a record."""
    says = {"symbol": BTC, "model": "delta", "as_of": "2024-01-07T00:00:00Z", "long": total, "short": 2 * total}
    says |= {"consumed": total + 1.0, "start": "2024-01-05", **facts}
    return Got("newest", "/", 0, asked, asked + 0.1, 200, says)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([answered(1, 10.0), answered(101, 10.0), answered(103, 20.0), answered(250, 30.0)], None),
        ([answered(120, 20.0, consumed=31.0)], "no publication says"),
        ([answered(120, 20.0, short=60.0)], "no publication says"),
        ([answered(120, 20.0, as_of="2024-01-07T00:05:00Z")], "no publication says"),
        ([answered(101 + SLACK, 10.0)], "was there long before"),
        ([answered(101, 20.0), answered(102, 10.0)], "goes back from 1 to 0"),
    ],
)
def test_a_mixed_or_old_answer_is_seen(answers: list[Got], problem: str | None) -> None:
    report = Report(got=answers, records=[told(0, 10.0), told(1, 20.0), told(2, 30.0)])
    assert [str(problem) in found for found in report.problems()] == ([True] if problem else [])


def test_an_answer_whose_parts_are_of_two_versions_is_seen() -> None:
    level = {"price": 1.0, "long_density": 5.0, "short_density": 7.0}
    snapshot = {"levels": [level] * 3, "consumed_long": 100.0, "consumed_short": 0.0}
    meta = {"symbol": BTC, "model": "delta", "as_of": "", "total_snapshots": 2}
    meta |= {"total_long_volume": 15.0, "total_short_volume": 21.0, "total_consumed": 200.0}
    body: dict[str, Any] = {"data": [snapshot] * 2, "meta": meta}
    assert read_heatmap(body, "2024-01-01")["consumed"] == 200.0
    for name in ("total_long_volume", "total_consumed", "total_snapshots"):
        mixed = deepcopy(body)
        mixed["meta"][name] += 10
        with pytest.raises(AssertionError):
            read_heatmap(mixed, "2024-01-01")
