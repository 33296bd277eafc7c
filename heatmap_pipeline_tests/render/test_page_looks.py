"""The look of the page on a fixed map, against a committed picture.

The reference is `_shots/page.png`. After a change of the looks that is meant, draw it again and look at it:

    NEW_SHOTS=1 pytest heatmap_pipeline_tests/render/test_page_looks.py

The font is the one that comes with matplotlib, as other fonts move everything. Another version of the browser moves the
edges of letters, so pictures are compared at a third of their size, where letters are grey, and a share may differ. The
last test shows that a change of what is drawn exceeds that.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from heatmap_pipeline_tests.render.browser import opened, visit

pytestmark = pytest.mark.slow

SHOT = Path(__file__).parent / "_shots" / "page.png"
SIZE = (1000, 600)
MEAN_LIMIT = 0.7
"""Mean difference of a pixel, of 255."""
FAR = 48
FAR_LIMIT = 0.005
"""Share of pixels that may differ by more than `FAR` in any colour."""
LINK = "#symbol=BTCUSDT&model=turnover&range=7d"


@pytest.fixture(scope="module")
def desk(browser: Any, renders: Path) -> Iterator[Any]:
    """A smaller page than the other tests have, so that the picture stays small, in a font that every machine has."""
    faces = [
        f"@font-face {{ font-family: Agreed; font-weight: {weight}; src: url(data:font/ttf;base64,{letters(name)}); }}"
        for weight, name in (("100 500", "DejaVuSans.ttf"), ("600 900", "DejaVuSans-Bold.ttf"))
    ]
    with opened(browser, *SIZE) as page:
        visit(page, renders, LINK)
        page.add_style_tag(content="\n".join([*faces, "* { font-family: Agreed !important; }"]))
        page.evaluate("() => Promise.all(['400', '700'].map(weight => document.fonts.load(`${weight} 12px Agreed`)))")
        yield page


def letters(name: str) -> str:
    return base64.b64encode((Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name).read_bytes()).decode()


def shot(page: Any, renders: Path, link: str = LINK) -> bytes:
    visit(page, renders, link)
    page.wait_for_timeout(200)
    content = page.screenshot()
    assert isinstance(content, bytes)
    return content


def small(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == SIZE
        reduced = image.convert("RGB").resize((SIZE[0] // 3, SIZE[1] // 3), Image.Resampling.BOX)
        return np.asarray(reduced).astype(float)


def difference(one: bytes, other: bytes) -> tuple[float, float]:
    """Return the mean difference, and the share of pixels that differ by more than `FAR`."""
    apart = np.abs(small(one) - small(other)).max(axis=2)
    return float(apart.mean()), float((apart > FAR).mean())


def test_the_page_looks_as_agreed(page: Any, renders: Path, tmp_path: Path) -> None:
    now = shot(page, renders)
    if os.environ.get("NEW_SHOTS"):
        SHOT.parent.mkdir(exist_ok=True)
        with Image.open(io.BytesIO(now)) as image:
            image.convert("RGB").save(SHOT, "PNG", optimize=True)
    assert SHOT.stat().st_size < 150_000
    (tmp_path / "now.png").write_bytes(now)
    mean, far = difference(now, SHOT.read_bytes())
    assert mean < MEAN_LIMIT, f"see {tmp_path / 'now.png'}; the docstring of this file says how to accept it"
    assert far < FAR_LIMIT, f"see {tmp_path / 'now.png'}; the docstring of this file says how to accept it"


@pytest.mark.parametrize("change", ["scale=log", "side=long", "candles=0", "profile=0", "high=90000000"])
def test_another_picture_is_not_taken_for_the_agreed_one(page: Any, renders: Path, change: str) -> None:
    mean, far = difference(shot(page, renders, f"{LINK}&{change}"), SHOT.read_bytes())
    assert mean > MEAN_LIMIT or far > FAR_LIMIT
