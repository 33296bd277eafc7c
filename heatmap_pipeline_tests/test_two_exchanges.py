"""Markets of two exchanges in one home, from their local stand-ins to what is published: real rows and made ones."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.odd import odd_days
from heatmap_pipeline_tests._homes import as_if_yesterday_were, clean_environment, done, heatmap, last_line, published
from heatmap_pipeline_tests._real_sets import not_the_sum
from heatmap_pipeline_tests.api.homes import HEATMAP, ask, client, compute, publish_all
from heatmap_pipeline_tests.market._bybit_server import BybitServer, made_rows, real_rows
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.orchestration.homes import BTC, day, of_the_exchange, write_archive

BYBIT = "BYBIT_BTCUSDT"


@dataclass(frozen=True)
class Two:
    """The stand-ins of both exchanges and a home with the first two days of a market of each."""

    binance: ExchangeServer
    bybit: BybitServer
    home: Path

    def run(self, first: int, last: int) -> Any:
        """Run both markets."""
        days = ("--start", day(first), "--end", day(last))
        return heatmap("run", BTC, "bybit:BTCUSDT", "--source", "exchange", *days, "--home", self.home)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the published database."""
        with duckdb.connect(str(published(self.home)), read_only=True) as con:
            return con.execute(query).fetchall()

    def days(self) -> dict[str, tuple[date, date]]:
        """Return the first and last published day of each market."""
        found = self.ask("SELECT symbol, min(day), max(day) FROM heatmap_days GROUP BY symbol")
        return {symbol: (first, last) for symbol, first, last in found}


def set_environment(patch: pytest.MonkeyPatch, binance: ExchangeServer, bybit: BybitServer) -> None:
    """Let commands ask both stand-ins, compute one model, draw nothing, and keep Dagster's history in memory."""
    of_the_exchange(patch, binance, SOURCE="exchange", MODELS="delta")
    patch.setenv("HEATMAP_BYBIT_URL", bybit.url)
    patch.setattr(dg.DagsterInstance, "from_config", lambda _: dg.DagsterInstance.ephemeral())


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Both stand-ins with five days, and a home with the first two. Nobody changes it; `two` has a copy."""
    root = write_archive(tmp_path_factory.mktemp("files"), 5, BTC)
    now = datetime(day(11).year, day(11).month, day(11).day)
    with ExchangeServer(root, now) as binance, BybitServer(*made_rows(8), now) as bybit:
        made = Two(binance, bybit, tmp_path_factory.mktemp("two") / "home")
        with pytest.MonkeyPatch.context() as patch:
            clean_environment(patch)
            set_environment(patch, binance, bybit)
            result = made.run(1, 2)
        assert result.exit_code == 0, result.output
        yield made


@pytest.fixture
def two(begun: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Two:
    for server in (begun.binance, begun.bybit):
        server.forget_all()
    set_environment(monkeypatch, begun.binance, begun.bybit)
    return replace(begun, home=Path(shutil.copytree(begun.home, tmp_path / "home")))


def test_each_market_is_read_where_it_is_traded(two: Two) -> None:
    assert two.days() == {BTC: (day(1), day(2)), BYBIT: (day(1), day(2))}
    columns = "symbol, exchange, native_symbol, base, quote, source, lot, oi_sides"
    assert two.ask(f"SELECT {columns} FROM symbols ORDER BY symbol") == [
        (BTC, "binance", BTC, "BTC", "USDT", "binance", None, 1),
        (BYBIT, "bybit", BTC, "BTC", "USDT", "exchange", 0.001, 2),
    ]
    halved = two.ask(f"SELECT contracts FROM raw_open_interest WHERE symbol = '{BYBIT}' ORDER BY snapshot_time LIMIT 1")
    assert halved[0][0] == pytest.approx(float(two.bybit.samples[3 * 288]["openInterest"]) / 2)
    assert {path.parent.name for path in (two.home / "archive").glob("*/*")} == {"binance", "bybit"}


def test_a_market_of_binance_is_as_it_is_alone(two: Two, tmp_path: Path) -> None:
    """What a home has of it depends neither on the word for its source nor on who else is there."""
    done("run", BTC, "--source", "binance", "--start", day(1), "--end", day(2), "--home", tmp_path / "alone")
    query = "SELECT day, parameters, state_hash FROM heatmap_days WHERE symbol = 'BTCUSDT' ORDER BY day"
    raw = "SELECT kind, day, content_hash, repairs, facts, source FROM raw_days WHERE symbol = 'BTCUSDT' ORDER BY ALL"
    with duckdb.connect(str(published(tmp_path / "alone")), read_only=True) as con:
        for each in (query, raw, "FROM symbols WHERE symbol = 'BTCUSDT'"):
            assert con.execute(each).fetchall() == two.ask(each)


@pytest.mark.parametrize(("closed", "other"), [(BYBIT, BTC), (BTC, BYBIT)])
def test_an_exchange_that_is_closed_stops_no_other(
    two: Two, closed: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}
    write_page = "heatmap_pipeline.render.page.write_page"
    monkeypatch.setattr(write_page, lambda folder, symbol, models, *_: drawn.update({symbol: models["delta"].meta}))
    server = two.bybit if closed == BYBIT else two.binance
    server.fault("/v5" if closed == BYBIT else "/fapi", Fault(status=403), always=True)
    two.binance.hide(*([str(day(3))] if closed == BTC else []))
    result = two.run(3, 3)
    last_line(result.stderr, 1, closed, "closed to the place this runs at (it answered 403")
    assert two.days() == {closed: (day(1), day(2)), other: (day(1), day(3))}
    # The map of the base has what there is, and says what is missing.
    assert set(drawn) == {other, "BTC"}
    assert (drawn["BTC"]["markets_present"], drawn["BTC"]["as_of"]) == (1, f"{day(4)}T00:00:00Z")
    assert [part["symbol"] for part in drawn["BTC"]["parts"] if part["missing"]] == [closed]
    server.forget_all()

    def full(folder: Path, symbol: str, *_: Any) -> None:
        if symbol == "BTC":
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / symbol))

    monkeypatch.setattr(write_page, full)
    again = two.run(3, 3)
    last_line(
        again.stderr, 1, "BTC", "aggregated_map could not use", "No space left on device"
    )  # which stops no market
    assert two.days() == {BTC: (day(1), day(3)), BYBIT: (day(1), day(3))}


@pytest.mark.market
@pytest.mark.slow
def test_forty_real_days_of_bybit_become_a_published_map(market_dir: Path, tmp_path: Path) -> None:
    first, last = date(2021, 1, 1), date(2021, 2, 9)
    home = tmp_path / "home"
    with (
        pytest.MonkeyPatch.context() as patch,
        BybitServer(*real_rows(market_dir), datetime(2021, 2, 10, 6)) as server,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        clean_environment(patch)
        as_if_yesterday_were(patch, last)
        patch.setenv("HEATMAP_BYBIT_URL", server.url)
        patch.setattr(dg.DagsterInstance, "from_config", lambda _: nullcontext(instance))
        done("run", "bybit:BTCUSDT", "--source", "exchange", "--start", first, "--end", last, "--home", home)
        (run,) = instance.get_runs()
        logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        checks = {
            found.check_name: found.passed
            for log in logs
            if log.dagster_event is not None
            for found in [log.dagster_event.asset_check_evaluation_data]
        }
    assert len(checks) > 12
    # Of 11,516 samples ten, on as many days, go back and forth by more than was traded. That is a warning, and right.
    assert [name for name, passed in checks.items() if not passed] == ["days_believable"]
    with duckdb.connect(str(published(home)), read_only=True) as con:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return con.execute(query).fetchall()

        assert ask("SELECT symbol, oi_sides, clock_rule FROM symbols") == [(BYBIT, 2, "volume")]
        samples = "FROM raw_days WHERE kind = 'open_interest'"
        assert ask(f"SELECT DISTINCT facts ->> '$.clock.rule', facts ->> '$.sides' {samples}") == [
            ("volume", "both sides added")
        ]
        assert set(odd_days(con, BYBIT).values()) == {"1 sample that trades cannot explain"}
        missing = "CAST(repairs ->> 'missing_samples' AS INTEGER)"
        assert ask(f"SELECT DISTINCT day, {missing} FROM heatmap_days WHERE {missing} > 0") == [(date(2021, 2, 8), 4)]
        assert ask("SELECT model, count(*) FROM heatmap_days GROUP BY model ORDER BY model") == [
            ("delta", 40),
            ("turnover", 40),
        ]
        ((cells, active),) = ask("SELECT count(*), max(long_volume) FROM heatmap WHERE symbol = 'BYBIT_BTCUSDT'")
        assert cells > 10_000
        assert active > 0
        assert not_the_sum(con) == []
    assert list((home / "renders" / BYBIT).glob("*.png"))


@pytest.mark.market
@pytest.mark.slow
def test_real_days_of_two_exchanges_add_up_to_the_last_bit(
    market_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three days of Binance and three of Bybit that hold a crash, moved by whole days, for no others are of one time.

    Their prices differ by so much that the buckets do: 50 USDT of Bybit's, two of which are one of Binance's.
    """
    clean_environment(monkeypatch)
    first, crash = date(2024, 6, 20), date(2021, 1, 10)
    days = [first + timedelta(days=number) for number in range(3)]
    moved = (first - crash).days * 86_400_000
    candles, samples = real_rows(market_dir)
    candles = [[str(int(start) + moved), *rest] for start, *rest in candles]
    samples = [{**row, "timestamp": str(int(row["timestamp"]) + moved)} for row in samples]
    with BybitServer(candles, samples, datetime(2024, 6, 24)) as server:
        archive = {"source": "archive", "archive": market_dir / "binance_vision"}
        for symbol, source in ((BTC, archive), (BYBIT, {"source": "exchange", "bybit_url": server.url})):
            settings = load_settings(home=tmp_path, models="turnover", snapshot_interval="15m", **source)
            compute(settings, symbol, days)
    publish_all(settings, BTC, BYBIT)
    with duckdb.connect(str(published(tmp_path)), read_only=True) as con:
        assert not_the_sum(con) == []
        heights = con.execute("SELECT DISTINCT symbol, bucket FROM buckets ORDER BY ALL").fetchall()
        assert heights == [(BTC, 100.0), (BYBIT, 50.0)]
        query = (
            "SELECT epoch_ms(timestamp), price_bucket, side, sum(active_volume ORDER BY symbol) AS volume "
            "FROM heatmap_by_base GROUP BY ALL HAVING volume > 0"
        )
        stored = {(*cell, side): volume for *cell, side, volume in con.execute(query).fetchall()}
        both = con.execute("SELECT timestamp FROM heatmap_by_base GROUP BY ALL HAVING count(DISTINCT symbol) = 2")
        assert len(both.fetchall()) == len(days) * 96
    with client(settings) as served:
        span = {"start_time": str(first), "end_time": str(days[-1] + timedelta(days=1)), "price_bin_size": 100}
        answer = ask(served, HEATMAP, "BTC", format="columns", **span)
    assert len(stored) > 10_000
    assert (answer["meta"]["markets_present"], answer["meta"]["title"]) == (2, "BTC perpetuals: Binance, Bybit")
    answered = {
        (answer["timestamps"][time], answer["prices"][row], side): volume
        for side in ("long", "short")
        for time, row, volume in zip(*(answer[side][name] for name in ("time", "price", "volume")), strict=True)
    }
    assert all(abs(stored.get(cell, 0.0) - volume) <= 2e-4 for cell, volume in answered.items())
    assert all(volume <= 2e-4 for cell, volume in stored.items() if cell not in answered)
