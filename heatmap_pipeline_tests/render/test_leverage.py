"""The control of leverage tiers: its functions, run by node, and once in Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.views.window import TIER_WORDS
from heatmap_pipeline_tests.render.browser import LiveServer, press, settle, state, visit
from heatmap_pipeline_tests.render.node import of_node
from heatmap_pipeline_tests.render.sample import ten_days

TIERS = [leverage for leverage, _ in MODELS["turnover"].leverage_weights]


def test_near_means_the_same_on_page_and_endpoint() -> None:
    near = of_node("leverage.js", "[NEAR_FROM, tiersOf('near', given)]", TIERS)
    assert near == [TIER_WORDS["near"], [tier for tier in TIERS if tier >= TIER_WORDS["near"]]]


def test_presses() -> None:
    """Each line: what is chosen, what is pressed, and what is chosen then."""
    lines = [
        ("", "25x", "3,5,10,20,50,75,100,125"),
        ("3,5,10,20,50,75,100,125", "25x", ""),
        ("", "near", "near"),
        ("near", "all", ""),
        ("near", "125x", "25,50,75,100"),
        ("25,50,75,100", "125x", "near"),
        ("near", "3x", "3,25,50,75,100,125"),
        ("50", "50x", "50"),
        ("50", "3x", "3,50"),
    ]
    told = of_node(
        "leverage.js",
        "given.lines.map(([text, press]) => pressTier(text, given.tiers, press))",
        {"lines": lines, "tiers": TIERS},
    )
    assert told == [after for _, _, after in lines]


def test_links() -> None:
    texts = {"": "", "near": "near", "all": "", "100, 25,25": "25,100", "x": "", "25,": "", "1": "", "12.5,7": "7,12.5"}
    assert of_node("leverage.js", "given.map(readTiers)", list(texts)) == list(texts.values())
    assert of_node("leverage.js", "readTiers(null)") == ""


def test_buttons_say_what_is_on() -> None:
    options = "Object.entries(tierOptions(given.text, given.tiers)).map(([key, { pressed, disabled = false }]) => "
    options += "[key, pressed, disabled])"

    def on(text: str, tiers: list[float]) -> tuple[list[str], list[str]]:
        told = of_node("leverage.js", options, {"text": text, "tiers": tiers})
        assert [key for key, *_ in told] == ["all", "near", *(f"{tier:g}x" for tier in tiers)]
        return [key for key, pressed, _ in told if pressed], [key for key, _, disabled in told if disabled]

    every = [f"{tier:g}x" for tier in TIERS]
    assert on("", TIERS) == (["all", *every], [])
    assert on("near", TIERS) == (["near", *every[4:]], [])
    assert on("3,50", TIERS) == (["3x", "50x"], [])
    assert on("", [5.0, 10.0]) == (["all", "5x", "10x"], ["near"])
    assert on("", [50.0, 100.0]) == (["all", "50x", "100x"], [])


def test_another_model_keeps_only_the_word() -> None:
    told = of_node(
        "leverage.js",
        "[[{ model: 'delta' }, 'near'], [{ symbol: 'X' }, '25,50'], [{ range: '7d' }, '25,50']]"
        ".map(([change, text]) => tiersAfter(change, text))",
    )
    assert told == ["near", "", "25,50"]


def test_words_for_what_is_shown() -> None:
    told = of_node(
        "leverage.js", "given.map(shown => tiersText(shown, [5, 25, 50, 100]))", [[25, 50], [25, 50, 100], [100]]
    )
    assert told == ["leverage 25x, 50x only", "leverage 25x and up only", "leverage 100x only"]


class FilteringServer(LiveServer):
    """A live server that says which tiers an answer shows, and refuses 7x."""

    def numbers(self, path: str, given: dict[str, str]) -> tuple[int, Any]:
        """As the endpoint, but for the cells, which stay all."""
        status, body = super().numbers(path, given)
        if status != 200 or "leverage_tiers" not in given:
            return status, body
        text = given["leverage_tiers"]
        if "7" in text.split(","):
            return 422, {"detail": "leverage_tiers: BTCUSDT turnover has no tier 7; there are 5, 10, 25, 50, 100"}
        answer = json.loads(body)
        shown = [25.0, 50.0, 100.0] if text == "near" else [float(part) for part in text.split(",")]
        answer["meta"]["leverage_tiers"] = shown
        return 200, json.dumps(answer).encode()


@pytest.mark.slow
def test_the_control_in_a_browser(page: Any, renders: Path) -> None:
    """Presets and tiers ask the endpoint, the link holds them, the page says what is shown, another model forgets."""
    server = FilteringServer()
    try:
        server.show(ten_days(), ten_days("delta"))
        page.goto(server.url)
        settle(page)
        buttons = page.locator("#tiers button")
        assert buttons.all_inner_texts() == ["all", "near", "5x", "10x", "25x", "50x", "100x"]
        assert page.locator('#tiers [aria-pressed="true"]').count() == 6, "all is on, and every tier"
        assert "leverage_tiers" not in server.asked[-1]
        press(page, "tiers", "near")
        assert server.asked[-1]["leverage_tiers"] == "near"
        assert "leverage 25x and up only" in page.locator("#badges").inner_text()
        press(page, "tiers", "5x")
        assert server.asked[-1]["leverage_tiers"] == "5,25,50,100"
        assert page.url.endswith("&tiers=5,25,50,100")
        buttons.nth(2).focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("() => document.activeElement.textContent") == "10x"
        press(page, "model", "delta")
        assert "leverage_tiers" not in server.asked[-1]
        assert state(page)["choice"]["tiers"] == ""
        page.evaluate("() => { location.hash = '#symbol=BTCUSDT&tiers=7'; }")
        page.wait_for_function("() => document.body.innerText.includes('has no tier 7; there are 5, 10, 25, 50, 100')")
        assert all("422" in trouble for trouble in page.troubles)
        page.troubles.clear()
        assert page.locator("#all-markets").get_attribute("href") == "overview"
    finally:
        server.close()
    visit(page, renders)
    settle(page)
    assert page.locator("#tiers").count() == 0, "the page from disk holds all tiers together"
    assert page.locator("#all-markets").count() == 0
