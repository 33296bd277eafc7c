"""The page that opens from disk: one index.html for all symbols, and per symbol the pictures and the numbers.

A page opened as file:// may not fetch, so the numbers of a symbol and model are a script that calls `heatmapData(...)`;
the page adds it when it is asked for. `columnar` is the shape of those numbers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.render.data import HeatmapData, RenderError
from heatmap_pipeline.render.files import replace_file
from heatmap_pipeline.render.picture import write_png

_SYMBOL = re.compile(r"[A-Z0-9]{2,30}")
_MODEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_META = "meta.json"
_TYPES = {"u1": "|u1", "u2": "<u2", "u4": "<u4", "f4": "<f4", "f8": "<f8"}


def write_page(folder: Path, symbol: str, models: Mapping[str, HeatmapData]) -> Path:
    """Write one symbol's pictures and numbers and bring the page up to date.

    Written are `SYMBOL/heatmap.png` (the first model, with which the page opens), `SYMBOL/heatmap-MODEL.png` and
    `SYMBOL/MODEL.js` for each model, then what the symbols share, last `index.html`, which lists every symbol in the
    folder. Each file is replaced whole. Models of this symbol that are not given leave the page.

    Args:
        folder: where index.html stands; made if missing.
        symbol: as the exchange writes it.
        models: what to show by name of the model; at least one.

    Returns:
        The path of index.html.

    Raises:
        RenderError: for a name that cannot be a file's, no model, or a damaged file of an earlier page.
    """
    _check_names(symbol, models)
    home = folder / symbol
    home.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, (name, data) in enumerate(models.items()):
        script = f"heatmapData({json.dumps(columnar(data), separators=(',', ':'))});\n".encode()
        replace_file(home / f"{name}.js", script)
        write_png(data, home / f"heatmap-{name}.png")
        picture = (home / f"heatmap-{name}.png").read_bytes()
        if number == 0:
            replace_file(home / "heatmap.png", picture)
        entries.append({"name": name, "data": _digest(script), "picture": _digest(picture)})
    replace_file(home / _META, json.dumps({"symbol": symbol, "models": entries}).encode())
    _write_shared(folder)
    for left in [*home.glob("*.js"), *home.glob("heatmap-*.png")]:
        if left.name.removeprefix("heatmap-").rsplit(".", 1)[0] not in models:
            left.unlink(missing_ok=True)
    return folder / "index.html"


def columnar(data: HeatmapData) -> dict[str, Any]:
    """Return `data` as the page reads it: JSON-able, with every array as base64 of little-endian numbers.

    An array is `{"type": "f4", "data": base64}`, type u1, u2, u4, f4 or f8. `long` and `short` are sparse, column by
    column: the filled rows of column t are `rows[starts[t]:starts[t + 1]]`, their volumes (USDT) the same slice of
    `values`. Times are milliseconds since 1970-01-01 UTC; a candle starts at `start + step * candle_seconds * 1000`.
    """
    start = int(data.times[0].astype("datetime64[ms]").astype(np.int64))
    column_of = (_milliseconds(data.consumed["timestamp"]) - start) // (data.interval_seconds * 1000)
    step_of = (_milliseconds(data.candles["open_time"]) - start) // (data.candle_seconds * 1000)
    return {
        "format": 1,
        "symbol": data.symbol,
        "model": data.model,
        "bucket": data.bucket,
        "interval_seconds": data.interval_seconds,
        "candle_seconds": data.candle_seconds,
        "start": start,
        "columns": len(data.times),
        "first_bucket": int(data.buckets[0]),
        "rows": len(data.buckets),
        "price": data.price,
        "as_of": int(data.as_of.astype("datetime64[ms]").astype(np.int64)),
        "coverage": data.coverage,
        "simulated": data.simulated,
        "provisional": data.provisional,
        "first_day": data.first_day.isoformat(),
        "last_day": data.last_day.isoformat(),
        "long": _sparse(data.long),
        "short": _sparse(data.short),
        "consumed": {
            "column": _packed(column_of, "u4"),
            "short": _packed(data.consumed["side"].to_numpy() == "short", "u1"),
            "price": _packed(data.consumed["price"], "f8"),
            "volume": _packed(data.consumed["volume"], "f4"),
        },
        "candles": {
            "step": _packed(step_of, "u4"),
            **{name: _packed(data.candles[name], "f8") for name in ("open", "high", "low", "close")},
            "volume": _packed(data.candles["volume"], "f4"),
        },
    }


def _check_names(symbol: str, models: Mapping[str, HeatmapData]) -> None:
    if not _SYMBOL.fullmatch(symbol):
        raise RenderError(f"symbol {symbol!r} cannot name a folder; write it as the exchange does, for example BTCUSDT")
    if not models:
        raise RenderError(f"models is empty for {symbol}; give at least one model to draw")
    for name in models:
        if not _MODEL.fullmatch(name):
            raise RenderError(f"model {name!r} cannot name a file; use a-z, 0-9, _ and -")


def _milliseconds(column: Any) -> npt.NDArray[np.int64]:
    return np.asarray(column).astype("datetime64[ms]").astype(np.int64)


def _packed(values: Any, kind: str) -> dict[str, str]:
    numbers = np.ascontiguousarray(np.asarray(values).astype(_TYPES[kind]))
    return {"type": kind, "data": base64.b64encode(numbers.tobytes()).decode("ascii")}


def _sparse(grid: npt.NDArray[np.float32]) -> dict[str, Any]:
    columns, rows = np.nonzero(grid.T)
    starts = np.searchsorted(columns, np.arange(grid.shape[1] + 1))
    return {
        "starts": _packed(starts, "u4"),
        "rows": _packed(rows, "u2"),
        "values": _packed(grid[rows, columns], "f4"),
    }


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def _write_shared(folder: Path) -> None:
    """Write what the symbols share: the libraries first, index.html, which names them, last."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - slow to import

    ours = files("heatmap_pipeline.render").joinpath("static")
    assets = {name: ours.joinpath(name).read_bytes() for name in ("page.js", "page.css")}
    assets["plotly.min.js"] = get_plotlyjs().encode()
    for name, content in assets.items():
        replace_file(folder / name, content)
    addresses = {name: f"{name}?v={_digest(content)}" for name, content in assets.items()}
    # Two symbols may come here at once. Each looks again after writing, so the last to write has seen both.
    written = None
    while (page := _index(addresses, _manifest(folder))) != written:
        replace_file(folder / "index.html", page)
        written = page


def _manifest(folder: Path) -> dict[str, Any]:
    symbols = []
    for path in sorted(folder.glob(f"*/{_META}")):
        try:
            meta = json.loads(path.read_text())
            symbol = meta["symbol"]
            models = [
                {
                    "name": entry["name"],
                    "data": f"{symbol}/{entry['name']}.js?v={entry['data']}",
                    "picture": f"{symbol}/heatmap-{entry['name']}.png?v={entry['picture']}",
                }
                for entry in meta["models"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise RenderError(f"{path} is damaged ({error}); delete that folder and render its symbol again") from None
        symbols.append({"symbol": symbol, "models": models})
    return {"symbols": symbols}


def _index(addresses: Mapping[str, str], manifest: Mapping[str, Any]) -> bytes:
    from jinja2 import Environment  # noqa: PLC0415

    source = files("heatmap_pipeline.render").joinpath("templates", "index.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return template.render(addresses=addresses, manifest=manifest).encode()
