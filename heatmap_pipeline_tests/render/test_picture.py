"""The PNG: its size, its content follows the data, and the words people read on it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from heatmap_pipeline.render import picture
from heatmap_pipeline.render.picture import (
    SMALL_LIMIT,
    bubbles,
    colour_limit,
    format_price,
    format_volume,
    market_names,
    profile,
    reported_words,
    rings,
    shown,
    small_png,
    stacks,
    write_png,
)
from heatmap_pipeline.symbols import typed_name
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline_tests.render.sample import (
    BUCKET,
    base_days,
    cells,
    draw,
    reported_days,
    sample,
    source,
    ten_days,
    walk,
    without_levels,
)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_picture_has_the_size_asked_for_and_shows_the_data(tmp_path: Path) -> None:
    one, two, bare = tmp_path / "one.png", tmp_path / "two.png", tmp_path / "bare.png"
    write_png(sample(), one)
    write_png(sample(seed=2), two)
    write_png(without_levels(sample()), bare, size=(800, 450))
    assert pixels(one).shape == (900, 1600, 3)
    assert pixels(bare).shape == (450, 800, 3)
    assert np.abs(pixels(one) - pixels(two)).mean() > 1
    assert not list(tmp_path.glob("*.tmp"))


def test_bright_is_dense_and_empty_is_dark(tmp_path: Path) -> None:
    write_png(sample(), tmp_path / "map.png")
    chart = pixels(tmp_path / "map.png")[100:840, 40:1240]
    yellow = (chart[..., 0] > 180) & (chart[..., 1] > 180) & (chart[..., 2] < 90)
    background = np.abs(chart - [11, 14, 20]).max(axis=2) <= 2
    assert yellow.any()
    assert background.mean() > 0.05


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    write_png(sample(), tmp_path / "one.png")
    write_png(sample(), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_simulated_and_provisional_are_said(tmp_path: Path) -> None:
    for name, simulated, provisional in (("real", False, False), ("made", True, False), ("both", True, True)):
        write_png(sample(simulated=simulated, provisional=provisional), tmp_path / f"{name}.png")
    badge = [255, 209, 102]
    painted = {name: (pixels(tmp_path / f"{name}.png")[:80] == badge).all(axis=2).sum() for name in ("real", "made")}
    assert painted["real"] == 0
    assert painted["made"] > 500
    assert np.any(pixels(tmp_path / "made.png") != pixels(tmp_path / "both.png"))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """Collect what is written on pictures."""
    texts: list[Text] = []
    write = Figure.text

    def remember(figure: Figure, x: float, y: float, words: str, **how: Any) -> Any:
        texts.append(write(figure, x, y, words, **how))
        return texts[-1]

    monkeypatch.setattr(Figure, "text", remember)
    return texts


@pytest.mark.parametrize(
    ("symbol", "simulated", "title"),
    [
        ("BTCUSDC", False, "Binance USDC-M perpetual"),
        ("BTCUSDT", True, "Simulated USDT-M perpetual"),
        ("BYBIT_BTCUSDT", False, "Bybit USDT-M perpetual"),
    ],
)
def test_the_title_says_exchange_contract_and_model(
    tmp_path: Path, written: list[Text], symbol: str, simulated: bool, title: str
) -> None:
    write_png(sample(symbol, "delta", simulated=simulated), tmp_path / "one.png")
    words = [text.get_text() for text in written]
    assert sum(one.startswith(f"{title}, delta   ·   as of ") for one in words) == 1
    assert "Liquidation heatmap" in words
    assert typed_name(symbol) in words


@pytest.mark.parametrize("symbol", ["BTCUSDT", "1000000MOGUSDC"])
def test_the_words_at_the_head_leave_each_other_and_the_colour_bar_their_places(
    tmp_path: Path, written: list[Text], symbol: str
) -> None:
    write_png(sample(symbol, "turnover", simulated=True, provisional=True), tmp_path / "one.png")
    boxes = {text.get_text(): text.get_window_extent() for text in written}
    colour_bar = next(box for words, box in boxes.items() if words.startswith("Modelled "))
    head = {words: box for words, box in boxes.items() if box.y0 > 900 - 80 and box.x0 < colour_bar.x0}
    assert len(head) == 5, "name, what it is, two badges, facts"
    for words, box in head.items():
        assert box.x1 < colour_bar.x0, words
        for others, other in head.items():
            assert words == others or not box.overlaps(other), (words, others)


def test_the_words_of_the_profile_stand_above_and_below_it(tmp_path: Path, written: list[Text]) -> None:
    """On bars nobody could read them: beside the price the book may be as thick as anywhere."""
    write_png(sample(), tmp_path / "one.png")
    boxes = {text.get_text(): text.get_window_extent() for text in written}
    for words, beside in (("shorts, if price rises", "Newest book"), ("longs, if price falls", "bars: per bucket")):
        assert boxes[words].y0 > 900 - 60 or boxes[words].y1 < 30
        assert boxes[beside].x1 + 10 < boxes[words].x0 < boxes[words].x1 < 1600 - 20


def test_the_small_picture_stays_small_and_looks_like_the_large_one(tmp_path: Path) -> None:
    write_png(sample(days=20), tmp_path / "large.png")
    content = small_png(tmp_path / "large.png")
    assert len(content) < SMALL_LIMIT
    with Image.open(io.BytesIO(content)) as image, Image.open(tmp_path / "large.png") as large:
        assert image.format == "PNG"
        assert image.width >= 400
        reduced = large.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
        difference = np.asarray(image.convert("RGB"), float) - np.asarray(reduced, float)
    assert np.abs(difference).mean() < 4, "of 255"


def test_a_coin_of_a_few_cents_is_drawn_too(tmp_path: Path) -> None:
    candles = walk(2)
    for name in ("open", "high", "low", "close"):
        candles[name] /= 600_000
    table = cells(walk(2))
    write_png(sample(candles=candles, bucket=BUCKET / 600_000, **table), tmp_path / "coin.png")
    assert pixels(tmp_path / "coin.png").shape == (900, 1600, 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "$0"), (950, "$950"), (12_300, "$12.3k"), (999_900, "$1M"), (12_000_000, "$12M"), (1.25e9, "$1.25B")],
)
def test_volumes_are_written_short(value: float, words: str) -> None:
    assert format_volume(value) == words


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (0, "0"),
        (64_230.4, "64,230"),
        (3_481.02, "3,481.0"),
        (0.1034, "0.10340"),
        (1.5, "1.5000"),
        (1.6e-6, "0.0000016000"),
    ],
)
def test_prices_have_the_decimals_their_size_asks_for(price: float, words: str) -> None:
    assert format_price(price) == words


def rows_of(table: list[tuple[int, int, int, float]], columns: int = 2) -> Columns:
    """What is drawn of cells (column, bucket, side, active) over two quiet candles at 60,000."""
    flat = walk(1).iloc[:columns].assign(open=60_000.0, high=60_050.0, low=59_950.0, close=60_000.0)
    column, bucket, side, active = np.array(table, dtype=float).reshape(-1, 4).T
    stamps = flat["open_time"].to_numpy()[column.astype(int)]
    kinds: dict[str, Any] = {
        "buckets": bucket.astype(int),
        "sides": side.astype(int),
        "active": active,
        "consumed": 0 * active,
    }
    return draw(source(flat), timestamps=stamps, **kinds)


def test_a_picture_shows_the_prices_around_its_candles() -> None:
    wide = rows_of([(0, 400, 1, 5.0), (1, 590, 1, 5.0), (1, 610, -1, 5.0), (0, 900, -1, 5.0)])
    part = shown(wide)
    assert (part.low, part.high) == (59_950 - 2_400, 60_050 + 2_400)
    assert (part.edges[0], part.edges[-1]) == (57_500, 62_500)
    assert part.long.shape == part.short.shape == (50, 2)
    assert (part.long.sum(), part.short.sum()) == (5, 5)
    near = shown(rows_of([(0, 595, 1, 5.0), (0, 598, 1, 5.0)]))
    assert (near.low, near.high) == (59_500, 60_050), "no further than levels reach, but all candles"
    none = shown(rows_of([]))
    assert (none.low, none.high) == (59_950, 60_100), "the one empty row at the price"
    assert none.long.shape == (1, 2)


def test_profile_sums_outward_from_the_price() -> None:
    data = rows_of([(1, 590, 1, 5.0), (1, 580, 1, 7.0), (0, 585, 1, 9.0), (1, 610, -1, 3.0), (1, 620, -1, 4.0)])
    part = shown(data)
    book = profile(part)
    at = {int(edge // BUCKET): row for row, edge in enumerate(part.edges[:-1])}
    assert [book.long_sum[at[bucket]] for bucket in (595, 590, 585, 580)] == [0, 5, 5, 12]
    assert [book.short_sum[at[bucket]] for bucket in (605, 610, 615, 620)] == [0, 3, 3, 7]
    assert (book.long.sum(), book.short.sum()) == (12, 7)


def test_the_colours_end_where_few_cells_are_above() -> None:
    assert colour_limit(shown(rows_of([]))) == 1
    rows = [(column, bucket, 1, float(bucket - 579)) for bucket in range(580, 620) for column in range(10)]
    assert colour_limit(shown(rows_of(rows, 10))) == 40
    assert colour_limit(shown(rows_of([*rows[:-1], (9, 619, 1, 1e9)], 10))) == 40
    assert colour_limit(shown(rows_of([(0, 600, 1, 7.0)]))) == 7


def test_a_bubble_is_what_one_column_lost_on_a_side() -> None:
    data = ten_days()
    lost = bubbles(data, most=10_000)
    assert lost.volume.sum() == pytest.approx(data.meta["total_consumed"])
    assert (np.diff(lost.volume) <= 0).all()
    assert len({*zip(lost.column, lost.is_long, strict=True)}) == len(lost.column)
    for is_long, name in ((True, "consumed_long"), (False, "consumed_short")):
        cells_ = data.cells[name]
        side = lost.is_long == is_long
        price = {int(column): number for column, number in zip(lost.column[side], lost.price[side], strict=True)}
        column = int(lost.column[side][0])
        there = cells_.column == column
        middle = data.prices[cells_.row[there]] + BUCKET / 2
        assert price[column] == pytest.approx(np.average(middle, weights=cells_.volume[there]))
    np.testing.assert_array_equal(bubbles(data, most=5).volume, lost.volume[:5])


def test_hollow_circles_stand_where_something_was_really_liquidated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = reported_days()
    shown_ = rings(data)
    assert data.reported is not None
    assert shown_.volume.sum() == pytest.approx(sum(one.volume.sum() for one in data.reported.sums.values()))
    assert (np.diff(shown_.volume) <= 0).all()
    drawn: list[dict[str, Any]] = []
    scatter = Axes.scatter

    def remember(axes: Axes, x: Any, y: Any, **how: Any) -> Any:
        drawn.append({"x": x, "y": y, **how})
        return scatter(axes, x, y, **how)

    monkeypatch.setattr(Axes, "scatter", remember)
    write_png(data, tmp_path / "both.png")
    filled, hollow = drawn
    assert hollow["facecolors"] == "none"
    assert "facecolors" not in filled
    np.testing.assert_array_equal(hollow["y"], shown_.price)
    np.testing.assert_allclose(hollow["x"], (data.times[shown_.column] + 450e6) / 86_400e6, rtol=1e-12)
    sizes = np.concatenate([filled["s"], hollow["s"]])
    volumes = np.concatenate([bubbles(data).volume, shown_.volume])
    np.testing.assert_allclose(sizes, volumes / volumes.max() * 420, err_msg="one scale for both")
    write_png(ten_days(), tmp_path / "alone.png")
    assert len(drawn) == 3, "where nothing is recorded there are only ours"
    assert np.any(pixels(tmp_path / "both.png") != pixels(tmp_path / "alone.png"))


def test_the_recorded_time_is_marked_along_the_axis(tmp_path: Path) -> None:
    write_png(reported_days(), tmp_path / "both.png")
    bottom = pixels(tmp_path / "both.png")[845:847]
    marked = (np.abs(bottom - [215, 221, 232]).max(axis=2) < 30).all(axis=0)
    place = (np.arange(1600) - 28) / 1218 * 10
    recorded = ((place > 1) & (place < 4)) | ((place > 4.5) & (place < 9))
    inside = (place > 0.1) & (place < 9.9) & (np.abs(place[:, None] - [1, 4, 4.5, 9]).min(axis=1) > 0.03)
    np.testing.assert_array_equal(marked[inside], recorded[inside])


def test_whose_record_it_is_is_said() -> None:
    own, other = reported_days().reported, reported_days(source="bybit_stream", complete=False).reported
    assert own is not None
    assert other is not None
    assert reported_words(own) == f"binance, complete, reported / modelled {own.factor:.2f}"
    assert reported_words(other) == "bybit, another exchange, incomplete"


def test_the_profile_of_a_base_is_a_stack_by_market() -> None:
    data = base_days()
    part = shown(data)
    book = profile(part)
    found = stacks(data, part)
    for side in ("long", "short"):
        np.testing.assert_allclose(np.sum(found[side], axis=0), getattr(book, side), rtol=1e-5)
        binance, bybit, gate = (float(one.sum()) for one in found[side])
        assert bybit / binance == pytest.approx(0.5)
        assert gate == 0, "what is missing is not in it"
    assert stacks(ten_days(), part) == {"long": [], "short": []}


def test_the_picture_of_a_base_says_whose_it_is_and_what_is_missing(tmp_path: Path, written: list[Text]) -> None:
    write_png(base_days(), tmp_path / "base.png")
    words = [text.get_text() for text in written]
    for each in ("Binance 67%", "Bybit 33%", "Gate missing", "2 of 3 markets", "yellow line: a market missing"):
        assert each in words
    (title,) = [text for text in written if "perpetuals" in text.get_text()]
    assert title.get_text().startswith("BTC perpetuals: Binance, Bybit, Gate, turnover, candles: Binance   ·   as of")
    # Below the axis of time there is a line while Gate is missing: three hours of ten days.
    bottom = pixels(tmp_path / "base.png")[838:844]
    marked = (np.abs(bottom - [255, 209, 102]).max(axis=2) < 40).any(axis=0)
    place = (np.arange(1600) - 28) / 1218 * 240
    assert marked[(place > 237.2) & (place < 239.8)].all()
    assert not marked[place < 236.8].any()


def test_markets_are_called_and_coloured_as_on_the_page() -> None:
    parts = [{"exchange": "binance", "quote": "USDT"}, {"exchange": "binance", "quote": "USDC"}]
    assert market_names([*parts, {"exchange": "gate", "quote": "USDT"}]) == ["Binance USDT", "Binance USDC", "Gate"]
    script = (Path(picture.__file__).parent / "static" / "bases.js").read_text()
    assert f"MARKET_COLOURS = {json.dumps(picture.MARKETS)};" in script
