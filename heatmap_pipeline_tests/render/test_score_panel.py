"""The panel "How true is this?": what it says of a score, of too few hours, of no record, and of simulated data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.render.page import write_page
from heatmap_pipeline.views.score import reference_score
from heatmap_pipeline_tests.render.browser import LiveServer, follow, press, settle, visit
from heatmap_pipeline_tests.render.sample import sample, ten_days
from heatmap_pipeline_tests.render.scores import not_scored, scored

pytestmark = pytest.mark.slow


def open_panel(page: Any, short: str = "") -> Any:
    """Wait until the button says how it is, and open the panel."""
    page.wait_for_function(
        "words => document.getElementById('truth-short').textContent.includes(words)", arg=short or ""
    )
    page.wait_for_function("() => !document.getElementById('truth-short').textContent.includes('…')")
    page.locator("#truth-button").click()
    panel = page.locator("#truth")
    assert panel.is_visible()
    return panel


def cells(panel: Any, words: str, table: int = 0) -> list[str]:
    """The cells of a line of a table."""
    line = (
        panel.locator("table.truth")
        .nth(table)
        .locator("tbody tr")
        .filter(has=panel.page.get_by_text(words, exact=True))
    )
    found: list[str] = line.locator("td").all_inner_texts()
    return [" ".join(text.split()) for text in found]


def value(record: Any, window: str = "28d", **wanted: Any) -> Any:
    (row,) = [row for row in record["windows"][window] if all(row[name] == wish for name, wish in wanted.items())]
    return row


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    """Serves what `renders` holds."""
    running = LiveServer()
    running.show(ten_days(), ten_days("delta"), sample("ETHUSDT", "delta", simulated=True, provisional=True))
    running.scores["BTCUSDT", "turnover"] = scored()
    running.scores["ETHUSDT", "delta"] = not_scored("ETHUSDT", "delta", simulated=True)
    yield running
    running.close()


@pytest.fixture(params=["static", "live"])
def shown(request: Any, renders: Path, server: LiveServer) -> Any:
    """The page with the scores of `renders`, from disk and from a server."""
    page = request.getfixturevalue("page" if request.param == "static" else "second_page")
    address = (renders / "index.html").as_uri() if request.param == "static" else server.url
    follow(page, address, "#symbol=BTCUSDT&model=turnover")
    return page


def close(page: Any) -> None:
    page.keyboard.press("Escape")
    assert page.locator("#truth").is_hidden()


def test_a_score_is_told_with_the_best_rule_beside_it(shown: Any) -> None:
    record = scored()
    panel = open_panel(shown, " / ")
    words = panel.inner_text()
    assert "Held against the liquidations of BTCUSDT on its own exchange, binance" in words
    assert "Source: binance_stream, incomplete: it does not print every liquidation." in words
    own = [value(record, side=side, horizon="nowcast", measure="spearman", baseline="") for side in ("long", "short")]
    assert shown.locator("#truth-short").inner_text() == " / ".join(f"{row['value']:.2f}" for row in own)
    assert cells(panel, "Agreement") == [f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in own]
    for horizon, line, without in (
        ("nowcast", "best simple rule", ""),
        ("at_start", "best rule without its volume", "volume"),
    ):
        for side, told in zip(("long", "short"), cells(panel, line), strict=True):
            rules = [
                row
                for row in record["windows"]["28d"]
                if (row["side"], row["horizon"], row["measure"]) == (side, horizon, "spearman")
                and row["baseline"] not in ("", "volume-only map")
                and not (without and without in row["baseline"])
            ]
            best = max(rules, key=lambda row: row["value"])
            assert told.startswith(f"{best['value']:.3f} {best['baseline'].replace(' x ', ' × ')}: ")
            verdict = (
                "we beat it" if best["difference_low"] > 0 else "beats us" if best["difference_high"] < 0 else "a tie"
            )
            assert verdict in told
    tie = cells(panel, "map from volume alone")
    assert all(any(word in text for word in ("a tie", "beats us", "we beat it")) for text in tie)
    assert cells(panel, "Brightest tenth") == ["1.42 [1.21, 1.66], shuffled 0.98"] * 2
    level = value(record, side="long", horizon="nowcast", measure="level", baseline="")
    assert cells(panel, "Level, modelled / reported")[0] == (
        f"{level['value']:.2f} [{level['low']:.2f}, {level['high']:.2f}], within 0.5 to 5"
    )
    assert "Reference score" not in words
    close(shown)


def test_dots_are_hours_and_stand_where_they_should(shown: Any) -> None:
    hours = scored()["hours"]
    panel = open_panel(shown, " / ")
    dots = panel.locator("svg.scatter circle")
    assert dots.count() == len(hours["hour"]) == 2 * 24 * 28
    places = dots.evaluate_all(
        "all => all.map(dot => [+dot.getAttribute('cx'), +dot.getAttribute('cy'), dot.getAttribute('class')])"
    )
    assert [side for *_, side in places] == hours["side"]
    for axis, name in ((0, "predicted"), (1, "reported")):
        pairs = sorted((number, (-1) ** axis * place[axis]) for number, place in zip(hours[name], places, strict=True))
        assert [place for _, place in pairs] == sorted(place for _, place in pairs), "more is further out"
        edge = {place for number, place in pairs if number == 0}
        assert len(edge) == (1 if name == "reported" else 0)
        assert all(place > min(edge, default=-1e9) for number, place in pairs if number > 0)
    assert "axes logarithmic" in panel.locator("svg.scatter").get_attribute("aria-label")
    close(shown)


def test_the_window_can_be_chosen(shown: Any) -> None:
    record = scored()
    panel = open_panel(shown, " / ")
    panel.locator('.choice [data-value="all"]').click()
    row = value(record, "all", side="long", horizon="nowcast", measure="spearman", baseline="")
    assert cells(panel, "Agreement")[0].startswith(f"{row['value']:.3f}")
    assert f"longs: {_count(record, 'all')} hours with reports" in panel.inner_text()
    assert panel.locator('.choice [aria-pressed="true"]').inner_text() == "all recorded time"
    assert shown.evaluate("() => document.activeElement.dataset.value") == "all", "the focus stays"
    close(shown)


def _count(record: Any, window: str) -> int:
    return int(value(record, window, side="long", measure="hours_with_reports")["value"])


def test_without_a_record_the_reference_is_shown_as_what_it_is(shown: Any) -> None:
    press(shown, "model", "delta")
    panel = open_panel(shown, "not scored here")
    words = panel.inner_text()
    assert "BTCUSDT is not scored here: no record of real liquidations is stored" in words
    assert "Reference score" in words
    assert "BTCUSDT and ETHUSDT, 2024-06-24 to 2024-07-28. It is of those markets and days, not of this map." in words
    assert panel.locator("table.truth").count() == 2
    (first, *_) = reference_score()["scores"]
    row = value(first, "all", side="long", horizon="nowcast", measure="spearman", baseline="")
    assert cells(panel, "Agreement")[0].startswith(f"{row['value']:.3f} ")
    assert all(panel.locator("table.truth caption").nth(n).inner_text().startswith(("BTC", "ETH")[n]) for n in (0, 1))
    assert panel.locator("svg").count() == 0
    close(shown)


def test_simulated_data_are_never_scored(shown: Any) -> None:
    shown.locator("#symbol").select_option("ETHUSDT")
    shown.wait_for_function("() => heatmapPage.state().map.symbol === 'ETHUSDT'")
    settle(shown)
    panel = open_panel(shown, "simulated")
    assert "simulated data are never scored." in panel.locator("p.verdict").inner_text()
    close(shown)


def test_too_few_hours_are_no_score(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()}, [scored(days=6)])
    visit(page, tmp_path)
    panel = open_panel(page, "not enough yet")
    words = panel.inner_text()
    assert f"not enough yet: {_count(scored(days=6), '28d')} of 200 hours" in words
    assert f"longs: {_count(scored(days=6), '28d')} hours with reports of 144 recorded, 6 days" in words
    assert "Reference score" in words
    assert panel.locator("table.truth").count() == 2, "those of the reference, none of this map"
    close(page)


def test_another_exchange_says_nothing_of_the_level(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()}, [scored(exchange="bybit", complete=True)])
    visit(page, tmp_path)
    panel = open_panel(page, " / ")
    assert cells(panel, "Level, modelled / reported") == ["–", "–"]
    assert "bybit, another exchange than that of BTCUSDT: ranks only, no level" in panel.inner_text()
    assert "complete: it prints every liquidation" in panel.inner_text()
    close(page)


def test_a_page_without_scores_says_so(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    visit(page, tmp_path)
    panel = open_panel(page, "no score")
    assert "There is no score of BTCUSDT beside this page. Run: heatmap refresh BTCUSDT" in panel.inner_text()
    close(page)


def test_the_panel_is_reached_and_left_by_the_keyboard(shown: Any) -> None:
    shown.wait_for_function("() => document.getElementById('truth-short').textContent.includes(' / ')")
    button = shown.locator("#truth-button")
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    shown.keyboard.press("Enter")
    assert shown.locator("#truth").is_visible()
    assert button.get_attribute("aria-expanded") == "true"
    assert shown.get_by_role("dialog", name="How true is this?").count() == 1
    for _ in range(6):
        shown.keyboard.press("Tab")
        assert shown.evaluate(
            "() => document.activeElement === document.body || document.activeElement.closest('#truth') !== null"
        ), "the focus stays in the panel"
    shown.keyboard.press("Escape")
    assert shown.locator("#truth").is_hidden()
    shown.wait_for_function("() => document.getElementById('truth-button').getAttribute('aria-expanded') === 'false'")
    assert shown.evaluate("() => document.activeElement.id") == "truth-button"
    shown.keyboard.press("t")
    assert shown.locator("#truth").is_visible()
    shown.locator("#truth-close").click()
    assert shown.locator("#truth").is_hidden()


def test_the_panel_fits_a_phone(phone: Any, renders: Path) -> None:
    visit(phone, renders)
    phone.wait_for_function("() => document.getElementById('truth-short').textContent.includes(' / ')")
    phone.locator("#truth-button").tap()
    box = phone.locator("#truth").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert phone.locator("#truth").evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= 390
    phone.locator("#truth-close").tap()
    assert phone.locator("#truth").is_hidden()
