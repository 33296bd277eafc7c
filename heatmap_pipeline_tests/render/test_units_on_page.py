"""What the page's numbers are in: the quote asset of the map that is shown, and of no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from heatmap_pipeline.render.page import write_page
from heatmap_pipeline_tests.render.browser import settle, visit
from heatmap_pipeline_tests.render.sample import sample

pytestmark = pytest.mark.slow

CHINESE, HEBREW = "币安人生USDC", "שלוםUSDT"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market quoted in USDC, and two in other alphabets."""
    folder = tmp_path_factory.mktemp("quotes")
    for symbol in ("BTCUSDC", CHINESE, HEBREW):
        write_page(folder, symbol, {"turnover": sample(symbol)})
    return folder


def words_of(page: Any) -> str:
    """Everything the page says: its text, titles, labels and what is read aloud, and the chart's own words."""
    return str(
        page.evaluate(
            """() => [document.title, document.body.innerText,
            ...[...document.querySelectorAll('body *:not(script, noscript, noscript *)')].flatMap(one =>
                [one.title, one.ariaLabel, one.getAttribute?.('aria-valuetext'), one.textContent]),
            ].filter(Boolean).join('\\n')"""
        )
    )


def test_every_word_is_in_the_quote_asset(page: Any, folder: Path) -> None:
    visit(page, folder, "#symbol=BTCUSDC")
    box = page.locator("#chart").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    assert "USDC" in page.locator("#tip").inner_text()
    assert page.locator("#legend-title").inner_text() == "modelled USDC per 100 USDC of price · fit to view"
    assert page.locator("#price").get_attribute("title") == "Last close, USDC"
    page.locator("#help-button").click()
    words = words_of(page).replace(HEBREW, "")
    page.keyboard.press("Escape")
    assert "bars: per 100 USDC" in words
    assert "USDT" not in words, [line for line in words.split("\n") if "USDT" in line]
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    header = Path(download.value.path()).read_text().split("\n")[0]
    assert header == "timestamp_utc,price_low,price_high,long_usdc,short_usdc,state_at_utc,leverage_tiers"


def test_another_symbol_brings_its_own_and_its_name_in_its_alphabet(page: Any, folder: Path) -> None:
    visit(page, folder, "#symbol=BTCUSDC")
    page.locator("#symbol").select_option(HEBREW)
    page.wait_for_function("symbol => heatmapPage.state().map.symbol === symbol", arg=HEBREW)
    settle(page)
    assert page.locator("#legend-title").inner_text() == "modelled USDT per 100 USDT of price · fit to view"
    assert HEBREW in page.title()
    visit(page, folder, f"#symbol={quote(CHINESE)}&range=24h")
    assert page.evaluate("() => heatmapPage.state().map.symbol") == CHINESE, "a link opens it"
    assert quote(CHINESE) in page.evaluate("() => location.hash")
    assert page.locator("#legend-title").inner_text() == "modelled USDC per 100 USDC of price · fit to view"
    with page.expect_download() as download:
        page.locator("#save-png").click()
    assert download.value.suggested_filename.startswith(f"{CHINESE}-turnover-")


def test_files_of_before_units_were_written_are_in_usdt(page: Any, folder: Path, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    script = tmp_path / "BTCUSDT" / "turnover.js"
    payload = json.loads(script.read_text().removeprefix("heatmapData(").removesuffix(");\n"))
    del payload["meta"]["units"]
    script.write_text(f"heatmapData({json.dumps(payload)});\n")
    visit(page, tmp_path)
    assert page.locator("#legend-title").inner_text() == "modelled USDT per 100 USDT of price · fit to view"


def test_what_is_missing_is_named_in_its_alphabet(page: Any, folder: Path, tmp_path: Path) -> None:
    write_page(tmp_path, CHINESE, {"turnover": sample(CHINESE)})
    (tmp_path / CHINESE / "turnover.js").unlink()
    page.goto(f"{(tmp_path / 'index.html').as_uri()}")
    page.wait_for_function("() => !document.getElementById('message').hidden")
    assert f"{CHINESE}/turnover.js is missing" in page.locator("#message").inner_text()
    page.troubles.clear()  # the browser says itself that the file is missing
