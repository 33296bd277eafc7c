"""Markets of several exchanges in one home, from local stand-ins to what is published: real rows and made ones."""

from __future__ import annotations

import errno
import gzip
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.chain.unchanged import find_changes
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.orchestration.checks import RULES
from heatmap_pipeline.render.picture import write_png
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.odd import odd_days
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.symbols import title_of
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline_tests._homes import as_if_yesterday_were, clean_environment, done, heatmap, last_line, published
from heatmap_pipeline_tests._real_sets import not_the_sum
from heatmap_pipeline_tests.api.homes import HEATMAP, ask, client, compute, publish_all
from heatmap_pipeline_tests.market._bybit_server import BybitServer, made_rows, real_rows
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.market._gate_server import GateMarketServer, gate_rows
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, day, of_the_exchange, write_archive
from heatmap_pipeline_tests.orchestration.light import run_lightly

BYBIT = "BYBIT_BTCUSDT"
GATE = "GATE_BTC_USDT"


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
    """Let commands ask both stand-ins, compute one model, draw nothing, and run without Dagster."""
    of_the_exchange(patch, binance, SOURCE="exchange", MODELS="delta")
    patch.setenv("HEATMAP_BYBIT_URL", bybit.url)
    run_lightly(patch)


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
    tiers = "SELECT DISTINCT symbol, maintenance_margin_rate, max_leverage FROM model_parameters ORDER BY symbol"
    assert two.ask(tiers) == [(BTC, 0.004, 125), (BYBIT, 0.005, 100)]


def test_a_third_exchange_is_the_same_way(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gate: contracts of 0.001 BTC, an underline in the name, in settings and in Dagster's keys."""
    monkeypatch.setenv("HEATMAP_BUCKET_GATE_BTC_USDT", "50")
    with GateMarketServer(*gate_rows(8), two.bybit.now) as gate:
        monkeypatch.setenv("HEATMAP_GATE_URL", gate.url)
        days = ("--start", day(1), "--end", day(1))
        done("run", "gate:BTC_USDT", "--source", "exchange", *days, "--home", two.home)
        shares = [row["open_interest"] for row in gate.stats[3 * 288 :]]
    columns = "exchange, native_symbol, base, quote, bucket, lot, contract_size, oi_sides, clock_rule"
    assert two.ask(f"SELECT {columns} FROM symbols WHERE symbol = '{GATE}'") == [
        ("gate", "BTC_USDT", "BTC", "USDT", 50, 0.001, 0.001, 1, "price")
    ]
    first = two.ask(f"SELECT contracts FROM raw_open_interest WHERE symbol = '{GATE}' ORDER BY snapshot_time LIMIT 1")
    assert first[0][0] == pytest.approx(shares[0] / 1000)
    assert two.ask(f"SELECT DISTINCT max_leverage FROM model_parameters WHERE symbol = '{GATE}'") == [(125,)]
    assert two.days() == {BTC: (day(1), day(2)), BYBIT: (day(1), day(2)), GATE: (day(1), day(1))}
    assert title_of(GATE, "USDT") == "Gate USDT-M perpetual"


def test_days_that_are_kept_as_they_were_answered_are_not_read_again(two: Two) -> None:
    settings = load_settings(home=two.home, source="exchange", symbols=(BTC, BYBIT), models=("delta",))

    def changes() -> dict[str, str]:
        found = find_changes(settings, day(1), day(2), lambda *_: True)
        return {symbol: change.reason for symbol, change in found.items() if change is not None}

    assert changes() == {}
    (page,) = (two.home / "archive" / "bybit").rglob(f"open-interest-5/*{day(2)}.json.gz")
    beside = page.with_name(f"{page.name}.sha256")
    whole, said = page.read_bytes(), beside.read_bytes()
    changed = f"the file with the open interest of {day(2)} is another one"
    for broken in (whole[:-9], b"", gzip.compress(b"[]")):
        page.write_bytes(broken)
        assert changes() == {BYBIT: changed}
    page.write_bytes(whole)
    beside.write_bytes(b"0" * 64)
    assert changes() == {BYBIT: changed}, "a page that does not match its checksum is asked for again"
    beside.write_bytes(said)
    assert changes() == {}


def test_a_market_of_binance_is_as_it_is_alone(two: Two, tmp_path: Path) -> None:
    """What a home has of it depends neither on the word for its source nor on who else is there."""
    done("run", BTC, "--source", "binance", "--start", day(1), "--end", day(2), "--home", tmp_path / "alone")
    query = "SELECT day, parameters, state_hash FROM heatmap_days WHERE symbol = 'BTCUSDT' ORDER BY day"
    raw = "SELECT kind, day, content_hash, repairs, facts, source FROM raw_days WHERE symbol = 'BTCUSDT' ORDER BY ALL"
    with duckdb.connect(str(published(tmp_path / "alone")), read_only=True) as con:
        for each in (query, raw, "FROM symbols WHERE symbol = 'BTCUSDT'"):
            assert con.execute(each).fetchall() == two.ask(each)


def test_an_exchange_that_is_closed_stops_no_other(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """First Bybit, then Binance; what each lacks is there as soon as it is open again."""
    drawn: dict[str, Any] = {}

    def draw(_folder: Path, symbol: str, models: Any, *_: Any) -> None:
        drawn[symbol] = models["delta"].meta

    def full(folder: Path, symbol: str, *_: Any) -> None:
        if symbol == "BTC":
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / symbol))

    monkeypatch.setattr("heatmap_pipeline.render.page.write_page", draw)
    two.bybit.fault("/v5", Fault(status=403), always=True)
    last_line(two.run(3, 3).stderr, 1, BYBIT, "closed to the place this runs at (it answered 403")
    assert two.days() == {BYBIT: (day(1), day(2)), BTC: (day(1), day(3))}
    # The map of the base has what there is, and says what is missing.
    assert set(drawn) == {BTC, "BTC"}
    assert (drawn["BTC"]["markets_present"], drawn["BTC"]["as_of"]) == (1, f"{day(4)}T00:00:00Z")
    assert [part["symbol"] for part in drawn["BTC"]["parts"] if part["missing"]] == [BYBIT]
    two.bybit.forget_all()
    two.binance.fault("/fapi", Fault(status=403), always=True)
    two.binance.hide(str(day(4)))
    last_line(two.run(3, 4).stderr, 1, f"{BTC} {day(4)}", "closed to the place this runs at (it answered 403")
    assert two.days() == {BTC: (day(1), day(3)), BYBIT: (day(1), day(4))}
    two.binance.forget_all()
    monkeypatch.setattr("heatmap_pipeline.render.page.write_page", full)
    last_line(two.run(4, 4).stderr, 1, "BTC", "aggregated_map could not use", "No space left on device")
    assert two.days() == {BTC: (day(1), day(4)), BYBIT: (day(1), day(4))}, "which stops no market"
    monkeypatch.setattr("heatmap_pipeline.render.page.write_page", draw)
    again = two.run(4, 4)
    assert again.exit_code == 0, again.output
    assert drawn["BTC"]["markets_present"] == 2


def test_a_broken_market_is_named_and_the_other_is_refreshed_and_goes_on(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_yesterday_were(monkeypatch, day(3))
    monkeypatch.setattr("heatmap_pipeline.chain.due.last_due", lambda _: day(3))
    monkeypatch.setenv("HEATMAP_SYMBOLS", f"{BTC},bybit:BTCUSDT")

    def spoiled(answer: Any) -> Any:
        for row in answer["result"]["list"]:
            row[2] = "1.0"  # the high, below all else
        return answer

    two.bybit.fault("/v5/market/kline", Fault(edit=spoiled), always=True)
    result = heatmap("refresh", "--home", two.home)
    last_line(result.stderr, 1, BYBIT, day(3), "high")
    assert f"{BTC}: {day(3)} .. {day(3)} computed and published (real data)" in result.stdout
    lines = done("status", "--home", two.home).stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith(("failed", "missing", "stale"))] == [BYBIT, BYBIT]
    two.bybit.forget_all()
    two.bybit.instrument["status"] = "Closed"
    try:
        said = done("refresh", "--home", two.home).stdout
    finally:
        two.bybit.instrument["status"] = "Trading"
    assert f"{BYBIT}: ended on {day(2)} (its status at the exchange is Closed); it is retired" in said
    assert f"{BTC}: up to date, the last stored day is {day(3)}" in said
    assert done("status", "--home", two.home).stdout.splitlines()[-1] == "nothing is failed, stale or missing"


@pytest.mark.market
@pytest.mark.slow
def test_forty_real_days_of_bybit_become_a_published_map(
    market_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = date(2021, 1, 1), date(2021, 2, 9)
    home = tmp_path / "home"
    as_if_yesterday_were(monkeypatch, last)
    with BybitServer(*real_rows(market_dir), datetime(2021, 2, 10, 6)) as server:
        monkeypatch.setenv("HEATMAP_BYBIT_URL", server.url)
        settings = load_settings(home=home, source="exchange", symbols=(BYBIT,), snapshot_interval="4h")
        compute_home(settings, first, last)
    with Warehouse(home).connect(BYBIT) as con:
        passed = {
            (rule.name, model): rule.evaluate(con, settings, BYBIT, model, first, last).passed
            for rule in RULES
            for model in (settings.models if rule.per_model else ("",))
        }
    assert [name for name in passed if not passed[name]] == []
    with duckdb.connect(str(published(home)), read_only=True) as con:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return con.execute(query).fetchall()

        assert ask("SELECT symbol, oi_sides, clock_rule FROM symbols") == [(BYBIT, 2, "volume")]
        samples = "FROM raw_days WHERE kind = 'open_interest'"
        assert ask(f"SELECT DISTINCT facts ->> '$.clock.rule', facts ->> '$.sides' {samples}") == [
            ("volume", "both sides added")
        ]
        assert odd_days(con, BYBIT) == {}
        # Of 11,516 samples ten, on as many days, tell a step late what was traded; they are held, and no day is odd.
        late = "CAST(repairs ->> 'late_samples' AS INTEGER)"
        assert ask(f"SELECT count(*), sum({late}) FROM heatmap_days WHERE model = 'turnover' AND {late} > 0") == [
            (10, 10)
        ]
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
        picture = newest_days(con, BYBIT, ("turnover",), SECONDS["4h"])["turnover"]
        write_png(picture, tmp_path / "turnover.png")
    assert (tmp_path / "turnover.png").read_bytes().startswith(b"\x89PNG")


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
            settings = load_settings(home=tmp_path, models="turnover", snapshot_interval="1h", **source)
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
        assert len(both.fetchall()) == len(days) * 24
    with client(settings) as served:
        span = {
            "start_time": str(first),
            "end_time": str(days[-1] + timedelta(days=1)),
            "price_bin_size": 100,
            "interval": "1h",
        }
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
