"""The files of the page: complete, sealed off from any network, replaced whole, and listing what is there."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.render import page
from heatmap_pipeline.render.page import RenderError, live_page, pack, remove_symbol, write_page
from heatmap_pipeline_tests.render.browser import unpack
from heatmap_pipeline_tests.render.sample import BASE_MARKETS, base_days, reported_days, sample
from heatmap_pipeline_tests.render.scores import not_scored, scored


def manifest(folder: Path) -> Any:
    text = (folder / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="manifest">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])["symbols"]


def test_every_file_that_the_page_names_is_there(tmp_path: Path) -> None:
    index = write_page(tmp_path, "BTCUSDT", {"turnover": sample(), "delta": sample(model="delta", seed=2)})
    assert index == tmp_path / "index.html"
    (entry,) = manifest(tmp_path)
    assert [(one["name"], one["role"]) for one in entry["models"]] == [("turnover", "default"), ("delta", "comparison")]
    named = re.findall(r'(?:src|href)="([^"]+)"', unescape(index.read_text()))
    named += [entry["score"], *(one[kind] for one in entry["models"] for kind in ("data", "picture"))]
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
        assert not re.search(r"https?:|[\"'(=]\s*//[a-z]|XMLHttpRequest|@import|\beval\(|new Function", text), name


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


def test_a_symbol_that_is_forgotten_while_another_is_drawn_only_leaves_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_page(tmp_path, "ETHUSDT", {"turnover": sample("ETHUSDT")})
    read_text = Path.read_text

    def read_after_forgetting(path: Path, *args: Any, **options: Any) -> str:
        if path == tmp_path / "BTCUSDT" / "meta.json" and (tmp_path / "ETHUSDT" / "meta.json").exists():
            remove_symbol(tmp_path, "ETHUSDT")
        return read_text(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read_after_forgetting)
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    assert [one["symbol"] for one in manifest(tmp_path)] == ["BTCUSDT"]


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


def test_what_a_killed_run_left_half_written_is_removed_once_it_is_old(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT").mkdir()
    old, young = tmp_path / ".page.js.1.2.tmp", tmp_path / "BTCUSDT" / ".delta.js.1.2.tmp"
    for left in (old, young):
        left.write_text("half")
    os.utime(old, (0, 0))
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    assert not old.exists()
    assert young.exists(), "another run may be writing it now"


def test_a_model_that_is_not_given_any_more_leaves_the_page(tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample(), "delta": sample(model="delta")})
    write_page(tmp_path, "BTCUSDT", {"delta": sample(model="delta")})
    assert [one["name"] for one in manifest(tmp_path)[0]["models"]] == ["delta"]
    names = {path.name for path in (tmp_path / "BTCUSDT").iterdir()}
    assert names == {"delta.js", "score.js", "heatmap-delta.png", "heatmap.png", "meta.json"}


def test_the_numbers_survive_the_way_into_the_page(tmp_path: Path) -> None:
    data = sample()
    write_page(tmp_path, "BTCUSDT", {"turnover": data})
    script = (tmp_path / "BTCUSDT" / "turnover.js").read_text()
    payload = json.loads(script.removeprefix("heatmapData(").removesuffix(");\n"))
    assert payload == json.loads(json.dumps(pack(data)))
    shape = len(unpack(payload["timestamps"])), len(unpack(payload["prices"]))
    for side in ("long", "short"):
        cells = [unpack(payload[side][name]) for name in ("time", "price", "volume")]
        grid = np.zeros(shape, np.float32)
        grid[cells[0], cells[1]] = cells[2]
        np.testing.assert_array_equal(grid.T, getattr(data, side))
        assert (np.diff(cells[0] * shape[1] + cells[1]) > 0).all(), "sorted by time, then price, none twice"
        swept = [unpack(payload[f"consumed_{side}"][name]) for name in ("time", "price", "volume")]
        expected = data.cells[f"consumed_{side}"]
        for numbers, name in zip(swept, ("column", "row", "volume"), strict=True):
            np.testing.assert_allclose(numbers, getattr(expected, name), rtol=1e-6)
    np.testing.assert_array_equal(unpack(payload["timestamps"]) * 1000, data.times)
    np.testing.assert_array_equal(unpack(payload["prices"]), data.edges[:-1])
    bars = payload["candles"]
    assert bars["interval_seconds"] == data.candles.seconds
    np.testing.assert_array_equal(unpack(bars["open_time"]) * 1000, data.candles.open_time)
    np.testing.assert_array_equal(unpack(bars["close"]), data.candles.close)


def test_runs_are_indices_written_short() -> None:
    assert unpack({"runs": {"type": "u2", "data": "AgAAAAEA"}}).tolist() == [0, 0, 2]


def test_the_payload_says_what_it_is() -> None:
    data = sample(simulated=True)
    meta = pack(data)["meta"]
    assert (meta["symbol"], meta["model"], meta["simulated"], meta["provisional"]) == (
        "BTCUSDT",
        "turnover",
        True,
        False,
    )
    assert (meta["start_time"], meta["end_time"]) == ("2024-07-01T00:00:00Z", "2024-07-04T00:00:00Z")
    assert (meta["interval"], meta["interval_seconds"], meta["total_snapshots"]) == ("15m", 900, 288)
    assert (meta["bucket"], meta["price_bin_size"]) == (100.0, 100.0)
    assert meta["price_range"] == {"min": data.edges[0], "max": data.edges[-1]}
    assert meta["as_of"] == "2024-07-04T00:00:00Z"
    assert (meta["first_day"], meta["last_day"]) == ("2024-07-01", "2024-07-03")
    assert meta["total_long_volume"] == pytest.approx(float(data.long[:, -1].sum(dtype=float)))
    assert meta["total_consumed"] == pytest.approx(
        sum(data.cells[f"consumed_{side}"].volume.sum() for side in ("long", "short"))
    )


def test_the_live_page_is_the_same_page_without_numbers() -> None:
    served = live_page()
    assert list(served) == ["/", "/page.js", "/page.css", "/plotly.min.js"]
    index, kind = served["/"]
    assert kind == "text/html; charset=utf-8"
    text = unescape(index.decode())
    assert re.search(r'id="manifest">\{"live": true\}</script>', text)
    for name in ("page.js", "page.css", "plotly.min.js"):
        assert re.search(rf'(?:src|href)="{name}\?v=[0-9a-f]{{12}}"', text), "relative, so that it works below a prefix"
    assert not re.search(r"<script(?![^>]*(src=|application/json))", text), "no script that a strict policy would stop"
    assert not re.search(r"\son[a-z]+=|javascript:", text)
    assert served["/page.js"][1].startswith("text/javascript")
    assert served["/page.css"][1].startswith("text/css")
    assert live_page() == served


def test_the_live_page_and_the_files_share_one_code(tmp_path: Path) -> None:
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    for name in ("page.js", "page.css", "plotly.min.js"):
        assert (tmp_path / name).read_bytes() == live_page()[f"/{name}"][0]


@pytest.mark.parametrize(
    ("symbol", "models", "words"),
    [
        ("../BTC", {"turnover": None}, "cannot name a folder"),
        ("BTCUSDT", {"../x": None}, "cannot name a file"),
        ("BTCUSDT", {"score": None}, "cannot name a file"),
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


def test_scores_stand_in_a_script_of_their_own(tmp_path: Path) -> None:
    records = [scored(), not_scored("BTCUSDT", "delta")]
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()}, records)
    script = (tmp_path / "BTCUSDT" / "score.js").read_text()
    assert json.loads(script.removeprefix("heatmapScore(").removesuffix(");\n")) == records
    first = manifest(tmp_path)[0]["score"]
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()}, records[1:])
    assert manifest(tmp_path)[0]["score"] != first


def test_a_page_of_before_there_were_scores_and_roles_is_kept(tmp_path: Path) -> None:
    write_page(tmp_path, "ETHUSDT", {"delta": sample("ETHUSDT", "delta")})
    meta = tmp_path / "ETHUSDT" / "meta.json"
    old = json.loads(meta.read_text())
    del old["score"], old["models"][0]["role"]
    meta.write_text(json.dumps(old))
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    entry = manifest(tmp_path)[1]
    assert "score" not in entry
    assert entry["models"][0]["role"] == "comparison"


def test_real_liquidations_survive_the_way_into_the_page() -> None:
    data = reported_days()
    assert data.reported is not None
    packed = pack(data)["reported"]
    record = data.reported.record()
    assert {name for name in packed if not isinstance(packed[name], dict)} == {
        "source", "exchange", "own_exchange", "complete", "resolution_seconds", "factor",
    }  # fmt: skip
    for part in ("recorded", "long", "short"):
        for name, values in record[part].items():
            np.testing.assert_array_equal(unpack(packed[part][name]), values)
    assert np.isnan(unpack(packed["long"]["price"])).sum() == 1
    assert pack(sample())["reported"] is None


def test_the_parts_of_the_script_are_modules_in_the_order_of_their_imports() -> None:
    """One script is made of them, so no name may be there twice, and no import or export may be left in it."""
    folder = Path(page.__file__).parent / "static"
    assert sorted(page._SCRIPTS) == sorted(path.stem for path in folder.glob("*.js"))
    declared: dict[str, str] = {}
    for number, name in enumerate(page._SCRIPTS):
        text = (folder / f"{name}.js").read_text()
        assert max(map(len, text.splitlines())) <= 120, name
        imported = re.findall(r"^import .*|^\} from .*", text, re.M)
        assert set(page._IMPORT.findall(text)) <= set(page._SCRIPTS[:number]), f"{name}.js imports what comes later"
        assert len(page._IMPORT.findall(text)) == sum("from" in line for line in imported)
        for found in re.findall(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", text, re.M):
            assert declared.setdefault(found, name) == name, f"{found} is in {declared[found]}.js and {name}.js"
    script = live_page()["/page.js"][0].decode()
    assert not re.search(r"^(import|export)\b", script, re.M)


def test_a_base_stands_before_its_markets_with_what_each_has(tmp_path: Path) -> None:
    data = base_days()
    write_page(tmp_path, "BTCUSDT", {"turnover": sample()})
    write_page(tmp_path, "BTC", {"turnover": data})
    first, second = manifest(tmp_path)
    assert (first["symbol"], second["symbol"], "markets" in second) == ("BTC", "BTCUSDT", False)
    assert [market["symbol"] for market in first["markets"]] == list(BASE_MARKETS)
    packed = pack(data)
    for side in ("long", "short"):
        whole = unpack(packed[side]["volume"])
        parts = [unpack(market[side]) for market in packed["by_market"]]
        np.testing.assert_allclose(np.nansum(parts, axis=0), whole, rtol=1e-5)
        assert np.isnan(parts[2]).any(), "missing is not 0"
    # Without one of its markets it would be the sum of others: it goes, and the next run draws what is left.
    remove_symbol(tmp_path, "BYBIT_BTCUSDT")
    assert [entry["symbol"] for entry in manifest(tmp_path)] == ["BTCUSDT"]
    assert not (tmp_path / "BTC").exists()
