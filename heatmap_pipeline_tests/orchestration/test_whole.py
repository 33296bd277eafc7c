"""Held, cut and unchecked days are seen: in `status`, in a check that warns, and in GET /health."""

from __future__ import annotations

import shutil
from pathlib import Path

from heatmap_pipeline.api.health import health
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.store.whole import days_not_whole
from heatmap_pipeline.views.data import published_version
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    candles_file,
    checksum_of,
    day,
    metrics_file,
    real,
    rewrite,
    run_job,
)


def test_each_way_in_which_a_day_is_not_whole_is_said(archive: Path, tmp_path: Path) -> None:
    files = Path(shutil.copytree(archive, tmp_path / "files"))
    metrics_file(files, 2).unlink()
    rewrite(metrics_file(files, 3), lambda rows: rows[:162])  # the first is of 00:05
    rewrite(candles_file(files, 5), lambda rows: rows[: 12 * 7])
    checksum_of(metrics_file(files, 4)).write_text(f"{'0' * 64}  {metrics_file(files, 4).name}\n")
    accepted = (metrics_file(files, 4).stem,)
    settings = real(tmp_path / "home", files, accept_checksum=accepted, models=("delta",))
    run = run_job(settings, 1, 5)
    with Warehouse(settings.home).connect(BTC) as con:
        found = days_not_whole(con, BTC)
    assert list(found) == [day(2), day(3), day(4), day(5)]
    assert found[day(2)] == f"no samples of open interest, held (no file {metrics_file(files, 2).name})"
    assert found[day(3)] == "samples of open interest end at 13:30"
    assert found[day(4)] == "samples of open interest from a file accepted against its CHECKSUM"
    assert "candles end at 07:00" in found[day(5)]
    assert f"{BTC}/published_database:days_whole" in run.failed_checks()
    assert run.success, "it is a warning"
    lines = list(status_lines(settings))
    header, row = (line.split() for line in lines[1:3])
    assert row[header.index("held")] == "1"
    assert any(line.startswith(f"cut     {BTC} {day(5)}: ") for line in lines)
    _, body = health(published_version(Warehouse(settings.home), None, settings.models), "", settings)
    assert body["symbols"][0]["not_whole"] == {str(at): words for at, words in found.items()}


def test_whole_days_are_not_mentioned(home: Path, archive: Path) -> None:
    lines = list(status_lines(real(home, archive)))
    assert not [line for line in lines if line.startswith("cut")]
    with Warehouse(home).connect(BTC) as con:
        assert days_not_whole(con, BTC) == {}
