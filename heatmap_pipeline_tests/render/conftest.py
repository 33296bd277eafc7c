"""One browser and one folder of rendered maps for all tests of the page."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.render.page import write_page
from heatmap_pipeline.render.picture import write_png
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline_tests.render.browser import CHROMIUM, FLAGS, NOW, opened
from heatmap_pipeline_tests.render.sample import sample, ten_days
from heatmap_pipeline_tests.render.scores import not_scored, scored

PHONE = (390, 844)


@pytest.fixture(scope="package", autouse=True)
def _pictures_are_drawn_once() -> Iterator[None]:
    """Pages take the picture of equal data from before, which has equal bytes: drawing is most of what a page takes."""
    drawn: dict[bytes, bytes] = {}

    def write(data: Columns, path: Path) -> None:
        shown = pickle.dumps(data)
        if shown in drawn:
            replace_file(path, drawn[shown])
        else:
            write_png(data, path)
            drawn[shown] = path.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatmap_pipeline.render.page.write_png", write)
        yield


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Chromium, started once; not for the whole session, as its event loop would be in the way of other tests."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; pip install the extra 'test'"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}; install Debian's package chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days of two models, and three days of another symbol that says it is made up."""
    folder = tmp_path_factory.mktemp("renders")
    both = {model: ten_days(model) for model in ("turnover", "delta")}
    write_page(folder, "BTCUSDT", both, [scored(), not_scored("BTCUSDT", "delta")])
    made_up = {"delta": sample("ETHUSDT", "delta", simulated=True, provisional=True)}
    write_page(folder, "ETHUSDT", made_up, [not_scored("ETHUSDT", "delta", simulated=True)])
    return folder


@pytest.fixture(scope="package")
def desk(browser: Any) -> Iterator[Any]:
    """A page of a desktop's size for all tests, as reading the library anew for each would take longest."""
    with opened(browser) as page:
        yield page


@pytest.fixture(scope="package")
def second_desk(browser: Any) -> Iterator[Any]:
    """Another one, for what comes from a server, so that what is open from disk in the first stays open."""
    with opened(browser) as page:
        yield page


@pytest.fixture(scope="package")
def phone_desk(browser: Any) -> Iterator[Any]:
    """A page of a phone's size, for all tests of that."""
    with opened(browser, *PHONE, has_touch=True, is_mobile=True, device_scale_factor=2) as page:
        yield page


@pytest.fixture
def page(desk: Any) -> Iterator[Any]:
    """The desktop's page, for one test, which fails if anything went to the console."""
    with _for_one_test(desk):
        yield desk


@pytest.fixture
def second_page(second_desk: Any) -> Iterator[Any]:
    """The other page, for one test."""
    with _for_one_test(second_desk):
        yield second_desk


@pytest.fixture
def phone(phone_desk: Any) -> Iterator[Any]:
    """The phone's page, for one test, which may have another width at its end."""
    width, height = PHONE
    if phone_desk.viewport_size != {"width": width, "height": height}:
        phone_desk.set_viewport_size({"width": width, "height": height})
    with _for_one_test(phone_desk):
        yield phone_desk


@contextmanager
def _for_one_test(desk: Any) -> Iterator[None]:
    desk.requested.clear()
    desk.clock.set_fixed_time(NOW)
    yield
    troubles = list(desk.troubles)
    desk.troubles.clear()
    assert troubles == []
