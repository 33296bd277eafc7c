"""A day with more cells than are stored of one: they are put together, counted and said, and still add up."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest

from heatmap_pipeline.chain import compute
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.store import checks
from heatmap_pipeline.store.days import coarse_days
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, day, real

CELLS = 20
"""Per snapshot, instead of 4,096."""


def test_of_too_many_cells_those_far_away_are_put_together(
    home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = real(home, archive)
    monkeypatch.setattr(compute, "CELLS_PER_SNAPSHOT", CELLS)
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    warehouse, last = Warehouse(home), day(5)
    counting = f"SELECT count(*) FROM liquidation_snapshots WHERE timestamp >= '{last}' AND model = 'delta'"
    (before,) = ask(settings, counting)
    with warehouse.connect(BTC) as con:
        con.execute("DELETE FROM snapshot_days WHERE day = ?", [last])
    with caplog.at_level(logging.WARNING):
        reports = list(compute.sample(partial(warehouse.connect, BTC), settings, BTC, [last]))
    assert {report.model for report in reports} == {"turnover", "delta"}
    with warehouse.connect(BTC) as con:
        for report in reports:
            cells, digits = coarse_days(con, BTC, report.model)[last]
            assert cells == report.numbers["cells_computed"] > 24 * CELLS
            assert report.numbers["rows"] <= 24 * CELLS
            assert 1 <= digits <= 4
            for check in (checks.cells_add_up, checks.cells_unique, checks.quantities_valid):
                assert check(con, BTC, report.model, last, last).passed, check.__name__
        assert coarse_days(con, BTC, "delta")[last][0] == before[0]
    assert "leading digits" in caplog.text
    publish(warehouse, [BTC])
    assert ask(settings, "SELECT count(*) FROM coarse_days", published=True) == [(2,)]
    assert sum(line.startswith(f"coarse  {BTC}") for line in status_lines(settings)) == 2
