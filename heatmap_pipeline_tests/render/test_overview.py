"""The page of all markets: its functions run by node, and once in Chromium over a made-up answer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from heatmap_pipeline.render.overview import overview_page
from heatmap_pipeline.symbols import typed_name
from heatmap_pipeline_tests.render.browser import opened
from heatmap_pipeline_tests.render.markets import NAMES, market, markets, overview_server
from heatmap_pipeline_tests.render.node import of_node

PAGE = "overview/overview.js"


def test_every_column_sorts_both_ways_with_the_unknown_last() -> None:
    given = markets()["markets"]
    expression = (
        "Object.fromEntries(Object.keys(COLUMNS).map(column => [column, ['ascending', 'descending'].map(order => "
        "sorted(given, column, order).map(({ symbol }) => symbol))]))"
    )
    orders = of_node(PAGE, expression, given)
    unknown = {
        "change": ["DOGEUSDC"],
        **{name: ["DOGEUSDC"] for name in ("above", "below", "above-volume", "below-volume")},
        "score": sorted(one["symbol"] for one in given if one["score"] is None),
    }
    values = {
        "symbol": lambda one: one["symbol"],
        "price": lambda one: one["price"],
        "change": lambda one: one["change_24h_percent"],
        "above": lambda one: one["nearest"]["above"]["distance_percent"],
        "below": lambda one: -one["nearest"]["below"]["distance_percent"],
        "above-volume": lambda one: one["nearest"]["above"]["volume"],
        "below-volume": lambda one: one["nearest"]["below"]["volume"],
        "score": lambda one: one["score"]["long"] + one["score"]["short"],
        "age": lambda one: [-int(part) for part in re.findall(r"\d+", one["as_of"])],
    }
    assert orders.keys() == values.keys()
    for column, (up, down) in orders.items():
        last = unknown.get(column, [])
        known = sorted((one for one in given if one["symbol"] not in last), key=lambda one: one["symbol"])
        assert up == [one["symbol"] for one in sorted(known, key=values[column])] + last, column
        turned = sorted(known, key=values[column], reverse=True)  # equal ones stay by name
        assert down == [one["symbol"] for one in turned] + last, column


def test_words_and_lines() -> None:
    told = of_node(
        PAGE,
        "[[64000, 0.077713, 1.5, 1234567].map(price => priceText(price)), [3e9, 7680, 999.96e6, 12].map(volumeText), "
        "[0.4, -6.3, 0].map(percentText), [30, 5000, 7200, 200000].map(ageText), "
        "sparkPath([1, 3, null, null, 2, 2], { width: 10, height: 4 }), sparkPath([5, 5], { width: 10, height: 4 }), "
        "[[given.some, given.some.length], [given.one, 1], [given.some, 2]].map(([all, n]) => summaryText(all, n))]",
        {"some": markets()["markets"], "one": [market(0)]},
    )
    assert told == [
        ["64,000", "0.077713", "1.5000", "1,234,567"],
        ["3B", "7.68k", "1B", "12"],
        ["+0.40 %", "−6.30 %", "+0.00 %"],
        ["1 min", "83 min", "2 h", "2 d"],
        "M0.0,4.0L2.0,0.0M8.0,2.0L10.0,2.0",
        "M0.0,2.0L10.0,2.0",
        ["9 markets, 1 stale, 1 ended", "1 market", "2 of 9 markets, 1 stale, 1 ended"],
    ]


def test_the_address_holds_order_and_search() -> None:
    told = of_node(
        PAGE,
        "[['', '#sort=score', '#sort=below&order=descending&find=bt', '#sort=constructor&order=up'].map(readChoice), "
        "writeChoice({ column: 'below', order: 'descending', find: 'a b&c' }), "
        "[pressed({ column: 'symbol', order: 'ascending' }, 'score'), "
        "pressed({ column: 'score', order: 'descending' }, 'score')], "
        "[' btc', 'BYBIT_', 'bybit:'].map(words => found(given, words).map(({ symbol }) => symbol))]",
        markets()["markets"],
    )
    first = {"column": "symbol", "order": "ascending", "find": ""}
    assert told[0] == [
        first,
        {"column": "score", "order": "descending", "find": ""},
        {"column": "below", "order": "descending", "find": "bt"},
        first,
    ]
    assert told[1] == "#sort=below&order=descending&find=a+b%26c"
    assert [one["order"] for one in told[2]] == ["descending", "ascending"]
    assert told[3] == [["BTCUSDT", "BYBIT_BTCUSDT"], ["BYBIT_BTCUSDT"], ["BYBIT_BTCUSDT"]], "its id or as it is typed"


def test_the_page_names_its_parts_by_content_and_nothing_from_elsewhere() -> None:
    served = overview_page()
    assert set(served) == {"/overview", "/overview.js", "/overview.css"}
    page = served["/overview"][0].decode()
    assert re.findall(r'(?:src|href)="([^"]+\.(?:js|css)[^"]*)"', page) == [
        re.search(rf"{name}\?v=[0-9a-f]{{12}}", page)[0]  # type: ignore[index]
        for name in ("overview.css", "overview.js")
    ]
    for content, _ in served.values():
        assert b"http://" not in content
        assert b"https://" not in content


CONTRAST = """
() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  return [...document.querySelectorAll("body *")].filter(one => one.checkVisibility() && [...one.childNodes]
    .some(child => child.nodeType === 3 && child.textContent.trim())).map(one => {
      const [a, b] = [getComputedStyle(one).color, behind(one)].map(light).sort().reverse();
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.textContent.trim().slice(0, 40)];
    }).filter(([ratio]) => ratio < 4.5);
}
"""


@pytest.mark.slow
def test_the_page_in_a_browser(browser: Any) -> None:
    """Rows, sorting by keyboard, search, links, what is stale and ended, trouble, and a phone's width."""
    names = "() => [...document.querySelectorAll('tbody th a')].map(one => one.textContent)"
    with overview_server() as server, opened(browser) as page:
        page.goto(f"{server.url}/")
        page.wait_for_selector("tbody tr")
        assert page.evaluate(names) == [typed_name(symbol) for symbol in sorted(NAMES)]
        assert page.locator("#summary").inner_text() == "9 markets, 1 stale, 1 ended"
        assert page.get_by_role("columnheader").count() == 10
        assert page.get_by_role("rowheader").count() == 9
        row = page.get_by_role("row").filter(has_text="SOLUSDT")
        assert "8 d" in row.inner_text()
        assert "2024-07-03 00:00 UTC" in row.inner_text()
        assert not row.get_by_text("heatmap refresh SOLUSDT").is_visible()
        row.get_by_text("STALE").click()
        assert row.get_by_text("heatmap refresh SOLUSDT").is_visible()
        assert "ended on 2024-05-01" in page.get_by_role("row").filter(has_text="OLDUSDT").inner_text()
        assert "simulated" in page.get_by_role("row").filter(has_text="DOGEUSDC").inner_text()
        text = page.get_by_role("row").filter(has_text="BTCUSDT").first.inner_text()
        assert [words in text for words in ("64,000", "+4.00 %", "+0.40 %", "at 64,256", "3B", "no record")] == [
            True
        ] * 6
        assert "modelled shorts" in page.locator("thead").inner_text()

        head = page.locator("[data-sort=below]")
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert page.locator("[aria-sort]").count() == 1
        assert page.evaluate(names)[0] == "BTCUSDT"
        assert page.evaluate(names)[-1] == "DOGEUSDC"
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert page.evaluate(names)[0] == "SOLUSDT"
        assert page.evaluate("() => location.hash") == "#sort=below&order=descending"
        assert page.locator("details[open]").count() == 1, "what was unfolded stays"
        assert page.evaluate(CONTRAST) == []

        page.locator("#find").fill("btc")
        assert page.evaluate(names) == ["bybit:BTCUSDT", "BTCUSDT"]
        assert page.locator("#summary").inner_text() == "2 of 9 markets, 1 stale, 1 ended"
        page.get_by_role("link", name="bybit:BTCUSDT").focus()
        server.body["markets"][0]["price"] = 65_000.0
        page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_function("() => document.querySelector('tbody').innerText.includes('65,000')")
        assert page.evaluate("() => document.activeElement.textContent") == "bybit:BTCUSDT"

        page.set_viewport_size({"width": 390, "height": 844})
        page.locator("#find").fill("")
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390, "the table scrolls, not the page"
        below = page.locator("tbody tr").first.locator("td").nth(5)
        assert below.is_visible()
        box = page.locator("[data-sort=below]").bounding_box()
        assert box["x"] + box["width"] <= 390, "both zones without scrolling"
        stick_out = """() => [...document.querySelectorAll("tbody th")].filter(one =>
            one.firstChild.getBoundingClientRect().right > one.getBoundingClientRect().right)
            .map(one => one.textContent)"""
        assert page.evaluate(stick_out) == [], "long names end where the prices begin"
        page.get_by_role("link", name="ETHUSDT").click()
        assert page.url == f"{server.url}/map#symbol=ETHUSDT"
        page.goto(f"{server.url}/#symbol=BTCUSDT&range=30d")
        page.wait_for_url(f"{server.url}/map#symbol=BTCUSDT&range=30d")

        page.set_viewport_size({"width": 1440, "height": 900})
        with overview_server() as other:
            other.broken = 503
            page.goto(f"{other.url}/overview")
            page.wait_for_selector("#notice:not([hidden])")
            assert page.locator("#notice").inner_text() == "nothing is published yet; run `heatmap demo`"
            assert page.locator("table").is_hidden()
            other.broken = 0
            page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
            page.wait_for_selector("tbody tr")
            assert page.locator("#notice").is_hidden()
            assert [words for words in page.troubles if "503" not in words] == []
            page.troubles.clear()
