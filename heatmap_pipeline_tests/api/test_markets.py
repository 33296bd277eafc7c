"""All markets at a glance: what /markets says is what the other answers say, at the cost of a few questions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.api import pages
from heatmap_pipeline.api.markets import plan_markets
from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.model import kernel
from heatmap_pipeline.render.overview import MANY
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import Version, published_version
from heatmap_pipeline.views.overview import market_records
from heatmap_pipeline_tests.api.homes import BTC, ETH, MAP, TestClient, ask, client, day, settings_of
from heatmap_pipeline_tests.api.many import add_markets

MARKETS = "/markets"


@pytest.fixture(scope="module")
def crowded(published: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One market more than the map can be the first page of."""
    home = tmp_path_factory.mktemp("crowded")
    shutil.copytree(published.home, home, dirs_exist_ok=True)
    add_markets(home, ETH, [f"C{number}USDT" for number in range(MANY - 1)])
    return settings_of(home)


@pytest.fixture
def version(crowded: Settings) -> Iterator[Version]:
    """What is published there, open."""
    found = published_version(Warehouse(crowded.home), None, crowded.models)
    yield found
    found.retire()


def test_each_market_says_what_the_other_answers_say(served: TestClient) -> None:
    body = ask(served, MARKETS, None)
    symbols = ask(served, "/symbols", None)
    assert body["version"] == symbols["version"]
    assert [one["symbol"] for one in body["markets"]] == [one["symbol"] for one in symbols["symbols"]] == [BTC, ETH]
    for market, entry in zip(body["markets"], symbols["symbols"], strict=True):
        assert market["market"] == market["symbol"], "typed like this on Binance"
        for name in ("quote", "price", "as_of", "simulated", "exchange", "title", "provisional", "ended"):
            assert market[name] == entry[name], name
        assert market["model"] == entry["models"][0]
        assert market["located_share"] == entry["located_share"][market["model"]]
        nearest = ask(served, MAP, market["symbol"])["nearest"]
        assert all(zone.pop("since") for zone in nearest.values())
        assert market["nearest"] == nearest
        assert all(market["nearest"].values())
        assert (market["newest_day"], market["score"]) == (str(day(5)), None)


def test_price_and_its_line_are_those_of_the_candles(served: TestClient) -> None:
    bitcoin, ether = ask(served, MARKETS, None)["markets"]
    for market in (bitcoin, ether):
        line = market["sparkline"]
        hours = ask(served, "/prices/klines", market["symbol"], interval="1h", limit=1500)["data"]
        closes = {bar["open_time"]: bar["close"] for bar in hours}
        assert (line["interval_seconds"], len(line["closes"])) == (7200, 84)
        assert line["start"] == f"{day(-1)}T00:00:00Z", "seven days before the newest candle's end"
        for number, close in enumerate(line["closes"]):
            at, hour = divmod(2 * number, 24)
            assert close == closes.get(f"{day(at - 1)}T{hour + 1:02d}:00:00Z"), (number, "the last close of two hours")
        assert line["closes"][-1] == market["price"]
        before = closes[f"{day(4)}T23:00:00Z"]
        assert market["change_24h_percent"] == pytest.approx(100 * (market["price"] / before - 1), abs=1e-4)
    assert bitcoin["sparkline"]["closes"][:24] == [None] * 24, "before the history begins"
    assert ether["sparkline"]["closes"][48:60] == [None] * 12, "in its gap"


def test_what_is_stale_is_what_health_says(published: Settings, served: TestClient) -> None:
    by_health = {one["symbol"]: one for one in served.get("/health").json()["symbols"] if one["model"] == "turnover"}
    for market in ask(served, MARKETS, None)["markets"]:
        assert market["stale"] is True
        assert market["reason"] == by_health[market["symbol"]]["reason"]
    with client(settings_of(published.home, api_stale_hours=1e7)) as one:
        assert [(market["stale"], market["reason"]) for market in ask(one, MARKETS, None)["markets"]] == [
            (False, None)
        ] * 2


def test_becoming_stale_is_another_answer_and_nothing_else_is(crowded: Settings, version: Version) -> None:
    settings = settings_of(crowded.home, api_stale_hours=36)
    end = (day_start(day(5)) + DAY) / 1e6
    fresh, later, stale = (plan_markets(version, settings, end + 3600 * hours) for hours in (1, 35, 37))
    assert fresh.key == later.key != stale.key
    assert fresh.fingerprint == version.name == stale.fingerprint


class Counting:
    """A connection that remembers what it is asked."""

    def __init__(self, con: Any, asked: list[str]) -> None:
        self._con, self._asked = con, asked

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._con, name)
        if name not in {"execute", "executemany", "sql", "query"}:
            return method

        def ask_and_remember(question: str, *arguments: Any, **more: Any) -> Any:
            self._asked.append(question)
            return method(question, *arguments, **more)

        return ask_and_remember


def test_many_markets_cost_four_questions_and_no_replay(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    def replayed(*_: Any) -> None:
        raise AssertionError("the engine ran")

    asked: list[str] = []
    monkeypatch.setattr(version, "_con", Counting(version._con, asked))
    monkeypatch.setattr(kernel, "run", replayed)
    records = market_records(version)
    tables = ("FROM open_positions", "FROM raw_candles", "FROM raw_candles", "FROM map_scores")
    assert [table in question for table, question in zip(tables, asked, strict=True)] == [True] * 4
    assert version.loaded.reads == 0, "no market is read for it"
    assert len(records) == MANY + 1
    ether = next(one for one in records if one["symbol"] == ETH)
    for copied in (one for one in records if one["symbol"].startswith("C")):
        assert {**copied, "symbol": ETH, "market": ETH} == ether


def test_books_of_different_days_are_those_that_were_stored(version: Version) -> None:
    """One market may have ended long before the others; a day without a book has none."""
    wanted = [(BTC, "delta", day(3), 10**10), (ETH, "turnover", day(1), 5 * 10**8), ("C1USDT", "turnover", day(9), 1)]
    books = version.newest_books(wanted)
    assert books.keys() == {BTC, ETH}
    for symbol, model, at, units in wanted[:2]:
        state, book = version.state(symbol, model, at), books[symbol]
        assert state is not None
        lots = state.lots
        sums: dict[tuple[int, int], float] = {}
        for price, side, volume in zip(lots.liq_price // units, lots.side, lots.volume, strict=True):
            sums[int(price), int(side)] = sums.get((int(price), int(side)), 0.0) + float(volume)
        keys = list(zip(book.bucket.tolist(), book.side.tolist(), strict=True))
        assert keys == sorted(keys, key=lambda key: (key[0], -key[1])), "rising, long before short"
        assert dict(zip(keys, book.volume.tolist(), strict=True)) == pytest.approx(sums)
    assert version.newest_books([]) == {}


def test_an_empty_book_has_no_zones(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "newest_books", lambda _: {})
    assert {tuple(one["nearest"].values()) for one in market_records(version)} == {(None, None)}


def title(one: TestClient, path: str) -> str:
    answer = one.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    text: str = answer.text
    return text.split("<title>")[1].split("</title>", maxsplit=1)[0]


def test_with_more_than_eight_markets_the_overview_comes_first(crowded: Settings, served: TestClient) -> None:
    assert MANY == 8
    map_title, overview_title = title(served, "/map"), title(served, "/overview")
    assert map_title != overview_title
    assert title(served, "/") == map_title, "two markets"
    with client(crowded) as one:
        assert len(ask(one, MARKETS, None)["markets"]) == 9
        assert title(one, "/") == title(one, "/overview") == overview_title
        assert title(one, "/map") == map_title


def test_with_as_many_markets_the_map_comes_first(crowded: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MANY", 9)
    with client(crowded) as one:
        assert len(ask(one, MARKETS, None)["markets"]) == 9
        assert title(one, "/") == title(one, "/map")


def test_before_anything_is_published_the_map_page_says_what_to_do(tmp_path: Path) -> None:
    with client(settings_of(tmp_path)) as one:
        assert title(one, "/") == title(one, "/map")
        assert one.get(MARKETS).status_code == 503


def test_parts_of_the_overview_are_kept_by_their_content(served: TestClient) -> None:
    page = served.get("/overview").text
    for name in ("overview.js", "overview.css"):
        address = page.split(f'"{name}?v=')[1].split('"')[0]
        part = served.get(f"/{name}?v={address}")
        assert part.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert served.get(f"/{name}").headers["cache-control"] == "no-cache"
