"""The pages for who cannot see or point: axe-core finds nothing, words are readable, the keyboard reaches everything.

Contrast is that of WCAG 2, level AA. Where axe leaves it open, because words stand on the map, it is computed from the
styles against the worst that can lie below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline_tests.render.browser import LiveServer, follow, settle, state, visit
from heatmap_pipeline_tests.render.markets import overview_server
from heatmap_pipeline_tests.render.sample import base_days, reported_days, ten_days
from heatmap_pipeline_tests.render.scores import scored

pytestmark = pytest.mark.slow

PINNED = "#range=7d&pin=2024-07-09T12:00Z"
ALERT = {
    "symbol": "BTCUSDT",
    "model": "turnover",
    "at": "2024-07-10T23:45:00Z",
    "rule": "close to a zone",
    "kind": "near",
    "side": "short",
    "words": "price 60,000 is 0.50 % from a zone of 120.0 M in shorts, 60,300 to 61,000, modelled",
}

AXE = """
() => axe.run(document, {
  resultTypes: ["violations", "incomplete"],
  preload: false, // it may not read files
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}).then(({ violations, incomplete, passes }) => {
  const targets = ({ nodes }) => nodes.map(({ target, html }) => [target[0], html.slice(0, 90)]);
  const open = incomplete.filter(({ id }) => id === "color-contrast");
  return {
    findings: violations.map(one => [one.id, one.impact, targets(one)]),
    open: open.flatMap(({ nodes }) => nodes.map(({ target }) => target[0])),
    passed: passes.map(({ id }) => id),
  };
})
"""

CONTRAST = """
([selectors, below]) => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const hex = text => [...[1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16)), 1];
  const over = ([r, g, b, a], under) => [...[r, g, b].map((part, i) => a * part + (1 - a) * under[i]), 1];
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(v => v / 255)
      .map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faded = ([r, g, b, a], by) => [r, g, b, a * by];
  const page = parse(getComputedStyle(document.body).backgroundColor);
  const plots = [...document.querySelectorAll("#chart .nsewdrag")].map(one => one.getBoundingClientRect());
  const onPlot = ({ left, right, top, bottom }) =>
    plots.some(plot => left < plot.right && right > plot.left && top < plot.bottom && bottom > plot.top);
  return selectors.map(selector => {
    const element = document.querySelector(selector);
    const style = getComputedStyle(element);
    const inChart = element.closest("#chart");
    let opacity = 1;
    const plates = []; // what lies below the words, the uppermost first
    for (let at = element; at; at = at.parentElement) {
      const { backgroundColor, opacity: own } = getComputedStyle(at);
      opacity *= Number(own);
      if (at.id === "map" || at.localName === "body") break;
      if (!inChart) plates.push(faded(parse(backgroundColor), opacity));
    }
    const plate = inChart && element.closest(".annotation-text-g")?.querySelector("rect.bg");
    if (plate) {
      const { fill, fillOpacity } = getComputedStyle(plate);
      if (fill !== "none") plates.push(faded(parse(fill), Number(fillOpacity) * opacity));
    }
    const onMap = inChart ? onPlot(element.getBoundingClientRect()) : Boolean(element.closest("#map"));
    const words = inChart || element instanceof SVGElement ? style.fill : style.color;
    const ratio = base => {
      const ground = plates.reduceRight((under, plate) => over(plate, under), base);
      const [a, b] = [light(over(faded(parse(words), opacity), ground)), light(ground)];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    };
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const worst = Math.min(...[page, ...(onMap ? below.map(hex) : [])].map(ratio));
    return [selector, element.textContent.trim().slice(0, 40), worst, least];
  }).filter(([, , worst, least]) => !(worst >= least));
}
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    base = pytest.importorskip(
        "axe_playwright_python.base", reason="axe is not installed; pip install the extra 'test'"
    )
    return str(base.AXE_SCRIPT)


@pytest.fixture(scope="module")
def below() -> list[str]:
    """Colours that may lie below words on the map: of cells, candles, circles and lines."""
    script = files("heatmap_pipeline.render").joinpath("static", "colours.js").read_text(encoding="utf-8")
    return sorted(set(re.findall(r'"(#[0-9a-f]{6})"', script)))


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    """A live page with all there is beside a map: two models, a score, alerts, reported liquidations."""
    running = LiveServer()
    yield running
    running.close()


@pytest.fixture
def live(page: Any, server: LiveServer) -> Any:
    """The live page, at the newest data."""
    server.reset()
    server.show(reported_days(), ten_days("delta"))
    server.scores["BTCUSDT", "turnover"] = scored()
    server.alerts["BTCUSDT"] = [ALERT]
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("about:blank")
    page.goto(server.url)
    settle(page)
    page.wait_for_selector("#alerts:not([hidden])")
    return page


def check(page: Any, axe: str, below: list[str], what: str) -> None:
    """Have a page looked at as it stands."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(axe)
    said = page.evaluate(AXE)
    assert said["findings"] == [], what
    assert {"color-contrast", "button-name", "target-size"} <= set(said["passed"]), what
    assert page.evaluate(CONTRAST, [said["open"], below]) == [], what


def test_axe_finds_nothing_on_the_live_page(live: Any, server: LiveServer, axe: str, below: list[str]) -> None:
    page = live
    check(page, axe, below, "7 days")
    follow(page, server.url, f"{PINNED}&scale=relative")
    check(page, axe, below, "pinned, relative colours")
    page.keyboard.press("<")
    settle(page)
    page.locator("#alerts summary").click()
    check(page, axe, below, "a replay, alerts")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    check(page, axe, below, "help")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    check(page, axe, below, "how true")
    page.keyboard.press("Escape")
    follow(page, server.url, "#symbol=NOSUCHUSDT")
    page.clock.set_fixed_time("2024-07-13T12:00:00Z")
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#more").click()
    page.locator("#more").click()
    page.locator("#more").click()
    page.wait_for_function("() => document.getElementById('chart')._fullLayout.width === 390")
    check(page, axe, below, "a phone, controls unfolded, an unknown symbol")


def test_axe_finds_nothing_where_there_is_no_map(live: Any, server: LiveServer, axe: str, below: list[str]) -> None:
    server.broken = 503
    live.clock.set_fixed_time("2024-07-13T12:00:00Z")
    live.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    live.wait_for_selector("#notice:not([hidden])")
    check(live, axe, below, "stale and in trouble")
    live.reload()
    live.locator("#message .retry").wait_for()
    check(live, axe, below, "trouble from the beginning")
    server.broken = 0
    server.symbols = {"symbols": [], "version": "2"}
    live.locator("#message .retry").focus()
    live.keyboard.press("Enter")
    live.get_by_text("nothing to show yet").wait_for()
    check(live, axe, below, "empty")
    live.troubles.clear()


def test_axe_finds_nothing_on_the_map_of_a_base(page: Any, server: LiveServer, axe: str, below: list[str]) -> None:
    server.reset()
    server.show_base(base_days(), ten_days())
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("about:blank")
    page.goto(server.url)
    settle(page)
    page.locator("#exchanges-count").press("Enter")
    assert page.locator("#exchanges-table").is_visible()
    check(page, axe, below, "a base, a market of it missing, its table")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)
    check(page, axe, below, "the same on a phone")


def test_axe_finds_nothing_on_the_page_from_disk(page: Any, renders: Path, axe: str, below: list[str]) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    visit(page, renders, "#symbol=ETHUSDT")
    check(page, axe, below, "from disk, simulated, provisional, stale")


def test_axe_finds_nothing_on_the_page_of_all_markets(page: Any, axe: str, below: list[str]) -> None:
    with overview_server() as running:
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(f"{running.url}/")
        page.wait_for_selector("tbody tr")
        page.locator("summary").click()
        check(page, axe, below, "all markets")
        page.set_viewport_size({"width": 390, "height": 844})
        check(page, axe, below, "all markets on a phone")
        running.broken = 503
        page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_selector("#notice:not([hidden])")
        check(page, axe, below, "all markets in trouble")
        page.troubles.clear()
        page.goto("about:blank")


REACHABLE = """
() => {
  const all = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex]")];
  window.reachable = all.filter(one => !one.disabled && one.checkVisibility() && !one.closest("dialog"));
  // A click is counted and goes nowhere, so that nothing changes on the way.
  window.clicked = [];
  window.countClicks = event => {
    clicked.push(reachable.indexOf(event.target.closest("a, button, summary")));
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  document.addEventListener("click", countClicks, true);
  axe.setup(document);
  window.names = reachable.map(one => axe.commons.text.accessibleText(one));
  axe.teardown();
  document.activeElement.blur();
  return reachable.map(one => one.outerHTML.slice(0, 90));
}
"""
FOCUSED = """
() => {
  const now = document.activeElement;
  const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(now);
  const { top, bottom, left, right } = now.getBoundingClientRect();
  return {
    number: reachable.indexOf(now),
    ring: outlineStyle === "solid" && parseFloat(outlineWidth) >= 2 && outlineColor === "rgb(78, 168, 255)",
    inView: bottom > 0 && right > 0 && top < innerHeight && left < innerWidth,
    name: names[reachable.indexOf(now)],
    kind: now.localName,
    inGroup: Boolean(now.closest(".choice[role=group]")) && now.dataset.value !== undefined && !now.id,
    isExplained: now.matches(".explained, .badge"),
    isTold: getComputedStyle(now, "::after").display === "block",
    isZone: now.matches(".level"),
    isAcrossTheMap: !document.getElementById("level-line").hidden,
  };
}
"""


def test_the_keyboard_reaches_every_control_and_presses_it(live: Any, server: LiveServer, axe: str) -> None:
    page = live
    server.show(reported_days(), ten_days("delta"), version="2")
    follow(page, server.url, f"{PINNED}&scale=relative")
    page.evaluate(axe)
    wanted = page.evaluate(REACHABLE)
    before = state(page)["choice"]
    seen: set[int] = set()

    def looked(reaches: str) -> Any:
        now = page.evaluate(FOCUSED)
        where = wanted[now["number"]]
        assert now["number"] >= 0, f"{reaches} leads to what is no control"
        assert now["name"], where
        assert now["ring"], where
        assert now["inView"], where
        seen.add(now["number"])
        return now

    def presses(key: str, number: int) -> None:
        page.keyboard.press(key)
        assert page.evaluate("() => clicked.splice(0)") == [number], f"{key} on {wanted[number]}"

    for _ in range(len(wanted) + 10):  # a date has several stops
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement === document.body"):
            break
        now = looked("Tab")
        if now["kind"] in {"button", "summary", "a"}:
            presses("Enter", now["number"])
        if now["kind"] in {"button", "summary"}:
            presses(" ", now["number"])
        if now["isExplained"]:
            assert now["isTold"], wanted[now["number"]]
            page.keyboard.press("Escape")
            assert not page.evaluate(FOCUSED)["isTold"], "Esc takes it away"
        assert now["isAcrossTheMap"] <= now["isZone"], "the line of a zone goes with the focus"
        first = now["number"]
        while now["inGroup"]:
            page.keyboard.press("ArrowRight")
            now = looked("ArrowRight")
            clicks = page.evaluate("() => clicked.splice(0)")
            assert clicks in ([], [now["number"]]), "an arrow presses what it leads to, or nothing"
            if now["number"] == first:
                break
            if not clicks:
                presses("Enter", now["number"])
    else:
        pytest.fail("Tab does not lead out of the page")
    assert [wanted[number] for number in sorted(set(range(len(wanted))) - seen)] == []
    assert state(page)["choice"] == before, "nothing but clicks came of it"
    assert len(seen) > 50


def test_what_the_keyboard_opens_escape_closes(live: Any) -> None:
    page = live
    focused = "() => document.activeElement.id || document.activeElement.closest('dialog')?.id"
    for button, dialog in (("help-button", "help"), ("truth-button", "truth")):
        page.locator(f"#{button}").focus()
        page.keyboard.press("Enter")
        assert page.locator(f"#{dialog}").is_visible()
        for _ in range(30):
            page.keyboard.press("Tab")
            where = page.evaluate(
                "() => [document.activeElement.closest('dialog')?.id, document.activeElement.localName]"
            )
            assert where[0] == dialog or where[1] == "body", "the page below it cannot be reached"
        page.keyboard.press("Escape")
        assert page.locator(f"#{dialog}").is_hidden()
        assert page.evaluate(focused) == button, "the focus is where it was"
    page.locator("#alerts summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#alerts-list").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#alerts-list").is_hidden()
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#more").focus()
    page.keyboard.press(" ")
    assert page.locator("#side").is_visible()
    page.locator("#side button").first.focus()
    page.keyboard.press("Escape")
    assert page.locator("#side").is_hidden()
    assert page.evaluate(focused) == "more"


def test_values_change_by_keyboard(live: Any) -> None:
    page = live

    def changed(control: str, key: str, name: str) -> tuple[Any, Any]:
        before = state(page)["choice"][name]
        page.locator(control).focus()
        page.keyboard.press(key)
        settle(page)
        return before, state(page)["choice"][name]

    assert changed("#bin", "ArrowDown", "bin") == (0, 100)
    low = changed("#low-handle", "ArrowRight", "low")
    assert low[0] is None
    assert low[1] > 0
    assert changed('#side [data-value="both"]', "ArrowRight", "side") == ("both", "long")
    assert changed('#model [data-value="turnover"]', "ArrowRight", "model") == ("turnover", "delta")
    page.locator("#speed").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#speed").input_value() == "10"
    page.locator("#high").focus()
    page.keyboard.type("9M")
    page.keyboard.press("Enter")
    assert state(page)["choice"]["high"] == 9e6
    view = page.evaluate("() => heatmapPage.view().x[0]")
    page.locator("#map").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("start => heatmapPage.view().x[0] < start", arg=view)
    page.keyboard.press("0")
    settle(page)
    page.locator("#date").focus()
    for key in ("ArrowRight", "ArrowDown"):  # to the day, the day before
        page.keyboard.press(key)
    page.wait_for_function("() => heatmapPage.state().moment.isPast")
    settle(page)
    assert "2024-07-10 00:00 UTC" in page.locator("#moment").inner_text()


def test_a_page_with_faults_is_not_passed(page: Any, axe: str, below: list[str]) -> None:
    page.goto("about:blank")
    page.set_content(
        "<html lang=en><title>x</title><body style='background:#000'><main id=map><h1 style='color:#fff'>x</h1>"
        "<button></button><p style='color:#555'>faint</p></main>"
    )
    page.evaluate(axe)
    assert {one[0] for one in page.evaluate(AXE)["findings"]} >= {"button-name", "color-contrast"}
    (found,) = page.evaluate(CONTRAST, [["p", "h1"], ["#000000"]])
    assert found[0] == "p"
    assert [one[0] for one in page.evaluate(CONTRAST, [["h1"], ["#ffffff"]])] == ["h1"], "white on white below"
