"""The page as a trader meets it: opened from disk in Chromium, no server, no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.render.page import write_page
from heatmap_pipeline_tests.render.sample import sample

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
DRAWN = (
    "() => document.getElementById('message').hidden && document.querySelector('#chart .heatmaplayer image') !== null"
)
TRACE = """name => {
    const trace = document.getElementById('chart').data.find(one => one.name === name);
    return {rows: trace.z?.length, columns: trace.z?.[0].length, visible: trace.visible !== false, zmax: trace.zmax,
            points: trace.x?.length, total: trace.z?.reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0)};
}"""
PRICES = "() => document.getElementById('chart')._fullLayout.yaxis.range"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; pip install the extra 'test'"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}; install Debian's package chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("renders")
    both = {"turnover": sample(days=10), "delta": sample(model="delta", days=10, seed=2)}
    write_page(folder, "BTCUSDT", both)
    write_page(folder, "ETHUSDT", {"delta": sample("ETHUSDT", "delta", simulated=True, provisional=True)})
    return folder


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails its test if anything is written to the console, or asked of a network."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: troubles.append(request.url) if request.url.startswith("http") else None)
    page.troubles = troubles
    yield page
    context.close()
    assert troubles == []


def visit(page: Any, folder: Path, fragment: str = "") -> None:
    page.goto(f"{(folder / 'index.html').as_uri()}{fragment}")
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(50)


def press(page: Any, group: str, value: str) -> None:
    page.evaluate(
        "() => { const chart = document.getElementById('chart');"
        "window.plotted = new Promise(done => chart.once('plotly_afterplot', done)); }"
    )
    page.locator(f'#{group} [data-value="{value}"]').click()
    page.evaluate("() => window.plotted.then(() => null)")


def test_the_page_draws_the_whole_map(page: Any, renders: Path) -> None:
    data = sample(days=10)
    visit(page, renders)
    trace = page.evaluate(TRACE, "density")
    assert (trace["rows"], trace["columns"]) == data.long.shape
    assert trace["total"] == pytest.approx(float((data.long + data.short).sum(dtype=float)), rel=1e-4)
    assert trace["zmax"] < float((data.long + data.short).max())
    for name in ("candles", "consumed", "long profile", "short profile", "long cumulative", "short cumulative"):
        assert page.evaluate(TRACE, name)["points"] > 0
    assert page.locator("#price").inner_text() == f"{data.price:,.0f}"
    assert "2024-07-11 00:00 UTC" in page.locator("#as-of").inner_text()
    assert "90.0 %" in page.locator("#coverage").inner_text()
    assert page.locator("#badges").inner_text() == ""
    ticks = page.locator("#chart .cbaxis").all_text_contents()
    assert re.search(r"\$0.*≥ \$[\d.]+[kM]", "".join(ticks))


def test_hover_tells_time_price_and_volume(page: Any, renders: Path) -> None:
    visit(page, renders)
    page.mouse.move(700, 400)
    words = page.locator("#tip").inner_text()
    assert re.search(r"2024-07-\d\d \d\d:\d\d – \d\d:\d\d UTC", words)
    assert re.search(r"Price\s+[\d,]+ – [\d,]+", words)
    assert re.search(r"From last price\s+[+−][\d.]+ %", words)
    for name in ("Long", "Short", "Total"):
        assert re.search(rf"{name}\s+[\d.]+( [kMB])? USDT", words)
    page.mouse.move(1500, 700)
    assert "Newest book" in page.locator("#tip").inner_text()
    assert "Longs down to here" in page.locator("#tip").inner_text()
    page.mouse.move(800, 20)
    assert page.locator("#tip").is_hidden()


def test_symbol_and_model_change_what_is_drawn(page: Any, renders: Path) -> None:
    visit(page, renders)
    before = page.evaluate(TRACE, "density")["total"]
    press(page, "model", "delta")
    assert page.evaluate(TRACE, "density")["total"] != before
    assert "model=delta" in page.url
    page.locator("#symbol").select_option("ETHUSDT")
    page.wait_for_timeout(400)
    assert page.evaluate(TRACE, "density")["columns"] == 3 * 96
    assert "SIMULATED DATA" in page.locator("#badges").inner_text()
    assert "provisional" in page.locator("#badges").inner_text()
    assert "ETHUSDT" in page.title()


def test_every_control_changes_what_it_should(page: Any, renders: Path) -> None:
    visit(page, renders)
    both = page.evaluate(TRACE, "density")
    press(page, "side", "long")
    long = page.evaluate(TRACE, "density")
    press(page, "side", "short")
    short = page.evaluate(TRACE, "density")
    assert long["total"] + short["total"] == pytest.approx(both["total"], rel=1e-4)
    assert long["zmax"] == both["zmax"], "a colour means the same volume whatever is shown"
    press(page, "scale", "log")
    assert page.evaluate(TRACE, "density")["zmax"] < 12
    for layer, trace in (("candles", "candles"), ("bubbles", "consumed")):
        press(page, "layers", layer)
        assert not page.evaluate(TRACE, trace)["visible"]
        press(page, "layers", layer)
        assert page.evaluate(TRACE, trace)["visible"]
    whole = page.evaluate(PRICES)
    press(page, "range", "1d")
    low, high = page.evaluate(PRICES)
    assert whole[0] < low < sample(days=10).price < high < whole[1]
    assert page.locator('#range [data-value="1d"]').get_attribute("aria-pressed") == "true"
    page.mouse.dblclick(700, 500)
    page.wait_for_timeout(300)
    assert page.evaluate(PRICES) == [low, high]


def test_zooming_keeps_the_dates_and_draws_finer_candles(page: Any, renders: Path) -> None:
    visit(page, renders)
    step = "() => { const x = document.getElementById('chart').data[2].x; return x[1] - x[0]; }"
    before = page.evaluate(step)
    page.mouse.move(700, 500)
    for _ in range(6):
        page.mouse.wheel(0, -400)
    page.wait_for_timeout(1200)
    assert page.evaluate("() => document.getElementById('chart')._fullLayout.xaxis.type") == "date"
    assert page.evaluate(step) < before
    assert "range=" not in page.url
    assert page.locator('#range [aria-pressed="true"]').count() == 0


def test_a_link_opens_what_it_names(page: Any, renders: Path) -> None:
    visit(page, renders, "#symbol=BTCUSDT&model=delta&side=short&scale=log&range=3d&bubbles=0")
    pressed = page.locator('button[aria-pressed="true"]').evaluate_all("all => all.map(one => one.dataset.value)")
    assert pressed == ["delta", "3d", "short", "log", "candles"]
    assert not page.evaluate(TRACE, "consumed")["visible"]
    visit(page, renders, "#symbol=<b>&model=nonsense&range=9y")
    assert page.locator("#symbol").input_value() == "BTCUSDT"


def test_a_narrow_screen_keeps_the_map(page: Any, renders: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, renders)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1200, "height": 800})
    page.wait_for_timeout(600)
    assert page.evaluate(TRACE, "long profile")["points"] > 0


def test_missing_files_are_explained(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    (tmp_path / "BTCUSDT" / "turnover.js").unlink()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_timeout(500)
    assert "BTCUSDT/turnover.js is missing" in page.locator("#message").inner_text()
    (tmp_path / "plotly.min.js").unlink()
    page.reload()
    page.wait_for_timeout(500)
    assert "plotly.min.js is missing" in page.locator("#message").inner_text()
    assert page.locator("#message img").evaluate("one => one.naturalWidth") == 1600
    assert all("ERR_FILE_NOT_FOUND" in trouble for trouble in page.troubles)
    page.troubles.clear()


def test_an_empty_book_is_drawn_without_complaint(page: Any, tmp_path: Path) -> None:
    data = sample()
    data.long[:] = data.short[:] = 0
    write_page(tmp_path, "BTCUSDT", {"turnover": data})
    visit(page, tmp_path)
    press(page, "scale", "log")
    assert page.evaluate(TRACE, "density")["rows"] == len(data.buckets)
