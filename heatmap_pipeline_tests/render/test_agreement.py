"""Picture, page and endpoint show the same numbers in the same colours: the three from one home, cell by cell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from heatmap_pipeline.api import schemas
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.render.page import write_page
from heatmap_pipeline.render.picture import (
    BACKGROUND,
    RUN_IN,
    bubbles,
    colour_limit,
    colour_map,
    rings,
    shown,
    write_png,
)
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.columns import VOLUMES
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline_tests._homes import clean_environment, draw_only_the_page
from heatmap_pipeline_tests.api.homes import TestClient, ask, client
from heatmap_pipeline_tests.orchestration.homes import BTC, day, real, run_job, write_archive
from heatmap_pipeline_tests.render.browser import state, unpack, visit
from heatmap_pipeline_tests.render.sample import sample, ten_days

pytestmark = pytest.mark.slow

MODELS = ("turnover", "delta")


def write_liquidations(path: Path) -> None:
    """Write single liquidations of days 2 to 4, some without a price, every few minutes."""
    random = np.random.default_rng(1)
    times = np.datetime64(day(2), "s") + np.sort(random.integers(0, 3 * 86_400, 900))
    lines = [
        f"{time}Z,{'long' if n % 3 else 'short'},{60_000 + n if n % 2 else ''},{random.lognormal(0, 1):.3f},0"
        for n, time in enumerate(times)
    ]
    path.write_text("\n".join(["time,side,price,quantity,resolution_seconds", *lines]))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that one run of the job has computed, drawn and published: four days, three with real liquidations."""
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        archive = write_archive(tmp_path_factory.mktemp("archive"), 4, BTC)
        records = tmp_path_factory.mktemp("liquidations")
        write_liquidations(records / f"{BTC}.csv")
        draw_only_the_page(patch)
        settings = real(tmp_path_factory.mktemp("drawn"), archive, liquidations_folder=records)
        run_job(settings, 1, 4).ok()
    return settings


@pytest.fixture(scope="module")
def served(drawn: Settings) -> Iterator[TestClient]:
    """The endpoint over it."""
    with client(drawn) as asking:
        yield asking


def page_numbers(home: Path, model: str) -> Any:
    """Return what the page's script holds, its arrays unpacked."""

    def walk(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "runs" in value or set(value) == {"type", "data"}:
            return unpack(value)
        return {name: walk(part) for name, part in value.items()}

    script = (home / "renders" / BTC / f"{model}.js").read_text()
    return walk(json.loads(script.removeprefix("heatmapData(").removesuffix(");\n")))


def as_answered(served: TestClient, meta: dict[str, Any], **more: Any) -> Any:
    """Return the endpoint's columns for the window, interval and bin of a page."""
    query = {"interval": meta["interval"], "price_bin_size": meta["price_bin_size"], "start_time": meta["start_time"]}
    return ask(served, model=meta["model"], format="columns", **query, **more)


@pytest.mark.parametrize("model", MODELS)
def test_the_page_holds_what_the_endpoint_answers(drawn: Settings, served: TestClient, model: str) -> None:
    page = page_numbers(drawn.home, model)
    answer = as_answered(served, page["meta"])
    assert list(page) == [*answer, "lots"]
    newest = ask(served, "/liquidations/lots", model=model, price_bin_size=page["meta"]["price_bin_size"])
    assert newest["time"] == page["meta"]["as_of"]
    for side in ("long", "short"):
        assert len(newest[side]["price"]) > 50
        assert list(page["lots"][side]) == list(newest[side])
        for name, values in newest[side].items():
            np.testing.assert_allclose(page["lots"][side][name], values, rtol=1e-7, atol=1e-4, err_msg=name)
    for name in ("timestamps", "prices"):
        assert page[name].tolist() == answer[name]
    for name in VOLUMES:
        assert len(answer[name]["volume"]) > 100
        for part in ("time", "price"):
            assert page[name][part].tolist() == answer[name][part]
        np.testing.assert_array_equal(page[name]["volume"], np.array(answer[name]["volume"], dtype=np.float32))
    for name in ("open_time", "open", "high", "low", "close"):
        assert page["candles"][name].tolist() == answer["candles"][name]
    np.testing.assert_array_equal(page["candles"]["volume"], np.array(answer["candles"]["volume"], dtype=np.float32))
    assert page["candles"]["interval_seconds"] == answer["candles"]["interval_seconds"]
    assert page["meta"] == answer["meta"]
    assert_same_reported(page["reported"], answer["reported"])
    for side in ("long", "short"):
        sums, told = page["modelled"][side], answer["modelled"][side]
        assert list(sums) == list(told)
        assert len(told["time"]) > 10
        for name, values in told.items():
            kind = np.int64 if name in {"time", "lots"} else np.float32
            np.testing.assert_array_equal(sums[name], np.array(values, dtype=kind), err_msg=name)
    assert page["usual"] == answer["usual"]
    assert any(page["usual"]["long"])
    assert any(page["usual"]["short"])


def assert_same_reported(page: Any, answer: Any) -> None:
    """Assert that the page's script and an answer tell the same of real liquidations."""
    assert list(page) == list(answer)
    for name in ("source", "exchange", "own_exchange", "complete", "resolution_seconds", "factor"):
        assert page[name] == answer[name], name
    assert answer["source"] == "binance_file"
    assert answer["factor"] > 0
    for part in ("recorded", "long", "short"):
        for name, values in answer[part].items():
            np.testing.assert_array_equal(page[part][name], np.array(values, dtype=float), err_msg=f"{part} {name}")
        assert len(answer[part][name])


def test_what_is_reported_is_what_is_stored(drawn: Settings, served: TestClient) -> None:
    answered = as_answered(served, page_numbers(drawn.home, "turnover")["meta"])
    stamps, answer = answered["timestamps"], answered["reported"]
    shape = schemas.Reported.model_validate(answer)
    assert shape.model_dump(by_alias=True) == answer, "the schema names every field"
    with Warehouse(drawn.home).read() as con:
        stored = con.execute(
            "SELECT side, (epoch_ms(timestamp) - ?) // ? AS number, sum(quantity), "
            "sum(price * quantity) FILTER (price IS NOT NULL) / sum(quantity) FILTER (price IS NOT NULL), "
            "count(price) = count(*) "
            "FROM raw_liquidations GROUP BY ALL ORDER BY ALL",
            [stamps[0], stamps[1] - stamps[0]],
        ).fetchall()
    assert sum(len(answer[side]["time"]) for side in ("long", "short")) == len(stored) > 200
    for side in ("long", "short"):
        rows = [row for row in stored if row[0] == side]
        sums = answer[side]
        assert sums["time"] == [number for _, number, *_ in rows]
        assert sums["quantity"] == pytest.approx([quantity for _, _, quantity, *_ in rows])
        for place, price, row in zip(sums["place"], sums["price"], rows, strict=True):
            assert price == (None if row[3] is None else pytest.approx(row[3]))
            assert price is None or place == price
        known = [n for n, row in enumerate(rows) if row[4]]
        assert [sums["volume"][n] for n in known] == pytest.approx([rows[n][2] * rows[n][3] for n in known])


@pytest.mark.parametrize("model", MODELS)
def test_page_picture_and_endpoint_have_the_same_filled_circles(
    page: Any, drawn: Settings, served: TestClient, model: str
) -> None:
    """Where lots died: within the range of the candles of their column, which is seldom the middle of a row."""
    with Warehouse(drawn.home).connect(BTC) as con:
        data = newest_days(con, BTC, MODELS, SECONDS[drawn.snapshot_interval_of(BTC)])[model]
    of_picture = bubbles(data)
    visit(page, drawn.home / "renders", f"#symbol=BTCUSDT&model={model}&range=30d")
    of_page = np.array(
        page.evaluate(
            "() => heatmapPage.state().map.bubbles.map(one => [one.column, one.side === 'long', one.price, one.volume])"
        ),
        dtype=float,
    )
    answer = as_answered(served, dict(data.meta))
    of_endpoint = [
        [column, side == "long", price, volume]
        for side in ("long", "short")
        for column, price, volume in zip(
            *(answer["modelled"][side][name] for name in ("time", "price", "volume")), strict=True
        )
    ]
    by_size = np.array(sorted(of_endpoint, key=lambda one: -one[3]), dtype=float)
    assert len(by_size) > 40
    np.testing.assert_allclose(of_page, by_size, rtol=1e-7)
    largest = np.column_stack([of_picture.column, of_picture.is_long, of_picture.price, of_picture.volume])
    np.testing.assert_allclose(largest, by_size[: len(largest)], rtol=1e-9, atol=1e-4)
    bars = data.candles
    column = (bars.open_time - data.times[0]) // (data.times[1] - data.times[0])
    for at, _, price, _ in by_size:
        inside = column == at
        assert bars.low[inside].min() - 1e-6 <= price <= bars.high[inside].max() + 1e-6
    off = by_size[:, 2] / data.bin_size % 1
    assert (np.abs(off - 0.5) > 0.01).mean() > 0.9


def test_page_and_picture_draw_the_same_hollow_circles(page: Any, drawn: Settings) -> None:
    with Warehouse(drawn.home).connect(BTC) as con:
        data = newest_days(con, BTC, MODELS, SECONDS[drawn.snapshot_interval_of(BTC)])["turnover"]
    of_picture = rings(data)
    visit(page, drawn.home / "renders", "#symbol=BTCUSDT&model=turnover&range=30d")
    of_page = page.evaluate("() => heatmapPage.state().map.reported.circles.map(one => [one.place, one.volume])")
    largest = np.array(of_page)[: len(of_picture.volume)]
    np.testing.assert_array_equal(largest[:, 1], of_picture.volume)
    np.testing.assert_array_equal(largest[:, 0], of_picture.price)


@pytest.mark.parametrize("model", MODELS)
def test_the_picture_shows_what_the_endpoint_answers(
    drawn: Settings, served: TestClient, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, dict[str, Any]]] = []
    imshow = Axes.imshow

    def watched(axes: Axes, cells: Any, **how: Any) -> Any:
        given.append((cells, how))
        return imshow(axes, cells, **how)

    monkeypatch.setattr(Axes, "imshow", watched)
    with Warehouse(drawn.home).connect(BTC) as con:
        data = newest_days(con, BTC, MODELS, SECONDS[drawn.snapshot_interval_of(BTC)])[model]
    write_png(data, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (drawn.home / "renders" / BTC / f"heatmap-{model}.png").read_bytes()
    cells, how = given[0]
    answer = as_answered(served, dict(data.meta))
    total = np.zeros((len(answer["prices"]), len(answer["timestamps"])), dtype=np.float32)
    for side in ("long", "short"):
        part = answer[side]
        np.add.at(total, (part["price"], part["time"]), np.array(part["volume"], dtype=np.float32))
    left, right, low, high = how["extent"]
    first, last = (round((price - answer["prices"][0]) / data.bin_size) for price in (low, high))
    assert (cells > 0).sum() > 1000
    np.testing.assert_array_equal(cells, total[first:last])
    stamps = answer["timestamps"]
    assert (left * 86_400_000, right * 86_400_000) == pytest.approx((stamps[0], 2 * stamps[-1] - stamps[-2]), rel=1e-12)
    assert (how["norm"].vmin, how["norm"].vmax) == (0, colour_limit(shown(data)))
    place = np.array([0.0, 0.25, 0.5, 1.0]) * how["norm"].vmax
    assert how["norm"](place).tolist() == pytest.approx([0.0, 0.25, 0.5, 1.0]), "even, as on the page"


def test_picture_and_page_end_their_colours_at_the_same_volume(
    page: Any, drawn: Settings, renders: Path, tmp_path: Path
) -> None:
    with Warehouse(drawn.home).connect(BTC) as con:
        days = newest_days(con, BTC, MODELS, SECONDS[drawn.snapshot_interval_of(BTC)])
    large = sample(days=28)
    assert shown(large).long.size > 2 * 200_000, "so large that not every cell is looked at"
    write_page(tmp_path, BTC, {"turnover": large})
    for folder, maps in (
        (drawn.home / "renders", days),
        (renders, {model: ten_days(model) for model in MODELS}),
        (tmp_path, {"turnover": large}),
    ):
        for model, data in maps.items():
            visit(page, folder, f"#symbol=BTCUSDT&model={model}&range=30d")
            on_page = state(page)
            part = shown(data)
            assert (on_page["low"], on_page["high"], on_page["log"]) == (0, colour_limit(part), False)
            assert on_page["view"]["y"] == pytest.approx([part.low, part.high], rel=1e-12)
            assert on_page["view"]["x"][0] == data.times[0] / 1000


def test_picture_and_page_have_the_same_colours() -> None:

    script = files("heatmap_pipeline.render").joinpath("static", "colours.js").read_text()

    def said(pattern: str) -> str:
        match = re.search(pattern, script, re.DOTALL)
        assert match is not None, pattern
        return match[1]

    assert float(said(r"RUN_IN = ([\d.]+);")) == RUN_IN
    stops = re.findall(r"#[0-9a-f]{6}", said(r"VIRIDIS = \[(.*?)\];"))
    assert len(stops) == 16
    assert said(r'background: "(#\w+)"') == BACKGROUND
    ours = colour_map()
    for place, colour in [(0.0, BACKGROUND)] + [(RUN_IN + (1 - RUN_IN) * i / 15, stop) for i, stop in enumerate(stops)]:
        np.testing.assert_allclose(ours(place)[:3], to_rgb(colour), atol=5 / 255)
