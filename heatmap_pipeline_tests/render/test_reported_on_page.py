"""Real liquidations on the page: hollow circles where and as large as they were, and words where nothing is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.render.page import write_page
from heatmap_pipeline_tests.render.browser import LiveServer, follow, milliseconds, press, settle, state, visit
from heatmap_pipeline_tests.render.sample import REPORTED_RECORDED, reported_days, ten_days

pytestmark = pytest.mark.slow

QUARTER = 900_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on which the first model has a record beside it; of the second nothing is known."""
    folder = tmp_path_factory.mktemp("reported")
    write_page(folder, "BTCUSDT", {"turnover": reported_days(), "delta": ten_days("delta")})
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    """Serves what the folder holds."""
    running = LiveServer()
    running.show(reported_days(), ten_days("delta"))
    yield running
    running.close()


@pytest.fixture(params=["static", "live"])
def shown(request: Any, folder: Path, server: LiveServer) -> Any:
    """The page over all ten days, from disk and from a server."""
    page = request.getfixturevalue("page" if request.param == "static" else "second_page")
    follow(page, (folder / "index.html").as_uri() if request.param == "static" else server.url, "#range=30d")
    return page


def drawn(page: Any, name: str = "reported") -> Any:
    """A trace of circles: visible, symbol, and of each circle time, price, size and colour."""
    return page.evaluate(
        """name => {
        const { visible, marker, x, y } = document.getElementById('chart').data.find(one => one.name === name);
        const circles = x.map((time, i) => [time, y[i], marker.size[i], marker.color[i]]);
        return { visible, symbol: marker.symbol, circles };
    }""",
        name,
    )


def recorded_lines(page: Any) -> list[list[float]]:
    lines: list[list[float]] = page.evaluate(
        "() => document.getElementById('chart').layout.shapes.filter(one => one.name === 'recorded')"
        ".map(one => [one.x0, one.x1, one.y0, one.y1])"
    )
    return lines


def expected() -> list[tuple[float, float, float, str]]:
    """Time of the middle, price, volume and colour of each sum, the largest first."""
    data = reported_days()
    assert data.reported is not None
    rows = [
        (float(milliseconds(data)[column] + QUARTER / 2), place, volume, {"long": "#4ea8ff", "short": "#ff9a3c"}[side])
        for side, sums in data.reported.sums.items()
        for column, place, volume in zip(sums.column, sums.place, sums.volume, strict=True)
    ]
    return sorted(rows, key=lambda row: -row[2])


def test_hollow_circles_stand_where_and_as_large_as_it_was(shown: Any) -> None:
    now, rows = drawn(shown), expected()
    assert (now["visible"], now["symbol"]) == (True, "circle-open")
    assert len(rows) == 4
    assert [circle[:2] for circle in now["circles"]] == [[time, pytest.approx(price)] for time, price, *_ in rows]
    assert [circle[3] for circle in now["circles"]] == [colour for *_, colour in rows]
    sums = shown.evaluate("() => heatmapPage.state().map.reported.circles.map(one => one.volume)")
    assert sums == pytest.approx([volume for _, _, volume, _ in rows])
    largest = drawn(shown, "consumed")["circles"][0][2]
    most = max(
        state(shown)["map"]["consumed"] and shown.evaluate("() => heatmapPage.state().map.bubbles[0].volume"),
        rows[0][2],
    )
    for (*_, size, _), (_, _, volume, _) in zip(now["circles"], rows, strict=True):
        assert size == pytest.approx(max(3, largest * np.sqrt(volume / most)), rel=1e-6), "one scale with the filled"


def test_a_line_tells_when_it_was_recorded(shown: Any) -> None:
    ends = [[np.datetime64(end, "ms").astype(int) for end in stretch] for stretch in REPORTED_RECORDED]
    assert recorded_lines(shown) == [[*stretch, 0, 0] for stretch in ends]


def test_they_can_be_hidden_by_button_key_and_link(shown: Any) -> None:
    assert shown.locator('#layers [data-value="reported"]').get_attribute("aria-pressed") == "true"
    press(shown, "layers", "reported")
    assert not drawn(shown)["visible"]
    assert drawn(shown, "consumed")["visible"]
    assert recorded_lines(shown) == []
    assert "reported=0" in shown.url
    link = shown.url
    shown.keyboard.press("o")
    settle(shown)
    assert drawn(shown)["visible"]
    assert "reported=0" not in shown.url
    shown.goto("about:blank")
    shown.goto(link)
    settle(shown)
    assert not drawn(shown)["visible"]


def test_a_side_shows_its_own_only(shown: Any) -> None:
    press(shown, "side", "long")
    assert {circle[3] for circle in drawn(shown)["circles"]} == {"#4ea8ff"}
    press(shown, "side", "both")


def test_the_legend_says_whose_and_how_much(shown: Any) -> None:
    data = reported_days()
    assert data.reported is not None
    words = " ".join(shown.locator("footer").inner_text().split())
    assert "modelled liquidations: longs shorts" in words
    assert f"reported: longs shorts (binance, complete, reported / modelled {data.reported.factor:.2f})" in words
    press(shown, "model", "delta")
    assert "reported" not in shown.locator("footer").inner_text()
    button = shown.locator('#layers [data-value="reported"]')
    assert button.is_disabled()
    assert "HEATMAP_LIQUIDATIONS" in button.get_attribute("title")
    press(shown, "model", "turnover")


def hover(page: Any, time: str, price: float = 56_000) -> str:
    """The tooltip at an instant."""
    at = int(np.datetime64(time, "ms").astype(int))
    x, y = page.evaluate(
        """([time, price]) => {
        const { xaxis, yaxis } = document.getElementById('chart')._fullLayout;
        const { left, top } = document.getElementById('chart').getBoundingClientRect();
        return [left + xaxis._offset + xaxis.l2p(time), top + yaxis._offset + yaxis.l2p(price)];
    }""",
        [at, price],
    )
    page.mouse.move(x, y)
    return " ".join(page.locator("#tip").inner_text().split())


def test_the_tooltip_tells_missing_from_nothing(shown: Any) -> None:
    press(shown, "range", "14d")
    assert "Reported not recorded" in hover(shown, "2024-07-01T12:05")
    words = hover(shown, "2024-07-02T12:05")
    assert "Longs liquidated, reported 0 USDT Shorts liquidated, reported 0 USDT" in words
    shown.evaluate("() => history.replaceState(null, '', '#range=30d&view=1720000000000,1720020000000,50000,65000')")
    shown.evaluate("() => dispatchEvent(new Event('hashchange'))")
    settle(shown)
    assert "Longs liquidated, reported 2.32 M USDT" in hover(shown, "2024-07-03T12:05")
    assert "Longs liquidated, reported 0 USDT" in hover(shown, "2024-07-03T12:20")


def test_a_sum_of_an_hour_says_so_in_all_of_its_columns(page: Any, tmp_path: Path) -> None:
    data = reported_days(resolution_seconds=3600, complete=False)
    write_page(tmp_path, "BTCUSDT", {"turnover": data})
    visit(page, tmp_path, "#range=30d&view=1720000000000,1720020000000,50000,65000")
    for minute in (5, 20, 35, 50):
        words = hover(page, f"2024-07-03T12:{minute:02d}")
        assert "Reported as one sum 12:00 – 13:00 Longs liquidated, reported 2.32 M USDT" in words
    assert "one sum" not in hover(page, "2024-07-03T13:05")
    first = data.reported.sums["long"].column[0] if data.reported else 0
    times = {time for time, *_ in drawn(page)["circles"]}
    assert int(milliseconds(data)[first]) + 1_800_000 in times, "in the middle of its hour"
    assert "incomplete" in page.locator("footer").inner_text()


def test_another_exchange_is_named_and_gives_no_factor(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": reported_days(source="bybit_stream")})
    visit(page, tmp_path)
    words = page.locator("#reported").inner_text()
    assert "bybit, another exchange, complete" in words
    assert "reported / modelled" not in words


def test_the_saved_picture_names_them(shown: Any) -> None:
    written = shown.evaluate(
        """async () => {
        const texts = [];
        const fill = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
            texts.push(text);
            return fill.call(this, text, ...rest);
        };
        await heatmapPage.pngOf();
        CanvasRenderingContext2D.prototype.fillText = fill;
        return texts;
    }"""
    )
    assert {"modelled liquidations:", "reported:", "● longs", "○ shorts"} <= set(written)
    assert any("located share 90.0 %" in text for text in written)
    assert any(text.startswith("(binance, complete, reported / modelled") for text in written)


def test_the_page_calls_modelled_modelled_and_says_located_share(shown: Any) -> None:
    assert "modelled USDT per 100 USDT of price" in shown.locator("#legend-title").inner_text()
    assert shown.locator('#layers [data-value="bubbles"]').inner_text() == "● Modelled"
    about = shown.locator("#located").get_attribute("data-about")
    assert about.startswith("Share of open interest that the map puts at a liquidation price.")
    texts = shown.locator("#model button").all_inner_texts()
    assert texts == ["turnover", "delta (comparison)"]
    shown.keyboard.press("?")
    words = shown.locator("#help").inner_text()
    assert "Reported liquidations are hollow circles" in words
    assert "filled circles there are modelled liquidations" in words
    assert "at the low (longs) or high (shorts) of their time" in words
    shown.keyboard.press("Escape")
    everything = shown.locator("body").inner_text() + words
    assert "overage" not in everything


def test_a_file_of_before_says_its_share_and_has_no_circles(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": ten_days()})
    script = tmp_path / "BTCUSDT" / "turnover.js"
    old = script.read_text().replace('"located_share"', '"not_yet"').replace('"reported":null,', "")
    script.write_text(old)
    visit(page, tmp_path)
    assert "located share 90.0 %" in page.locator("#located").inner_text()
    assert drawn(page)["circles"] == []
