"""Every control of the page changes what is drawn, and only that; a link holds them all; keys reach them all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline_tests.render.browser import (
    DARK,
    colours_at,
    in_view,
    milliseconds,
    press,
    settle,
    state,
    trace,
    visit,
)
from heatmap_pipeline_tests.render.sample import BUCKET, ten_days
from heatmap_pipeline_tests.render.test_relative import by_hand

pytestmark = pytest.mark.slow

DAY = 86_400_000


def test_symbol_and_model_change_what_is_drawn(page: Any, renders: Path) -> None:
    visit(page, renders)
    press(page, "model", "delta")
    other = ten_days("delta")
    assert state(page)["map"]["long"] == pytest.approx(float(other.long.sum(dtype=float)), rel=1e-5)
    assert "model=delta" in page.url
    page.locator("#symbol").select_option("ETHUSDT")
    page.wait_for_function("() => heatmapPage.state().map.symbol === 'ETHUSDT'")
    settle(page)
    assert state(page)["map"]["columns"] == 3 * 96
    assert page.locator("#badges .badge").all_inner_texts() == ["SIMULATED DATA", "provisional", "STALE 7 d"]
    assert "heatmap refresh ETHUSDT" in page.locator(".badge.old").get_attribute("title")
    assert "ETHUSDT" in page.title()


def test_sides_show_their_own_levels_only(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders, "#range=30d&candles=0&bubbles=0")
    start = float(milliseconds(data)[-1]) + 450_000
    prices = (data.edges[:-1] + data.edges[1:]) / 2
    view = state(page)["view"]
    shown = (
        (prices > view["y"][0] + BUCKET)
        & (prices < view["y"][1] - BUCKET)
        & (np.abs(prices - data.meta["price"]) > 2 * BUCKET)
    )
    rows = np.flatnonzero(shown)
    limits = set()
    for side in ("both", "long", "short"):
        if side != "both":
            press(page, "side", side)
        painted = [colour != DARK for colour in colours_at(page, [(start, float(prices[p])) for p in rows])]
        volume = {"both": data.long + data.short, "long": data.long, "short": data.short}[side]
        assert painted == (volume[rows, -1] > 0).tolist()
        assert (trace(page, "long profile") is None) == (side == "short")
        limits.add(state(page)["high"])
    assert len(limits) == 1, "a colour means the same volume whatever is shown"


def test_layers_can_be_hidden(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders)
    spot = [
        (float(milliseconds(data)[t]) + 450_000, float(data.edges[p] + BUCKET / 2))
        for p, t in zip(*np.nonzero(data.short > 1e7), strict=True)
    ][-200:]
    assert any(colour != DARK for colour in colours_at(page, spot))
    for layer, name in (("candles", "candles"), ("bubbles", "consumed")):
        press(page, "layers", layer)
        assert not trace(page, name)["visible"]
        press(page, "layers", layer)
        assert trace(page, name)["visible"]
    wide = page.evaluate("() => document.getElementById('chart')._fullLayout.xaxis._length")
    press(page, "layers", "profile")
    assert trace(page, "long profile") is None
    assert page.evaluate("() => document.getElementById('chart')._fullLayout.xaxis._length") > wide + 100
    press(page, "layers", "map")
    assert all(colour == DARK for colour in colours_at(page, spot))
    press(page, "layers", "levels")
    assert page.locator("#ladder").is_hidden()
    assert {"map=0", "profile=0", "levels=0"} <= set(page.url.split("#")[1].split("&"))


def test_ranges_show_their_time_and_those_without_data_say_why(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders)
    end = int(milliseconds(data)[-1]) + 900_000
    for name, length in (("12h", DAY // 2), ("24h", DAY), ("3d", 3 * DAY), ("7d", 7 * DAY), ("14d", 10 * DAY)):
        press(page, "range", name)
        view = state(page)["view"]
        assert view["x"][0] == end - length
        assert end < view["x"][1] < end + 0.02 * length
        bars = data.candles.open_time >= 1000 * view["x"][0]
        assert view["y"][0] < data.candles.low[bars].min() < data.candles.high[bars].max() < view["y"][1]
        assert page.locator('#range [aria-pressed="true"]').all_inner_texts() == [name]
    for name in ("90d", "1y"):
        button = page.locator(f'#range [data-value="{name}"]')
        assert button.is_disabled()
        assert "10 d of data" in button.get_attribute("title")


def test_price_bins_add_up_what_they_merge(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders)
    texts = page.locator("#bin option").all_inner_texts()
    assert texts[:4] == ["auto (100)", "100 (×1)", "200 (×2)", "500 (×5)"]
    small = page.evaluate("() => [1e-8, 5e-8, 2.5e-7, 1e-6, 0.3, 1500].map(heatmapPage.binText)")
    assert small == ["0.00000001", "0.00000005", "0.00000025", "0.000001", "0.3", "1,500"], "of other markets"
    page.locator("#bin").select_option("500")
    page.wait_for_function("() => heatmapPage.state().map.bin === 500")
    now = state(page)["map"]
    assert now["low"] % 500 == 0
    assert 0 <= now["low"] - data.edges[0] < 500
    assert 0 <= data.edges[-1] - now["low"] - 500 * now["rows"] < 500
    first = round((now["low"] - data.edges[0]) / BUCKET)
    for side in ("long", "short"):
        inside = getattr(data, side)[first : first + 5 * now["rows"]].astype(float)
        assert now[side] == pytest.approx(inside.sum(), rel=1e-5)
        merged = inside.reshape(now["rows"], 5, -1).sum(axis=1)
        for column in (0, 500, now["columns"] - 1):
            cells = f"heatmapPage.state().map.{side}.slice({column * now['rows']}, {(column + 1) * now['rows']})"
            np.testing.assert_allclose(
                page.evaluate(f"() => Array.from({cells})"), merged[:, column], rtol=1e-4, atol=1
            )
    assert "bin=500" in page.url
    page.keyboard.press("]")
    page.wait_for_function("() => heatmapPage.state().map.bin === 1000")
    page.locator("#bin").select_option("0")
    page.wait_for_function("() => heatmapPage.state().map.bin === 100")


def test_the_legend_is_the_slider_and_speaks_usdt(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders)
    before = state(page)
    assert page.locator("#high-handle").get_attribute("data-text").startswith("≥ $")
    track = page.locator("#track").bounding_box()
    handle = page.locator("#low-handle").bounding_box()
    spots = [
        (float(milliseconds(data)[t]) + 450_000, float(data.edges[p] + BUCKET / 2))
        for t in range(400, 950, 50)
        for p in range(0, data.long.shape[0], 7)
    ]
    painted = sum(colour != DARK for colour in colours_at(page, spots))
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + 5)
    page.mouse.down()
    page.mouse.move(track["x"] + 0.25 * track["width"], track["y"] + 10, steps=4)
    page.mouse.up()
    settle(page)
    after = state(page)
    assert after["low"] > 0.2 * before["high"]
    assert after["high"] == before["high"]
    fewer = sum(colour != DARK for colour in colours_at(page, spots))
    assert 0 <= fewer < painted
    assert page.locator("#low").input_value() in page.locator("#low-handle").get_attribute("aria-valuetext")
    page.locator("#high").fill("20M")
    page.locator("#high").press("Enter")
    assert state(page)["high"] == 20_000_000
    press(page, "range", "24h")
    assert state(page)["high"] == 20_000_000, "USDT stay USDT when the range changes"
    page.locator("#high-handle").focus()
    page.keyboard.press("ArrowRight")
    assert 20_000_000 < state(page)["high"] < 24_000_000
    page.locator("#high").fill("1k")
    page.locator("#high").press("Enter")
    assert "wrong" in page.locator("#high").get_attribute("class"), "below the lower end"
    page.locator("#high").fill("much")
    page.locator("#high").press("Enter")
    assert state(page)["high"] > 20_000_000
    page.locator("#fit-colours").click()
    settle(page)
    assert (state(page)["choice"]["low"], state(page)["choice"]["high"]) == (None, None)
    press(page, "scale", "log")
    assert state(page)["log"]
    assert state(page)["low"] == pytest.approx(state(page)["high"] / 100)


def fitted(data: Columns, view: Any) -> float:
    """The volume that 1 cell in 200 of those in view exceeds."""
    cells = (data.long + data.short)[in_view(data, view)]
    volumes = np.sort(cells[cells > 0])
    return float(volumes[int(0.995 * len(volumes))])


def test_colours_fit_what_is_in_view_until_they_are_locked(page: Any, renders: Path) -> None:
    visit(page, renders)
    whole = state(page)
    assert whole["high"] == fitted(ten_days(), whole["view"])
    assert page.locator("#legend-title").inner_text() == "modelled USDT per 100 USDT of price · fit to view"
    page.evaluate("() => document.activeElement.blur()")
    for _ in range(5):
        page.keyboard.press("+")
        settle(page)
    zoomed = state(page)
    assert zoomed["high"] != whole["high"]
    assert zoomed["high"] == pytest.approx(fitted(ten_days(), zoomed["view"]), rel=1e-6)
    assert "high=" not in page.url
    page.keyboard.press("f")
    settle(page)
    locked = state(page)["high"]
    assert locked == pytest.approx(zoomed["high"], rel=0.01)
    assert page.locator("#legend-title").inner_text().endswith("· locked")
    assert page.locator("#lock-colours").get_attribute("aria-pressed") == "true"
    page.keyboard.press("0")
    settle(page)
    page.wait_for_timeout(300)
    assert (state(page)["view"], state(page)["high"]) == (whole["view"], locked)
    assert f"high={locked:.0f}" in page.url
    page.locator("#lock-colours").click()
    settle(page)
    assert state(page)["high"] == whole["high"]


def test_relative_colours_say_how_much_more_than_usual_stands_at_a_distance(page: Any, renders: Path) -> None:
    data = ten_days()
    visit(page, renders, "#range=30d&high=5000000&candles=0&bubbles=0&profile=0")
    page.evaluate("() => document.activeElement.blur()")
    for scale in ("log", "relative"):
        page.keyboard.press("g")
        settle(page)
        assert state(page)["choice"]["scale"] == scale
    assert state(page)["choice"]["high"] is None, "a volume is no factor"
    assert page.locator("#legend-title").inner_text() == "times the usual at this distance · fit to view"
    assert page.locator("#low-handle").get_attribute("data-text") == "1×"
    assert {"2×", "5×"} & set(page.locator("#ticks span").all_inner_texts())
    factors = np.stack([by_hand(data, side) for side in ("long", "short")])
    nobody_knows = np.isnan(factors).any(axis=0) & ~(np.nan_to_num(factors) > 0).any(axis=0)
    most = np.nan_to_num(factors).max(axis=0)
    rows, columns = in_view(data, state(page)["view"])
    random = np.random.default_rng(3)
    spots, expected = [], []
    kinds = {"grey": nobody_knows, "dark": ~nobody_knows & (most < 0.99), "bright": most > 1.3}
    for kind, cells in kinds.items():
        inside = np.argwhere(cells[rows.start + 1 : rows.stop - 1, columns])
        assert len(inside) > 30, kind
        for row, column in random.permutation(inside)[:30]:
            spots.append((float(milliseconds(data)[column]) + 450_000, float(data.edges[rows.start + 1 + row] + 50)))
            expected.append(kind)
    grey = [69, 77, 94, 255]
    drawn = ["grey" if one == grey else "dark" if one == DARK else "bright" for one in colours_at(page, spots)]
    assert drawn == expected
    time, price = spots[-1]
    x, y = page.evaluate(
        """([time, price]) => {
        const { xaxis, yaxis } = document.getElementById('chart')._fullLayout;
        const frame = document.getElementById('chart').getBoundingClientRect();
        return [frame.left + xaxis._offset + xaxis.l2p(time), frame.top + yaxis._offset + yaxis.l2p(price)];
    }""",
        [time, price],
    )
    page.mouse.move(x, y)
    told = re.findall(r"at this distance\s+([\d.]+)× the usual", page.locator("#tip").inner_text())
    row, column = (
        np.searchsorted(edges, at, side="right") - 1 for edges, at in ((data.edges, price), (milliseconds(data), time))
    )
    assert max(map(float, told)) == pytest.approx(most[row, column], rel=0.06)


def test_zooming_keeps_the_dates_and_draws_finer_candles(page: Any, renders: Path) -> None:
    visit(page, renders)
    before = np.diff(trace(page, "candles")["x"][:2])
    whole = state(page)["view"]
    page.mouse.move(500, 500)
    for _ in range(6):
        page.mouse.wheel(0, -400)
    page.wait_for_function(
        "width => { const { x } = heatmapPage.view(); return x[1] - x[0] < width; }",
        arg=0.7 * (whole["x"][1] - whole["x"][0]),
    )
    page.wait_for_timeout(200)
    assert page.evaluate("() => document.getElementById('chart')._fullLayout.xaxis.type") == "date"
    assert np.diff(trace(page, "candles")["x"][:2]) < before
    assert page.locator('#range [aria-pressed="true"]').count() == 0
    zoomed = state(page)["view"]
    assert "view=" in page.url
    page.mouse.dblclick(500, 500)
    page.wait_for_function("start => Math.abs(heatmapPage.view().x[0] - start) < 2", arg=whole["x"][0])
    assert state(page)["view"] == whole
    assert zoomed != whole


def test_a_link_opens_exactly_what_its_sender_saw(page: Any, renders: Path) -> None:
    chosen = (
        "#symbol=BTCUSDT&model=delta&range=3d&side=short&scale=log&bin=200&low=100000&high=5000000"
        "&candles=0&bubbles=0&profile=0&levels=0&view=1720400000000,1720500000000,55000,60000"
    )
    visit(page, renders, chosen)
    first = state(page)
    pressed = page.locator('button[aria-pressed="true"]').evaluate_all("all => all.map(one => one.dataset.value)")
    assert sorted(pressed) == ["delta", "lock", "log", "map", "short"]
    assert (first["low"], first["high"], first["map"]["bin"]) == (100_000, 5_000_000, 200)
    assert first["view"] == {"x": [1720400000000, 1720500000000], "y": [55000, 60000]}
    assert page.url.endswith(chosen)
    link = page.url
    visit(page, renders)
    assert state(page) != first
    visit(page, renders, "#" + link.split("#")[1])
    assert state(page) == first
    visit(page, renders, "#symbol=<b>&model=nonsense&range=9y&bin=-3&low=x&high=0&view=1,2")
    choice = state(page)["choice"]
    assert (choice["symbol"], choice["model"], choice["range"], choice["bin"], choice["high"]) == (
        "BTCUSDT",
        "turnover",
        "7d",
        0,
        None,
    )


def test_the_keyboard_does_what_the_mouse_does(page: Any, renders: Path) -> None:
    visit(page, renders)
    pressed: dict[str, tuple[str, str | bool]] = {
        "l": ("side", "long"),
        "s": ("side", "short"),
        "b": ("side", "both"),
        "g": ("scale", "log"),
    }
    pressed |= {"2": ("range", "24h"), "m": ("model", "delta"), "h": ("map", False), "c": ("candles", False)}
    pressed |= {"x": ("bubbles", False), "p": ("profile", False), "k": ("levels", False)}
    for key, (name, value) in pressed.items():
        page.keyboard.press(key)
        settle(page)
        assert state(page)["choice"][name] == value, key
    page.keyboard.press("9")
    assert state(page)["choice"]["range"] == "24h", "a year is not there"
    view = state(page)["view"]
    page.keyboard.press("+")
    page.wait_for_function(
        "width => { const { x } = heatmapPage.view(); return x[1] - x[0] < 0.8 * width; }",
        arg=view["x"][1] - view["x"][0],
    )
    page.keyboard.press("0")
    settle(page)
    assert state(page)["view"] == view
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert "Zones" in page.locator("#help").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()
    page.locator('#side [data-value="both"]').focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert state(page)["choice"]["side"] == "long"
    focused = page.evaluate(
        "() => [document.activeElement.dataset.value, getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert focused == ["long", "solid"]
    unnamed = page.locator("button, select, input, [role=slider]").evaluate_all(
        "all => all.filter(one => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length"
        " || one.title)).length"
    )
    assert unnamed == 0


def test_what_a_link_says_that_cannot_be_shown_is_said(page: Any, renders: Path) -> None:
    visit(page, renders, "#symbol=NOSUCHUSDT&low=much")
    assert (
        page.locator("#notice").inner_text() == "NOSUCHUSDT is not here; shown is BTCUSDT. low = much cannot be read."
    )
    press(page, "range", "24h")
    assert page.locator("#notice").is_hidden(), "once"


def test_the_arrow_keys_are_the_maps_after_a_click_into_it(page: Any, renders: Path) -> None:
    visit(page, renders, "#range=24h")
    page.locator('#side [data-value="both"]').focus()
    before = state(page)
    page.mouse.click(500, 450)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("start => heatmapPage.view().x[0] < start", arg=before["view"]["x"][0])
    after = state(page)
    assert after["choice"]["side"] == "both"
    assert after["choice"]["pin"] is not None, "a click pins a moment"
    page.keyboard.press("Escape")
    settle(page)


def test_with_one_side_chosen_the_list_shows_it_alone(page: Any, renders: Path) -> None:
    visit(page, renders, "#side=long")
    words = page.locator("#ladder").inner_text()
    assert "Below: longs" in words
    assert "Above: shorts" not in words
    press(page, "side", "short")
    words = page.locator("#ladder").inner_text()
    assert "Above: shorts" in words
    assert "Below: longs" not in words


def test_the_page_from_disk_goes_through_the_days_it_has_and_says_where_they_end(page: Any, renders: Path) -> None:
    visit(page, renders, "#range=24h")
    page.locator("#date").fill("2024-07-05T12:00")
    page.locator("#date").press("Enter")
    page.wait_for_function("() => heatmapPage.state().moment.isPast")
    settle(page)
    now = state(page)
    data = ten_days()
    column = int(np.searchsorted(data.times, np.datetime64("2024-07-05T12:00", "us").astype(np.int64))) - 1
    found = page.evaluate("() => Array.from(heatmapPage.state().moment.book.long)")
    np.testing.assert_allclose(found, data.long[:, column], rtol=1e-6)
    assert "2024-07-05 12:00 UTC" in page.locator("#as-of").inner_text()
    assert page.locator("#badges .badge").first.inner_text() == "PAST"
    assert now["view"]["x"][1] - now["view"]["x"][0] == DAY
    while page.locator("#earlier").is_enabled():
        page.locator("#earlier").click()
        settle(page)
    assert state(page)["view"]["x"][0] == milliseconds(data)[0]
    assert "This page holds 2024-07-01 00:00 UTC to" in page.locator("#earlier").get_attribute("title")
    page.keyboard.press("n")
    settle(page)
    assert page.locator("#badges .badge").count() == 0


def test_space_presses_the_button_that_has_the_focus_and_plays_elsewhere(page: Any, renders: Path) -> None:
    visit(page, renders, "#range=24h")
    page.locator('#layers [data-value="candles"]').focus()
    page.keyboard.press(" ")
    settle(page)
    assert state(page)["choice"]["candles"] is False
    assert state(page)["choice"]["replay"] is False
    page.locator("#map").focus()
    page.keyboard.press(" ")
    page.wait_for_function("() => heatmapPage.state().choice.replay")
    press(page, "range", "12h")
    assert page.locator("#play").inner_text() == "▶ Play", "another range stops it"
    page.keyboard.press("Escape")
    settle(page)
    assert state(page)["choice"]["pin"] is None
