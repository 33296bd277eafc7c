"""The map of a base on the live page: three markets, one of them late; switched on and off, pointed at, linked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.api.encode import dump
from heatmap_pipeline.render.page import write_page
from heatmap_pipeline_tests.render.browser import LiveServer, follow, settle, state, visit
from heatmap_pipeline_tests.render.sample import BASE_MARKETS, LATE_COLUMNS, base_days, sample, ten_days
from heatmap_pipeline_tests.render.scores import scored

pytestmark = pytest.mark.slow

BINANCE, BYBIT, GATE = BASE_MARKETS


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    """Serves the base, what is left of it without each of its markets, and each of them alone."""
    server = LiveServer()
    server.show_base(base_days(), ten_days())
    for names in ((BINANCE, BYBIT), (BYBIT, GATE)):
        server.payloads[",".join(names), "turnover"] = dump(base_days(*names).record())
    server.payloads[BINANCE, "turnover"] = dump(ten_days().record())
    server.payloads[BYBIT, "turnover"] = dump(sample(BYBIT).record())
    yield server
    server.close()


def open_page(page: Any, server: LiveServer, fragment: str = "#", width: int = 1440, height: int = 900) -> None:
    """Open the page, or what a link says on the one that is open, in a window of that size."""
    if page.viewport_size != {"width": width, "height": height}:
        page.set_viewport_size({"width": width, "height": height})
    follow(page, server.url, fragment)


def switches(page: Any) -> list[tuple[str, bool]]:
    """The markets: what their buttons say, and whether they are on."""
    found = page.locator("#markets button").evaluate_all(
        "all => all.map(one => [one.textContent, one.ariaPressed === 'true'])"
    )
    return [(words, on) for words, on in found]


def profile(page: Any) -> dict[str, float]:
    """What the bars of the profile add up to, by market."""
    found: dict[str, float] = page.evaluate(
        """() => {
        const sums = {};
        for (const { name, x } of document.getElementById('chart').data) {
            const market = / profile (.+)$/.exec(name ?? '')?.[1];
            if (!market) continue;
            sums[market] ??= 0;
            for (let i = 0; i < x.length; i += 5) sums[market] += x[i + 1] - x[i]; // four corners and a gap
        }
        return sums;
    }"""
    )
    return found


def at_end(column: int = -1) -> float:
    """The volume of the ten days that stands in a column."""
    data = ten_days()
    return float(data.long[:, column].sum(dtype=float) + data.short[:, column].sum(dtype=float))


def test_the_page_opens_with_the_base_and_says_what_is_in_it(page: Any, server: LiveServer) -> None:
    open_page(page, server)
    now = state(page)
    assert (now["choice"]["symbol"], now["map"]["symbol"], server.asked[0]["symbol"]) == ("BTC", "BTC", "BTC")
    assert page.locator("#symbol option").all_inner_texts() == [
        "BTC, 3 markets",
        "BTCUSDT",
        "bybit:BTCUSDT",
        "gate:BTCUSDT",
    ]
    title = "BTC perpetuals: Binance, Bybit, Gate, turnover, candles: Binance"
    assert page.locator("#exchanges-title").inner_text() == title
    assert switches(page) == [("Binance 67 %", True), ("Bybit 33 %", True), ("Gate missing", True)]
    assert page.locator("#located").inner_text() == "located share 90.0 %"
    # A part that is late is missing, and said to be; it is in the map as long as it was there.
    mark = page.locator("#badges .badge", has_text="2 of 3 markets")
    assert "Gate is missing: its newest data end 2024-07-10 21:00 UTC, 3 h before" in mark.get_attribute("title")
    assert profile(page) == {
        BINANCE: pytest.approx(0.6 * at_end(), rel=1e-5),
        BYBIT: pytest.approx(0.3 * at_end(), rel=1e-5),
        GATE: 0,
    }
    lines = page.evaluate(
        "() => document.getElementById('chart').layout.shapes.filter(one => one.name === 'not whole').length"
    )
    assert lines == 1
    page.locator("#exchanges-count").click()
    rows = [line.split("\t") for line in page.locator("#exchanges-table tbody tr").all_inner_texts()]
    assert [[row[0], row[2], row[-1]] for row in rows] == [
        ["Binance", "67 %", "2024-07-11 00:00 UTC"],
        ["Bybit", "33 %", "2024-07-11 00:00 UTC"],
        ["Gate", "missing", "2024-07-10 21:00 UTC"],
    ]
    page.keyboard.press("Escape")
    assert page.locator("#exchanges-table").is_hidden()


def test_markets_are_switched_by_mouse_and_keyboard_and_a_link_restores_them(page: Any, server: LiveServer) -> None:
    open_page(page, server)
    whole = state(page)["map"]["long"]
    page.locator("#markets button", has_text="Gate").click()
    settle(page)
    assert server.asked[-1]["symbols"] == f"{BINANCE},{BYBIT}"
    assert "symbol" not in server.asked[-1]
    assert [on for _, on in switches(page)] == [True, True, False]
    assert page.locator("#exchanges-count").inner_text() == "2 of 2 markets"
    assert page.locator("#badges").inner_text() == "", "nothing that was asked for is missing"
    assert state(page)["map"]["long"] < whole
    # One stop for Tab, arrows within, Space switches; what has the focus keeps it.
    page.locator("#markets button", has_text="Binance").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    settle(page)
    assert [on for _, on in switches(page)] == [True, True, True]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    settle(page)
    assert page.evaluate("() => document.activeElement.dataset.value") == BINANCE
    assert [on for _, on in switches(page)] == [False, True, True]
    assert "candles: Bybit" in page.locator("#exchanges-title").inner_text()
    link = page.evaluate("() => location.hash")
    assert f"markets={BYBIT},{GATE}" in link
    colour = "() => getComputedStyle(document.querySelector('[data-value=BYBIT_BTCUSDT]')).getPropertyValue('--swatch')"
    before = page.evaluate(colour)
    open_page(page, server)
    assert all(on for _, on in switches(page))
    open_page(page, server, link)
    assert [on for _, on in switches(page)] == [False, True, True]
    assert page.evaluate(colour) == before, "a market keeps its colour, whichever are shown"


def test_pointer_zones_and_profile_are_told_by_market(page: Any, server: LiveServer) -> None:
    open_page(page, server)
    data = ten_days()
    column = len(data.times) - LATE_COLUMNS - 30
    row = int(np.argmax(data.long[:, column]))
    place = page.evaluate(
        """([time, price]) => {
        const { xaxis, yaxis } = document.getElementById('chart')._fullLayout;
        const { left, top } = document.getElementById('chart').getBoundingClientRect();
        return [left + xaxis._offset + xaxis.l2p(time), top + yaxis._offset + yaxis.l2p(price)];
    }""",
        [int(data.times[column]) / 1000 + 450_000, float(data.prices[row]) + data.bin_size / 2],
    )
    page.mouse.move(*place)
    told = [line.split("\t") for line in page.locator("#tip tr.part").all_inner_texts()]
    volume = float(data.long[row, column])
    assert [name for name, _ in told] == ["Binance", "Bybit", "Gate"]
    assert told[0][1] == f"{0.6 * volume / 1e6:.2f} M USDT · 60 %"
    zone = page.locator(".level").first
    assert zone.locator(".parts").inner_text() == "Binance 67 % · Bybit 33 % · Gate missing"
    assert zone.locator(".bar i").count() == 3
    # At an earlier moment all three were there, and everything beside the map says so.
    end = np.datetime64(int(data.times[column]) + 900_000_000, "us")
    open_page(page, server, f"#symbol=BTC&pin={np.datetime_as_string(end, 'm')}Z")
    assert [words for words, _ in switches(page)] == ["Binance 60 %", "Bybit 30 %", "Gate 10 %"]
    assert page.locator("#badges .badge", has_text="markets").count() == 0
    assert profile(page)[GATE] == pytest.approx(0.1 * at_end(column), rel=1e-5)


def test_each_market_alone_stays_and_old_links_work(page: Any, server: LiveServer) -> None:
    open_page(page, server, "#symbol=BTCUSDT&model=turnover&range=7d&side=both&scale=linear")
    assert state(page)["map"]["symbol"] == "BTCUSDT"
    assert page.locator("#exchanges").is_hidden()
    assert profile(page) == {}
    page.locator("#symbol").select_option(BYBIT)
    settle(page)
    assert page.title().startswith("bybit:BTCUSDT "), "as it is typed, wherever it is named"
    assert page.locator("#truth-of").text_content() == "bybit:BTCUSDT, turnover model"
    page.locator("#symbol").select_option("BTC")
    settle(page)
    assert state(page)["map"]["symbol"] == "BTC"
    assert page.locator("#exchanges").is_visible()


def test_the_score_of_a_base_is_that_of_each_market_which_can_be_chosen(page: Any, server: LiveServer) -> None:
    record = scored(BYBIT)
    server.scores[BYBIT, "turnover"] = record
    page.goto("about:blank")
    open_page(page, server)
    page.wait_for_function("() => document.getElementById('truth-short').textContent === 'by market'")
    page.locator("#truth-button").click()
    rows = record["windows"]["28d"]
    own = [
        row["value"] for row in rows if (row["measure"], row["horizon"], row["baseline"]) == ("spearman", "nowcast", "")
    ]
    assert page.locator("#truth-content p").all_inner_texts() == [
        "A score is of one market: choose one.",
        "BTCUSDT not scored here",
        f"bybit:BTCUSDT {own[0]:.2f} / {own[1]:.2f} longs / shorts",
        "gate:BTCUSDT not scored here",
    ]
    page.get_by_role("button", name="bybit:BTCUSDT").click()
    page.locator("table.truth caption", has_text="bybit:BTCUSDT, turnover model").wait_for()
    assert page.evaluate("() => document.activeElement.id") == "truth-close"
    settle(page)
    assert state(page)["map"]["symbol"] == BYBIT
    page.keyboard.press("Escape")


def test_on_a_phone_the_markets_are_there_and_nothing_sticks_out(page: Any, server: LiveServer) -> None:
    open_page(page, server, width=390, height=844)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#markets button").count() == 3
    assert all(page.locator("#markets button").nth(number).is_visible() for number in range(3))
    page.locator("#exchanges-count").click()
    box = page.locator("#exchanges-more > div").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    page.keyboard.press("Escape")
    open_page(page, server)


def test_from_disk_the_base_is_shown_as_a_whole(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": ten_days()})
    write_page(tmp_path, "BTC", {"turnover": base_days()})
    visit(page, tmp_path, f"#markets={BYBIT}")
    assert state(page)["map"]["symbol"] == "BTC"
    assert switches(page) == [("Binance 67 %", True), ("Bybit 33 %", True), ("Gate missing", True)]
    assert page.locator("#markets button:disabled").count() == 3
    assert "heatmap serve" in page.locator("#markets button").first.get_attribute("title")
    assert profile(page)[BYBIT] == pytest.approx(0.3 * at_end(), rel=1e-5)
