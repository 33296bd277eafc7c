"""What page and picture say beside the map: days not whole, a symbol that ended, a bucket that does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heatmap_pipeline.render.page import write_page
from heatmap_pipeline.render.picture import WARN, write_png
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline_tests.render.browser import settle, visit
from heatmap_pipeline_tests.render.sample import sample

DAY_MS = 86_400_000
CUT, HELD = "2024-07-02", "2024-07-03"
WORDS = {CUT: "samples of open interest end at 13:30", HELD: "no samples of open interest, held"}
MISFIT = "a bucket of 100 is 40,000 % of the price 0.25, where 0.02 to 2 % fits"


def marked(**meta: Any) -> Columns:
    """Three days from 1 July; what is said of them is given."""
    data = sample()
    assert data.meta["start_time"].startswith("2024-07-01")
    return replace(data, meta={**data.meta, **meta})


def yellow(path: Path, *, rows: slice) -> int:
    """Return how many pixels of some rows have the colour of warnings."""
    rgb = [int(WARN[at : at + 2], 16) for at in (1, 3, 5)]
    with Image.open(path) as image:
        part = np.asarray(image.convert("RGB"))[rows, 28:1246]
    return int((part == rgb).all(axis=2).sum())


def test_the_picture_has_a_line_below_days_that_are_not_whole(tmp_path: Path) -> None:
    axis = slice(834, 846)
    for name, days in (("whole", {}), ("one", {CUT: WORDS[CUT]}), ("two", WORDS)):
        write_png(marked(not_whole=days), tmp_path / f"{name}.png")
    lines = {name: yellow(tmp_path / f"{name}.png", rows=axis) for name in ("whole", "one", "two")}
    assert lines["whole"] == 0
    assert lines["one"] > 1218 / 3
    assert lines["two"] == pytest.approx(2 * lines["one"], rel=0.1)


def test_the_picture_says_that_it_ended_and_that_a_bucket_does_not_fit(tmp_path: Path) -> None:
    for name, meta in (("plain", {}), ("ended", {"ended": "2024-07-03"}), ("misfit", {"bucket_misfit": MISFIT})):
        write_png(marked(**meta), tmp_path / f"{name}.png")
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in ("plain", "ended", "misfit")}) == 3
    head = slice(0, 80)
    assert yellow(tmp_path / "misfit.png", rows=head) > 500
    assert yellow(tmp_path / "ended.png", rows=head) == 0, "an end is no warning"


def test_a_heatmap_knows_how_its_bucket_fits() -> None:
    meta = sample().meta
    assert (meta["bucket_misfit"], meta["ended"], meta["not_whole"]) == (None, None, {})


@pytest.mark.slow
def test_the_page_marks_the_time_axis_and_says_what_there_is_to_say(page: Any, tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": marked(not_whole=WORDS, ended=HELD, bucket_misfit=MISFIT)})
    visit(page, tmp_path, "#range=30d")
    lines = page.evaluate(
        "() => document.getElementById('chart').layout.shapes.filter(one => one.name === 'not whole')"
        ".map(one => [one.x0, one.x1])"
    )
    midnight = page.evaluate(f"() => Date.parse('{CUT}T00:00:00Z')")
    assert lines == [[midnight, midnight + DAY_MS], [midnight + DAY_MS, midnight + 2 * DAY_MS]]
    badges = page.locator("#badges .badge")
    assert badges.all_inner_texts() == [f"ended on {HELD}", "bucket does not fit"], "and no STALE"
    assert MISFIT in badges.nth(1).get_attribute("title")
    box = page.locator("#chart").bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    settle(page)
    assert WORDS[CUT] in page.locator("#tip").inner_text()
