"""A small market of twenty days with planted liquidations, scored through the product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.chain import scoring
from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.chain.scoring import NotScored, Scored, score_symbol, store_outcome
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.model.score.table import score
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.liquidations import save_liquidations
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.computed import OpenedOnce
from heatmap_pipeline_tests.orchestration.homes import BTC, day

LAST = 20
SCORED_FROM = 6
"""Number of the first day after the warm-up."""

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Ask for this where it is not about how wide an interval is: `model/score` and `test_real_score.py` are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "score", partial(score, resamples=20))
        yield


def compute(settings: Settings, numbers: Sequence[int], symbol: str = BTC) -> None:
    """Ingest and compute days into the private database, without Dagster."""
    market, days = open_market(settings), [day(number) for number in numbers]
    with closing(OpenedOnce(Warehouse(settings.home))) as once:
        list(ingest_candles(partial(once.connect, symbol), market, settings, symbol, days))
        list(ingest_open_interest(partial(once.connect, symbol), market, settings, symbol, days))
        list(advance(partial(once.connect, symbol), settings, symbol, days))
        list(sample(partial(once.connect, symbol), settings, symbol, days))


def planted(settings: Settings, *, seed: int = 1, noise: float = 0.8, size: float = 0.5) -> pd.DataFrame:
    """Return reports per hour and side that go with what `turnover` liquidated: `size` of it times lognormal noise."""
    with Warehouse(settings.home).connect(BTC) as con:
        found = con.execute(
            "SELECT date_trunc('hour', timestamp) AS time, CAST(side AS VARCHAR) AS side, sum(quantity) AS quantity "
            "FROM position_events WHERE model = 'turnover' AND event_type = 'liquidate' GROUP BY ALL ORDER BY ALL"
        ).df()
    factor = np.exp(np.random.default_rng(seed).normal(0, noise, len(found)))
    return found.assign(quantity=found["quantity"] * size * factor)


def write_reports(
    folder: Path, reports: pd.DataFrame, first: int, last: int, *, name: str = "a", exchange: str = "binance"
) -> Path:
    """Write the reports of days first..last as a file of sums that records all of their hours."""
    folder.mkdir(exist_ok=True)
    start, end = (pd.Timestamp(day(number)) for number in (first, last + 1))
    inside = reports[(reports["time"] > start) & (reports["time"] < end - HOUR)]
    # The first and the last hour are named whatever was in them: a file of sums records from the one to the other.
    edges = pd.DataFrame({"time": [start, end - HOUR], "side": "long", "quantity": [1.0, 1.0]})
    rows = pd.concat([edges, inside[["time", "side", "quantity"]]]).assign(exchange=exchange)
    rows.to_csv(folder / f"{BTC}-{name}-1h.csv", index=False, date_format="%Y-%m-%dT%H:%M:%SZ")
    return folder


def keep(settings: Settings, folder: Path) -> None:
    """Store what a folder of files says, as a run does."""
    from heatmap_pipeline.market.liquidations.plain import PlainFolder

    with Warehouse(settings.home).connect(BTC) as con:
        for made in PlainFolder(folder).read(BTC):
            save_liquidations(con, {day(number): made.of_day(day(number)) for number in range(1, LAST + 1)})


def score_home(settings: Settings, *, again: bool = True) -> list[Scored | NotScored]:
    """Score a home and store the outcome, as the asset does."""
    connect = partial(Warehouse(settings.home).connect, BTC)
    outcome = score_symbol(connect, BTC, settings.models, again=again)
    store_outcome(connect, outcome)
    return outcome


def values(con: Connection, window: str = "all", **which: str) -> dict[str, float]:
    """Return the values of one measure by side."""
    wanted: dict[str, Any] = {"horizon": "nowcast", "measure": "spearman", "baseline": "", "model": "turnover", **which}
    where = " AND ".join(f"{name} = ?" for name in wanted)
    found = con.execute(
        f'SELECT CAST(side AS VARCHAR), value FROM map_scores WHERE "window" = ? AND {where}',
        [window, *wanted.values()],
    ).fetchall()
    return dict(found)
