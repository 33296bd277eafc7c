"""The live page in Chromium over a year of one symbol: its first paint, a longer range never asked for, and panning."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import sin
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks import market
from benchmarks.measure import Measured, Setting
from benchmarks.serving import Server, make_home, run_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_SIZE: ViewportSize = {"width": 1440, "height": 900}
_FIRST, _CELLS, _DRAWN = "heatmap-first-paint", "heatmap-first-cells", "heatmap-drawn"
"""Measures that the page takes (render/static/timing.js), milliseconds."""
_RANGES = {"30d": (0.7, 2.8), "90d": (1.0, 4.1), "1y": (2.0, 14.0)}
"""Seconds by range: what is asked for at most, and what was measured before, under load."""
_FRAME = 1000 / 30
"""Milliseconds of a frame that are asked for at most while the map is dragged."""
_DRAG = 2.0
"""Seconds of dragging."""
_TIMEOUT = 60_000
_COLD = "in a new browser, from a server that has just started and answered nothing"

_WATCH = """() => {
    window.frameTimes = [];
    const next = time => { window.frameTimes.push(time); window.frameWatch = requestAnimationFrame(next); };
    window.frameWatch = requestAnimationFrame(next);
}"""
_SEEN = "() => { cancelAnimationFrame(window.frameWatch); return window.frameTimes; }"


def page(setting: Setting) -> Sequence[Measured]:
    """Measure the page on a year of one symbol, or on nine days where little is measured.

    Raises:
        RuntimeError: without Chromium or playwright.
    """
    if not CHROMIUM.exists():
        raise RuntimeError(f"the page is measured in Chromium, and there is none at {CHROMIUM}; apt install chromium")
    of_one = visits(make_home(setting, setting.pick(366, 9), stored_cells=False), setting)
    with market.of_three_exchanges() as symbols:
        home = make_home(setting, 9, symbols=symbols, stored_cells=False)
    return [*of_one, first_paint_of_base(home, setting)]


def first_paint_of_base(home: Path, setting: Setting) -> Measured:
    """Measure the first paint of the page that opens with the sum of three markets."""
    taken = []
    for _ in range(setting.pick(5, 1)):
        with run_server(home) as server, _browser() as browser:
            _wait(server)
            tab = browser.new_context(viewport=_SIZE).new_page()
            _visit(tab, server)
            taken.append(_took(tab, _FIRST))
    what = f"7 days at 15m of three markets added up, {_COLD}: everything drawn"
    limit = "three replays on two cores, four times the bytes, then running Plotly and its first drawing"
    return _row("page of a base, first paint", what, taken, limit, setting.target(1.5))


def visits(home: Path, setting: Setting) -> list[Measured]:
    """Measure the page over a home; each repetition has a server and a browser of its own."""
    ranges = {name: limits for name, limits in _RANGES.items() if not setting.quick}
    taken: dict[str, list[float]] = {name: [] for name in ("first", "cells", "again", *ranges)}
    frames: list[list[float]] = []
    shape = ""
    for _ in range(setting.pick(5, 1)):
        with run_server(home) as server, _browser() as browser:
            _wait(server)
            tab = browser.new_context(viewport=_SIZE).new_page()
            _visit(tab, server)
            taken["first"].append(_took(tab, _FIRST))
            taken["cells"] += _seen(tab, _CELLS)
            for name in ranges:
                _press(tab, name)
                taken[name].append(_took(tab, _DRAWN))
            shape = _largest_grid(tab)
            frames.append(_frames_of_a_drag(tab))
            _visit(tab, server)
            taken["again"].append(_took(tab, _FIRST))
    return [*_rows(taken, setting), _panning(frames, shape, setting)]


def _rows(taken: dict[str, list[float]], setting: Setting) -> Iterator[Measured]:
    seven = f"7 days at 15m, {_COLD}"
    whole = "everything drawn, from the start of navigation (before: 1.8 .. 2.1 s)"
    limit = "the engine and its bytes, then running Plotly and its first drawing"
    yield _row("page, first paint", f"{seven}: {whole}", taken["first"], limit, setting.target(0.9))
    cells = "the cells alone, where they were there before Plotly was"
    if taken["cells"]:
        yield _row("page, first cells", f"{seven}: {cells}", taken["cells"], "the answer's way")
    again = "the same page once more, scripts and answer kept"
    yield _row("page, opened again", again, taken["again"], limit)
    for name, (most, before) in _RANGES.items():
        if name in taken:
            what = f"from the press of {name} to everything drawn, never asked before (before: {before:g} s under load)"
            yield _row(
                f"page, to {name}", what, taken[name], "the engine, over all days of the range", setting.target(most)
            )


def _row(name: str, what: str, milliseconds: Sequence[float], limit: str, expected: float | None = None) -> Measured:
    return Measured(name, what, "s", tuple(value / 1000 for value in milliseconds), limit, expected=expected)


def _panning(frames: Sequence[Sequence[float]], shape: str, setting: Setting) -> Measured:
    medians = [statistics.median(times) for times in frames]
    late = max(sorted(times)[int(0.95 * len(times))] for times in frames)
    rate = 1000 * sum(map(len, frames)) / sum(map(sum, frames))
    seen = f"{rate:.0f} frames a second, 1 frame in 20 takes more than {late:.0f} ms"
    return Measured(
        name="page, panning",
        what=f"a frame while {shape} are dragged; {seen}",
        unit="ms",
        values=tuple(medians),
        limit="Plotly drawing its axes anew for each move, then pixels without a graphics card",
        expected=setting.target(_FRAME),
    )


@contextmanager
def _browser() -> Iterator[Browser]:
    """Run Chromium as the tests of the page do."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of the extra `test`
    except ImportError:
        raise RuntimeError("the page is measured with playwright; pip install the extra 'test'") from None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=_FLAGS)
        yield browser
        browser.close()


def _wait(server: Server) -> None:
    """Wait until a server answers: it listens before everything is read."""
    until = time.monotonic() + 30
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{server.port}/symbols"):
                return
        except URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _visit(tab: Page, server: Server) -> None:
    tab.goto("about:blank")
    tab.goto(f"http://127.0.0.1:{server.port}/map")


def _took(tab: Page, name: str) -> float:
    """Return what the page measured, as soon as it has; milliseconds."""
    tab.wait_for_function("name => performance.getEntriesByName(name).length > 0", arg=name, timeout=_TIMEOUT)
    return _seen(tab, name)[-1]


def _seen(tab: Page, name: str) -> list[float]:
    """Return what the page measured so far under a name, milliseconds."""
    taken: list[float] = tab.evaluate("name => performance.getEntriesByName(name).map(one => one.duration)", name)
    return taken


def _press(tab: Page, name: str) -> None:
    """Choose a range."""
    tab.wait_for_timeout(500)  # what is asked for beside the map is answered by then
    tab.evaluate("name => performance.clearMeasures(name)", _DRAWN)
    tab.locator(f'#range [data-value="{name}"]').click()


def _largest_grid(tab: Page) -> str:
    """Choose the lowest rows that the range may have, and return columns and rows in words."""
    bins = tab.evaluate(
        "() => [...document.getElementById('bin').options].filter(one => !one.disabled).map(one => one.value)"
    )
    for value in sorted((value for value in bins if float(value)), key=float):
        tab.evaluate("name => performance.clearMeasures(name)", _DRAWN)
        tab.select_option("#bin", value)
        _took(tab, _DRAWN)
        tab.evaluate("() => heatmapPage.settled()")
        columns, rows, height = tab.evaluate(
            "() => { const { map } = heatmapPage.state(); return [map.columns, map.rows, map.bin]; }"
        )
        if height == float(value):
            return f"{columns:,} columns of {rows:,} rows"
    raise RuntimeError("the page offers no height of rows that the server allows")


def _frames_of_a_drag(tab: Page) -> list[float]:
    """Drag the map to and fro and return milliseconds from each frame to the next."""
    box = tab.locator("#chart").bounding_box()
    assert box is not None
    x, y = box["x"] + 0.35 * box["width"], box["y"] + 0.5 * box["height"]
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 10, y)
    tab.evaluate(_WATCH)
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < _DRAG:
        tab.mouse.move(x + 200 * sin(4 * passed), y + 60 * sin(3 * passed))
    times = tab.evaluate(_SEEN)
    tab.mouse.up()
    return [after - before for before, after in pairwise(times)]
