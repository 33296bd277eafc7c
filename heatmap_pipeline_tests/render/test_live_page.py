"""The page as a server shows it: under a strict policy, from canned answers, with news, trouble and silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from heatmap_pipeline_tests.render.browser import LiveServer, press, settle, state
from heatmap_pipeline_tests.render.sample import sample, ten_days

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_server() -> Iterator[LiveServer]:
    """One server for all tests, as the browser keeps what it has read from it."""
    server = LiveServer()
    yield server
    server.close()


@pytest.fixture
def server(one_server: LiveServer) -> LiveServer:
    """The server, healthy, with ten days of two models."""
    one_server.reset()
    one_server.show(ten_days(), ten_days("delta"))
    return one_server


def look(page: Any) -> None:
    """What the page does by itself every 30 seconds, and when its tab is looked at again."""
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")


def test_the_live_page_draws_under_a_strict_policy(page: Any, server: LiveServer) -> None:
    page.goto(server.url)
    settle(page)
    now, data = state(page), ten_days()
    assert now["map"]["long"] == pytest.approx(float(data.long.sum(dtype=float)), rel=1e-5)
    assert now["map"]["consumed"] == pytest.approx(data.meta["total_consumed"], rel=1e-5)
    assert server.asked == [
        {
            "symbol": "BTCUSDT",
            "model": "turnover",
            "interval": "15m",
            "start_time": "2024-07-04T00:00:00Z",
            "format": "columns",
            "max_rows": "402",
        }
    ]
    assert all(address.startswith((server.url, "data:", "blob:")) for address in page.requested)
    with page.expect_download() as download:
        page.locator("#save-png").click()
    assert download.value.suggested_filename.endswith(".png")


def test_the_last_alerts_are_listed(page: Any, server: LiveServer) -> None:
    alert = {
        "symbol": "BTCUSDT",
        "model": "turnover",
        "at": "2024-07-10T23:45:00Z",
        "rule": "close <to> a zone",
        "kind": "near",
        "side": "short",
        "words": "price 60,000 is 0.50 % from a zone of 120.0 M in shorts, 60,300 to 61,000, modelled",
    }
    older = {**alert, "at": "2024-07-09T12:00:00Z", "side": "long", "rule": "cascade"}
    page.goto(server.url)
    settle(page)
    assert page.locator("#alerts").is_hidden(), "without any there is nothing to list"
    server.alerts["BTCUSDT"] = [alert, older]
    server.symbols["version"] = "2"
    look(page)
    page.locator("#alerts summary").click()
    words = page.locator("#alerts-list li").all_inner_texts()
    assert [line.split("\n") for line in words] == [
        ["2024-07-10 23:45 UTC", "close <to> a zone", alert["words"]],
        ["2024-07-09 12:00 UTC", "cascade", alert["words"]],
    ]
    assert page.locator("#alerts-count").inner_text() == "2"
    page.locator("#alerts summary").press("Escape")
    assert page.locator("#alerts-list").is_hidden()
    page.locator("#alerts summary").press("Enter")
    assert page.locator("#alerts-list").is_visible()
    page.mouse.click(700, 500)
    assert page.locator("#alerts-list").is_hidden()


def test_each_choice_asks_for_what_it_needs_and_only_once(page: Any, server: LiveServer) -> None:
    page.goto(server.url)
    settle(page)
    press(page, "range", "24h")
    assert (server.asked[-1]["interval"], server.asked[-1]["start_time"]) == ("5m", "2024-07-10T00:00:00Z")
    press(page, "range", "14d")
    assert (server.asked[-1]["interval"], server.asked[-1]["start_time"]) == ("1h", "2024-07-01T00:00:00Z")
    press(page, "model", "delta")
    assert server.asked[-1]["model"] == "delta"
    page.locator("#bin").select_option("500")
    page.wait_for_function("() => heatmapPage.state().choice.bin === 500")
    settle(page)
    assert server.asked[-1]["price_bin_size"] == "500"
    assert "max_rows" not in server.asked[-1]
    number = len(server.asked)
    page.locator("#bin").select_option("0")
    settle(page)
    for group, value in (
        ("side", "long"),
        ("scale", "log"),
        ("layers", "candles"),
        ("model", "turnover"),
        ("range", "24h"),
    ):
        press(page, group, value)
    assert len(server.asked) == number, "what was asked before is kept"
    assert page.locator('#range [data-value="90d"]').is_disabled()
    page.locator("#bin").select_option("200")
    page.wait_for_function("() => !document.getElementById('notice').hidden")
    assert "smallest allowed is 500" in page.locator("#notice").inner_text()
    assert state(page)["choice"]["bin"] == 0
    assert all("422" in trouble for trouble in page.troubles)
    page.troubles.clear()


def test_new_data_replace_the_old_and_a_view_of_the_newest_follows_them(page: Any, server: LiveServer) -> None:
    page.goto(server.url)
    settle(page)
    page.keyboard.press("+")
    page.wait_for_function("() => heatmapPage.state().choice.view !== null")
    before = state(page)
    look(page)
    page.wait_for_timeout(150)
    assert len(server.asked) == 1, "nothing new, nothing asked"
    newer = sample(days=11)
    server.show(newer, sample(model="delta", days=11, seed=2), version="2")
    page.evaluate(
        """() => {
        const message = document.getElementById('message');
        window.covered = 0;
        const count = () => { window.covered += message.hidden ? 0 : 1; };
        new MutationObserver(count).observe(message, { attributes: true });
    }"""
    )
    look(page)
    page.wait_for_function("() => heatmapPage.state().version === '2' && heatmapPage.state().map.columns === 1056")
    settle(page)
    after = state(page)
    assert after["view"]["x"] == pytest.approx([time + 86_400_000 for time in before["view"]["x"]])
    assert after["view"]["y"] == before["view"]["y"]
    assert after["map"]["long"] == pytest.approx(float(newer.long.sum(dtype=float)), rel=1e-5)
    assert "2024-07-12 00:00 UTC" in page.locator("#as-of").inner_text()
    assert page.evaluate("() => window.covered") == 0, "the old map stays until the new one is drawn"


def test_the_page_looks_for_news_by_itself(page: Any, server: LiveServer) -> None:
    server.reset(poll_seconds=0.2)
    page.goto(server.url)
    page.locator("#message .retry").wait_for()
    assert "nothing to show yet" in page.locator("#message").inner_text()
    assert page.locator("#legend").is_hidden()
    server.show(ten_days())
    page.wait_for_function("() => document.getElementById('message').hidden")
    settle(page)
    assert state(page)["map"]["columns"] == 960


def test_old_data_are_called_stale_and_say_what_to_do(page: Any, server: LiveServer) -> None:
    stale = {
        "symbol": "BTCUSDT",
        "model": "turnover",
        "stale": True,
        "reason": "the newest day is old; run `heatmap refresh`",
    }
    server.health = (200, {"status": "stale", "symbols": [stale, {**stale, "model": "delta", "stale": False}]})
    page.clock.set_fixed_time("2024-07-13T12:00:00Z")
    page.goto(server.url)
    settle(page)
    badge = page.locator(".badge.old")
    assert badge.inner_text() == "STALE 2 d"
    assert "2024-07-11 00:00 UTC: the newest day is old; run `heatmap refresh`" in badge.get_attribute("title")
    press(page, "model", "delta")
    assert page.locator(".badge.old").count() == 0, "the server says that this one is in order"


def test_trouble_is_said_and_the_map_stays(page: Any, server: LiveServer) -> None:
    server.broken = 503
    page.goto(server.url)
    page.locator("#message .retry").wait_for()
    assert "the database is being replaced; ask again" in page.locator("#message").inner_text()
    server.broken = 0
    page.locator("#message .retry").click()
    settle(page)
    server.broken = 500
    look(page)
    page.wait_for_function("() => !document.getElementById('notice').hidden")
    assert "Shown is what was loaded before" in page.locator("#notice").inner_text()
    assert page.locator("#message").is_hidden()
    page.locator('#range [data-value="24h"]').click()
    page.wait_for_function("() => document.getElementById('notice').textContent.includes('ask again')")
    server.broken = 0
    # It may have looked again by itself in between, and taken the button away.
    page.evaluate("() => document.querySelector('#notice .retry')?.click()")
    page.wait_for_function("() => document.getElementById('notice').hidden")
    settle(page)
    assert state(page)["choice"]["range"] == "24h"
    assert all("Failed to load resource" in trouble for trouble in page.troubles)
    page.troubles.clear()


def test_a_switch_that_fails_shows_nothing_of_the_choice_before(page: Any, server: LiveServer) -> None:
    page.goto(server.url)
    settle(page)
    assert page.locator("#price").inner_text()
    server.broken = 503
    page.locator("#model button[data-value='delta']").click()
    page.locator("#message .retry").wait_for()
    assert "the database is being replaced; ask again" in page.locator("#message").inner_text()
    for gone in ("#price", "#as-of", "#ladder"):
        assert page.locator(gone).inner_text() == "", gone
    assert page.locator("#save-csv").is_disabled()
    server.broken = 0
    look(page)
    settle(page)
    assert (state(page)["map"]["columns"], page.locator("#save-csv").is_disabled()) == (960, False)
    assert all("Failed to load resource" in trouble for trouble in page.troubles)
    page.troubles.clear()


def test_a_choice_that_is_overtaken_is_given_up(page: Any, server: LiveServer) -> None:
    page.goto(server.url)
    settle(page)
    dropped: list[str] = []
    page.on("requestfailed", lambda request: dropped.append(request.url))
    server.slow.clear()
    page.locator('#range [data-value="24h"]').click()
    page.wait_for_function("() => !document.getElementById('progress').hidden")
    assert page.locator("#map").get_attribute("aria-busy") == "true"
    page.locator('#model [data-value="delta"]').click()
    page.wait_for_timeout(100)
    server.slow.set()
    page.wait_for_function("() => heatmapPage.state().map.model === 'delta'")
    settle(page)
    assert len(dropped) == 1
    assert parse_qs(dropped[0].split("?")[1])["model"] == ["turnover"]
    assert page.locator("#progress").is_hidden()
    assert state(page)["map"]["long"] == pytest.approx(float(ten_days("delta").long.sum(dtype=float)), rel=1e-5)


def test_a_link_opens_the_live_page_as_it_was(page: Any, server: LiveServer) -> None:
    link = "#symbol=BTCUSDT&model=delta&range=24h&side=long&scale=log&low=20000&high=900000&bubbles=0"
    page.goto("about:blank")
    page.goto(f"{server.url}{link}")
    settle(page)
    assert (server.asked[0]["model"], server.asked[0]["interval"]) == ("delta", "5m")
    now = state(page)
    assert (now["low"], now["high"], now["choice"]["side"], now["log"]) == (20_000, 900_000, "long", True)
    assert page.url.endswith(link)
