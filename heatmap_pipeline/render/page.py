"""The page: one index.html for all symbols, opened from disk or served beside the read endpoint.

A page opened as file:// may not fetch, so there the numbers of a symbol and model are a script that calls
`heatmapData(...)`, and its scores one that calls `heatmapScore(...)`; the page adds them when they are asked for.
Served, the same page asks the endpoint for the same shape. `pack` makes that shape of a heatmap.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import remove_half_written, replace_file
from heatmap_pipeline.model.book import SIDE_NAMES, Lots
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.render.picture import write_png
from heatmap_pipeline.symbols import why_not_written
from heatmap_pipeline.views.book_map import lots_by_bin
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline.views.reported import SIDES

_MODEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_META = "meta.json"
_SCORE = "score"
"""Name of the script beside those of the models."""
_SCRIPTS = (
    "dom",
    "words",
    "bases",
    "parts",
    "leverage",
    "time",
    "timing",
    "source",
    "zones",
    "map",
    "moment",
    "relative",
    "lots",
    "colours",
    "marks",
    "traces",
    "chart",
    "tip",
    "pointer",
    "legend",
    "ladder",
    "export",
    "png",
    "address",
    "controls",
    "tiers",
    "exchanges",
    "player",
    "travel",
    "facts",
    "state",
    "loading",
    "score",
    "alerts",
    "main",
)
"""Parts of page.js in the order in which they are put together; each imports only from the ones before it."""
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z]+)\.js";\n', re.M)
_TYPES_IMPORT = re.compile(r"^/\*\* @import .* \*/\n", re.M)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.M)
_TYPES = {"u1": "|u1", "u2": "<u2", "u4": "<u4", "f4": "<f4", "f8": "<f8"}


class RenderError(HeatmapError):
    """Something that cannot be drawn; names the symbol or argument and what it needs."""


def write_page(
    folder: Path,
    symbol: str,
    models: Mapping[str, Columns],
    scores: Sequence[Mapping[str, Any]] = (),
    made_from: str = "",
) -> Path:
    """Write the pictures and numbers of one symbol, or of a base, and bring the page up to date.

    Written are `SYMBOL/heatmap.png` (the first model, with which the page opens), `SYMBOL/heatmap-MODEL.png` and
    `SYMBOL/MODEL.js` for each model, `SYMBOL/score.js` with the scores, then what the symbols share, last `index.html`,
    which lists every symbol in the folder. Each file is replaced whole. Models of this symbol that are not given leave
    the page.

    Args:
        folder: where index.html stands; made if missing.
        symbol: id of a market, or the name of a base.
        models: what to show by name of the model; at least one.
        scores: what /score answers of the symbol, one of each model.
        made_from: digest of all that this was made from, for `is_drawn`.

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
        script = f"heatmapData({json.dumps(pack(data), separators=(',', ':'))});\n".encode()
        replace_file(home / f"{name}.js", script)
        write_png(data, home / f"heatmap-{name}.png")
        picture = (home / f"heatmap-{name}.png").read_bytes()
        if number == 0:
            replace_file(home / "heatmap.png", picture)
        entries.append({"name": name, "role": _role(name), "data": _digest(script), "picture": _digest(picture)})
    script = f"heatmapScore({json.dumps(list(scores), separators=(',', ':'))});\n".encode()
    replace_file(home / f"{_SCORE}.js", script)
    meta = {"symbol": symbol, "score": _digest(script), "models": entries, "made_from": made_from}
    parts = next(iter(models.values())).meta.get("parts", ())
    if parts:
        meta["markets"] = [{name: part[name] for name in ("symbol", "title", "quote")} for part in parts]
    shared = {name: _digest(content) for name, content in _assets().items()}
    replace_file(home / _META, json.dumps({**meta, "shared": shared}).encode())
    _write_shared(folder)
    for left in [*home.glob("*.js"), *home.glob("heatmap-*.png")]:
        if left.name.removeprefix("heatmap-").rsplit(".", 1)[0] not in {*models, _SCORE}:
            left.unlink(missing_ok=True)
    remove_half_written(folder, home)
    return folder / "index.html"


def is_drawn(folder: Path, symbol: str, made_from: str) -> bool:
    """Whether the page shows a symbol as `write_page` would write it from inputs of that digest, byte for byte.

    Every file is read and held against the digest that was written beside it, and index.html is made anew.
    """
    home = folder / symbol
    try:
        meta = json.loads((home / _META).read_bytes())
        if not made_from or meta["made_from"] != made_from:
            return False
        wanted = {folder / name: digest for name, digest in meta["shared"].items()}
        wanted |= {home / f"{_SCORE}.js": meta["score"], home / "heatmap.png": meta["models"][0]["picture"]}
        for entry in meta["models"]:
            wanted |= {home / f"{entry['name']}.js": entry["data"]}
            wanted |= {home / f"heatmap-{entry['name']}.png": entry["picture"]}
        if any(_digest(path.read_bytes()) != digest for path, digest in wanted.items()):
            return False
        addresses = {name: _address(name, digest) for name, digest in meta["shared"].items()}
        return (folder / "index.html").read_bytes() == _index(addresses, _manifest(folder))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RenderError):
        return False


def remove_symbol(folder: Path, symbol: str) -> None:
    """Take a symbol out of the page: its folder goes, and index.html lists the others; nothing where it is not there.

    Raises:
        RenderError: for a name that cannot be a folder's, or a damaged file of an earlier page.
    """
    _check_symbol(symbol)
    home = folder / symbol
    for base in folder.glob(f"*/{_META}"):  # a sum that it is part of is another one without it
        if _is_market_of(symbol, base):
            base.unlink()
            shutil.rmtree(base.parent, ignore_errors=True)
    # What lists it goes first: a kill in between leaves files that nobody sees, and they go the next time.
    (home / _META).unlink(missing_ok=True)
    if (folder / "index.html").exists():
        _write_shared(folder)
    if home.is_dir():
        shutil.rmtree(home)


def _is_market_of(symbol: str, meta: Path) -> bool:
    try:
        markets = json.loads(meta.read_bytes()).get("markets", ())
        return any(market["symbol"] == symbol for market in markets)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def live_page() -> dict[str, tuple[bytes, str]]:
    """Return the page as a server shows it, which gets its numbers from the endpoint on the same origin.

    Returns:
        Content and media type by path: "/", "/page.js", "/page.css" and "/plotly.min.js". "/" names the others with a
        `?v=` that changes with their content, so those may be kept for ever, and relative to itself, so the page works
        below any prefix. The page runs under a policy of `script-src 'self'`, without inline scripts and without eval.
    """
    assets = _assets()
    index = _index(_addresses(assets), {"live": True})
    types = {"page.js": "text/javascript", "page.css": "text/css", "plotly.min.js": "text/javascript"}
    served = {f"/{name}": (content, f"{types[name]}; charset=utf-8") for name, content in assets.items()}
    return {"/": (index, "text/html; charset=utf-8"), **served}


def pack(data: Columns) -> dict[str, Any]:
    """Return the endpoint's `format=columns` with its arrays packed as base64 of little-endian numbers.

    An array is `{"type": "f4", "data": base64}`, type u1, u2, u4, f4 or f8; the rising `time` of cells is
    `{"runs": array}`, in which the number i stands `runs[i]` times. Volumes of cells and candles are rounded to 32
    bits, in which the page keeps them anyhow. `lots` are those of the newest column, as /liquidations/lots has them,
    for there is nobody to ask: null where they are not known.
    """
    record = data.record()
    for name in ("timestamps", "prices"):
        record[name] = _packed(record[name], "f8")
    record["located_shares"] = _packed(record["located_shares"], "f4")
    for name in data.cells:
        cells = record[name]
        runs = np.bincount(cells["time"], minlength=len(data.times))
        record[name] = {
            "time": {"runs": _packed(runs, "u2")},
            "price": _packed(cells["price"], "u2"),
            "volume": _packed(cells["volume"], "f4"),
        }
    bars = record["candles"]
    for name in ("open_time", "open", "high", "low", "close"):
        bars[name] = _packed(bars[name], "f8")
    bars["volume"] = _packed(bars["volume"], "f4")
    for sums in record["modelled"].values():
        for name, column in sums.items():
            sums[name] = _packed(column, {"time": "u2", "lots": "u4"}.get(name, "f4"))
    if record["reported"] is not None:
        _pack_reported(record["reported"])
    for zones in record["zones"].values():
        for name, column in zones.items():
            zones[name] = _packed(column, "u2" if name == "time" else "f8")
    for market in record.get("by_market", ()):
        _pack_market(market)
    record["lots"] = None if data.lots is None else _packed_lots(data.lots, round(data.bin_size * 1e8))
    return record


def _pack_market(record: dict[str, Any]) -> None:
    """Pack what one market of a base has; what is missing is NaN."""
    for name in (*SIDES, "located_shares"):
        record[name] = _packed(record[name], "f4")
    record["zones"] = {side: _packed(volumes, "f8") for side, volumes in record["zones"].items()}
    for name in ("consumed_long", "consumed_short", "modelled", "reported"):  # which the page has of a market alone
        del record[name]


def _packed_lots(lots: Lots, height: int) -> dict[str, Any]:
    return {
        name: {
            part: _packed(column, "f4" if part in {"leverage", "volume"} else "f8")
            for part, column in lots_by_bin(lots, side, height).items()
        }
        for side, name in SIDE_NAMES.items()
    }


def _pack_reported(record: dict[str, Any]) -> None:
    for end in ("from", "to"):
        record["recorded"][end] = _packed(record["recorded"][end], "f8")
    for side in SIDES:
        sums = record[side]
        sums["time"] = _packed(sums["time"], "u2")
        for name in ("price", "place", "volume", "quantity"):
            sums[name] = _packed(sums[name], "f8")


def _check_symbol(symbol: str) -> None:
    if why_not_written(symbol):
        raise RenderError(f"symbol {symbol!r} cannot name a folder; write it as the exchange does, for example BTCUSDT")


def _check_names(symbol: str, models: Mapping[str, Columns]) -> None:
    _check_symbol(symbol)
    if not models:
        raise RenderError(f"models is empty for {symbol}; give at least one model to draw")
    for name in models:
        if not _MODEL.fullmatch(name) or name == _SCORE:
            raise RenderError(f"model {name!r} cannot name a file; use a-z, 0-9, _ and -, and not {_SCORE}")


def _role(model: str) -> str:
    """Return what a model is for; one that is no longer among ours is there to look at."""
    return MODELS[model].role if model in MODELS else "default"


def _packed(values: Any, kind: str) -> dict[str, str]:
    numbers = np.ascontiguousarray(np.asarray(values).astype(_TYPES[kind]))
    return {"type": kind, "data": base64.b64encode(numbers.tobytes()).decode("ascii")}


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def _assets() -> dict[str, bytes]:
    """What every page needs beside index.html: our script, put together from its parts, our style, and the library."""
    render = files("heatmap_pipeline.render")
    ours = render.joinpath("static")
    parts = [ours.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    # A page opened as file:// may not load modules: they become one function, and share their names with nothing else.
    script = '"use strict";\n\n(() => {\n' + "\n".join(map(_without_imports, parts)) + "})();\n"
    return {
        "page.js": script.encode(),
        "page.css": ours.joinpath("page.css").read_bytes(),
        "plotly.min.js": render.joinpath("vendor", "plotly-finance.min.js").read_bytes(),
    }


def _without_imports(module: str) -> str:
    """Return a module as a part of one script that holds what it imports before it."""
    for left_out in (_IMPORT, _TYPES_IMPORT, _EXPORT):
        module = left_out.sub("", module)
    return module


def _addresses(assets: Mapping[str, bytes]) -> dict[str, str]:
    return {name: _address(name, _digest(content)) for name, content in assets.items()}


def _address(name: str, digest: str) -> str:
    return f"{name}?v={digest}"


def _write_shared(folder: Path) -> None:
    """Write what the symbols share: the libraries first, index.html, which names them, last."""
    assets = _assets()
    for name, content in assets.items():
        replace_file(folder / name, content)
    addresses = _addresses(assets)
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
            address = quote(symbol)  # a folder's name as an address says it
            models = [
                {
                    "name": entry["name"],
                    "role": entry.get("role") or _role(entry["name"]),
                    "data": f"{address}/{entry['name']}.js?v={entry['data']}",
                    "picture": f"{address}/heatmap-{entry['name']}.png?v={entry['picture']}",
                }
                for entry in meta["models"]
            ]
        except FileNotFoundError:  # its symbol is forgotten this moment
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise RenderError(f"{path} is damaged ({error}); delete that folder and render its symbol again") from None
        more = {"score": f"{address}/{_SCORE}.js?v={meta['score']}"} if "score" in meta else {}
        if "markets" in meta:
            more = {"markets": meta["markets"]}
        symbols.append({"symbol": symbol, "models": models, **more})
    return {"live": False, "symbols": symbols}


def _index(addresses: Mapping[str, str], manifest: Mapping[str, Any]) -> bytes:
    from jinja2 import Environment  # noqa: PLC0415

    source = files("heatmap_pipeline.render").joinpath("templates", "index.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return template.render(addresses=addresses, manifest=manifest).encode()
