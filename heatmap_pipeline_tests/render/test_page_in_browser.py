"""The page as a trader meets it, opened from disk in Chromium: what it draws and says, gives, and does without."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heatmap_pipeline.instants import iso
from heatmap_pipeline.model.zones import find_zones, landmarks
from heatmap_pipeline.render.page import write_page
from heatmap_pipeline.views.columns import Cells
from heatmap_pipeline_tests.render.browser import (
    DARK,
    colours_at,
    in_view,
    milliseconds,
    opened,
    press,
    settle,
    state,
    trace,
    visit,
)
from heatmap_pipeline_tests.render.sample import BUCKET, sample, ten_days, without_levels

pytestmark = pytest.mark.slow


def test_the_page_draws_the_map_and_says_what_it_is(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders)
    now = state(page)
    assert (now["map"]["rows"], now["map"]["columns"]) == data.long.shape
    assert now["map"]["long"] == pytest.approx(float(data.long.sum(dtype=float)), rel=1e-5)
    assert now["map"]["short"] == pytest.approx(float(data.short.sum(dtype=float)), rel=1e-5)
    assert now["map"]["consumed"] == pytest.approx(data.meta["total_consumed"], rel=1e-5)
    for name in ("candles", "consumed", "long profile", "short profile", "long cumulative", "short cumulative"):
        assert trace(page, name)["points"] > 0
    assert page.locator("#price").inner_text() == f"{data.meta['price']:,.0f}"
    assert "2024-07-11 00:00 UTC" in page.locator("#as-of").inner_text()
    assert "located share 90.0 %" in page.locator("#located").inner_text()
    assert page.locator("#contract").inner_text() == "Binance USDT-M perpetual, turnover"
    assert page.locator("#badges").inner_text() == ""
    assert "UTC" in page.locator("#chart").inner_text()
    assert not any(address.startswith("http") for address in page.requested)


def test_colours_stand_where_the_levels_are(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders, "#range=7d&candles=0&bubbles=0")
    now = state(page)
    rows, columns = in_view(data, now["view"])
    total = (data.long + data.short).astype(float)
    assert now["high"] == pytest.approx(np.quantile(total[rows, columns][total[rows, columns] > 0], 0.995), rel=0.02)
    middle = milliseconds(data) + 450_000
    prices = (data.edges[:-1] + data.edges[1:]) / 2
    random = np.random.default_rng(5)
    near_price = np.abs(prices - data.meta["price"]) < 2 * BUCKET
    chosen = [
        (int(p), int(t))
        for p, t in zip(
            random.integers(rows.start + 1, rows.stop - 1, 400),
            random.integers(columns.start + 1, columns.stop - 1, 400),
            strict=True,
        )
        if not near_price[p]
    ]
    found = colours_at(page, [(float(middle[t]), float(prices[p])) for p, t in chosen])
    shown = np.array([colour != DARK for colour in found])
    assert (shown == [total[p, t] > 0 for p, t in chosen]).all()
    luminance = np.array(found)[:, :3] @ [0.21, 0.72, 0.07]
    volumes = np.array([min(total[p, t], now["high"]) for p, t in chosen])
    order = np.argsort(volumes[shown])
    assert (np.diff(luminance[shown][order]) >= -2).all(), "more volume is never darker"


def test_a_consumed_level_ends_at_the_candle_that_crossed_it(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders, "#range=30d&candles=0&bubbles=0&scale=log&low=1000")
    view = state(page)["view"]
    swept = sorted(
        (
            (volume, side, column, row)
            for side in ("long", "short")
            for column, row, volume in zip(*vars(data.cells[f"consumed_{side}"]).values(), strict=True)
        ),
        reverse=True,
    )
    checked = 0
    for _, side, column, row in swept:
        grid = getattr(data, side)
        price = (data.edges[row] + data.edges[row + 1]) / 2
        both = data.long[row, column - 1 : column + 1] + data.short[row, column - 1 : column + 1]
        if column == 0 or not (grid[row, column - 1] > 0 == both[1]) or not view["y"][0] < price < view["y"][1]:
            continue
        assert data.candles.low[column] <= data.edges[row + 1]
        assert data.candles.high[column] >= data.edges[row]
        width = data.seconds * 1000
        start = float(milliseconds(data)[column])
        before, after = colours_at(page, [(start - width / 2, price), (start + width / 2, price)])
        assert before != DARK
        assert after == DARK
        checked += 1
        if checked == 12:
            break
    assert checked == 12


def test_hover_tells_time_price_and_volume(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders)
    page.mouse.move(600, 500)
    words = page.locator("#tip").inner_text()
    assert re.search(r"2024-07-\d\d \d\d:\d\d – \d\d:\d\d UTC", words)
    price = re.search(r"Price\s+([\d,]+) – [\d,]+", words)
    assert price is not None
    low = float(price[1].replace(",", ""))
    assert re.search(r"From last price\s+[+−][\d.]+ %", words)
    for name in ("Long", "Short", "Total"):
        assert re.search(rf"{name}, modelled\s+[\d.]+( [kMB])? USDT", words)
    found = page.evaluate(
        """low => { const { map } = heatmapPage.state(); return Math.round((low - map.low) / map.bin); }""", low
    )
    assert data.edges[found] == low
    when = re.search(r"(2024-07-\d\d) (\d\d:\d\d) –", words)
    assert when is not None
    start = np.datetime64(f"{when[1]}T{when[2]}", "us").astype(np.int64)
    bars = (data.candles.open_time >= start) & (data.candles.open_time < start + 900_000_000)
    open_, close = data.candles.open[bars][0], data.candles.close[bars][-1]
    assert f"{math.floor(open_ + 0.5):,} → {math.floor(close + 0.5):,}" in words
    away = ((low + BUCKET / 2) / close - 1) * 100
    assert f"From the close of its time\t{'+' if away > 0 else '−'}{abs(away):.2f} %" in words
    page.mouse.move(1100, 700)
    assert "Newest book" in page.locator("#tip").inner_text()
    assert "Longs down to here" in page.locator("#tip").inner_text()
    page.mouse.move(800, 20)
    assert page.locator("#tip").is_hidden()


def test_zones_are_those_of_the_book_at_every_zoom_and_bin(page: Any, renders: Path) -> None:
    """What the page lists of a column is what the model finds in that column's own buckets."""
    data = ten_days()
    visit(page, renders)
    ask = "column => heatmapPage.zonesAt(heatmapPage.state().map, column ?? undefined)"
    middles = np.round(data.prices * 1e8).astype(np.int64)
    closes = data.candles.close
    for column in (100, 400, len(data.times) - 1):
        listed = page.evaluate(ask, column)
        cells = [(row, side) for row in range(len(middles)) for side in (1, -1)]
        volume = [(data.long if side > 0 else data.short)[row, column] for row, side in cells]
        found = find_zones(
            np.zeros(len(cells), dtype=np.int64),
            np.array([middles[row] for row, _ in cells]),
            np.array([side for _, side in cells], dtype=np.int8),
            np.array(volume, dtype=float),
            np.array([closes[column]]),
            round(data.bin_size * 1e8),
        ).of(0)
        expected = landmarks(found, 10)
        for where, zones in (("above", expected.above), ("below", expected.below)):
            assert zones
            for one, zone in zip(listed[where], zones, strict=True):
                for key in ("low", "high", "peak", "price", "volume", "distance_percent", "share"):
                    assert one[key] == pytest.approx(getattr(zone, key), rel=1e-6, abs=1e-6), key
                assert (one["side"], one["since"]) == (zone.side, None), "of no column of this book lots are known"
            assert listed["nearest"][where]["low"] == getattr(expected, f"nearest_{where}").low
    words = page.locator("#ladder").inner_text()
    for one in (expected.above[0], expected.below[0]):
        assert f"{one.price:,.0f}" in words
        assert f"{one.low:,.0f} – {one.high:,.0f} · {100 * one.share:.0f} % of {one.side}s" in words
        assert f"{abs(one.distance_percent):.2f} %" in words
    assert words.count("nearest") == words.count("largest") == 2
    for change in ("range", "7d"), ("range", "12h"):
        press(page, *change)
        assert page.locator("#ladder").inner_text() == words
    page.locator("#bin").select_option(index=2)
    settle(page)
    assert state(page)["map"]["bin"] > data.bin_size
    assert page.evaluate(ask, None) == listed
    press(page, "range", "7d")
    prices = [float(text.replace(",", "")) for text in page.locator("#ladder ol .level-price").all_inner_texts()]
    assert prices == sorted(prices, reverse=True)
    page.locator("#ladder ol .level").first.hover()
    line = page.locator("#level-line").bounding_box()["y"] - page.locator("#chart").bounding_box()["y"]
    at = page.evaluate(
        "y => { const { yaxis } = document.getElementById('chart')._fullLayout; return yaxis.p2l(y - yaxis._offset); }",
        line + 1,
    )
    assert at == pytest.approx(prices[0], rel=2e-3)


def test_the_table_holds_the_cells_in_view(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders, "#range=24h")
    view = state(page)["view"]
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    assert download.value.suggested_filename == "BTCUSDT-turnover-20240711T0000Z.csv"
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    names = ["timestamp_utc", "price_low", "price_high", "long_usdt", "short_usdt", "state_at_utc", "leverage_tiers"]
    assert list(rows[0]) == names
    assert {row["leverage_tiers"] for row in rows} == {"all"}
    prices, columns = in_view(data, view)
    expected: list[tuple[Any, ...]] = [
        (
            f"{iso(int(data.times[t]))}",
            data.edges[p],
            data.edges[p + 1],
            data.long[p, t],
            data.short[p, t],
        )
        for t in range(columns.start, columns.stop)
        for p in range(prices.start, prices.stop)
        if data.long[p, t] + data.short[p, t] > 0
    ]
    assert len(rows) == len(expected) > 1000
    assert [row["timestamp_utc"] for row in rows] == [one[0] for one in expected]
    width = timedelta(milliseconds=state(page)["map"]["width"])
    assert {
        datetime.fromisoformat(row["state_at_utc"]) - datetime.fromisoformat(row["timestamp_utc"]) for row in rows
    } == {width}
    for place, name in enumerate(names[1:5], 1):
        np.testing.assert_allclose([float(row[name]) for row in rows], [one[place] for one in expected], rtol=1e-6)


def test_the_picture_is_what_the_screen_shows(page: Any, renders: Path) -> None:
    visit(page, renders, "#symbol=ETHUSDT&range=3d")
    with page.expect_download() as download:
        page.locator("#save-png").click()
    assert download.value.suggested_filename == "ETHUSDT-delta-20240704T0000Z-SIMULATED.png"
    box = page.locator("#chart").bounding_box()
    with Image.open(download.value.path()) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert picture.shape[1] == 2 * round(box["width"])
    assert picture.shape[0] == 2 * (round(box["height"]) + 64 + 26)
    assert (picture[:140] == [255, 209, 102]).all(axis=2).sum() > 2000, "the badge SIMULATED DATA"
    screen = np.asarray(Image.open(io.BytesIO(page.locator("#map").screenshot())).convert("RGB")).astype(int)
    plot = page.evaluate(
        """() => {
        const { xaxis, yaxis } = document.getElementById('chart')._fullLayout;
        return [xaxis._offset, yaxis._offset, xaxis._length, yaxis._length];
    }"""
    )
    left, top, width, height = (round(number) for number in plot)
    inner = np.s_[top + 20 : top + height - 70, left + 20 : left + width - 20]
    saved = picture[128 : 128 + 2 * round(box["height"]) : 2, ::2][inner]
    assert (np.abs(saved - screen[inner]).max(axis=2) > 40).mean() < 0.05


def test_a_phone_shows_the_map_first_and_folds_the_controls(phone: Any, renders: Path) -> None:
    page = phone
    page.goto("about:blank")
    visit(page, renders)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    box = page.locator("#map").bounding_box()
    assert box["y"] < 844 * 0.25
    assert box["height"] > 844 * 0.5
    assert page.locator("#side").is_hidden()
    page.locator("#more").tap()
    assert page.locator("#side").is_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.locator('#side [data-value="long"]').tap()
    settle(page)
    assert state(page)["choice"]["side"] == "long"
    page.locator("#more").tap()
    page.touchscreen.tap(150, box["y"] + 200)
    assert "UTC" in page.locator("#tip").inner_text()
    tip = page.locator("#tip").bounding_box()
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= 390
    wide = state(page)["view"]
    fingers = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 50), ("touchMove", 80), ("touchMove", 110), ("touchEnd", 0)):
        points = [{"x": 170 + side * apart, "y": box["y"] + 250, "id": side + 1} for side in (-1, 1) if apart]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(120)
    zoomed = state(page)["view"]["x"]
    assert zoomed[1] - zoomed[0] == pytest.approx((wide["x"][1] - wide["x"][0]) * 50 / 110, rel=0.1)
    assert wide["x"][0] < zoomed[0] < zoomed[1] < wide["x"][1]
    page.set_viewport_size({"width": 1200, "height": 800})
    page.wait_for_function("() => document.getElementById('chart').data.some(one => one.name === 'long profile')")


def test_cells_stay_at_their_prices_while_the_window_changes_its_size(page: Any, renders: Path) -> None:
    visit(page, renders)
    sizes = page.evaluate(
        """() => {
        const size = name => {
            const { width, height } = document.querySelector(name).getBoundingClientRect();
            return [width, height];
        };
        const before = [size('#density'), size('#chart .main-svg')];
        document.getElementById('map').style.cssText = 'flex: none; width: 700px; height: 400px';
        return [...before, size('#map'), size('#density'), size('#chart .main-svg')];
    }"""
    )
    cells, axes, place, cells_meanwhile, axes_meanwhile = sizes
    assert place == [700, 400], "smaller already, and nothing is drawn anew yet"
    assert cells == pytest.approx(axes, abs=1)
    assert cells_meanwhile == pytest.approx(axes_meanwhile, abs=1)
    settle(page)
    assert page.locator("#density").bounding_box()["height"] == 400


def test_the_help_opens_at_its_beginning(phone: Any, renders: Path) -> None:
    visit(phone, renders)
    phone.locator("#help-button").tap()
    assert phone.locator("#help").evaluate("help => help.scrollHeight > help.clientHeight && help.scrollTop === 0")
    phone.locator("#help").get_by_role("button", name="Close").tap()
    assert phone.locator("#help").is_hidden()


def test_a_tap_on_a_badge_says_why(phone: Any, renders: Path) -> None:
    visit(phone, renders, "#symbol=ETHUSDT")
    badge = phone.locator(".badge").first
    badge.tap()
    shown = badge.evaluate("badge => ['content', 'display'].map(name => getComputedStyle(badge, '::after')[name])")
    assert shown == ['"A made-up market, for trying things out. Not real prices."', "block"]
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_a_window_that_changes_its_size_while_another_symbol_is_on_its_way(page: Any, renders: Path) -> None:
    """Of a symbol whose data are not there nothing is said, not even from when to when they are."""
    page.goto("about:blank")  # what was read once is there at once
    visit(page, renders)
    page.evaluate("() => { document.head.append = script => { window.read = () => document.body.append(script); }; }")
    try:
        page.evaluate("() => { location.hash = 'symbol=ETHUSDT'; }")
        page.wait_for_function("() => heatmapPage.state().choice.symbol === 'ETHUSDT' && window.read")
        page.set_viewport_size({"width": 1100, "height": 800})
        page.wait_for_timeout(200)
        assert page.troubles == []
        assert state(page)["map"]["symbol"] == "BTCUSDT"
        page.evaluate("() => read()")
        page.wait_for_function("() => heatmapPage.state().map.symbol === 'ETHUSDT'")
        settle(page)
        width = page.evaluate("() => document.getElementById('chart')._fullLayout.width")
        assert width == page.locator("#chart").bounding_box()["width"] < 1100
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto("about:blank")


def test_missing_files_are_explained(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    numbers = tmp_path / "BTCUSDT" / "turnover.js"
    content = numbers.read_bytes()
    numbers.unlink()
    page.goto((tmp_path / "index.html").as_uri())
    page.locator("#message .retry").wait_for()
    assert "BTCUSDT/turnover.js is missing" in page.locator("#message").inner_text()
    assert page.locator("#message img").evaluate("one => one.naturalWidth") == 1600
    numbers.write_bytes(content)
    page.locator("#message .retry").click()
    settle(page)
    (tmp_path / "plotly.min.js").unlink()
    page.reload()
    page.locator("#message .retry").wait_for()
    assert "plotly.min.js is missing" in page.locator("#message").inner_text()
    assert page.locator("#message img").evaluate("one => one.naturalWidth") == 1600
    assert all("ERR_FILE_NOT_FOUND" in trouble for trouble in page.troubles)
    page.troubles.clear()


def test_an_empty_book_is_drawn_and_said(page: Any, tmp_path: Path) -> None:
    data = without_levels(sample())
    write_page(tmp_path, "BTCUSDT", {"turnover": data})
    visit(page, tmp_path)
    press(page, "scale", "log")
    assert state(page)["map"]["rows"] == len(data.prices)
    assert trace(page, "candles")["points"] > 0
    assert "book is empty" in page.locator("#notice").inner_text()
    assert "no zone" in page.locator("#ladder").inner_text()


def test_the_first_paint_is_measured(browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """7 days in columns of 15 minutes and about 400 rows; the time is printed, no limit is set here."""
    data = sample(days=7)
    columns, rows = 7 * 96, 400
    first = np.floor(data.meta["price"] / BUCKET) * BUCKET - rows / 2 * BUCKET
    volume = np.random.default_rng(3).lognormal(13, 1, columns * rows)
    full = Cells(np.repeat(np.arange(columns), rows), np.tile(np.arange(rows), columns), volume)
    data = replace(data, prices=first + np.arange(rows) * BUCKET, cells={**without_levels(data).cells, "long": full})
    write_page(tmp_path, "BTCUSDT", {"turnover": data})
    with opened(browser, now=None) as page:
        visit(page, tmp_path)
        measured = "performance.getEntriesByName('heatmap-first-paint')"
        page.wait_for_function(f"() => {measured}.length > 0")
        took = page.evaluate(f"() => {measured}[0].duration")
    assert took > 0
    with capsys.disabled():
        print(f"\nfirst paint of 7 days, {columns} columns x {rows} rows: {took:.0f} ms")  # noqa: T201
