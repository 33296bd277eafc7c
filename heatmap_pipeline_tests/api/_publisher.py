"""A process that publishes over and over, as life does, and writes down what each publication says.

The newest day of a symbol grows through the day (provisional), becomes whole, the next one begins; now and then a day
of the past is corrected and all after it computed anew. As a script: `python -m ..._publisher HOME RECORDS PAUSE`; it
ends when its standard input does. A record is a line of JSON, numbers by SQL from the published file.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.market.tables import CleanDay
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import save_raw
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.api.homes import compute, settings_of

CANDLES = 288
_ONE_DAY = timedelta(days=1)


def record(settings: Settings, number: int, begun: float) -> dict[str, Any]:
    """Return what the published file says of every symbol and model, and when it came to be (monotonic seconds)."""
    found: dict[str, Any] = {}
    with Warehouse(settings.home).read() as con:
        for symbol, model, as_of, coverage in con.execute(
            "SELECT symbol, model, max(timestamp) + INTERVAL 5 MINUTE, sum(located) FILTER (timestamp = newest) / "
            "sum(open_interest) FILTER (timestamp = newest) FROM (SELECT *, max(timestamp) OVER "
            "(PARTITION BY symbol, model) AS newest FROM book_ledger) GROUP BY ALL ORDER BY ALL"
        ).fetchall():
            cells = "FROM liquidation_snapshots WHERE symbol = ? AND model = ?"
            newest = f"timestamp = (SELECT max(timestamp) {cells})"
            totals = dict(
                con.execute(
                    f"SELECT side, sum(active_volume) {cells} AND {newest} GROUP BY 1", [symbol, model] * 2
                ).fetchall()
            )
            consumed = con.execute(
                f"SELECT CAST(timestamp AS DATE), sum(consumed_volume) {cells} GROUP BY 1", [symbol, model]
            ).fetchall()
            one = found.setdefault(symbol, {"models": {}})
            one["models"][model] = {
                "as_of": f"{as_of.isoformat()}Z",
                "coverage": coverage,
                "long": totals.get("long", 0.0),
                "short": totals.get("short", 0.0),
                "consumed": {str(day): volume for day, volume in consumed},
            }
        for symbol, price in con.execute(
            "SELECT symbol, arg_max(close, open_time) FROM raw_candles GROUP BY 1"
        ).fetchall():
            found[symbol]["price"] = price
        for symbol, day, volume in con.execute(
            "SELECT symbol, day, sum(volume) FROM raw_candles GROUP BY 1, 2"
        ).fetchall():
            found[symbol].setdefault("volume", {})[str(day)] = volume
    return {"number": number, "begun": begun, "done": time.monotonic(), "symbols": found}


def _save(settings: Settings, kind: Any, day: CleanDay) -> None:
    with Warehouse(settings.home).connect(day.symbol) as con:
        save_raw(con, kind, [day], settings.source)


def _recompute(settings: Settings, symbol: str, first: date, last: date) -> None:
    connect = partial(Warehouse(settings.home).connect, symbol)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    list(advance(connect, settings, symbol, days))
    list(sample(connect, settings, symbol, days))


def _grow(settings: Settings, symbol: str, day: date, candles: int) -> None:
    """Store and compute the first candles of a day, as one that is not over yet."""
    market = open_market(settings)
    market.prepare(symbol, [day])
    (bars,) = market.candles(symbol, [day], 300)
    (samples,) = market.open_interest(symbol, {day: bars.table}, 300)
    until = bars.table["open_time"].iloc[candles]
    part = replace(bars, table=bars.table.iloc[:candles], facts={**bars.facts, "provisional": True})
    taken = samples.table[samples.table["snapshot_time"] <= until].reset_index(drop=True)
    _save(settings, "candles", part)
    _save(settings, "open_interest", replace(samples, table=taken, facts={**samples.facts, "provisional": True}))
    _recompute(settings, symbol, day, day)


def _correct(settings: Settings, symbol: str, day: date, last: date, factor: float) -> None:
    """Store other volumes for a day of the past, and compute it and all after it anew."""
    market = open_market(settings)
    market.prepare(symbol, [day])
    (bars,) = market.candles(symbol, [day], 300)
    table = bars.table.assign(volume=bars.table["volume"] * factor)
    _save(settings, "candles", replace(bars, table=table))
    _recompute(settings, symbol, day, last)


def steps(settings: Settings, symbols: tuple[str, ...], last: dict[str, date]) -> Iterator[str]:
    """Change the private database step by step, for ever; yields the symbol that has something new.

    Args:
        settings: of the home.
        symbols: who takes turns.
        last: newest whole day of each, kept up to date.
    """
    turn = 0
    while True:
        for symbol in symbols:
            turn += 1
            day = last[symbol] + _ONE_DAY
            for candles in (7, 100, 205):
                _grow(settings, symbol, day, candles)
                yield symbol
            compute(settings, symbol, [day])
            last[symbol] = day
            yield symbol
            _correct(settings, symbol, day - 2 * _ONE_DAY, day, 1 + 0.01 * turn)
            yield symbol


def main(home: str, records: str, pause: str) -> None:
    """Publish until the standard input ends."""
    settings = settings_of(Path(home))
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with Warehouse(settings.home).read() as con:
        last = dict(con.execute("SELECT symbol, max(day) FROM heatmap_days GROUP BY 1 ORDER BY 1").fetchall())
    with Path(records).open("w", encoding="utf-8") as out:
        out.write(f"{json.dumps(record(settings, 0, 0.0))}\n")
        out.flush()
        for number, symbol in enumerate(steps(settings, tuple(last), last), start=1):
            if over.wait(float(pause)):
                return
            begun = time.monotonic()
            assert publish(Warehouse(settings.home), [symbol]).changed
            out.write(f"{json.dumps(record(settings, number, begun))}\n")
            out.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
