"""Any moment on the page, on the real server and the crash of 2024-07-04: travelled to, zoomed, pinned, replayed.

One home, one server and one browser for all of them; what the page says is held against the endpoint's own answers.
"""

from __future__ import annotations

import bisect
import io
import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from heatmap_pipeline.alert_rules import CascadeRule
from heatmap_pipeline.chain.alerts import watch_symbol
from heatmap_pipeline.chain.liquidations import ingest_liquidations, open_sources
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import clean_environment
from heatmap_pipeline_tests._once import copied_once
from heatmap_pipeline_tests.api._threaded import serving_here
from heatmap_pipeline_tests.api.homes import compute, publish_all
from heatmap_pipeline_tests.render.browser import DARK, colours_at, follow, opened, press, settle, state, trace

pytestmark = [pytest.mark.slow, pytest.mark.market]

BTC, ETH = "BTCUSDT", "ETHUSDT"
FIRST, LAST = date(2024, 6, 26), date(2024, 7, 6)
NOW = "2024-07-07T00:10:00Z"
CRASH = "2024-07-04T23:30Z"
MINUTE = 60_000
RULES = (CascadeRule(name="cascade", when="cascade", times=3.0),)


@pytest.fixture(scope="module")
def server(market_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real server over eleven real days in columns as fine as 5 minutes, and the last four of another market."""
    from heatmap_pipeline.settings import load_settings

    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)

        def settings_at(home: Path) -> Any:
            archive = market_dir / "binance_vision"
            records = market_dir / "liquidations"
            return load_settings(
                home=home, source="archive", archive=archive, models=["turnover"], liquidations_folder=records
            )

        def make(home: Path) -> None:
            settings, connect = settings_at(home), partial(Warehouse(home).connect, BTC)
            days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
            for part in (days[:-1], days[-1:]):  # rules tell what is new since they looked first
                compute(settings, BTC, part)
                watch_symbol(connect, BTC, settings.models, RULES)
            ingest_liquidations(connect, open_sources(settings), BTC, days)
            compute(settings, ETH, days[-4:])
            publish_all(settings, BTC, ETH)

        home = copied_once(tmp_path_factory, "crash", make)
        with serving_here(settings_at(home)) as running:
            yield f"http://127.0.0.1:{running.port}/"


@pytest.fixture(scope="module")
def desk(browser: Any) -> Iterator[Any]:
    with opened(browser, now=NOW) as page:
        yield page


@pytest.fixture
def page(desk: Any) -> Iterator[Any]:
    """The desk's page for one test, which fails if anything went to the console: also on data as old as these."""
    desk.requested.clear()
    yield desk
    troubles = list(desk.troubles)
    desk.troubles.clear()
    assert troubles == []


def visit(page: Any, server: str, fragment: str = "", *, anew: bool = False) -> None:
    """Open a link; `anew` is with nothing that an earlier test has loaded, which takes five times as long."""
    if anew:
        page.goto("about:blank")
    follow(page, server, fragment)


def instant(milliseconds: float) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def drawn(page: Any) -> Any:
    """What is drawn, and what stands beside it."""
    found = page.evaluate(
        """() => {
        const { map, moment, choice, until } = heatmapPage.state();
        const sum = volumes => volumes.reduce((total, volume) => total + volume, 0);
        return { width: map.width, columns: map.columns, start: map.start, end: map.end, choice,
            view: heatmapPage.view(), asOf: moment.asOf, price: moment.price,
            share: moment.locatedShare, isPast: moment.isPast,
            long: sum(moment.book.long), short: sum(moment.book.short), until: Number.isFinite(until) ? until : null };
    }"""
    )
    return found | {"time": instant(found["asOf"])}


def spot_of(page: Any, time: str) -> Any:
    """Where a time is on the screen, in the upper part of the map."""
    return page.evaluate(
        """time => {
        const { xaxis, yaxis } = document.getElementById('chart')._fullLayout;
        const frame = document.getElementById('chart').getBoundingClientRect();
        return [frame.left + xaxis._offset + xaxis.l2p(Date.parse(time)), frame.top + yaxis._offset + 80];
    }""",
        time,
    )


def asked(page: Any) -> list[str]:
    return [address for address in page.requested if "heatmap-timeseries" in address]


def there(server: str, time: str) -> Any:
    """The endpoint's own map of a moment."""
    return httpx.get(f"{server}liquidations/map", params={"symbol": BTC, "time": time}).json()


def held(page: Any, server: str) -> Any:
    """Check that what is beside the map is the endpoint's at the moment that the page names; return what is drawn."""
    now = drawn(page)
    real = there(server, now["time"])
    assert now["price"] == real["price"]
    assert now["share"] == pytest.approx(real["located_share"], abs=1e-6)
    assert now["long"] == pytest.approx(real["total_long_volume"], rel=1e-4)
    assert now["short"] == pytest.approx(real["total_short_volume"], rel=1e-4)
    words = now["time"].replace("T", " ").replace("Z", " UTC")
    assert words in page.locator("#as-of").inner_text()
    assert words in page.locator("#moment").inner_text()
    price = f"{math.floor(real['price'] + 0.5):,}"  # a browser rounds halves up
    assert page.locator("#price").inner_text() == price
    assert price in page.locator("#ladder .now").inner_text()
    line = page.evaluate("() => document.getElementById('chart').layout.shapes.find(one => one.name === 'price')")
    assert line["y0"] == real["price"]
    assert line["line"]["dash"] == ("dot" if now["isPast"] else "dash")
    assert page.locator(".badge.past").count() == int(now["isPast"])
    assert page.locator("body.past").count() == int(now["isPast"])
    return now


def test_a_date_shows_the_crash_at_five_minutes(page: Any, server: str) -> None:
    visit(page, server)
    assert held(page, server)["time"] == "2024-07-07T00:00Z"
    press(page, "range", "24h")
    page.locator("#date").fill("2024-07-04T23:30")
    page.locator("#date").press("Enter")
    page.wait_for_function("() => heatmapPage.state().moment.isPast")
    settle(page)
    now = held(page, server)
    assert (now["width"], now["columns"], now["time"]) == (5 * MINUTE, 288, CRASH)
    assert f"at={CRASH}" in page.url
    assert now["long"] > 0
    press(page, "range", "12h")
    assert held(page, server)["time"] == CRASH, "a range keeps the moment that was chosen"
    page.locator("#newest").click()
    settle(page)
    assert held(page, server)["isPast"] is False


def test_earlier_and_later_reach_the_ends_of_the_data_and_say_where_they_are(page: Any, server: str) -> None:
    visit(page, server, "#range=3d", anew=True)
    presses = 0
    while page.locator("#earlier").is_enabled():
        page.locator("#earlier").click()
        settle(page)
        presses += 1
        assert presses < 12
    now = held(page, server)
    assert instant(now["start"]) == "2024-06-26T00:00Z"
    assert presses == 6, "by half of what is shown, eleven days"
    assert "2024-06-26 00:00 UTC to 2024-07-07 00:00 UTC" in page.locator("#earlier").get_attribute("title")
    assert len(asked(page)) == presses + 1, "each step asks once"
    page.keyboard.press(".")
    settle(page)
    assert drawn(page)["asOf"] == now["asOf"] + 36 * 60 * MINUTE
    page.keyboard.press("n")
    settle(page)
    assert drawn(page)["time"] == "2024-07-07T00:00Z"
    assert page.locator("#later").is_disabled()


def test_arrow_keys_move_beyond_what_is_loaded_and_the_map_stays_meanwhile(page: Any, server: str) -> None:
    visit(page, server, "#range=24h")
    page.evaluate(
        """() => {
        window.empty = 0;
        const watch = () => { window.empty += document.getElementById('message').hidden ? 0 : 1; };
        new MutationObserver(watch).observe(document.getElementById('message'), { attributes: true });
    }"""
    )
    before = drawn(page)
    width = before["view"]["x"]
    # By the page's own clock: from here, a busy machine would make pauses of them.
    page.evaluate(
        """async () => {
        for (let press = 0; press < 8; press += 1) {
            document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', bubbles: true }));
            await new Promise((done) => setTimeout(done, 60));
        }
    }"""
    )
    page.wait_for_function("end => heatmapPage.state().map.end < end", arg=before["end"])
    settle(page)
    now = held(page, server)
    moved = now["view"]["x"][0] - width[0]
    assert moved == pytest.approx(-8 * 0.15 * (width[1] - width[0]), rel=0.01)
    assert now["start"] <= now["view"]["x"][0] < now["view"]["x"][1] <= now["end"], "what is looked at is loaded"
    assert (now["width"], page.evaluate("() => window.empty")) == (5 * MINUTE, 0)
    assert len(asked(page)) <= 5, "not one request for each press"
    visit(page, server, "#range=24h&at=2024-06-27T00:00Z")
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(600)
    settle(page)
    first = drawn(page)["view"]["x"]
    assert instant(first[0] + 0.5 * (first[1] - first[0])) == "2024-06-26T00:00Z", "half of the view stays on data"
    assert "2024-06-26 00:00 UTC" in page.locator("#edge").inner_text()


def test_dragging_beyond_what_is_loaded_loads_once_it_is_let_go(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}", anew=True)
    before = drawn(page)
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(800, 300, steps=8)
    page.wait_for_timeout(400)
    assert len(asked(page)) == 1, "not while the button is down"
    page.mouse.up()
    page.wait_for_function("start => heatmapPage.state().map.start < start", arg=before["start"])
    settle(page)
    now = held(page, server)
    assert now["view"]["x"][1] < before["view"]["x"][1]
    assert now["choice"]["pin"] is None, "a drag is no click"
    assert now["start"] <= now["view"]["x"][0]
    assert len(asked(page)) == 2


def test_zooming_in_brings_finer_columns_and_out_coarser_ones(page: Any, server: str) -> None:
    visit(page, server, f"#range=7d&at={CRASH}")
    assert drawn(page)["width"] == 15 * MINUTE
    page.mouse.move(600, 450)
    for _ in range(18):
        page.mouse.wheel(0, -400)
    page.wait_for_function("() => heatmapPage.state().map.width === 300000")
    settle(page)
    near = held(page, server)
    assert (near["end"] - near["start"]) / near["width"] < 1500
    page.mouse.move(600, 450)
    for _ in range(26):
        page.mouse.wheel(0, 400)
    page.wait_for_function("() => heatmapPage.state().map.width > 900000")
    settle(page)
    far = held(page, server)
    assert far["end"] - far["start"] > 6 * 24 * 60 * MINUTE


def test_a_request_that_is_overtaken_is_cancelled(page: Any, server: str) -> None:
    visit(page, server, "#range=24h", anew=True)
    ended: list[str] = []
    page.on("requestfailed", lambda request: ended.append(request.url))
    page.route("**/heatmap-timeseries*", lambda route: (page.wait_for_timeout(1), route.continue_())[1])
    page.evaluate(
        """() => { for (let i = 0; i < 6; i += 1) document.getElementById('earlier').click(); }""",
    )
    settle(page)
    page.unroute("**/heatmap-timeseries*")
    assert len(ended) >= 1
    assert drawn(page)["time"] == "2024-07-04T00:00Z", "the newest press is the one that counts"


def test_a_click_pins_a_moment_and_another_lets_go_of_it(page: Any, server: str) -> None:
    visit(page, server, f"#range=24h&at={CRASH}")
    edge = held(page, server)
    spot = spot_of(page, "2024-07-04T12:02Z")
    page.mouse.click(*spot)
    page.wait_for_function("() => heatmapPage.state().choice.pin !== null")
    settle(page)
    pinned = held(page, server)
    assert pinned["time"] == "2024-07-04T12:05Z"
    assert pinned["view"] == edge["view"], "a click moves nothing"
    assert "pin=2024-07-04T12:05Z" in page.url
    link = page.url.split("#")[1]
    page.mouse.click(*spot)
    page.wait_for_function("() => heatmapPage.state().choice.pin === null")
    assert held(page, server)["time"] == CRASH
    visit(page, server, f"#{link}")
    assert held(page, server)["time"] == "2024-07-04T12:05Z"
    assert page.locator("#unpin").is_visible()
    page.keyboard.press("ArrowUp")
    settle(page)
    assert held(page, server)["time"] == "2024-07-04T12:05Z", "moving about does not unpin"
    page.keyboard.press("Escape")
    settle(page)
    assert held(page, server)["time"] == CRASH
    assert page.locator("#unpin").is_hidden()


def test_a_replay_shows_nothing_of_what_comes_after(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}&pin=2024-07-04T22:50Z")
    page.keyboard.press(">")
    page.wait_for_function("() => heatmapPage.state().choice.replay")
    settle(page)
    now = held(page, server)
    assert now["time"] == "2024-07-04T22:55Z"
    last = page.evaluate(
        """() => {
        const { data } = document.getElementById('chart');
        const { xaxis } = document.getElementById('chart')._fullLayout;
        const points = ['candles', 'consumed'].flatMap(name => Array.from(data.find(one => one.name === name).x));
        const at = Math.ceil(xaxis._offset + xaxis.l2p(heatmapPage.state().choice.pin) + 1);
        const canvas = document.getElementById('density');
        const { data: pixels } = canvas.getContext('2d').getImageData(at, 0, canvas.width - at, canvas.height);
        return { points: Math.max(...points), drawn: pixels.some(value => value > 0) };
    }"""
    )
    assert last["points"] < now["asOf"] + 15 * MINUTE
    assert last["drawn"] is False, "no cell is coloured after the moment"
    for moment, tells in (("2024-07-04T22:40Z", True), ("2024-07-04T23:10Z", False)):
        page.mouse.move(*spot_of(page, moment))
        assert page.locator("#tip").is_visible() is tells, "the pointer does not tell what comes after either"
    page.mouse.move(5, 5)
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    assert download.value.suggested_filename == "BTCUSDT-turnover-20240704T2255Z.csv"
    times = [line.split(",")[0] for line in Path(download.value.path()).read_text().splitlines()[1:]]
    assert max(times) == "2024-07-04T22:50:00Z", "the column that ends at the moment is the last one"
    page.keyboard.press("<")
    settle(page)
    assert held(page, server)["time"] == "2024-07-04T22:50Z"


def test_relative_colours_of_a_replay_are_of_the_price_of_each_column(page: Any, server: str) -> None:
    """The pointer tells the cell by what the endpoint calls usual at its distance from that close."""
    visit(page, server, f"#range=12h&at={CRASH}&pin=2024-07-04T22:50Z&replay=1&scale=relative", anew=True)
    answer = httpx.get(asked(page)[-1]).json()
    bin_size, times = answer["meta"]["price_bin_size"], answer["timestamps"]
    closes = dict(zip(answer["candles"]["open_time"], answer["candles"]["close"], strict=True))
    told = 0
    for moment in ("2024-07-04T14:02Z", "2024-07-04T19:02Z", "2024-07-04T22:42Z"):
        x, y = spot_of(page, moment)
        page.mouse.move(x, y)
        words = page.locator("#tip").inner_text()
        low = float(re.search(r"Price\s+([\d,.]+) –", words)[1].replace(",", ""))  # type: ignore[index]
        factor = re.search(r"Shorts, at this distance\s+([\d.]+)× the usual", words)
        column = int((datetime.fromisoformat(moment).timestamp() * 1000 - times[0]) // (5 * MINUTE))
        row = round((low - answer["prices"][0]) / bin_size)
        cells = zip(*(answer["short"][name] for name in ("time", "price", "volume")), strict=True)
        volume = sum(size for at, price, size in cells if (at, price) == (column, row))
        away = 100 * ((low + bin_size / 2) / closes[times[column]] - 1)
        band = bisect.bisect_right(answer["usual"]["edges_percent"], away) - 1
        usual = answer["usual"]["short"][band]
        assert (factor is not None) == (volume > 0 and usual is not None)
        if factor is not None:
            assert float(factor[1]) == pytest.approx(volume / usual, rel=0.06, abs=0.005)
            told += 1
    assert told
    page.mouse.move(5, 5)


def test_the_replay_plays_at_its_speed_beyond_the_view_and_stops(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}&pin=2024-07-04T23:20Z")
    page.locator("#speed").select_option("20")
    page.locator("#play").click()
    page.wait_for_function("() => heatmapPage.state().choice.pin > Date.parse('2024-07-05T00:30:00Z')", timeout=60_000)
    assert "Pause" in page.locator("#play").inner_text()
    page.keyboard.press(" ")
    page.wait_for_timeout(300)
    settle(page)
    stopped = held(page, server)
    assert stopped["view"]["x"][0] < stopped["asOf"] < stopped["view"]["x"][1], "the view goes along"
    assert stopped["view"]["y"][0] < stopped["price"] < stopped["view"]["y"][1]
    assert stopped["width"] == 5 * MINUTE
    page.wait_for_timeout(400)
    assert drawn(page)["time"] == stopped["time"]
    assert trace(page, "consumed")["points"] > 0
    page.keyboard.press("Escape")
    settle(page)
    assert drawn(page)["until"] is None


def test_a_replay_ends_where_the_data_end(page: Any, server: str) -> None:
    visit(page, server, "#range=12h&pin=2024-07-06T23:50Z&replay=1")
    page.keyboard.press(" ")
    page.wait_for_function("() => document.getElementById('play').textContent.includes('Play')")
    settle(page)
    assert held(page, server)["time"] == "2024-07-07T00:00Z"
    page.keyboard.press(">")
    settle(page)
    assert drawn(page)["time"] == "2024-07-07T00:00Z"


def test_an_old_link_shows_its_view_in_finer_columns(page: Any, server: str) -> None:
    view = "1720130400000,1720141200000,55000,60500"  # 2024-07-04 22:00 to 2024-07-05 01:00
    visit(page, server, f"#symbol={BTC}&model=turnover&range=7d&side=both&scale=linear&view={view}")
    now = held(page, server)
    assert now["view"] == {"x": [1720130400000, 1720141200000], "y": [55000, 60500]}
    assert (now["width"], now["time"]) == (5 * MINUTE, "2024-07-05T01:00Z")
    assert page.url.endswith(view)


def test_a_link_to_a_moment_alone_opens_it(page: Any, server: str) -> None:
    visit(page, server, "#range=12h&pin=2024-07-04T12:05Z", anew=True)
    now = held(page, server)
    assert now["time"] == "2024-07-04T12:05Z"
    assert instant(now["end"]) == "2024-07-04T12:05Z", "the newest 12 hours do not reach back to it"


def spot_of_cell(page: Any, time: str) -> Any:
    """Where the largest cell of a column in view is on the screen, its lower price and the height of a row."""
    return page.evaluate(
        """time => {
        const { map } = heatmapPage.state();
        const { xaxis, yaxis } = document.getElementById('chart')._fullLayout;
        const frame = document.getElementById('chart').getBoundingClientRect();
        const column = Math.floor((Date.parse(time) - map.start) / map.width);
        const volumes = Array.from({ length: map.rows }, (_, row) => {
            const price = map.low + (row + 0.5) * map.bin;
            const isSeen = price > yaxis.range[0] && price < yaxis.range[1];
            return isSeen ? map.long[column * map.rows + row] : 0;
        });
        const row = volumes.indexOf(Math.max(...volumes));
        const [x, y] = [map.start + (column + 0.5) * map.width, map.low + (row + 0.5) * map.bin];
        return { x: frame.left + xaxis._offset + xaxis.l2p(x), y: frame.top + yaxis._offset + yaxis.l2p(y),
            low: map.low + row * map.bin, bin: map.bin, end: map.start + (column + 1) * map.width };
    }""",
        time,
    )


def lots_asked(page: Any) -> list[str]:
    return [address for address in page.requested if "liquidations/lots" in address]


def tip_words(page: Any) -> dict[str, str]:
    """What the pointer says, by the words at the left, with plain blanks."""
    cells = page.locator("#tip tr").evaluate_all("all => all.map(row => [...row.cells].map(cell => cell.textContent))")
    return {left: right.replace("\u00a0", " ") for left, right in cells}


def test_the_pointer_tells_age_and_leverage_of_a_cell_when_they_come(page: Any, server: str) -> None:
    visit(page, server, f"#range=24h&at={CRASH}", anew=True)
    before = drawn(page)
    page.route("**/liquidations/lots*", lambda route: (page.wait_for_timeout(300), route.continue_())[1])
    places = [spot_of_cell(page, f"2024-07-04T12:{minute:02}Z") for minute in range(2, 57, 5)]
    # By the page itself: a busy machine takes so long between two moves of the mouse that the pointer rests there.
    page.evaluate(
        """async places => { for (const { x, y } of places) {
            await new Promise(done => setTimeout(done, 5));
            const moved = { clientX: x, clientY: y, bubbles: true, pointerType: 'mouse' };
            document.elementFromPoint(x, y).dispatchEvent(new PointerEvent('pointermove', moved));
        } }""",
        places,
    )
    place = places[-1]
    words = tip_words(page)
    assert (words["Oldest of the longs"], words["Longs by leverage"]) == ("…", "…"), "it does not wait for the answer"
    assert "Long, modelled" in words
    page.wait_for_function("() => /Oldest of the longs[0-9]+ [a-z]+,/.test(document.getElementById('tip').textContent)")
    page.unroute("**/liquidations/lots*")
    assert len(lots_asked(page)) == 1, "for where the pointer rested, and not on the way"
    query = {"symbol": BTC, "time": instant(place["end"]), "price_bin_size": place["bin"]}
    answer = httpx.get(f"{server}liquidations/lots", params=query).json()["long"]
    names = ("price", "leverage", "volume", "opened_at")
    inside = [row for row in zip(*(answer[name] for name in names), strict=True) if row[0] == place["low"]]
    total = sum(volume for *_, volume, _ in inside)
    words = tip_words(page)
    opened = instant(min(row[3] for row in inside)).replace("T", " ").rstrip("Z")
    assert words["Oldest of the longs"].endswith(f", {opened}")
    told = dict(re.findall(r"([\d.]+)x (<?[\d.]+) %", words["Longs by leverage"]))
    assert len(told) == len(inside)
    for _, leverage, volume, _ in inside:
        share, words_ = 100 * volume / total, told[f"{leverage:g}"]
        assert share < 0.51 if words_ == "<1" else float(words_) == pytest.approx(share, abs=0.51)
    page.mouse.move(places[0]["x"], places[0]["y"])
    page.wait_for_function("() => !document.getElementById('tip').textContent.includes('…')")
    page.mouse.move(place["x"], place["y"])
    assert tip_words(page)["Oldest of the longs"].endswith(f", {opened}"), "what is known is said at once"
    page.wait_for_timeout(400)
    assert len(lots_asked(page)) == 2, "and not asked for again"
    assert drawn(page)["view"] == before["view"]
    page.mouse.move(5, 5)


def test_circles_say_what_died_and_stand_where_price_was(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}", anew=True)
    answer = httpx.get(asked(page)[-1]).json()
    times, candles = answer["timestamps"], answer["candles"]
    ranges = dict(zip(candles["open_time"], zip(candles["low"], candles["high"], strict=True), strict=True))
    circles = page.evaluate(
        """() => {
        const { x, y, marker } = document.getElementById('chart').data.find(one => one.name === 'consumed');
        return { x: Array.from(x), y: Array.from(y), size: Array.from(marker.size) };
    }"""
    )
    assert len(circles["x"]) > 50
    for middle, price in zip(circles["x"], circles["y"], strict=True):
        low, high = ranges[middle - 2.5 * MINUTE]
        assert low - 1e-6 <= price <= high + 1e-6
    longs = answer["modelled"]["long"]
    most = max(range(len(longs["time"])), key=lambda n: longs["volume"][n])
    time = instant(times[longs["time"][most]])
    page.mouse.move(*spot_of(page, time.replace("Z", ":30Z")))
    words = tip_words(page)
    low, high = (f"{math.floor(longs[name][most] + 0.5):,}" for name in ("entry_low", "entry_high"))
    assert words["Longs liquidated, modelled"].endswith(f" M USDT, {longs['lots'][most]} lots")
    assert longs["lots"][most] > 10
    assert words["Longs entered at"] == f"{low} – {high}"
    assert words["Longs liquidated at"] == f"{math.floor(longs['price'][most] + 0.5):,} on average"
    page.mouse.move(5, 5)


def ladder_since(page: Any) -> list[str]:
    """Since when the listed zones say that they stand, by price, the highest first; without the word ''."""
    return [
        (re.search(r"since (\d\d-\d\d)", words.replace("\u00a0", " ")) or ["", ""])[1]
        for words in page.locator("#ladder .level .details").all_inner_texts()
    ]


def since_there(server: str, time: str) -> list[str]:
    """The same as the endpoint's map of a moment says it."""
    found = there(server, time)
    zones = {
        one["price"]: one["since"][5:10]
        for one in (*found["clusters"]["above"], *found["clusters"]["below"], *found["nearest"].values())
    }
    return [zones[price] for price in sorted(zones, reverse=True)]


def test_zones_of_a_pinned_or_replayed_moment_say_since_when_they_stand(page: Any, server: str) -> None:
    visit(page, server, "#range=12h&pin=2024-07-04T12:05Z&at=2024-07-04T23:30Z")
    waits = "() => [...document.querySelectorAll('#ladder .details')].every(one => one.textContent.includes('since'))"
    page.wait_for_function(waits)
    pinned = ladder_since(page)
    assert len(pinned) > 4
    assert pinned == since_there(server, "2024-07-04T12:05Z")
    assert len(set(pinned)) > 1
    page.keyboard.press(">")
    page.wait_for_function("() => heatmapPage.state().choice.replay")
    page.wait_for_function(waits)
    assert held(page, server)["time"] == "2024-07-04T12:10Z"
    assert ladder_since(page) == since_there(server, "2024-07-04T12:10Z")
    before = len(lots_asked(page))
    page.locator("#speed").select_option("20")
    page.keyboard.press(" ")
    page.wait_for_function("() => heatmapPage.state().choice.pin >= Date.parse('2024-07-04T13:00:00Z')", timeout=60_000)
    assert len(lots_asked(page)) == before, "nothing is asked for while it plays"
    page.keyboard.press(" ")
    page.wait_for_function(waits)
    now = held(page, server)
    assert ladder_since(page) == since_there(server, now["time"])


def test_a_tap_pins_and_tells_and_a_second_one_lets_go(browser: Any, server: str) -> None:
    with opened(browser, 390, 844, now=NOW, has_touch=True, is_mobile=True, device_scale_factor=2) as page:
        visit(page, server, f"#range=24h&at={CRASH}")
        for badge, reason in ((".badge.past", "are of that moment"), (".badge.old", f"heatmap refresh {BTC}")):
            page.locator(badge).tap()
            about = "badge => ['content', 'display'].map(name => getComputedStyle(badge, '::after')[name])"
            words, display = page.locator(badge).evaluate(about)
            assert reason in words
            assert display == "block"
        edge = held(page, server)
        place = spot_of_cell(page, "2024-07-04T12:02Z")
        page.touchscreen.tap(place["x"], place["y"])
        page.wait_for_function("() => heatmapPage.state().choice.pin !== null")
        settle(page)
        pinned = held(page, server)
        assert abs(pinned["asOf"] - place["end"]) <= 2 * 5 * MINUTE, "a column is a pixel wide"
        assert pinned["view"] == edge["view"]
        words = page.locator("#tip").inner_text()
        assert "UTC" in words
        assert "Long, modelled" in words
        page.wait_for_function("() => /Oldest of the longs[0-9]+ /.test(document.getElementById('tip').textContent)")
        tip = page.locator("#tip").bounding_box()
        assert tip["x"] >= 0
        assert tip["x"] + tip["width"] <= 390
        page.wait_for_timeout(500)  # two taps at once are a double one, which shows the whole range
        page.touchscreen.tap(place["x"] + 5, place["y"] - 4)
        page.wait_for_function("() => heatmapPage.state().choice.pin === null")
        settle(page)
        assert page.locator("#tip").is_hidden()
        assert held(page, server)["time"] == edge["time"]
        page.wait_for_timeout(500)
        fingers = page.context.new_cdp_session(page)
        for kind, apart in (("touchStart", 50), ("touchMove", 52), ("touchEnd", 0)):
            points = [{"x": 170 + side * apart, "y": place["y"], "id": side + 1} for side in (-1, 1) if apart]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            page.wait_for_timeout(120)
        settle(page)
        assert drawn(page)["choice"]["pin"] is None, "two fingers pin nothing"
        page.touchscreen.tap(place["x"], place["y"])
        page.wait_for_function("() => heatmapPage.state().choice.pin !== null")
        page.wait_for_timeout(500)
        page.touchscreen.tap(place["x"] - 60, place["y"])
        page.wait_for_function("before => heatmapPage.state().choice.pin < before", arg=pinned["asOf"])


def saved_cells(page: Any) -> tuple[str, pd.DataFrame]:
    """The name of the file and the table that the page saves."""
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    return download.value.suggested_filename, pd.read_csv(download.value.path())


def of_tiers(page: Any, server: str, tiers: str) -> Any:
    """Check that what is shown is the endpoint's map of some tiers; return what is drawn."""
    now = drawn(page)
    params = {"symbol": BTC, "time": now["time"], "leverage_tiers": tiers}
    real = httpx.get(f"{server}liquidations/map", params=params).json()
    assert now["long"] == pytest.approx(real["total_long_volume"], rel=1e-4)
    assert now["short"] == pytest.approx(real["total_short_volume"], rel=1e-4)
    zones = [zone for zone in real["nearest"].values() if zone]
    assert set(listed_nearest(page)) == {named(zone) for zone in zones}
    return now


def test_the_leverage_filter_shows_what_the_endpoint_has_of_these_tiers(page: Any, server: str) -> None:
    visit(page, server, f"#range=24h&at={CRASH}")
    whole = held(page, server)
    assert set(saved_cells(page)[1]["leverage_tiers"]) == {"all"}
    press(page, "tiers", "near")
    near = of_tiers(page, server, "near")
    assert 0 < near["long"] < whole["long"]
    badge = page.locator("header .badge.mild")
    assert badge.inner_text() == "leverage 25x and up only"
    badge.focus()
    words = badge.evaluate("badge => getComputedStyle(badge, '::after').content")
    assert "Shown is leverage 25x and up only" in words, "also where the badge itself is cut short"
    assert page.locator("header .line").first.bounding_box()["height"] < 40, "with PAST and STALE, too, one line"
    name, cells = saved_cells(page)
    assert name == "BTCUSDT-turnover-near-20240704T2330Z.csv"
    assert set(cells["leverage_tiers"]) == {"25x 50x 75x 100x 125x"}
    last = cells[cells["state_at_utc"] == "2024-07-04T23:30:00Z"]
    assert 0 < last["long_usdt"].sum() <= near["long"] * (1 + 1e-6)
    press(page, "tiers", "50x")
    of_tiers(page, server, "25,75,100,125")
    assert "tiers=25,75,100,125" in page.url
    press(page, "tiers", "all")
    assert (drawn(page)["long"], drawn(page)["short"]) == (whole["long"], whole["short"])
    assert "tiers=" not in page.url


def test_a_zone_beyond_those_listed_by_size_keeps_its_bar_within_the_list(page: Any, server: str) -> None:
    visit(page, server, f"#range=24h&at={CRASH}&tiers=3")
    of_tiers(page, server, "3")
    bars = page.locator("#ladder .bar").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
    assert max(bars) == 100


def volumes_in_view(page: Any) -> list[float]:
    """Volumes of both sides of the cells of which a part is in view, rising; empty ones left out."""
    return sorted(
        page.evaluate(
            """() => {
        const { map } = heatmapPage.state();
        const { x, y } = heatmapPage.view();
        const isSeen = (low, size, [from, to]) => low < to && low + size > from;
        const found = [];
        for (let column = 0; column < map.columns; column += 1) {
            if (!isSeen(map.start + column * map.width, map.width, x)) continue;
            for (let row = 0; row < map.rows; row += 1) {
                const volume = map.long[column * map.rows + row] + map.short[column * map.rows + row];
                if (volume > 0 && isSeen(map.low + row * map.bin, map.bin, y)) found.push(volume);
            }
        }
        return found;
    }"""
        )
    )


def test_colours_fit_the_crash_until_they_are_locked_on_any_scale(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}")
    highs = []
    for _ in range(3):
        volumes, high = volumes_in_view(page), state(page)["high"]
        assert sum(volume > high for volume in volumes) == pytest.approx(0.005 * len(volumes), abs=2), "1 cell in 200"
        highs.append(high)
        page.keyboard.press("+")
        settle(page)
    assert len(set(highs)) > 1
    page.keyboard.press("f")
    settle(page)
    locked = state(page)["high"]
    page.keyboard.press("0")
    settle(page)
    assert state(page)["high"] == locked
    page.keyboard.press("f")
    settle(page)
    words = set()
    for _ in range(3):
        words.add((state(page)["choice"]["scale"], page.locator("#legend-title").inner_text().split(" · ")[0]))
        page.keyboard.press("g")
        settle(page)
    volume = f"modelled USDT per {state(page)['map']['bin']:g} USDT of price"
    assert words == {("linear", volume), ("log", f"{volume}, log"), ("relative", "times the usual at this distance")}


def test_one_side_is_listed_alone_and_arrow_keys_belong_to_the_map_after_a_click(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}")
    listed = page.locator("#ladder").inner_text()
    assert "Above: shorts" in listed
    assert "Below: longs" in listed
    press(page, "side", "long")
    listed = page.locator("#ladder").inner_text()
    assert "Above: shorts" not in listed
    assert "Below: longs" in listed
    press(page, "side", "short")
    listed = page.locator("#ladder").inner_text()
    assert "Above: shorts" in listed
    assert "Below: longs" not in listed
    assert page.locator("#ladder .level.long").count() == 0
    press(page, "side", "long")
    page.mouse.click(*spot_of(page, "2024-07-04T18:02:30Z"))
    settle(page)
    before = drawn(page)["view"]["x"]
    page.keyboard.press("ArrowLeft")
    settle(page)
    after = drawn(page)["view"]["x"]
    assert after[0] < before[0]
    assert after[1] - after[0] == pytest.approx(before[1] - before[0])
    assert drawn(page)["choice"]["side"] == "long", "the buttons last pressed have lost the keys"


def named(zone: Any) -> tuple[str, str]:
    """Price and distance by which a zone is named on every page."""
    away = zone["distance_percent"]
    decimals = max(0, 4 - math.floor(math.log10(zone["price"])))
    return f"{zone['price']:,.{decimals}f}", f"{'−' if away < 0 else '+'}{abs(away):.2f} %"


def listed_nearest(page: Any) -> list[tuple[str, str]]:
    """Price and distance of the nearest zones of the list beside the map, from above."""
    nearest = page.locator("#ladder .level").filter(has=page.locator(".marks", has_text="nearest"))
    return [
        (row.locator(".level-price").inner_text(), row.locator(".away").inner_text().replace("\u00a0", " "))
        for row in nearest.all()
    ]


def test_the_zones_beside_the_map_are_the_endpoints(page: Any, server: str) -> None:
    visit(page, server, f"#range=24h&at={CRASH}&pin=2024-07-04T12:05Z")
    real = there(server, held(page, server)["time"])
    assert listed_nearest(page) == [named(real["nearest"][side]) for side in ("above", "below")]
    zones = [*real["clusters"]["above"], *real["clusters"]["below"]]
    assert {named(zone)[0] for zone in zones} <= set(page.locator("#ladder .level-price").all_inner_texts())


def test_the_overview_sorts_the_markets_and_names_zones_as_their_maps_do(page: Any, server: str) -> None:
    page.goto(f"{server}overview")
    page.wait_for_selector("tbody tr")
    markets = httpx.get(f"{server}markets").json()["markets"]
    assert [market["symbol"] for market in markets] == [BTC, ETH]
    zones = {market["symbol"]: [market["nearest"][side] for side in ("above", "below")] for market in markets}
    for market, row in zip(markets, page.locator("tbody tr").all(), strict=True):
        words = row.inner_text()
        assert named({"price": market["price"], "distance_percent": 0.0})[0] in words
        for zone in zones[market["symbol"]]:
            price, away = named(zone)
            assert f"at {price}" in words
            assert away in words
        assert row.locator("svg path").get_attribute("d").startswith("M")
        row.get_by_text("STALE").click()
        assert f"heatmap refresh {market['symbol']}" in row.inner_text()
    for column, value in {
        "price": lambda market: market["price"],
        "change": lambda market: market["change_24h_percent"],
        "above": lambda market: market["nearest"]["above"]["distance_percent"],
        "below": lambda market: -market["nearest"]["below"]["distance_percent"],
        "above-volume": lambda market: market["nearest"]["above"]["volume"],
        "below-volume": lambda market: market["nearest"]["below"]["volume"],
    }.items():
        orders = {}
        for _ in range(2):
            page.locator(f"[data-sort={column}] button").click()
            order = page.locator(f"[data-sort={column}]").get_attribute("aria-sort")
            orders[order] = page.locator("tbody th a").all_inner_texts()
        assert orders["ascending"] == [market["symbol"] for market in sorted(markets, key=value)], column
        assert orders["descending"] == orders["ascending"][::-1]
    for symbol in (ETH, BTC):
        page.goto(f"{server}overview")
        page.get_by_role("link", name=symbol).click()
        page.wait_for_url(f"**/map#symbol={symbol}*")
        settle(page)
        assert listed_nearest(page) == [named(zone) for zone in zones[symbol]]
    assert held(page, server)["price"] == markets[0]["price"]


def test_ends_of_the_colours_are_typed_and_moved(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}")
    fitted = state(page)["high"]
    page.locator("#high").fill("2B")
    page.locator("#high").press("Enter")
    assert state(page)["high"] == 2e9
    assert page.locator("#high-handle").get_attribute("data-text") == "≥ $2B"
    assert "high=2000000000" in page.url
    page.locator("#high-handle").focus()
    page.keyboard.press("ArrowLeft")
    assert fitted < state(page)["high"] < 2e9
    volumes = volumes_in_view(page)
    hidden = float(f"{volumes[len(volumes) // 2]:.2g}")
    cells = page.evaluate(
        """limit => {
        const { map } = heatmapPage.state();
        const { x, y } = heatmapPage.view();
        const [few, many] = [[], []];
        for (let column = 0; column < map.columns; column += 7) {
            for (let row = 0; row < map.rows; row += 1) {
                const time = map.start + (column + 0.5) * map.width;
                const price = map.low + (row + 0.5) * map.bin;
                const isSeen = time > x[0] && time < x[1] && price > y[0] && price < y[1];
                const volume = map.long[column * map.rows + row] + map.short[column * map.rows + row];
                if (isSeen && volume > 0) (volume < limit ? few : many).push([time, price]);
            }
        }
        return { few: few.slice(0, 200), many: many.slice(0, 200) };
    }""",
        hidden,
    )
    assert DARK not in colours_at(page, cells["few"])
    page.locator("#low").fill(f"{hidden / 1000:g}k")
    page.locator("#low").press("Enter")
    assert state(page)["low"] == pytest.approx(hidden)
    assert all(colour == DARK for colour in colours_at(page, cells["few"]))
    assert DARK not in colours_at(page, cells["many"])
    page.locator("#low").fill("much")
    page.locator("#low").press("Enter")
    assert "wrong" in page.locator("#low").get_attribute("class")
    assert state(page)["low"] == pytest.approx(hidden)
    track, handle = page.locator("#track").bounding_box(), page.locator("#low-handle").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + 5)
    page.mouse.down()
    page.mouse.move(track["x"], track["y"] + 10, steps=3)
    page.mouse.up()
    settle(page)
    assert state(page)["low"] == 0
    page.locator("#fit-colours").click()
    settle(page)
    assert (state(page)["low"], state(page)["high"]) == (0, fitted)


def test_max_pain_is_nowhere_on_the_pages_and_deprecated_in_the_answer(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}")
    page.keyboard.press("?")
    shown = [page.content()]
    page.keyboard.press("Escape")
    for path in ("", "overview"):
        served = httpx.get(f"{server}{path}").text
        names = re.findall(r'(?:src|href)="([^"]+\.js[^"]*)"', served)
        shown += [served, *(httpx.get(f"{server}{name}").text for name in names if "plotly" not in name)]
    assert len(shown) == 5, "the page as it stands, two pages and their scripts"
    assert [re.findall(r"max.?pain", text, re.IGNORECASE) for text in shown] == [[]] * 5
    answer = httpx.get(f"{server}liquidations/map", params={"symbol": BTC})
    assert set(answer.json()["max_pain"]) == {"above", "below"}
    assert re.search(r"max_pain.*deprecated", answer.headers["warning"])


def test_what_of_a_link_cannot_be_shown_is_said_once(page: Any, server: str) -> None:
    visit(page, server, "#symbol=NOSUCHUSDT&low=much&at=yesterday")
    assert page.locator("#notice").inner_text() == (
        "NOSUCHUSDT is not here; shown is BTCUSDT. low = much cannot be read. "
        "at = yesterday cannot be read. Write it like 2024-07-04T23:30Z."
    )
    assert held(page, server)["time"] == "2024-07-07T00:00Z"
    press(page, "range", "24h")
    assert page.locator("#notice").is_hidden()
    follow(page, page.url.split("#")[0], "#range=24h&pin=2023-01-01T00:00Z&low=5000000&high=2000000")
    assert page.locator("#notice").inner_text() == (
        "low = 5000000 is not below high = 2000000. There are no data of 2023-01-01 00:00 UTC."
    )
    assert held(page, server)["time"] == "2024-07-07T00:00Z"


def test_half_of_the_view_stays_on_data_wherever_it_is_panned(page: Any, server: str) -> None:
    visit(page, server, "#range=24h")
    end = drawn(page)["end"]
    page.mouse.move(850, 400)
    page.mouse.down()
    page.mouse.move(90, 400, steps=2)
    page.mouse.up()
    settle(page)
    view = drawn(page)["view"]
    assert sum(view["x"]) / 2 == pytest.approx(end, abs=5 * MINUTE), "a drag into the future"
    visit(page, server, "#view=1720130400000,1720173600000,20000,90000")  # 12 hours of the crash, from far away
    for key in ("ArrowUp", "ArrowDown"):
        for _ in range(7):
            page.keyboard.press(key)
        settle(page)
        low, high = drawn(page)["view"]["y"]
        ends = page.evaluate("() => [heatmapPage.state().map.low, heatmapPage.state().map.high]")
        assert (low + high) / 2 == pytest.approx(ends[key == "ArrowUp"], rel=1e-3)
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(400, 190, steps=2)
    page.mouse.up()
    settle(page)
    assert drawn(page)["view"]["y"] == pytest.approx([low, high]), "a drag goes no farther than the keys"


def test_ranges_of_14_and_180_days(page: Any, server: str) -> None:
    visit(page, server)
    press(page, "range", "14d")
    now = held(page, server)
    assert (instant(now["start"]), now["width"]) == ("2024-06-26T00:00Z", 60 * MINUTE)
    assert now["view"]["x"][0] == now["start"], "as far as there are data"
    button = page.locator('#range [data-value="180d"]')
    assert button.is_disabled()
    assert "11 d of data" in button.get_attribute("title")


def test_a_stale_page_says_why_and_nothing_goes_to_the_console(page: Any, server: str) -> None:
    assert httpx.get(f"{server}health").json()["status"] == "stale"
    visit(page, server)
    badge = page.locator(".badge.old")
    assert badge.inner_text().startswith("STALE ")
    assert f"heatmap refresh {BTC}" in badge.get_attribute("title")
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    settle(page)
    assert page.troubles == []


def apart(page: Any, picture: np.ndarray) -> float:
    """The share of the pixels of map and price axis that a saved picture has otherwise than the screen."""
    screen = np.asarray(Image.open(io.BytesIO(page.locator("#map").screenshot())).convert("RGB")).astype(int)
    height = screen.shape[0]
    head = picture.shape[0] // 2 - height - 26
    part = np.s_[40 : height - 90, 30:]  # the buttons below it are the page's
    shares = []
    for shift in (-1, 0, 1):  # the map may begin within a pixel
        saved = picture[2 * (head + shift) : 2 * (head + shift + height) : 2, ::2]
        shares.append(float((np.abs(saved[part] - screen[part]).max(axis=2) > 40).mean()))
    return min(shares)


def test_the_picture_hides_what_the_screen_hides(page: Any, server: str) -> None:
    visit(page, server, f"#range=12h&at={CRASH}&side=long&candles=0&bubbles=0&reported=0&profile=0")
    with page.expect_download() as download:
        page.locator("#save-png").click()
    with Image.open(download.value.path()) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert apart(page, picture) < 0.015
    press(page, "layers", "candles")
    assert apart(page, picture) > 0.015, "a layer that is not hidden would be seen"
    press(page, "layers", "candles")
    press(page, "side", "both")
    assert apart(page, picture) > 0.015, "and so would the other side"


def test_reported_liquidations_of_the_crash_are_hollow_and_named(page: Any, server: str) -> None:
    visit(page, server, f"#range=24h&at={CRASH}")
    assert trace(page, "reported")["points"] > 10
    words = page.locator("footer").inner_text()
    assert "modelled liquidations" in words
    assert "binance, incomplete" in words
    press(page, "layers", "reported")
    assert not trace(page, "reported")["visible"]


def test_the_last_alerts_of_the_market_are_those_the_endpoint_lists(page: Any, server: str) -> None:
    visit(page, server)
    page.wait_for_selector("#alerts:not([hidden])")
    page.locator("#alerts summary").click()
    listed = httpx.get(f"{server}alerts", params={"symbol": BTC}).json()["alerts"]
    assert [alert["words"] for alert in listed] == page.locator("#alerts-list span").all_inner_texts()
    assert "cascade" in {alert["kind"] for alert in listed}
