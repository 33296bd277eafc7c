"""A hundred symbols: none is read before it is asked for, few stay, and none holds up or spoils the others."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.chain.compute import advance
from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline.views import data as views
from heatmap_pipeline.views.base import shown_first
from heatmap_pipeline.views.book_map import map_record
from heatmap_pipeline.views.data import (
    NotAtHandError,
    SymbolData,
    SymbolSummary,
    Version,
    load_version,
    loaded_symbols,
    published_version,
    without_reading,
)
from heatmap_pipeline.views.replay import Books, Source
from heatmap_pipeline.views.symbol import load_symbol
from heatmap_pipeline_tests._once import copied_once
from heatmap_pipeline_tests.api.homes import (
    BTC,
    HEATMAP,
    MAP,
    TestClient,
    ask,
    client,
    day,
    refused,
    settings_of,
)
from heatmap_pipeline_tests.api.many import add_markets
from heatmap_pipeline_tests.api.test_markets import Counting
from heatmap_pipeline_tests.api.test_publications import quick, running, wait_for

KLINES = "/prices/klines"
NAMES = [f"S{number:02}USDT" for number in range(99)]
WITHOUT_READING = (
    "/symbols",
    "/health?always_ok=true",
    "/metrics",
    "/ready",
    "/markets",
    "/alerts",
    "/cache/stats",
    "/",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred symbols of one day, one model; nobody changes it."""
    return copied_once(tmp_path_factory, "hundred", _publish_hundred)


def _publish_hundred(folder: Path) -> None:
    settings = settings_of(folder, models="turnover")
    warehouse, market = Warehouse(folder), open_market(settings)
    for store in (ingest_candles, ingest_open_interest):
        list(store(partial(warehouse.connect, BTC), market, settings, BTC, [day(1)]))
    list(advance(partial(warehouse.connect, BTC), settings, BTC, [day(1)]))
    publish(warehouse, [BTC])
    with duckdb.connect(str(warehouse.published)) as con:
        con.execute("DELETE FROM position_events")  # many, and nothing here reads them
    add_markets(folder, BTC, NAMES)


@pytest.fixture
def hundred(home: Path) -> Settings:
    return settings_of(home, models="turnover")


@pytest.fixture
def copied(home: Path, tmp_path: Path) -> Settings:
    """A copy, which may be changed."""
    shutil.copyfile(home / "heatmap.duckdb", tmp_path / "heatmap.duckdb")
    return settings_of(tmp_path, models="turnover")


@pytest.fixture
def version(hundred: Settings) -> Iterator[Version]:
    """What is published there, open."""
    found = published_version(Warehouse(hundred.home), None, hundred.models)
    yield found
    found.retire()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The symbols that are read, one after the other."""
    names: list[str] = []
    load = load_symbol

    def noted(con: Connection, symbol: SymbolSummary) -> SymbolData:
        names.append(symbol.name)
        return load(con, symbol)

    monkeypatch.setattr(views, "load_symbol", noted)
    return names


def publish_anew(settings: Settings, *statements: str) -> None:
    """Put a changed file in the place of the published one, as a publication does."""
    path = settings.home / "heatmap.duckdb"
    new = path.with_name("new.duckdb")
    shutil.copyfile(path, new)
    with duckdb.connect(str(new)) as con:
        for statement in statements:
            con.execute(statement)
    new.replace(path)


def doubled(symbol: str) -> tuple[str, str]:
    """Return what makes the prices of a symbol twice what they were, as another file of its source would."""
    return (
        "UPDATE raw_candles SET open = 2 * open, high = 2 * high, low = 2 * low, close = 2 * close "
        f"WHERE symbol = '{symbol}'",
        f"UPDATE raw_days SET content_hash = 'another' WHERE symbol = '{symbol}'",
    )


def test_no_symbol_is_read_before_it_is_asked_for(hundred: Settings, read: list[str]) -> None:
    with client(hundred) as one:
        for path in WITHOUT_READING:
            assert one.get(path).status_code == 200, path
        assert len(ask(one, "/symbols", None)["symbols"]) == 100
        assert len(ask(one, "/health", None, always_ok=True)["symbols"]) == 100
        refused(one, 404, symbol="NOSUCHUSDT")
        refused(one, 404, symbol=NAMES[3], model="delta")
        assert ask(one, "/score", NAMES[3])["symbol"] == NAMES[3]
        assert [name for name in read if name != NAMES[3]] == []
        read.clear()
        ask(one, MAP, NAMES[7])
        ask(one, KLINES, NAMES[7])
        assert read == [NAMES[7]]
        stats = ask(one, "/cache/stats", None)
        assert stats["symbols_max_bytes"] == hundred.api_symbols_mb << 20
        assert 0 < stats["symbols_bytes"] < stats["symbols_max_bytes"]


def test_a_hundred_symbols_cost_as_many_questions_as_two(hundred: Settings) -> None:
    asked: dict[int, list[str]] = {2: [], 100: []}
    with Warehouse(hundred.home).read() as con:
        for count, questions in asked.items():
            counting: Any = Counting(con, questions)
            assert len(load_version(counting, ("turnover",), only=[BTC, *NAMES][:count]).symbols) == count
    assert len(asked[100]) == len(asked[2]) < 30
    assert not [question for question in asked[100] if "open, high" in question]


def test_what_is_said_without_reading_is_what_was_read(version: Version) -> None:
    """Of a symbol read whole; a hundred times the same market says a hundred times the same."""
    data = version.data(BTC)
    for summary in version.symbols.values():
        (said,) = summary.models.values()
        (model,) = data.models.values()
        assert (said.first_day, said.last_day) == (model.days[0], model.days[-1])
        assert (said.begin, said.end) == (model.times[0], model.times[-1] + data.candles.step)
        assert said.price == data.candles.close[model.rows[-1]]
        assert said.newest_parameters == model.parameters[model.days[-1]]
        assert summary.bucket == model.parameters[model.days[-1]].bucket


def test_symbols_keep_within_their_bytes(hundred: Settings, read: list[str]) -> None:
    settings = hundred.model_copy(update={"api_symbols_mb": 1})
    with client(settings) as one:
        service = one.app.state.service  # type: ignore[attr-defined]
        symbols, most = service.symbols, 0
        for name in NAMES[:50]:
            ask(one, KLINES, name, interval="1h")
            most = max(most, symbols.size)
            assert symbols.size <= 1 << 20
        assert most > 0.9 * (1 << 20), "it is not filled"
        assert symbols.size == sum(data.size for data in symbols._kept.values())
        assert len(symbols) < 50 == len(read)
        arrays = [each for each in vars(next(iter(symbols._kept.values())).candles).values() if hasattr(each, "nbytes")]
        assert next(iter(symbols._kept.values())).size > sum(each.nbytes for each in arrays)
        ask(one, KLINES, NAMES[49], interval="4h")
        assert len(read) == 50, "the newest is still there"
        ask(one, KLINES, NAMES[0], interval="4h")
        assert read[50:] == [NAMES[0]], "the one not used for longest has left"


def test_who_asks_at_once_for_a_symbol_has_it_read_once(hundred: Settings, read: list[str]) -> None:
    """Eight different questions of one symbol that nobody asked for before, and a ninth of another."""
    with running(create_app(hundred)) as address, httpx.Client(base_url=address, timeout=60) as one:
        wait_for(lambda: one.get("/ready").status_code == 200, "nothing is served")
        together = threading.Barrier(9)

        def question(number: int) -> int:
            together.wait(20)
            symbol = NAMES[1] if number else NAMES[2]
            return one.get(KLINES, params={"symbol": symbol, "limit": number + 10}).status_code

        with ThreadPoolExecutor(9) as asking:
            assert set(asking.map(question, range(9))) == {200}
    assert sorted(read) == [NAMES[1], NAMES[2]]


def test_a_question_goes_on_with_a_symbol_that_has_left(version: Version) -> None:
    version.loaded = loaded_symbols(version.data(BTC).size)
    books = Books(1 << 20)

    def shown(data: SymbolData) -> Any:
        (model,) = data.models.values()
        return map_record(Source(version, data, model, None, books), len(model.times) - 1, None, 5.0)

    held = version.data(BTC)
    before = shown(held)
    version.data(NAMES[0])
    assert version.loaded.get((BTC, held.fingerprint)) is None
    assert shown(held) == before
    again = version.data(BTC)
    assert again is not held
    assert shown(again) == before


@pytest.mark.parametrize("room", [1, 1 << 30])
def test_a_base_is_added_up_whether_its_markets_stay_or_not(several: Settings, read: list[str], room: int) -> None:
    """Three markets, each larger than all the room there is, or kept; what is answered is the same."""
    app = create_app(several)
    app.state.service.symbols = loaded_symbols(room)
    with TestClient(app) as one:
        whole = ask(one, HEATMAP, "BTC", interval="1h")
        assert sorted(read) == sorted(part["symbol"] for part in whole["meta"]["parts"])
        assert len(read) == 3
        kept = len(app.state.service.symbols)
        assert kept == (0 if room == 1 else 3)
        ask(one, MAP, "BTC")
        assert len(read) == (6 if room == 1 else 3)
    with client(several) as other:
        assert ask(other, HEATMAP, "BTC", interval="1h") == whole


def test_what_the_page_shows_first_is_read_while_the_browser_loads_the_page(several: Settings, read: list[str]) -> None:
    with client(several) as one:
        ask(one, "/symbols", None)
        assert read == []
        one.get("/")
        wait_for(lambda: len(read) == 3, "its three markets")
        whole = ask(one, HEATMAP, "BTC", interval="1h")
        assert sorted(read) == sorted(part["symbol"] for part in whole["meta"]["parts"])
        one.get("/")
    assert len(read) == 3, "the second time all of it is there"


def test_the_page_begins_with_the_base_of_the_first_market_where_there_are_several(version: Version) -> None:
    alone = {name: replace(version.symbols[name], base=name.removesuffix("USDT")) for name in NAMES[:2]}
    version.symbols = alone
    assert shown_first(version) == (NAMES[0],)
    both = {name: replace(symbol, base="S") for name, symbol in alone.items()}
    version.symbols = both
    assert shown_first(version) == tuple(NAMES[:2])
    version.symbols = {"S": replace(alone[NAMES[0]], name="S", base="S"), **both}
    assert shown_first(version) == ("S",), "a name that is a market as well is the market"
    version.symbols = {}
    assert shown_first(version) == ()


def test_who_must_not_wait_is_told_all_that_is_not_at_hand(version: Version) -> None:
    data = version.data(BTC)
    with without_reading({}), pytest.raises(NotAtHandError) as missing:
        version.several([NAMES[0], BTC, NAMES[1]])
    assert missing.value.names == (NAMES[0], NAMES[1])
    with without_reading({NAMES[0]: data}):
        assert version.several([NAMES[0], BTC]) == [data, data]
    assert version.data(NAMES[0]) is not data


def test_a_publication_reads_nothing_and_keeps_what_is_the_same(copied: Settings, read: list[str]) -> None:
    with client(copied) as one:
        publications = quick(one)
        first = {name: one.get(KLINES, params={"symbol": name}) for name in NAMES[:3]}
        publish_anew(copied, *doubled(NAMES[1]))
        loads = publications.loads
        wait_for(lambda: publications.loads > loads, "the publication was not noticed")
        assert read == NAMES[:3]
        for name in (NAMES[0], NAMES[2]):
            tag = {"If-None-Match": first[name].headers["etag"]}
            assert one.get(KLINES, params={"symbol": name}, headers=tag).status_code == 304
            ask(one, KLINES, name, interval="4h")
        assert read == NAMES[:3]
        close = [bar["close"] for bar in ask(one, KLINES, NAMES[1])["data"]]
        assert close == [2 * bar["close"] for bar in first[NAMES[1]].json()["data"]]
        assert read == [*NAMES[:3], NAMES[1]]


def test_an_answer_is_of_the_publication_it_was_begun_with(copied: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol is read while another publication comes: the answer is the one of before, the next one the new."""
    with client(copied) as one:
        expected = ask(one, HEATMAP, NAMES[4], interval="1h")

    def shown(server: httpx.Client) -> Any:
        return server.get(HEATMAP, params={"symbol": NAMES[4], "interval": "1h"}).json()

    load, begun, go_on = load_symbol, threading.Event(), threading.Event()

    def slowly(con: Connection, symbol: SymbolSummary) -> SymbolData:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(20)
        return load(con, symbol)

    monkeypatch.setattr(views, "load_symbol", slowly)
    app = create_app(copied)
    app.state.service.publications.look_every = 0.01
    with running(app) as address, httpx.Client(base_url=address, timeout=60) as asker, ThreadPoolExecutor(1) as asking:
        wait_for(lambda: asker.get("/ready").status_code == 200, "nothing is served")
        old = app.state.service.publications.version
        answer = asking.submit(shown, asker)
        assert begun.wait(20)
        publish_anew(copied, *doubled(NAMES[4]))
        wait_for(lambda: app.state.service.publications.version is not old, "the publication was not noticed")
        assert not old.closed
        go_on.set()
        assert answer.result(20) == expected
        wait_for(lambda: bool(old.closed), "the publication of before stays open")
        assert shown(asker) != expected


def test_a_symbol_whose_rows_contradict_each_other_fails_alone(copied: Settings) -> None:
    """One lacks a candle in the middle, one its newest, one the open interest it starts from; all others are served."""
    middle, newest, start = NAMES[:3]
    publish_anew(
        copied,
        f"DELETE FROM raw_candles WHERE symbol = '{middle}' AND open_time = TIMESTAMP '{day(1)} 12:00'",
        f"DELETE FROM raw_candles WHERE symbol = '{newest}' AND open_time = TIMESTAMP '{day(1)} 23:55'",
        f"DELETE FROM raw_open_interest WHERE symbol = '{start}'",
    )
    told: list[str] = []
    with TestClient(create_app(copied, tell=told.append)) as one:
        assert [each["symbol"] for each in ask(one, "/symbols", None)["symbols"]] == [BTC, *NAMES[:1], *NAMES[2:]]
        assert [line for line in told if line.startswith("left out: ")] == [line for line in told if newest in line]
        for name in (middle, newest):
            words = refused(one, 503, symbol=name)
            assert words.startswith(f"the published data cannot answer this: {name} turnover: the published ledger")
            assert f"heatmap refresh {name}" in words
        assert f"{start} {day(1)} has no open interest" in refused(one, 503, MAP, symbol=start)
        assert ask(one, HEATMAP, NAMES[3], interval="1h")["data"]
        reason = ask(one, "/health", None, always_ok=True)["reason"]
        assert all(f"{name} " in reason for name in (middle, newest, start))
        assert one.get("/ready").status_code == 200


def test_a_file_that_says_nothing_of_any_symbol_is_refused(copied: Settings) -> None:
    publish_anew(copied, "DELETE FROM raw_candles")
    with pytest.raises(StoreError, match="names candles that are not published"):
        published_version(Warehouse(copied.home), None, copied.models)
