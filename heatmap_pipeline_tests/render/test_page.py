"""The files of the page: complete, sealed off from any network, replaced whole, and listing what is there."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.render import page
from heatmap_pipeline.render.data import RenderError
from heatmap_pipeline.render.files import replace_file
from heatmap_pipeline.render.page import columnar, write_page
from heatmap_pipeline_tests.render.sample import sample

TYPES = {"u1": "u1", "u2": "<u2", "u4": "<u4", "f4": "<f4", "f8": "<f8"}


def manifest(folder: Path) -> Any:
    text = (folder / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="manifest">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])["symbols"]


def unpack(packed: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["data"]), TYPES[packed["type"]])


def test_every_file_that_the_page_names_is_there(tmp_path: Path) -> None:
    index = write_page(tmp_path, "BTCUSDT", {"turnover": sample(), "delta": sample(model="delta", seed=2)})
    assert index == tmp_path / "index.html"
    (entry,) = manifest(tmp_path)
    assert [one["name"] for one in entry["models"]] == ["turnover", "delta"]
    named = re.findall(r'(?:src|href)="([^"]+)"', unescape(index.read_text()))
    named += [one[kind] for one in entry["models"] for kind in ("data", "picture")]
    for address in named:
        if not address.startswith("data:"):
            file, version = address.split("?v=")
            assert (tmp_path / file).is_file()
            assert re.fullmatch("[0-9a-f]{12}", version)
    home = tmp_path / "BTCUSDT"
    assert (home / "heatmap.png").read_bytes() == (home / "heatmap-turnover.png").read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_nothing_is_loaded_from_a_network(tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    for name in ("index.html", "page.js", "page.css", "BTCUSDT/turnover.js"):
        text = (tmp_path / name).read_text()
        assert not re.search(r"https?:|[\"'(=]\s*//[a-z]|\bfetch\(|XMLHttpRequest|@import", text), name


def test_symbols_gather_on_one_page(tmp_path: Path) -> None:
    write_page(tmp_path, "ETHUSDT", {"turnover": sample("ETHUSDT")})
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    assert [one["symbol"] for one in manifest(tmp_path)] == ["BTCUSDT", "ETHUSDT"]


def test_symbols_written_at_the_same_time_both_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_page(tmp_path, "ETHUSDT", {"turnover": sample("ETHUSDT")})
    meta = tmp_path / "ETHUSDT" / "meta.json"
    late = meta.read_text()
    meta.unlink()

    def replace_file_while_another_finishes(path: Path, content: bytes) -> None:
        replace_file(path, content)
        if path.name == "index.html":
            meta.write_text(late)

    monkeypatch.setattr(page, "replace_file", replace_file_while_another_finishes)
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    assert [one["symbol"] for one in manifest(tmp_path)] == ["BTCUSDT", "ETHUSDT"]


def test_new_numbers_get_a_new_address_and_equal_ones_keep_theirs(tmp_path: Path) -> None:
    def address(**changes: Any) -> str:
        write_page(tmp_path, "BTCUSDT", {"turnover": sample(**changes)})
        return str(manifest(tmp_path)[0]["models"][0]["data"])

    before = address()
    assert address() == before
    assert address(seed=3) != before


def test_a_file_that_did_not_change_is_left_alone(tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_model_that_is_not_given_any_more_leaves_the_page(tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample(), "delta": sample(model="delta")})
    write_page(tmp_path, "BTCUSDT", {"delta": sample(model="delta")})
    assert [one["name"] for one in manifest(tmp_path)[0]["models"]] == ["delta"]
    names = {path.name for path in (tmp_path / "BTCUSDT").iterdir()}
    assert names == {"delta.js", "heatmap-delta.png", "heatmap.png", "meta.json"}


def test_the_numbers_survive_the_way_into_the_page(tmp_path: Path) -> None:
    data = sample()
    write_page(tmp_path, "BTCUSDT", {"turnover": data})
    script = (tmp_path / "BTCUSDT" / "turnover.js").read_text()
    payload = json.loads(script.removeprefix("heatmapData(").removesuffix(");\n"))
    assert payload == json.loads(json.dumps(columnar(data)))
    for side in ("long", "short"):
        starts, rows, values = (unpack(payload[side][name]) for name in ("starts", "rows", "values"))
        grid = np.zeros((payload["rows"], payload["columns"]), np.float32)
        for t in range(payload["columns"]):
            grid[rows[starts[t] : starts[t + 1]], t] = values[starts[t] : starts[t + 1]]
        np.testing.assert_array_equal(grid, getattr(data, side))
    times = payload["start"] + unpack(payload["candles"]["step"]).astype(int) * payload["candle_seconds"] * 1000
    np.testing.assert_array_equal(times.astype("datetime64[ms]"), data.candles["open_time"].to_numpy())
    np.testing.assert_array_equal(unpack(payload["candles"]["close"]), data.candles["close"])
    consumed = payload["start"] + unpack(payload["consumed"]["column"]).astype(int) * payload["interval_seconds"] * 1000
    np.testing.assert_array_equal(consumed.astype("datetime64[ms]"), data.consumed["timestamp"].to_numpy())
    assert payload["as_of"] == data.as_of.astype("datetime64[ms]").astype(int)


@pytest.mark.parametrize(
    ("symbol", "models", "words"),
    [
        ("../BTC", {"turnover": None}, "cannot name a folder"),
        ("BTCUSDT", {"../x": None}, "cannot name a file"),
        ("BTCUSDT", {}, "at least one model"),
    ],
)
def test_names_that_would_leave_the_folder_are_refused(tmp_path: Path, symbol: str, models: Any, words: str) -> None:
    with pytest.raises(RenderError, match=words):
        write_page(tmp_path, symbol, models)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_of_another_symbol_is_named(tmp_path: Path) -> None:
    (tmp_path / "ETHUSDT").mkdir()
    (tmp_path / "ETHUSDT" / "meta.json").write_text("{")
    with pytest.raises(RenderError, match=r"ETHUSDT.meta\.json is damaged"):
        write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
