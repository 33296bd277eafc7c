"""Markets unlike the large ones, from their files to what is published: tiny, collapsing, rising, with wrong samples.

One of them goes through the command line; nothing of what the others show depends on how a run is begun.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.model.parameters import follow_bucket
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline_tests._homes import done
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, assert_same, day, real, tables

pytestmark = pytest.mark.slow

DAYS = 3
Rows = list[list[str]]


@pytest.fixture(autouse=True)
def _few_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "4h")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of the demo market, which the markets here are made from."""
    root = tmp_path_factory.mktemp("demo")
    write_demo_days(root, BTC, [day(number) for number in range(1, DAYS + 1)])
    return root


def make_market(
    demo: Path,
    root: Path,
    symbol: str,
    *,
    size: float = 1.0,
    price: Callable[[float], float] = lambda _: 1.0,
    samples: Callable[[date, Rows], None] = lambda *_: None,
) -> None:
    """Write the demo's days as those of another market.

    `size` multiplies all contracts, `price` all prices, given the days since the start; `samples` may change a day's.
    """
    for number in range(DAYS):
        today = day(number + 1)

        def prices(at: int, row: list[str], columns: range, first: int = number) -> None:
            # The open of a candle is the close of the one before: the factor is the one of its instant.
            for column in columns:
                row[column] = repr(float(row[column]) * price(first + (at + (column != columns[0])) / 288))

        def candles(rows: Rows) -> None:
            for at, row in enumerate(rows):
                prices(at, row, range(1, 5))
                low, high = sorted(float(row[column]) for column in (1, 4))
                row[2], row[3] = repr(max(float(row[2]), high)), repr(min(float(row[3]), low))
                for column in (5, 9):
                    row[column] = repr(float(row[column]) * size)
                row[7] = row[10] = "0"

        def contracts(rows: Rows, today: date = today) -> None:
            for row in rows:
                row[2], row[3] = repr(float(row[2]) * size), ""
            samples(today, rows)

        for kind, change in (
            (f"klines/{{}}/5m/{{}}-5m-{today}", candles),
            (f"metrics/{{}}/{{}}-metrics-{today}", contracts),
        ):
            _copy(demo, root, f"futures/um/daily/{kind}.zip", symbol, change)


def _copy(demo: Path, root: Path, name: str, symbol: str, change: Callable[[Rows], None]) -> None:
    with zipfile.ZipFile(demo / name.format(BTC, BTC)) as archive:
        header, *rows = csv.reader(io.StringIO(archive.read(archive.namelist()[0]).decode()))
    change(rows)
    text = "\n".join(",".join(row).replace(BTC, symbol) for row in [header, *rows]) + "\n"
    path = root / name.format(symbol, symbol)
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{path.stem}.csv", text)
    path.write_bytes(packed.getvalue())
    path.with_name(f"{path.name}.CHECKSUM").write_text(
        f"{hashlib.sha256(packed.getvalue()).hexdigest()}  {path.name}\n"
    )


def run(root: Path, home: Path, *symbols: str, first: int = 1, last: int = DAYS) -> duckdb.DuckDBPyConnection:
    """Compute and publish days as a run does, with its checks, and return what was published."""
    compute_home(real(home, root, *symbols), day(first), day(last), checked=True)
    return duckdb.connect(str(home / "heatmap.duckdb"), read_only=True)


def arrays(con: duckdb.DuckDBPyConnection, query: str, *parameters: object) -> dict[str, Any]:
    return {name: np.asarray(column) for name, column in con.execute(query, list(parameters)).fetchnumpy().items()}


SIZES = {"ASUSDT": 1.0, "SMALLUSDT": 0.001, "LARGEUSDT": 1000.0}


@pytest.fixture(scope="module")
def sizes(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """What is published of the same market in three sizes."""
    folder = tmp_path_factory.mktemp("sizes")
    for symbol, size in SIZES.items():
        make_market(demo, folder / "a", symbol, size=size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "4h")
        con = run(folder / "a", folder / "home", *SIZES)
    yield con
    con.close()


@pytest.mark.parametrize("symbol", ["SMALLUSDT", "LARGEUSDT"])
def test_the_same_market_of_another_size_has_the_same_map(sizes: duckdb.DuckDBPyConnection, symbol: str) -> None:
    """Nothing is an absolute amount: every cell, quantity and volume is that of the other market times its size."""
    con, size = sizes, SIZES[symbol]
    for table, keys, amounts in (
        ("liquidation_snapshots", "model, timestamp, price_bucket, side", ("active_volume", "consumed_volume")),
        ("open_positions", "model, day, side, leverage, liq_price", ("quantity", "volume")),
        (
            "book_ledger",
            "model, timestamp, side",
            ("opened", "liquidated", "liquidated_at_once", "closed", "located", "unlocated", "active_volume"),
        ),
    ):
        query = f"SELECT {keys}, {', '.join(amounts)} FROM {table} WHERE symbol = ? ORDER BY {keys}"
        one, other = (con.execute(query, [name]).fetchall() for name in ("ASUSDT", symbol))
        width = len(keys.split(", "))
        # A cell whose last lot is dust may be there in one and not in the other: what matters is in both.
        left, right = ({row[:width]: row[width:] for row in rows} for rows in (one, other))
        for number in range(len(amounts)):
            biggest = max(row[number] for row in left.values())
            for key in left.keys() | right.keys():
                expected, got = (rows[key][number] if key in rows else 0.0 for rows in (left, right))
                assert abs(got / size - expected) <= 1e-9 * expected + 1e-9 * biggest, (table, key)


def test_no_column_differs_from_the_one_before_by_more_than_the_ledger_explains(demo: Path, tmp_path: Path) -> None:
    """At midnight neither: what leaves the map of a small contract was closed, liquidated or passed at once."""
    make_market(demo, tmp_path / "a", "TINYUSDT", size=1e-4)
    con = run(tmp_path / "a", tmp_path / "home", "TINYUSDT")
    rows = arrays(
        con,
        "SELECT located, unlocated, opened, closed, liquidated, liquidated_at_once FROM book_ledger "
        "WHERE model = 'turnover' AND side = 'long' ORDER BY timestamp",
    )
    con.close()
    assert len(rows["located"]) > 280 * DAYS
    located, total = rows["located"], rows["located"] + rows["unlocated"]
    after = located[:-1] - rows["liquidated"][1:]
    shrunk = after * (1 - rows["closed"][1:] / (total[:-1] - rows["liquidated"][1:]))
    expected = shrunk + 0.03 * rows["opened"][1:] - rows["liquidated_at_once"][1:]
    # The day's dust moves to unlocated at its last candle: each lot below 1e-8 of the book.
    assert np.abs(located[1:] - expected).max() <= 1e-4 * total.max()
    assert located[-1] > 0.005 * total[-1]


def _path(*logarithms: float, start: float = 1.0) -> Callable[[float], float]:
    """Return a price that moves by these logarithms, one a day, evenly."""
    ends = np.concatenate(([0.0], np.cumsum(logarithms)))
    return lambda days: start * math.exp(float(np.interp(days, np.arange(len(ends)), ends)))


def buckets(con: duckdb.DuckDBPyConnection) -> list[float]:
    """Return the bucket of each day, the same in both models."""
    found = con.execute("SELECT day, list(DISTINCT bucket) FROM buckets GROUP BY day ORDER BY day").fetchall()
    assert all(len(each) == 1 for _, each in found)
    return [each[0] for _, each in found]


def closes(con: duckdb.DuckDBPyConnection) -> list[float]:
    query = "SELECT arg_max(close, open_time) FROM raw_candles GROUP BY day ORDER BY day"
    return [close for (close,) in con.execute(query).fetchall()]


@pytest.mark.usefixtures("light_commands")
def test_the_bucket_follows_a_price_that_collapses(demo: Path, tmp_path: Path) -> None:
    make_market(demo, tmp_path / "a", "FALLUSDT", price=_path(-7.0, -7.0, -0.1))
    words = ("--archive", tmp_path / "a", "--start", day(1), "--end", day(DAYS), "--home", tmp_path / "home")
    done("run", "FALLUSDT", *words)
    con = duckdb.connect(str(tmp_path / "home" / "heatmap.duckdb"), read_only=True)
    first, second, third = buckets(con)
    ends = closes(con)
    assert second == follow_bucket(first, ends[0]) < first
    assert third == follow_bucket(second, ends[1]) < second
    assert ends[-1] < first / 1000, "the first bucket would hold every price"
    for model in ("turnover", "delta"):
        longs = arrays(
            con,
            "SELECT price_bucket, long_volume, close FROM liquidation_map WHERE model = ? AND long_volume > 0",
            model,
        )
        assert (longs["price_bucket"] <= longs["close"]).all()
        assert (longs["price_bucket"] > 0).sum() > 3, "longs are shown below the price, not in a bucket of 0"
    assert con.execute("SELECT bucket FROM symbols").fetchall() == [(third,)]
    con.execute("USE heatmap")
    drawn = newest_days(con, "FALLUSDT", ("turnover",), 4 * 3600)["turnover"]
    assert drawn.meta["bucket"] == first, "a window over days of several buckets is shown in the largest"
    assert drawn.bin_size % first == 0
    active = con.execute(
        "SELECT sum(active_volume) FROM liquidation_snapshots WHERE model = 'turnover' "
        "GROUP BY timestamp ORDER BY timestamp"
    ).fetchall()
    shown = drawn.long.sum(axis=0, dtype=float) + drawn.short.sum(axis=0, dtype=float)
    assert shown == pytest.approx([total for (total,) in active], rel=1e-5), "and shows all of them"
    con.close()


def test_days_with_other_buckets_are_the_same_in_one_run_and_in_three(demo: Path, tmp_path: Path) -> None:
    make_market(demo, tmp_path / "a", "FALLUSDT", price=_path(-5.0, -5.0, -0.1))
    run(tmp_path / "a", tmp_path / "one", "FALLUSDT").close()
    for number in range(1, DAYS + 1):
        run(tmp_path / "a", tmp_path / "three", "FALLUSDT", first=number, last=number).close()
    one, three = (tables(tmp_path / name / "heatmap.duckdb") for name in ("one", "three"))
    assert_same(one, three)
    status = done("status", "--home", tmp_path / "three").output
    assert "0      0       0" in status, "a change of the bucket makes no earlier day stale"
    run(tmp_path / "a", tmp_path / "three", "FALLUSDT", first=2).close()
    assert_same(one, tables(tmp_path / "three" / "heatmap.duckdb"))


def test_a_price_that_rises_four_hundredfold_has_a_bounded_number_of_cells(demo: Path, tmp_path: Path) -> None:
    make_market(demo, tmp_path / "a", "RISEUSDT", price=_path(0.0, 6.0, 0.0, start=1e-3))
    make_market(demo, tmp_path / "a", "CALMUSDT")
    con = run(tmp_path / "a", tmp_path / "home", "RISEUSDT", "CALMUSDT")
    cells = dict(
        con.execute(
            "SELECT symbol, count(*) FROM liquidation_snapshots "
            "WHERE model = 'turnover' AND CAST(timestamp AS DATE) = ? GROUP BY symbol",
            [day(3)],
        ).fetchall()
    )
    found = con.execute("SELECT bucket FROM buckets WHERE symbol = 'RISEUSDT' AND model = 'turnover' ORDER BY day")
    first, second, third = (bucket for (bucket,) in found.fetchall())
    con.close()
    assert first == second < third
    assert cells["RISEUSDT"] < 3 * cells["CALMUSDT"], "the bucket of before would give four hundred times as many"


def test_a_sample_that_cannot_be_true_is_as_if_it_were_missing(demo: Path, tmp_path: Path) -> None:
    """The map with it is, to the last bit, the map of the file without its row; and it is counted."""

    def halved(today: date, rows: Rows) -> None:
        if today == day(2):
            rows[144][2] = repr(float(rows[144][2]) / 2)

    def without(today: date, rows: Rows) -> None:
        if today == day(2):
            del rows[144]

    make_market(demo, tmp_path / "a", "WRONGUSDT", samples=halved)
    make_market(demo, tmp_path / "a", "LESSUSDT", samples=without)
    con = run(tmp_path / "a", tmp_path / "home", "WRONGUSDT", "LESSUSDT")
    for query in (
        "SELECT model, timestamp, price_bucket, side, active_volume, consumed_volume FROM liquidation_snapshots",
        "SELECT * EXCLUDE symbol FROM book_ledger",
        "SELECT * EXCLUDE symbol FROM open_positions",
    ):
        wrong, less = (
            con.execute(f"{query} WHERE symbol = ? ORDER BY ALL", [symbol]).fetchall()
            for symbol in ("WRONGUSDT", "LESSUSDT")
        )
        assert wrong == less
        assert wrong
    repairs = {
        when: json.loads(text)
        for when, text in con.execute(
            "SELECT day, repairs FROM heatmap_days WHERE symbol = 'WRONGUSDT' AND model = 'turnover'"
        ).fetchall()
    }
    con.close()
    assert [repairs[day(number)].get("impossible_samples", 0) for number in (1, 2, 3)] == [0, 1, 0]
    assert not any("level_shifts" in each for each in repairs.values())


def test_a_level_that_shifts_for_good_is_no_flow_and_is_replayed_alike(demo: Path, tmp_path: Path) -> None:
    """From the middle of the second day on the exchange counts 15 % more contracts, and nobody has traded those."""

    def counted_otherwise(today: date, rows: Rows) -> None:
        for row in rows[144 if today == day(2) else 0 :]:
            if today >= day(2):
                row[2] = repr(float(row[2]) * 1.15)

    make_market(demo, tmp_path / "a", "SHIFTUSDT", samples=counted_otherwise)
    make_market(demo, tmp_path / "a", "SAMEUSDT")
    con = run(tmp_path / "a", tmp_path / "home", "SHIFTUSDT", "SAMEUSDT")
    (repairs,) = {
        text
        for (text,) in con.execute(
            "SELECT repairs FROM heatmap_days WHERE symbol = 'SHIFTUSDT' AND day = ?", [day(2)]
        ).fetchall()
    }
    assert json.loads(repairs)["level_shifts"] == 1
    shifts = con.execute(
        "SELECT model, timestamp, rescaled, opened, open_interest FROM book_ledger "
        "WHERE symbol = 'SHIFTUSDT' AND rescaled <> 0 ORDER BY model, side"
    ).fetchall()
    assert [row[0] for row in shifts if row[0] == "turnover"] == ["turnover", "turnover"]
    assert len({row[1] for row in shifts}) == 1
    for model, _, rescaled, opened, open_interest in shifts:
        assert opened < 0.05 * open_interest
        if model == "turnover":
            assert rescaled == pytest.approx(0.15 / 1.15 * open_interest, rel=0.02)
    # What the views replay from the published days is what was stored, through the shift as well.
    con.execute("USE heatmap")
    for model, drawn in newest_days(con, "SHIFTUSDT", ("turnover", "delta"), 4 * 3600).items():
        active = con.execute(
            "SELECT sum(active_volume) FROM liquidation_snapshots WHERE symbol = 'SHIFTUSDT' AND model = ? "
            "GROUP BY timestamp ORDER BY timestamp",
            [model],
        ).fetchall()
        shown = drawn.long.sum(axis=0, dtype=float) + drawn.short.sum(axis=0, dtype=float)
        assert shown[shown > 0] == pytest.approx([total for (total,) in active if total > 0], rel=1e-5), model
    con.close()
