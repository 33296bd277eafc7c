"""`heatmap serve` over a hundred symbols: how soon it answers, and its memory before and after all are asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import duckdb
import numpy as np

from benchmarks import market
from benchmarks.measure import Measured, Setting
from benchmarks.serving import Server, make_home, run_server
from heatmap_pipeline.store.warehouse import Warehouse

_LEFT_OUT = ("position_events", "liquidation_snapshots")
"""Tables that hold most of the rows, and that no answer of these is made of."""


def many_symbols(setting: Setting) -> Sequence[Measured]:
    """Measure the start over one symbol and over a hundred, then the first question of each symbol and further ones."""
    symbols, days, starts = setting.pick(100, 2), setting.pick(5, 2), setting.pick(3, 1)
    home = make_home(setting, days, stored_cells=False)
    alone = [_start(home) for _ in range(starts)]
    names = [market.SYMBOL, *(f"COPY{number:02}USDT" for number in range(symbols - 1))]
    _copy(home, names[1:])
    many = [_start(home) for _ in range(starts - 1)]
    with _started(home) as (server, last):
        many.append(last)
        before = _megabytes(server)
        moments = _moments(days)
        first = [_asked(server, name, moments) for name in names]
        again = [_asked(server, name, moments) for name in names]
        after, stats = _megabytes(server), json.loads(_ask(server, "/cache/stats"))
    what = f"`heatmap serve` over {symbols} symbols of {days} days"
    wall, cpu = (float(np.median(values)) for values in zip(*alone, strict=True))
    rows = [
        Measured(
            name="serve, start",
            what=f"{what}, from the command to GET /ready; over one symbol {wall:.2g} s, {cpu:.2g} s of processor time",
            unit="s",
            values=tuple(wall for wall, _ in many),
            cpu=tuple(cpu for _, cpu in many),
            limit="imports, compiled functions, the pages of the browser",
            expected=setting.target(3.0),
        ),
        Measured(
            name="serve, first question of a symbol, times longer",
            what=f"a map never asked before of a symbol not read yet ({np.median(first):.3g} ms at the median, "
            f"{np.percentile(first, 95):.3g} at the 95th percentile) over one of the same symbol after that",
            unit="x",
            values=(float(np.median(first) / np.median(again)),),
            limit="the symbol's candles, ledger and newest book, read from the file",
        ),
    ]
    if before is not None and after is not None:
        rows.append(
            Measured(
                name="serve, memory",
                what=f"{what}, after two maps of each, of which {stats['symbols_bytes'] / 1e6:.3g} MB are symbols "
                f"({stats['symbols']}); before any is asked {before:.0f} MB",
                unit="MB",
                values=(after,),
                limit="imports; then HEATMAP_API_SYMBOLS_MB, HEATMAP_API_CACHE_MB and 64 MB of books",
            )
        )
    return rows


def _start(home: Path) -> tuple[float, float]:
    """Return the seconds from the command to the first answer, and the processor time until then."""
    with _started(home) as (_, taken):
        return taken


@contextmanager
def _started(home: Path) -> Iterator[tuple[Server, tuple[float, float]]]:
    """Run a server; give it once it has answered, and what its start took, as `_start` does."""
    begin = time.perf_counter()
    with run_server(home) as server:
        _ask(server, "/ready")
        yield server, (time.perf_counter() - begin, server.cpu() or float("nan"))


def _asked(server: Server, symbol: str, moments: Iterator[str]) -> float:
    """Return the milliseconds of a map that nobody asked for before."""
    query = urlencode({"symbol": symbol, "time": next(moments)})
    begin = time.perf_counter()
    _ask(server, f"/liquidations/map?{query}")
    return 1000 * (time.perf_counter() - begin)


def _ask(server: Server, path: str) -> bytes:
    """Return an answer; the first waits until the publication is open."""
    with urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
        body: bytes = answer.read()
    return body


def _moments(days: int) -> Iterator[str]:
    """Yield moments of the last day, the newest first."""
    end = datetime.combine(market.FIRST + timedelta(days=days), datetime.min.time())
    return ((end - (number % 288) * timedelta(minutes=5)).isoformat() for number in count())


def _megabytes(server: Server) -> float | None:
    """Return the memory that the server has, None where the system does not tell."""
    path = Path(f"/proc/{server.pid}/status")
    if not path.exists():
        return None
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1000


def _copy(home: Path, names: Sequence[str]) -> None:
    """Publish the market under other names too, in the order in which a run stores rows."""
    with duckdb.connect(str(Warehouse(home).published)) as con:
        con.execute("SET enable_progress_bar = false")
        tables = con.execute(
            "SELECT c.table_name, list(c.column_name) FROM duckdb_columns() AS c JOIN duckdb_tables() AS t "
            "ON t.table_name = c.table_name GROUP BY ALL HAVING list_contains(list(c.column_name), 'symbol')"
        ).fetchall()
        for table, columns in tables:
            if table in _LEFT_OUT:
                con.execute(f"DELETE FROM {table}")  # noqa: S608 - a table of ours
                continue
            listed = ", ".join("? AS symbol" if name == "symbol" else f'"{name}"' for name in columns)
            query = f"INSERT INTO {table} BY NAME SELECT {listed} FROM {table} WHERE symbol = ?"  # noqa: S608 - of ours
            con.executemany(query, [[name, market.SYMBOL] for name in names])
