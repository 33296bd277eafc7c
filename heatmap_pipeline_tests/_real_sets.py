"""The real sets of files through `heatmap run`, each once: what the command printed, stored and found."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pytest

from heatmap_pipeline.chain import scoring
from heatmap_pipeline.model.score.table import ScoreRow, score
from heatmap_pipeline_tests._homes import clean_environment, done, draw_nothing, draw_only_the_page, published
from heatmap_pipeline_tests._once import only_here
from heatmap_pipeline_tests.orchestration.light import run_lightly

BTC, ETH, DOGE = "BTCUSDT", "ETHUSDT", "DOGEUSDT"


@dataclass(frozen=True)
class Set:
    """A set of the real files: its symbols and days, whether its samples are hourly, whether its run is a whole one.

    One is run by Dagster and drawn, which has nothing to do with what is in the files; the others are not.
    """

    symbols: tuple[str, ...]
    first: date
    last: date
    hourly: bool
    whole: bool


SETS = {
    "A": Set((BTC, ETH), date(2024, 6, 19), date(2024, 7, 28), hourly=True, whole=False),
    "B": Set((BTC, DOGE), date(2024, 9, 13), date(2024, 9, 18), hourly=False, whole=True),
    "C": Set((BTC,), date(2026, 3, 14), date(2026, 4, 1), hourly=False, whole=False),
}


@dataclass(frozen=True)
class Ran:
    """A home after `heatmap run` of a set: what was printed, and each check's (passed, metadata)."""

    home: Path
    out: str
    checks: dict[tuple[str, str], tuple[bool, dict[str, Any]]]

    def ask(self, query: str, *parameters: Any) -> pd.DataFrame:
        """Return the rows of a query to the published database."""
        with duckdb.connect(str(published(self.home)), read_only=True) as con:
            return con.execute(query, list(parameters)).df()

    def number(self, query: str, *parameters: Any) -> float:
        """Return the one number that a query to the published database gives."""
        number: Any = self.ask(query, *parameters).iloc[0, 0]
        return float(number)


class RealRuns:
    """Runs a set when it is first asked for.

    Args:
        market: folder of the real files.
        factory: of the folders for homes.
    """

    def __init__(self, market: Path, factory: pytest.TempPathFactory) -> None:
        self._market = market
        self._factory = factory
        self._made: dict[str, Ran] = {}

    def __call__(self, name: str) -> Ran:
        if name not in self._made:
            only_here(self._factory, f"set_{name}")
            self._made[name] = self._run(SETS[name], self._factory.mktemp(f"set_{name}"))
        return self._made[name]

    def _run(self, chosen: Set, home: Path) -> Ran:
        days = ("--start", chosen.first, "--end", chosen.last)
        with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
            clean_environment(patch)
            score_once(patch)
            # In memory: on a busy disk SQLite waits for it longer than the rest takes.
            patch.setattr(dg.DagsterInstance, "from_config", lambda _: nullcontext(instance))
            events: list[Any] = []
            if not chosen.whole:
                run_lightly(patch, events)
            (draw_only_the_page if chosen.whole else draw_nothing)(patch)
            # Only set A has liquidations that really happened; the folder holds nothing of the others' days.
            folders = ("--archive", self._market / "binance_vision", "--liquidations", self._market / "liquidations")
            out = done("run", *chosen.symbols, *folders, *days, "--home", home).stdout
            if chosen.whole:
                (run,) = instance.get_runs()
                events = [log.dagster_event for log in instance.all_logs(run.run_id, of_type=_CHECKED)]
            return Ran(home, out, _checks(events))


def score_once(patch: pytest.MonkeyPatch) -> None:
    """Take the score of equal hours from before, where there is one: each takes a second, and gives the same bits."""

    def scored(*hours: Any, **options: Any) -> list[ScoreRow]:
        inputs = pickle.dumps((hours, options))
        if inputs not in _SCORES:
            _SCORES[inputs] = score(*hours, **options)
        return _SCORES[inputs]

    patch.setattr(scoring, "score", scored)


_SCORES: dict[bytes, list[ScoreRow]] = {}
_CHECKED = dg.DagsterEventType.ASSET_CHECK_EVALUATION


def _checks(events: list[Any]) -> dict[tuple[str, str], tuple[bool, dict[str, Any]]]:
    found = [each.asset_check_evaluation_data for each in events if each.event_type_value == _CHECKED.value]
    return {
        (check.asset_key.path[0], check.check_name): (
            check.passed,
            {name: value.value for name, value in check.metadata.items()},
        )
        for check in found
    }


def not_the_sum(con: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Return at most five cells of the map of a base that are not, to the last bit, the sum of those of its markets.

    By `turnover`, of the newest day: each market's cells in the largest bucket of the day, by price, then these
    by id.
    """
    newest = "model = 'turnover' AND timestamp >= (SELECT max(timestamp) - INTERVAL 1 DAY FROM liquidation_snapshots)"
    base = f"""
        SELECT base, timestamp, price_bucket, side, sum(active_volume ORDER BY symbol) AS active,
            sum(consumed_volume ORDER BY symbol) AS consumed
        FROM heatmap_by_base WHERE {newest} GROUP BY ALL"""
    markets = f"""
        SELECT base, timestamp, bin AS price_bucket, side, sum(active ORDER BY symbol), sum(consumed ORDER BY symbol)
        FROM (
            SELECT s.base, c.symbol, c.timestamp, floor(c.price_bucket / h.height) * h.height AS bin, c.side,
                sum(c.active_volume ORDER BY c.price_bucket) AS active,
                sum(c.consumed_volume ORDER BY c.price_bucket) AS consumed
            FROM (FROM liquidation_snapshots WHERE {newest}) AS c JOIN symbols AS s ON s.symbol = c.symbol JOIN (
                SELECT s.base, b.day, max(b.bucket) AS height
                FROM buckets AS b JOIN symbols AS s ON s.symbol = b.symbol WHERE b.model = 'turnover' GROUP BY ALL
            ) AS h ON h.base = s.base AND h.day = CAST(c.timestamp AS DATE) GROUP BY ALL
        ) GROUP BY ALL"""
    query = f"(({base}) EXCEPT ALL ({markets})) UNION ALL (({markets}) EXCEPT ALL ({base})) LIMIT 5"
    return con.execute(query).fetchall()
