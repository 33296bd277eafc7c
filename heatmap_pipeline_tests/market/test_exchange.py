"""The exchange over REST: the same clean days as from files, and every fault a repair that is counted or a sentence."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from heatmap_pipeline.market import exchange
from heatmap_pipeline.market import exchange_json as answers
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.market.exchange import ExchangeReader
from heatmap_pipeline.market.repair import clean_candles, clean_samples
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, BannedError, CleanDay, ClosedError, MarketError, NoDataError
from heatmap_pipeline.market.web import TryAgainError
from heatmap_pipeline.settings import SettingsError
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault

DAYS = [date(2024, 9, day) for day in (14, 15, 16, 17)]
DAY, YESTERDAY, TODAY = DAYS[1], DAYS[2], DAYS[3]
NOW = datetime(2024, 9, 17, 12, 2, 30)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of four simulated days, the last of which is the exchange's today."""
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, "BTCUSDT", DAYS)
    return root


@pytest.fixture
def server(market: Path) -> Iterator[ExchangeServer]:
    with ExchangeServer(market, NOW) as running:
        yield running


def reader(server: ExchangeServer, **options: Any) -> ExchangeReader:
    quick = {"timeout": 3.0, "total_time": 10.0, "backoff": 0.01, "retries": 2}
    return ExchangeReader(server.url, **{**quick, **options})


def archive_day(market: Path, day: date) -> tuple[CleanDay, CleanDay]:
    files = ArchiveReader(market)
    candles = files.read_candles("BTCUSDT", day, 300)
    return candles, files.read_open_interest("BTCUSDT", day, candles.table, 300)


def test_a_finished_day_is_the_same_as_from_the_archive(server: ExchangeServer, market: Path) -> None:
    rest = reader(server)
    for day in (DAY, YESTERDAY):
        candles, samples = archive_day(market, day)
        mine = rest.read_candles("BTCUSDT", day, 300)
        pd.testing.assert_frame_equal(mine.table, candles.table)
        assert mine.content_hash() == candles.content_hash()
        assert mine.repairs == {}
        assert (mine.facts["via"], mine.facts["rows"], "provisional" in mine.facts) == ("rest", 288, False)
        own = rest.read_open_interest("BTCUSDT", day, mine.table, 300)
        pd.testing.assert_frame_equal(own.table, samples.table)
        assert own.content_hash() == samples.content_hash()
        # The sample of the first midnight is the day before's.
        assert own.table["snapshot_time"].iloc[0] == pd.Timestamp(day) + pd.Timedelta(minutes=5)
        assert own.table["snapshot_time"].iloc[-1] == pd.Timestamp(day) + pd.Timedelta(days=1)
        assert own.facts["clock"]["rule"] == "price"
        assert own.facts["clock"]["offset_seconds"] == 0
        assert "provisional" not in own.facts
    asked = [one for one in server.asked if one.path == "/futures/data/openInterestHist"]
    assert {one.query["period"] for one in asked} == {"5m"}
    assert len(server.paths("exchangeInfo")) == len(server.paths("/time")) == 1


def test_labels_that_mean_the_start_of_a_step_are_found_out(server: ExchangeServer, market: Path) -> None:
    def earlier(rows: Any) -> Any:
        return [{**row, "timestamp": row["timestamp"] - 300_000} for row in rows]

    candles, samples = archive_day(market, DAY)
    server.fault("openInterestHist", Fault(edit=earlier))
    own = reader(server).read_open_interest("BTCUSDT", DAY, candles.table, 300)
    assert own.facts["clock"]["offset_seconds"] == 300
    # The window ends at a label of midnight, which is the next day's: one row fewer is served by this edit only.
    pd.testing.assert_frame_equal(own.table, samples.table)


def test_where_prices_do_not_decide_the_exchange_is_taken_at_its_word(server: ExchangeServer, market: Path) -> None:
    """The archive's convention of 2026 must not shift the samples of the REST of that time."""
    raw = pd.DataFrame(
        {
            "label": (np.datetime64("2026-08-01", "us") + np.arange(1, 7) * np.timedelta64(300, "s")),
            "contracts": np.full(6, 5.0),
            "value": np.full(6, np.nan),
            "row": np.arange(6) + 1,
        }
    )
    candles = archive_day(market, DAY)[0].table
    common: dict[str, Any] = {"symbol": "BTCUSDT", "day": date(2026, 8, 1), "interval": 300, "candles": candles}
    assert clean_samples(raw, **common, file="x", convention=0).facts["clock"]["offset_seconds"] == 0
    assert clean_samples(raw, **common, file="x").facts["clock"]["offset_seconds"] == 300


def test_today_holds_finished_candles_only(server: ExchangeServer, market: Path) -> None:
    rest = reader(server)
    whole, samples = archive_day(market, TODAY)
    candles = rest.read_candles("BTCUSDT", TODAY, 300)
    # 12:02:30: the candle of 12:00 is open.
    assert candles.table["open_time"].iloc[-1] == pd.Timestamp("2024-09-17 11:55")
    pd.testing.assert_frame_equal(candles.table, whole.table.iloc[:144])
    assert candles.repairs == {"unfinished_candles": 1}
    assert candles.facts["provisional"] is True
    assert candles.facts["rows"] == 145
    own = rest.read_open_interest("BTCUSDT", TODAY, candles.table, 300)
    assert own.facts["provisional"] is True
    pd.testing.assert_frame_equal(own.table, samples.table.iloc[:144])


@pytest.mark.parametrize(
    ("now", "finished"),
    [
        (datetime(2024, 9, 17, 0, 4, 59, 999_000), 0),
        (datetime(2024, 9, 17, 0, 5), 1),
        (datetime(2024, 9, 17, 11, 59, 59, 999_000), 143),
        (datetime(2024, 9, 17, 12), 144),
        (datetime(2024, 9, 18), 288),
    ],
)
def test_a_candle_is_finished_when_the_exchange_says_so(market: Path, now: datetime, finished: int) -> None:
    with ExchangeServer(market, now) as server:
        rest = reader(
            server, elapsed=lambda: 0.0
        )  # the exchange's clock stands still, so the one counted on from it does
        assert rest.reaches_candles("BTCUSDT", TODAY, 300) is (finished > 0)
        if not finished:
            with pytest.raises(NoDataError, match=r"no finished candle; the first one closes at 00:05 UTC"):
                rest.read_candles("BTCUSDT", TODAY, 300)
            return
        day = rest.read_candles("BTCUSDT", TODAY, 300)
        assert len(day.table) == finished
        assert "missing_candles" not in day.repairs
        assert day.facts.get("provisional", False) is (finished < 288)


def test_time_that_passes_finishes_a_candle(market: Path) -> None:
    passed = 1000.0
    with ExchangeServer(market, datetime(2024, 9, 17, 0, 4, 59)) as server:
        rest = reader(server, elapsed=lambda: passed)
        assert rest.now() == server.now
        for later, finished in ((0.999, False), (1.0, True), (86_400.0, True)):
            passed = 1000.0 + later
            assert rest.now() == server.now + timedelta(seconds=later)
            assert rest.reaches_candles("BTCUSDT", TODAY, 300) is finished
    assert len(server.paths("/time")) == 1


def test_the_clock_of_this_machine_decides_nothing(
    server: ExchangeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = time.time
    for ahead in (-86400 * 400, 0, 86400 * 400):
        monkeypatch.setattr(time, "time", lambda ahead=ahead: real() + ahead)
        rest = reader(server)
        assert abs((rest.now() - server.now).total_seconds()) < 5
        assert rest.now() >= server.now
        assert len(rest.read_candles("BTCUSDT", TODAY, 300).table) == 144
        (said,) = re.findall(r"differs from Binance's by (-?\d+) s; .* set it right", caplog.text)
        assert float(said) == pytest.approx(real() + ahead - server.now_ms / 1000, abs=5)
        caplog.clear()


def test_what_the_exchange_has_counted_never_makes_less_of_what_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers come in any order: an old one knows of less."""
    now = 5000.0
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=lambda: now))
    budget = exchange._Budget()
    assert budget.spend(1000) == 0
    budget.seen("7")
    assert budget.spend(exchange.WEIGHT_PER_MINUTE - 999) == 60
    assert budget.spend(exchange.WEIGHT_PER_MINUTE - 1000) == 0
    now += 60
    assert budget.spend(1) == 0
    budget.seen(str(exchange.WEIGHT_PER_MINUTE))  # others use the same address
    for unreadable in ("", "-1", "1e3", "9" * 10):
        budget.seen(unreadable)
    now += 20
    assert budget.spend(1) == 40


def test_a_candle_still_missing_of_a_day_so_far_is_counted(server: ExchangeServer) -> None:
    server.fault("klines", Fault(edit=lambda rows: rows[:10] + rows[13:]))
    day = reader(server).read_candles("BTCUSDT", TODAY, 300)
    assert day.repairs == {"missing_candles": 3, "unfinished_candles": 1}
    assert len(day.table) == 141


def test_rows_out_of_order_and_twice_are_repaired_and_counted(server: ExchangeServer, market: Path) -> None:
    candles, samples = archive_day(market, DAY)

    def shuffled(rows: Any) -> Any:
        rows = copy.deepcopy(rows)
        return [*rows[100:], *rows[:100], rows[5], rows[6]]

    server.fault("klines", Fault(edit=shuffled))
    server.fault("openInterestHist", Fault(edit=shuffled))
    rest = reader(server)
    day = rest.read_candles("BTCUSDT", DAY, 300)
    assert day.repairs == {"sorted_rows": 102, "duplicate_candles": 2}
    pd.testing.assert_frame_equal(day.table, candles.table)
    own = rest.read_open_interest("BTCUSDT", DAY, day.table, 300)
    assert own.repairs == {"sorted_rows": 102, "duplicate_samples": 2}
    pd.testing.assert_frame_equal(own.table, samples.table)


def test_two_different_candles_of_one_time_are_refused(server: ExchangeServer) -> None:
    def twice(rows: Any) -> Any:
        other = list(rows[3])
        other[5] = "99999"
        return [*rows, other]

    server.fault("klines", Fault(edit=twice))
    with pytest.raises(MarketError, match=r"2024-09-15\), row 289: another candle with the open_time of row 4"):
        reader(server).read_candles("BTCUSDT", DAY, 300)


def _cell(row: int, at: Any, value: Any) -> Any:
    def edit(rows: Any) -> Any:
        rows = copy.deepcopy(rows)
        rows[row][at] = value
        return rows

    return edit


def _a_day_later(rows: Any) -> Any:
    return [[row[0] + 86_400_000, *row[1:6], row[6] + 86_400_000, *row[7:]] for row in rows]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_cell(2, 2, "1"), "row 3: high is below low"),
        (_cell(2, 1, "abc"), "row 3: open 'abc' is not a number"),
        (_cell(2, 1, "NaN"), "row 3: open 'NaN' is not a number"),
        (_cell(2, 1, "1_000"), "row 3: open '1_000' is not a number"),
        (_cell(2, 1, ""), "row 3: open is blank"),
        (_cell(2, 5, "-1"), "row 3: volume is blank, negative"),
        (_cell(2, 8, True), "row 3: trades True is not a number"),
        (_cell(2, 8, 10**400), "row 3: trades 1000"),
        (_cell(2, 0, "1726358400000"), "row 3: open time '1726358400000' is not in milliseconds"),
        (_cell(2, 0, 1726358400), "row 3: open time 1726358400 is not in milliseconds"),
        (_cell(2, 6, 1726358400000), "row 3: is not a candle of 300 s"),
        (lambda rows: [*rows[:2], rows[2][:7]], "row 3: is not a candle of 12 fields"),
        (lambda rows: [*rows[:2], {"open": 1}], "row 3: is not a candle"),
        (lambda rows: {"rows": rows}, "the answer is not a list"),
        (lambda rows: None, "the answer is not a list"),
        (_a_day_later, "row 1: the candle does not open on 2024-09-15"),
        (lambda rows: [], "the exchange has none of that day"),
    ],
)  # fmt: skip
def test_candles_that_cannot_be_used_are_refused(server: ExchangeServer, edit: Any, said: str) -> None:
    server.fault("klines", Fault(edit=edit))
    with pytest.raises(MarketError, match=r"/fapi/v1/klines \(BTCUSDT 2024-09-15\)") as refused:
        reader(server).read_candles("BTCUSDT", DAY, 300)
    assert said in str(refused.value)
    assert len(server.paths("klines")) == 1


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_cell(2, "sumOpenInterest", "1,5"), "row 3: sumOpenInterest '1,5' is not a number"),
        (_cell(2, "sumOpenInterest", []), "row 3: sumOpenInterest [] is not a number"),
        (_cell(2, "timestamp", None), "row 3: timestamp None is not in milliseconds"),
        (_cell(2, "symbol", "ETHUSDT"), "row 3: is about 'ETHUSDT', not BTCUSDT"),
        (lambda rows: [[1, 2]], "row 1: is not an object"),
        (lambda rows: [], "no open interest of that day; wait for the archive's file"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(server: ExchangeServer, market: Path, edit: Any, said: str) -> None:
    server.fault("openInterestHist", Fault(edit=edit))
    with pytest.raises(MarketError) as refused:
        reader(server).read_open_interest("BTCUSDT", DAY, archive_day(market, DAY)[0].table, 300)
    assert said in str(refused.value)


def test_samples_without_contracts_are_missing_and_counted(server: ExchangeServer, market: Path) -> None:
    def spoil(rows: Any) -> Any:
        rows = copy.deepcopy(rows)
        rows[7]["sumOpenInterest"], rows[8]["sumOpenInterest"], rows[9]["sumOpenInterestValue"] = "0", "", ""
        return rows

    server.fault("openInterestHist", Fault(edit=spoil))
    own = reader(server).read_open_interest("BTCUSDT", DAY, archive_day(market, DAY)[0].table, 300)
    assert own.repairs == {"invalid_contracts": 2, "unknown_values": 1}
    assert len(own.table) == 286


def test_the_first_minutes_of_a_day_may_have_no_sample_yet(market: Path) -> None:
    with ExchangeServer(market, datetime(2024, 9, 17, 0, 5, 1)) as server:
        server.fault("openInterestHist", Fault(edit=lambda rows: []))
        rest = reader(server)
        candles = rest.read_candles("BTCUSDT", TODAY, 300)
        own = rest.read_open_interest("BTCUSDT", TODAY, candles.table, 300)
    assert own.table.empty
    assert own.facts["provisional"] is True
    assert list(map(str, own.table.dtypes)) == ["datetime64[us]", "float64", "float64"]


def test_a_day_whose_last_sample_may_still_come_is_provisional(market: Path) -> None:
    candles = archive_day(market, YESTERDAY)[0].table
    for minutes, provisional in ((3, True), (61, False)):
        with ExchangeServer(market, datetime(2024, 9, 17) + timedelta(minutes=minutes)) as server:
            server.fault("openInterestHist", Fault(edit=lambda rows: rows[:-1]))
            own = reader(server).read_open_interest("BTCUSDT", YESTERDAY, candles, 300)
            assert own.facts.get("provisional", False) is provisional


def test_open_interest_reaches_back_thirty_days(market: Path) -> None:
    candles = archive_day(market, DAY)[0].table
    with ExchangeServer(market, datetime(2024, 10, 14, 23, 58)) as server:
        assert len(reader(server).read_open_interest("BTCUSDT", DAY, candles, 300).table) == 288
        server.now = datetime(2024, 10, 15, 0, 1)
        with pytest.raises(NoDataError, match=r"2024-09-15 is more than 30 days ago, .* only come from the archive"):
            reader(server).read_open_interest("BTCUSDT", DAY, candles, 300)
        assert len(server.paths("openInterestHist")) == 1


def test_days_the_exchange_cannot_have_are_said_so(server: ExchangeServer, market: Path) -> None:
    server.listed = YESTERDAY
    rest = reader(server)
    with pytest.raises(NoDataError, match="2024-09-15 is before the day it was listed, 2024-09-16"):
        rest.read_candles("BTCUSDT", DAY, 300)
    reads: tuple[Callable[[], object], ...] = (
        lambda: rest.read_candles("BTCUSDT", date(2024, 9, 18), 300),
        lambda: rest.read_open_interest("BTCUSDT", date(2024, 9, 18), archive_day(market, DAY)[0].table, 300),
    )
    for read in reads:
        with pytest.raises(NoDataError, match=r"2024-09-18 has not begun, .* clock it is 2024-09-17 12:02"):
            read()
    assert server.paths("klines") == []


def test_symbols_are_known_traded_and_plain(server: ExchangeServer) -> None:
    rest = reader(server)
    info = rest.symbol("BTCUSDT")
    assert (info.status, info.contract, info.listed) == ("TRADING", "PERPETUAL", date(2019, 9, 8))
    with pytest.raises(NoDataError, match="does not know the symbol BTCDUSDT; write it as the exchange does"):
        rest.read_candles("BTCDUSDT", DAY, 300)
    with pytest.raises(SettingsError):
        rest.read_candles("../etc", DAY, 300)
    server.status = "SETTLING"
    with pytest.raises(NoDataError, match=r"BTCUSDT is not traded now \(status SETTLING\)"):
        reader(server).read_candles("BTCUSDT", DAY, 300)


def test_the_exchange_refuses_in_its_own_words(server: ExchangeServer) -> None:
    rest = reader(server)
    refusals = [
        (400, -1121, "Invalid symbol.", "does not know the symbol BTCUSDT"),
        (400, -1130, "parameter 'startTime' is invalid.", r"refuses the request: parameter .* is invalid\. \(-1130\)"),
        (200, -4141, "Symbol is closed.\x1b[2J", r"refuses the request: Symbol is closed\.\?\[2J \(-4141\)"),
    ]
    for status, code, words, said in refusals:
        server.fault("klines", Fault(status=status, body=json.dumps({"code": code, "msg": words}).encode()))
        with pytest.raises(MarketError, match=said):
            rest.read_candles("BTCUSDT", DAY, 300)
    assert len(server.paths("klines")) == len(refusals)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (451, b'{"code":0,"msg":"Service unavailable from a restricted location."}', '451, "Service unavailable from'),
        (451, b"", "it answered 451"),
        (403, b"<html>Request blocked", "it answered 403"),
        (202, b"", "it answered 202"),
    ],
)
def test_an_exchange_closed_to_this_place_gets_our_own_advice(
    server: ExchangeServer, status: int, body: bytes, said: str
) -> None:
    server.fault("/fapi/", Fault(status=status, body=body), always=True)
    rest = reader(server)
    for ask in (rest.now, lambda: rest.symbol("BTCUSDT"), lambda: rest.read_candles("BTCUSDT", DAY, 300)):
        with pytest.raises(ClosedError, match=r"127\.0\.0\.1:\d+ is closed to the place this runs at") as closed:
            ask()
        text = str(closed.value)
        for part in (said, "finished days still come from the archive", "nine hours after", "set HEATMAP_REST_URL"):
            assert part in text
        assert not closed.value.temporary  # trying again changes nothing
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [418, 429])
def test_a_ban_until_an_instant_is_waited_for(server: ExchangeServer, status: int) -> None:
    """The instant stands in the words only, and the server's clock is the one it is counted by."""
    server.answers_at = 1_726_574_550.0

    def ban(seconds: float) -> Fault:
        until = round((1_726_574_550 + seconds) * 1000)
        words = f"Way too much request weight used; IP banned until {until}. Please use the websocket."
        return Fault(status=status, body=json.dumps({"code": -1003, "msg": words}).encode())

    server.fault("klines", ban(0.2))
    assert len(reader(server).read_candles("BTCUSDT", DAY, 300).table) == 288
    first, second = [one.at for one in server.asked if "klines" in one.path]
    assert 1.1 <= second - first < 5
    server.fault("klines", ban(7200))
    until = datetime.now(UTC) + timedelta(seconds=7201)
    with pytest.raises(MarketError, match=r"has banned this address .*, until (.*) UTC; .*run again then") as banned:
        reader(server).read_candles("BTCUSDT", DAY, 300)
    named = re.search(r"until (\S+ \S+) UTC", str(banned.value))
    assert named is not None
    assert abs((datetime.fromisoformat(named[1]).replace(tzinfo=UTC) - until).total_seconds()) < 10


def test_during_a_ban_nobody_asks(server: ExchangeServer, tmp_path: Path) -> None:
    """Nor a later process: whoever does makes it longer. Another server, or the end of the ban, and it is asked."""
    kept = tmp_path / "archive" / "banned.json"
    for options in ({}, {"ban_file": kept}):
        server.fault("klines", Fault(status=418, headers={"Retry-After": "7200"}))
        first = reader(server, **options)
        for _ in range(3):
            with pytest.raises(BannedError, match=r"banned .*, until .* UTC; it is not asked before") as banned:
                first.read_candles("BTCUSDT", DAY, 300)
            assert not banned.value.temporary, "no retry of Dagster's"
        assert len(server.paths("klines")) == 1
        server.asked.clear()
    assert f"delete {kept}" in str(banned.value)
    with pytest.raises(BannedError):
        reader(server, ban_file=kept).now()
    assert not server.asked
    written = json.loads(kept.read_text())
    for changed in (
        {"server": "other.example"},
        {"until": "2024-01-01T00:00:00+00:00"},
        {"until": "2999-01-01T00:00:00+00:00"},
        {"until": "soon"},
        {"until": 7},
    ):
        kept.write_text(json.dumps({**written, **changed}))
        assert len(reader(server, ban_file=kept).read_candles("BTCUSDT", DAY, 300).table) == 288, changed
    kept.write_text("{")
    assert reader(server, ban_file=kept).now() == server.now


def test_a_long_pause_of_a_server_that_is_down_is_no_ban(server: ExchangeServer, tmp_path: Path) -> None:
    kept = tmp_path / "banned.json"
    server.fault("/time", Fault(status=503, headers={"Retry-After": "7200"}))
    with pytest.raises(MarketError, match=r"the server answered 503; the next try would be in 7200 s") as down:
        reader(server, ban_file=kept).now()
    assert down.value.temporary
    then = re.search(r"in 7200 s, at (\S+ \S+) UTC;", str(down.value))
    assert then is not None
    left = datetime.fromisoformat(then[1]).replace(tzinfo=UTC) - datetime.now(UTC)
    assert 7100 < left.total_seconds() <= 7200
    assert not kept.exists()


@pytest.mark.parametrize(("said", "minutes"), [(None, 10), ("120", 2), ("86400", 1440), (300 * 86400, 3 * 1440)])
def test_a_ban_is_as_long_as_it_is_said_to_be_within_bounds(
    server: ExchangeServer, said: str | int | None, minutes: int
) -> None:
    until = round((time.time() + said) * 1000) if isinstance(said, int) else 0
    body = json.dumps({"code": -1003, "msg": f"IP banned until {until}."}).encode() if until else b""
    headers = {"Retry-After": said} if isinstance(said, str) else {}
    server.fault("/time", Fault(status=418, headers=headers, body=body), always=True)
    expected = datetime.now(UTC) + timedelta(minutes=minutes)
    with pytest.raises(BannedError) as banned:
        reader(server).now()
    named = re.search(r"until (\S+ \S+) UTC", str(banned.value))
    assert named is not None
    assert abs((datetime.fromisoformat(named[1]).replace(tzinfo=UTC) - expected).total_seconds()) < 10


@pytest.mark.parametrize(("after", "until"), [(120, 600), (600, 120)])
def test_of_two_ends_of_a_ban_the_later_one_counts(server: ExchangeServer, after: int, until: int) -> None:
    body = f'{{"code": -1003, "msg": "IP banned until {round((time.time() + until) * 1000)}."}}'.encode()
    server.fault("/time", Fault(status=418, headers={"Retry-After": str(after)}, body=body))
    with pytest.raises(BannedError) as banned:
        reader(server).now()
    named = re.search(r"until (\S+ \S+) UTC", str(banned.value))
    assert named is not None
    left = datetime.fromisoformat(named[1]).replace(tzinfo=UTC) - datetime.now(UTC)
    assert abs(left.total_seconds() - 600) < 10


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=429),
        Fault(status=418, headers={"Retry-After": "0"}),
        Fault(hang=1.0),
        Fault(cut=3000),
        Fault(body=b"<html>maintenance</html>"),
        Fault(body=b"[[1726358400000,"),
        Fault(body=b"[NaN]"),
        Fault(headers={"Content-Encoding": "gzip"}),
        Fault(body=b"[" * 100_000),
        Fault(body=b"\xff\xfe"),
    ],
)  # fmt: skip
def test_what_passes_is_borne_and_what_stays_is_an_error(server: ExchangeServer, fault: Fault) -> None:
    rest = reader(server, timeout=0.3 if fault.hang else 3.0)
    server.fault("klines", fault)
    assert len(rest.read_candles("BTCUSDT", DAY, 300).table) == 288
    server.fault("klines", fault, always=True)
    with pytest.raises(MarketError, match=r"/fapi/v1/klines: .*, 3 times; try again later, or set HEATMAP_REST_URL"):
        rest.read_candles("BTCUSDT", DAY, 300)
    assert len(server.paths("klines")) == 5


def test_retry_after_is_waited_for(server: ExchangeServer) -> None:
    server.fault("klines", Fault(status=429, headers={"Retry-After": "1"}))
    assert len(reader(server).read_candles("BTCUSDT", DAY, 300).table) == 288
    first, second = [one.at for one in server.asked if "klines" in one.path]
    assert second - first >= 0.99
    server.fault("klines", Fault(status=418, headers={"Retry-After": "7200"}))
    with pytest.raises(MarketError, match=r"has banned this address for asking too often, until"):
        reader(server).read_candles("BTCUSDT", DAY, 300)


def test_an_oversized_answer_is_refused(server: ExchangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_LARGEST_ANSWER", 100_000)
    server.fault("klines", Fault(endless=True))
    with pytest.raises(MarketError, match="the answer is larger than 100000 bytes"):
        reader(server).read_candles("BTCUSDT", DAY, 300)


def test_the_weight_of_a_minute_is_kept(server: ExchangeServer) -> None:
    """What the exchange counts for this address counts, also what others behind it have used."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        rest._budget._since -= seconds

    rest = reader(server, pause=pause, total_time=100.0)
    rest.symbol("BTCUSDT")
    server.fault("time", Fault(headers={"X-MBX-USED-WEIGHT-1M": "1195"}))
    rest.now()
    assert len(rest.read_candles("BTCUSDT", DAY, 300).table) == 288
    assert len(pauses) == 1
    assert 50 < pauses[0] <= 60
    server.fault("klines", Fault(headers={"X-MBX-USED-WEIGHT-1M": "2400"}), always=True)
    rest = reader(server, total_time=5.0)
    rest.read_candles("BTCUSDT", DAY, 300)
    with pytest.raises(MarketError, match="the requests of this minute are used up"):
        rest.read_candles("BTCUSDT", DAY, 300)


def test_a_budget_is_not_overspent() -> None:
    budget = exchange._Budget()
    granted = sum(budget.spend(10) == 0 for _ in range(500))
    assert granted == exchange.WEIGHT_PER_MINUTE // 10
    assert 59 < budget.spend(10) <= 60
    budget.seen("none of your business")
    budget.seen("9" * 5000)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The right answers of one day."""
    root = tmp_path_factory.mktemp("served")
    write_demo_days(root, "BTCUSDT", [DAY])
    with ExchangeServer(root, NOW) as server:
        start = 1726358400000
        window = {"symbol": "BTCUSDT", "startTime": str(start), "endTime": str(start + 86_400_000), "limit": "500"}
        return tuple(
            server.rest(path, {**window, "interval": "5m"})[1][:40]
            for path in ("/fapi/v1/klines", "/futures/data/openInterestHist")
        )


_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["0", "-0.0", "1e400", "1e-400", "NaN", "Infinity", "9" * 50, "٣", " 1 ", "0x10", "60000.5"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def _mutate(draw: Any, rows: Any) -> Any:
    rows = copy.deepcopy(rows)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(rows) - 1)) if rows else 0
        kind = draw(st.sampled_from(["cell", "row", "drop", "repeat", "swap", "bytes"]))
        if not rows:
            break
        if kind == "cell" and isinstance(rows[at], list | dict) and rows[at]:
            keys = list(rows[at]) if isinstance(rows[at], dict) else list(range(len(rows[at])))
            rows[at][draw(st.sampled_from(keys))] = draw(_JUNK)
        elif kind == "row":
            rows[at] = draw(_JUNK)
        elif kind == "drop":
            del rows[at]
        elif kind == "repeat":
            rows.insert(draw(st.integers(0, len(rows))), copy.deepcopy(rows[at]))
        elif kind == "swap":
            rows.reverse()
    text = json.dumps(rows).encode()
    if draw(st.booleans()):
        return text
    cut = draw(st.integers(0, len(text)))
    return text[:cut] + draw(st.binary(max_size=3)) + text[cut + draw(st.integers(0, 3)) :]


def _outcome(work: Callable[[], Any]) -> Any:
    """Return what comes out, or the error a person would read."""
    try:
        return work()
    except (MarketError, TryAgainError) as error:
        return error


def _a_sentence(error: Exception) -> bool:
    return bool(str(error)) and str(error).isprintable()


@examples(150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_answer_is_cleaned_or_refused(served: tuple[Any, Any], data: st.DataObject) -> None:
    """Mutated answers: rows in order and in bounds, or a sentence; never another exception."""
    klines, samples = (_mutate(data.draw, rows) for rows in served)
    common: dict[str, Any] = {"symbol": "BTCUSDT", "day": DAY, "interval": 300, "file": "place"}

    def candles() -> CleanDay:
        raw = answers.parse_candles(answers.parse_json(klines), 300, "place")
        return clean_candles(raw.drop(columns="close_time"), **common)

    def open_interest() -> CleanDay:
        raw = answers.parse_open_interest(answers.parse_json(samples), "BTCUSDT", "place")
        none = pd.DataFrame({name: pd.Series(dtype=float) for name in CANDLE_COLUMNS})
        return clean_samples(raw, candles=none, convention=0, **common)

    day, own = _outcome(candles), _outcome(open_interest)
    if isinstance(day, CleanDay):
        assert day.table["open_time"].is_monotonic_increasing
        assert (day.table["low"] <= day.table[["open", "close"]].min(axis=1)).all()
        assert np.isfinite(day.table[list(CANDLE_COLUMNS[1:])].to_numpy(float)).all()
    else:
        assert _a_sentence(day)
    if isinstance(own, CleanDay):
        assert own.table["snapshot_time"].is_unique
        assert (own.table["contracts"] > 0).all()
    else:
        assert _a_sentence(own)


_NAMES = st.sampled_from(["symbols", "symbol", "status", "filters", "serverTime", "onboardDate", "code", "msg"])


@examples(100)
@given(answer=st.recursive(_JUNK, lambda one: st.lists(one, max_size=3) | st.dictionaries(_NAMES, one, max_size=4)))
def test_any_description_of_symbols_is_read_or_refused(answer: Any) -> None:
    wrapped = {"symbols": [answer, {"symbol": "BTCUSDT", "onboardDate": 1569398400000, "filters": answer}]}
    for read in (
        lambda: answers.parse_symbol(answer, "BTCUSDT", "place"),
        lambda: answers.parse_symbol(wrapped, "BTCUSDT", "place"),
        lambda: answers.parse_server_time(answer, "place"),
        lambda: answers.refusal(answer),
    ):
        outcome = _outcome(read)
        assert not isinstance(outcome, Exception) or _a_sentence(outcome)


@pytest.mark.market
@pytest.mark.parametrize(("interval", "day"), [("15m", date(2026, 3, 17)), ("15m", date(2026, 3, 27))])
def test_real_days_are_the_same_both_ways(market_dir: Path, interval: str, day: date) -> None:
    seconds = {"5m": 300, "15m": 900}[interval]
    real = market_dir / "binance_vision"
    with ExchangeServer(real, datetime(2026, 4, 2, 9)) as server:
        rest = reader(server)
        candles = rest.read_candles("BTCUSDT", day, seconds)
        samples = rest.read_open_interest("BTCUSDT", day, candles.table, seconds)
    files = ArchiveReader(real)
    assert candles.content_hash() == files.read_candles("BTCUSDT", day, seconds).content_hash()
    theirs = files.read_open_interest("BTCUSDT", day, candles.table, seconds)
    assert samples.content_hash() == theirs.content_hash()
    assert len(samples.table) == 288
