"""Bybit over a local server in its shape: what is read, kept, halved and refused, with the faults of a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from heatmap_pipeline.market.brackets import kept_tiers, load_bracket
from heatmap_pipeline.market.bybit import BybitMarket
from heatmap_pipeline.market.plausible.arrays import Before
from heatmap_pipeline.market.plausible.names import DECLARED
from heatmap_pipeline.market.plausible.samples import judge_samples_of
from heatmap_pipeline.market.tables import CleanDay, ClosedError, MarketError, NoDataError, NotTradedError
from heatmap_pipeline_tests.market._bybit_server import BybitServer, day, made_rows, real_rows, tier
from heatmap_pipeline_tests.market._exchange_server import Fault

BTC = "BYBIT_BTCUSDT"
NOON = datetime(2024, 3, 4, 12)


@pytest.fixture
def server() -> Iterator[BybitServer]:
    """Three whole days and half a fourth, both sides added."""
    with BybitServer(*made_rows(4), NOON) as running:
        yield running


@pytest.fixture
def market(server: BybitServer, tmp_path: Path) -> BybitMarket:
    return opened(server, tmp_path / "bybit")


def opened(server: BybitServer, root: Path) -> BybitMarket:
    return BybitMarket(root, server.url, gap=0.0, retries=1, backoff=0.01, elapsed=lambda: 0.0)


def read(market: BybitMarket, *days: date) -> tuple[list[CleanDay], list[CleanDay]]:
    candles = list(market.candles(BTC, days, 300))
    return candles, list(market.open_interest(BTC, {each.day: each.table for each in candles}, 300))


def test_a_day_is_its_candles_and_the_samples_until_its_end(server: BybitServer, market: BybitMarket) -> None:
    (candles,), (samples,) = read(market, day(2))
    first = server.candles[288]
    row = candles.table.iloc[0]
    assert [row[name] for name in ("open", "high", "low", "close", "volume", "quote_volume")] == [
        float(text) for text in first[1:]
    ]
    assert (len(candles.table), candles.repairs, row["trades"]) == (288, {}, 0)
    taken = samples.table["snapshot_time"].to_numpy()
    assert (taken[0], taken[-1]) == (np.datetime64("2024-03-02T00:05"), np.datetime64("2024-03-03T00:00"))
    assert samples.facts["clock"]["rule"] == "volume"
    assert samples.facts["clock"]["offset_seconds"] == 0
    assert samples.table["value"].isna().all()
    assert samples.table["contracts"].tolist() == [float(one["openInterest"]) for one in server.samples[288:576]]


def test_today_so_far_is_provisional_and_nothing_of_it_is_kept(server: BybitServer, market: BybitMarket) -> None:
    (candles,), (samples,) = read(market, day(4))
    assert (len(candles.table), candles.repairs) == (144, {"unfinished_candles": 1})
    assert len(samples.table) == 144
    assert candles.facts["provisional"]
    assert samples.facts["provisional"]
    server.now += timedelta(hours=13)
    (candles,), (samples,) = read(opened(server, market._root), day(4))
    assert (len(candles.table), len(samples.table)) == (288, 288)
    assert "provisional" not in candles.facts | samples.facts


@pytest.mark.parametrize(("minutes", "over"), [(0, False), (59, False), (60, True)])
def test_a_last_sample_that_does_not_come_is_waited_for_an_hour(
    server: BybitServer, market: BybitMarket, minutes: int, over: bool
) -> None:
    del server.samples[3 * 288 - 1]
    server.now = datetime(2024, 3, 4, minutes // 60, minutes % 60)
    _, (samples,) = read(market, day(3))
    assert (len(samples.table), samples.facts.get("provisional", False)) == (287, not over)


def test_between_two_requests_passes_the_time_that_the_exchange_wants(server: BybitServer, tmp_path: Path) -> None:
    waited: list[float] = []
    market = BybitMarket(tmp_path, server.url, gap=50.0, pause=waited.append)
    market.ask_now()
    market.ask_now()
    market.ask_now()
    assert [round(seconds / 50) for seconds in waited] == [1, 2], "each has its own turn"


def test_what_is_over_is_asked_for_once_and_needs_no_network_again(server: BybitServer, tmp_path: Path) -> None:
    before = read(opened(server, tmp_path), day(1), day(2), day(3))
    assert len(server.paths("/kline")) == 3
    assert len(server.paths("/open-interest")) == 6, "five of 200, and the rest of the first, which is not full"
    server.fault("/v5", Fault(status=403), always=True)
    server.asked.clear()
    again = opened(server, tmp_path)
    after = read(again, day(1), day(2), day(3))
    assert server.asked == []
    for old, new in zip((*before[0], *before[1]), (*after[0], *after[1]), strict=True):
        assert old.content_hash() == new.content_hash()
        assert (old.facts, old.repairs) == (new.facts, new.repairs)
    assert again.available(BTC, [day(1), day(2)]) == {day(1), day(2)}
    with pytest.raises(ClosedError, match=r"closed to the place this runs at \(it answered 403"):
        again.available(BTC, [day(1), day(4)])


def test_a_page_of_samples_may_come_in_parts(server: BybitServer, tmp_path: Path) -> None:
    _, whole = read(opened(server, tmp_path / "whole"), day(1), day(2))
    server.samples_per_page = 70
    _, parts = read(opened(server, tmp_path / "parts"), day(1), day(2))
    assert [each.content_hash() for each in parts] == [each.content_hash() for each in whole]
    server.cursor = "again"
    with pytest.raises(MarketError, match="the exchange hands out the same page again and again"):
        read(opened(server, tmp_path / "endless"), day(1))


def test_no_page_is_asked_for_twice(tmp_path: Path) -> None:
    """A page of candles a day, and the fewest pages of samples: 526 a year."""
    days = [day(number) for number in range(1, 9)]
    with BybitServer(*made_rows(8), datetime(2024, 4, 1)) as server:
        read(opened(server, tmp_path), *days)
        asked = [one.query for one in server.asked if "open-interest" in one.path]
    assert len(server.paths("/kline")) == 8
    pages = [query["startTime"] for query in asked if "cursor" not in query]
    assert len(pages) == len(set(pages)) == 8 * 288 // 200 + 2, "one more for each end"
    assert len(asked) == len(pages) + 2, "the first and the last are not full"


def test_a_kept_day_that_was_changed_is_asked_for_once_more(server: BybitServer, tmp_path: Path) -> None:
    ((good,), _) = read(opened(server, tmp_path), day(1))
    (kept,) = tmp_path.glob("linear/BTCUSDT/kline-5/*.gz")
    right = kept.read_bytes()
    for wrong in (right[:-9], b"", right[:60] + b"x" + right[61:]):
        kept.write_bytes(wrong)
        server.asked.clear()
        ((again,), _) = read(opened(server, tmp_path), day(1))
        assert len(server.paths("/kline")) == 1
        assert again.content_hash() == good.content_hash()
        assert kept.read_bytes() == right


def test_a_fetch_that_breaks_off_goes_on_where_it_was(server: BybitServer, tmp_path: Path) -> None:
    server.fault("/kline", Fault(), Fault(status=404), Fault(status=404))
    with pytest.raises(MarketError, match="404"):
        list(opened(server, tmp_path).candles(BTC, [day(1), day(2), day(3)], 300))
    assert len(list(tmp_path.glob("linear/BTCUSDT/kline-5/*.gz"))) == 1
    server.asked.clear()
    read(opened(server, tmp_path), day(1), day(2), day(3))
    assert len(server.paths("/kline")) == 2


def test_minutes_take_two_pages_and_stand_in_order(tmp_path: Path) -> None:
    candles, samples = made_rows(5)
    start = int(candles[0][0])
    minutes = [[str(start + at * 60_000), *row[1:]] for at, row in enumerate(candles)]
    with BybitServer(minutes, samples, datetime(2024, 3, 3)) as server:
        (clean,) = opened(server, tmp_path).candles(BTC, [day(1)], 60)
    assert len(server.paths("/kline")) == 2
    assert (len(clean.table), clean.repairs) == (1440, {})


def test_what_the_exchange_says_of_a_contract(server: BybitServer, market: BybitMarket, tmp_path: Path) -> None:
    contract = market.contract(BTC)
    assert (contract.symbol, contract.base, contract.quote, contract.kind, contract.lot) == (
        BTC, "BTC", "USDT", "perpetual", 0.001,
    )  # fmt: skip
    assert market.ended(BTC, day(3), day(3), 300) is None
    server.instrument["status"] = "Closed"
    ending = opened(server, tmp_path / "other").ended(BTC, day(2), day(3), 300)
    assert ending is not None
    assert (ending.last, ending.reason) == (day(2), "its status at the exchange is Closed")
    server.instrument |= {"status": "Trading", "contractType": "LinearFutures"}
    with pytest.raises(MarketError, match="symbol bybit:BTCUSDT is a delivery contract"):
        opened(server, tmp_path / "third").contract(BTC)
    with pytest.raises(NotTradedError, match="does not know this contract"):
        market.contract("BYBIT_NOSUCHUSDT")


def test_a_market_begins_on_the_day_it_was_listed(server: BybitServer, market: BybitMarket) -> None:
    server.instrument["launchTime"] = server.candles[288 + 100][0]  # in the middle of the second day
    assert market.available(BTC, [day(1), day(2)]) == {day(2)}
    assert len(next(market.candles(BTC, [day(2)], 300)).table) == 288
    with pytest.raises(NoDataError, match="2024-03-01 is before the day it was listed, 2024-03-02"):
        list(market.candles(BTC, [day(1)], 300))


def test_of_several_contracts_the_one_that_was_asked_for_is_read(server: BybitServer, market: BybitMarket) -> None:
    rows = [{**server.instrument, "symbol": "BTCPERP", "quoteCoin": "USDC"}, server.instrument]
    assert market.read_contract(rows, BTC, "place").contract.quote == "USDT"
    with pytest.raises(NotTradedError, match="does not know this contract"):
        market.read_contract(rows[:1], BTC, "place")


def test_days_that_nobody_can_have(server: BybitServer, market: BybitMarket) -> None:
    with pytest.raises(NoDataError, match="before the day it was listed, 2020-03-25"):
        list(market.candles(BTC, [date(2020, 3, 24)], 300))
    with pytest.raises(NoDataError, match="has not begun, by the exchange's clock it is 2024-03-04 12:00 UTC"):
        list(market.candles(BTC, [day(5)], 300))
    assert market.available(BTC, [date(2020, 3, 24), day(1), day(4), day(5)]) == {day(1), day(4)}


@pytest.mark.parametrize(
    ("faults", "kind", "words"),
    [
        ([Fault(status=451)], ClosedError, "closed to the place this runs at .it answered 451; 403 also comes"),
        ([Fault(body=b'{"retCode": 10024, "retMsg": "Compliance rules"}')], ClosedError, '10024, "Compliance rules"'),
        ([Fault(body=b'{"retCode": 10001, "retMsg": "params error"}')], NotTradedError, "params error .10001"),
        ([Fault(body=b'{"retCode": 77, "retMsg": "no"}')], MarketError, "refuses the request: no .77"),
        ([Fault(body=b'{"retCode": 10006, "retMsg": "Too many visits!"}')] * 2, MarketError, "busy: Too many visits!"),
        ([Fault(body=b'{"retCode": 0}')], MarketError, "has no result"),
        ([Fault(body=b"<html>")] * 2, MarketError, "a web page instead of an answer"),
        ([Fault(body=b'{"retCode": 0, "result": {"list": [["x"]]}}')], MarketError, "row 1: is not a candle of 7"),
    ],
)
def test_refusals_are_sentences(
    server: BybitServer, market: BybitMarket, faults: list[Fault], kind: type[MarketError], words: str
) -> None:
    server.fault("/kline", *faults)
    with pytest.raises(kind, match=words) as error:
        list(market.candles(BTC, [day(1)], 300))
    assert "\n" not in str(error.value)


def test_an_exchange_that_is_closed_is_not_asked_again(server: BybitServer, market: BybitMarket) -> None:
    server.fault("/kline", Fault(status=451))
    for number in (1, 2):
        with pytest.raises(ClosedError, match="it answered 451"):
            list(market.candles(BTC, [day(number)], 300))
    assert len(server.paths("/kline")) == 1


def test_a_bad_candle_is_named_by_its_row(server: BybitServer, market: BybitMarket) -> None:
    server.candles[4][2] = "1"
    with pytest.raises(MarketError, match=r"row 5: high is below low"):
        list(market.candles(BTC, [day(1)], 300))


def test_the_clock_of_the_exchange_is_asked_for_once_and_counted_on(server: BybitServer, tmp_path: Path) -> None:
    seconds = iter((100.0, 100.0, 190.5))
    market = BybitMarket(tmp_path, server.url, gap=0.0, elapsed=lambda: next(seconds))
    assert [market.now(), market.now()] == [NOON, NOON + timedelta(seconds=90.5)]
    assert len(server.paths("/time")) == 1


def test_a_busy_exchange_is_asked_once_more(server: BybitServer, market: BybitMarket) -> None:
    server.fault("/open-interest", Fault(body=b'{"retCode": 10006, "retMsg": "Too many visits!"}'))
    server.fault("/kline", Fault(body=b'{"retCode": 10016, "retMsg": "Server error."}'))
    candles, samples = read(market, day(1))
    assert (len(candles[0].table), len(samples[0].table)) == (288, 288)


def tiers_of(root: Path) -> dict[str, tuple[float, float]]:
    """Return the first tier of each day on which another was seen: maintenance margin rate and largest leverage."""
    folder = kept_tiers(root.parent, BTC)
    files = [] if folder is None else sorted(folder.iterdir())
    return {file.stem.removeprefix("tiers_"): load_bracket(file, BTC, day(1)) or (0, 0) for file in files}


def test_the_tiers_are_kept_with_the_day_they_were_first_seen(server: BybitServer, tmp_path: Path) -> None:
    root = tmp_path / "bybit"
    market = opened(server, root)
    for _ in range(2):
        market.prepare(BTC, [day(1)])
        assert tiers_of(root) == {"2024-03-04": (0.005, 100.0)}
    (file,) = tmp_path.glob("bybit/tiers/*/*.json")
    assert [bracket["notionalFloor"] for bracket in json.loads(file.read_bytes())[0]["brackets"]] == [0, 2_000_000]
    server.now += timedelta(days=3)
    server.tiers = [tier("BTCUSDT", 1, "300000", "0.33", "0.66", "150.00"), tier("ETHUSDT", 1, "9", "1", "2", "50")]
    opened(server, root).prepare(BTC, [day(1)])
    assert tiers_of(root) == {"2024-03-04": (0.005, 100.0), "2024-03-07": (pytest.approx(0.0033), 150.0)}, "in percent"
    folder = kept_tiers(tmp_path, BTC)
    assert folder is not None
    assert [load_bracket(folder, BTC, each) for each in (day(1), day(6), day(8))] == [
        (0.005, 100.0),
        (0.005, 100.0),
        (pytest.approx(0.0033), 150.0),
    ]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=403), "stay what they were: .* closed to the place this runs at"),
        (Fault(body=b'{"retCode": 10001, "retMsg": "params error"}'), "stay what they were: .* params error"),
        (Fault(body=b'{"retCode": 0, "result": {"list": [7]}}'), "stay what they were: .* row 1: is not an object"),
        (Fault(body=b'{"retCode": 0, "result": {"list": []}}'), ""),
    ],
)
def test_tiers_that_cannot_be_had_stay_what_they_were(
    server: BybitServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault, words: str
) -> None:
    root = tmp_path / "bybit"
    opened(server, root).prepare(BTC, [])
    server.fault("/risk-limit", fault)
    opened(server, root).prepare(BTC, [day(1)])
    assert tiers_of(root) == {"2024-03-04": (0.005, 100.0)}
    assert re.search(words, caplog.text)


def test_tiers_that_are_none_are_refused_where_none_are_kept(server: BybitServer, market: BybitMarket) -> None:
    for wrong in (
        tier("BTCUSDT", 1, "2000000", "0.005", "0.1", "100"),
        tier("BTCUSDT", 1, "2000000", "0.02", "0.01", "100"),
        tier("BTCUSDT", 1, "", "0.005", "0.01", "100"),
    ):
        server.tiers = [wrong]
        with pytest.raises(MarketError, match="row 1: its riskLimitValue, margins and maxLeverage are no tier"):
            market.prepare(BTC, [day(1)])


def test_tiers_of_kept_days_need_no_network(server: BybitServer, tmp_path: Path) -> None:
    market = opened(server, tmp_path / "bybit")
    market.prepare(BTC, [day(1)])
    read(market, day(1))
    server.asked.clear()
    opened(server, tmp_path / "bybit").prepare(BTC, [day(1)])
    assert server.asked == []


def judged(samples: CleanDay, candles: CleanDay, before: Before | None = None) -> CleanDay:
    return judge_samples_of(samples, candles, before or Before(), said=False, file="the day", way_out="leave it out")


def test_both_sides_are_halved_and_one_side_is_taken(tmp_path: Path) -> None:
    for sides in (1, 2):
        with BybitServer(*made_rows(1, sides=sides), NOON) as server:
            (candles,), (samples,) = read(opened(server, tmp_path / str(sides)), day(1))
        clean = judged(samples, candles)
        one_sided = [float(one["openInterest"]) / sides for one in server.samples]
        assert clean.table["contracts"].tolist() == pytest.approx(one_sided, rel=1e-12)
        assert clean.repairs.get("both_sides_samples", 0) == (288 if sides == 2 else 0)


def test_what_the_exchange_declares_wins_unless_the_numbers_exclude_it(tmp_path: Path) -> None:
    candles, samples = made_rows(1)
    both = [{**one, "singleOpenInterest": f"{float(one['openInterest']) / 2:.3f}"} for one in samples]
    with BybitServer(candles, both, NOON) as server:
        (bars,), (declared,) = read(opened(server, tmp_path / "right"), day(1))
    assert declared.facts[DECLARED] == 1
    clean = judged(declared, bars)
    assert clean.table["contracts"].tolist() == [float(one["singleOpenInterest"]) for one in both]
    assert "both_sides_samples" not in clean.repairs

    wrong = [{**one, "singleOpenInterest": one["openInterest"]} for one in samples]
    with BybitServer(candles, wrong, NOON) as server:
        (bars,), (declared,) = read(opened(server, tmp_path / "wrong"), day(1))
    with pytest.raises(MarketError, match=r"declares .* one side .* 0\.000 of 2\d\d .* of their halves 0\.\d+ are odd"):
        judged(declared, bars)


@pytest.mark.market
def test_real_rows_declared_to_be_one_side_are_refused(market_dir: Path, tmp_path: Path) -> None:
    rows = real_rows(market_dir, lambda amount: {"openInterest": amount, "singleOpenInterest": amount})
    with BybitServer(*rows, datetime(2021, 2, 10, 6)) as server:
        market = opened(server, tmp_path)
        (bars,), (declared,) = read(market, date(2021, 1, 4))
    with pytest.raises(MarketError, match=r"0\.0\d\d of 2\d\d distinct values.* of their halves 0\.[45]\d\d are odd"):
        judged(declared, bars)


@pytest.mark.market
def test_the_clock_of_real_rows_is_told_by_volume(market_dir: Path, tmp_path: Path) -> None:
    """Where the volume tells it, which is on most days, a label is when the sample was taken, as is the convention."""
    days = [date(2021, 1, 1) + timedelta(days=number) for number in range(40)]
    with BybitServer(*real_rows(market_dir), datetime(2021, 2, 10, 6)) as server:
        candles, samples = read(opened(server, tmp_path), *days)
    rules = [each.facts["clock"]["rule"] for each in samples]
    assert {each.facts["clock"]["offset_seconds"] for each in samples} == {0}
    assert rules.count("volume") >= 30, rules
    assert [len(each.table) for each in candles] == [288] * 40
    assert {each.day: 288 - len(each.table) for each in samples if len(each.table) < 288} == {date(2021, 2, 8): 4}
