"""The PNG: its size, its content follows the data, and the words people read on it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heatmap_pipeline.render.picture import SMALL_LIMIT, format_price, format_usdt, small_png, write_png
from heatmap_pipeline_tests.render.sample import BUCKET, cells, sample, walk


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_picture_has_the_size_asked_for_and_shows_the_data(tmp_path: Path) -> None:
    one, two, bare = tmp_path / "one.png", tmp_path / "two.png", tmp_path / "bare.png"
    write_png(sample(), one)
    write_png(sample(seed=2), two)
    nothing = {name: column[:0] for name, column in cells(walk(1)).items()}
    write_png(sample(**nothing), bare, size=(800, 450))
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


def test_the_small_picture_stays_small() -> None:
    content = small_png(sample(days=20))
    assert len(content) < SMALL_LIMIT
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        assert image.width >= 400


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
    assert format_usdt(value) == words


@pytest.mark.parametrize(
    ("price", "words"), [(0, "0"), (64_230.4, "64,230"), (3_481.02, "3,481.0"), (0.1034, "0.10340"), (1.5, "1.5000")]
)
def test_prices_have_the_decimals_their_size_asks_for(price: float, words: str) -> None:
    assert format_price(price) == words
