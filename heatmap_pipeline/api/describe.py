"""What the routes are in words: for the schema, and /docs as a page that needs nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from heatmap_pipeline.api import schemas

TEXT = (
    "Levels are estimates from public data. Times are UTC and end with Z; an interval is named by its start, its state "
    "is the one at its end. Prices and volumes are in the quote asset of the symbol, which `units` names. "
    'Every refusal is {"detail": sentence}.'
)

_REFUSALS = {
    401: "The token is missing or wrong, where the server asks for one.",
    404: "There is no such symbol, model or time; the sentence says what there is.",
    405: "Another method than GET or HEAD.",
    413: "The answer would be too large; the sentence says what to change.",
    414: "The address is too long.",
    422: "A parameter is wrong; the sentence names it and what is allowed.",
    503: "Nothing is published yet, or the server is at its limit; try again after Retry-After seconds.",
}


def _route(summary: str, text: str, body: Any, *refusals: int) -> dict[str, Any]:
    """Return what FastAPI is told about a route besides its parameters."""
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "The answer.", "model": body}}
    responses[304] = {"description": "The client has it already (If-None-Match)."}
    for status in sorted({401, 405, 414, 422, 503, *refusals}):
        responses[status] = {"description": _REFUSALS[status], "model": schemas.Problem}
    return {"summary": summary, "description": text, "responses": responses, "response_model": None}


HEATMAP = _route(
    "The heatmap over time",
    "One snapshot per interval: by price bin what would be liquidated, and what was. Computed from the stored history "
    "by the model itself, so any interval and any leverage weights are exact. Intervals without candles are left out "
    "of `nested` and stay empty in `columns`. Of a base the sum of its markets' books.",
    schemas.Nested | schemas.Columns | schemas.BaseNested | schemas.BaseColumns,
    404,
    413,
)
MAP = _route(
    "The liquidation map",
    "The book after one candle, the newest by default: longs below the price and shorts above it by price bin, their "
    "sums from the price outward, the largest zones (`clusters`) and the nearest ones.",
    schemas.LiquidationMap | schemas.BaseLiquidationMap,
    404,
)
LOTS = _route(
    "The lots of a moment",
    "The book after one candle, the newest by default, by price bin and leverage: volume, and when the oldest part of "
    "it opened; with the zones of that moment and since when they stand.",
    schemas.LotsAtMoment | schemas.BaseLotsAtMoment,
    404,
)
LEVELS = _route("The newest levels", "Deprecated: use /liquidations/map.", schemas.OldLevels, 404)
KLINES = _route(
    "Candles",
    "Of the stored candles' own width or a multiple of it; of a base those of its market with most open interest.",
    schemas.Klines | schemas.BaseKlines,
    404,
)
SCORE = _route(
    "How true the map is",
    "Predicted liquidations held against reported ones, beside the simple rules that a map has to beat. "
    "Where there is no record of real liquidations, words that say so. `reference` is the published score of a set "
    "that anybody can score again.",
    schemas.Score,
    404,
)
ALERTS = _route(
    "The last alerts",
    "What the rules of HEATMAP_ALERTS told, newest first; empty where there are no rules.",
    schemas.Alerts,
    404,
)
SYMBOLS = _route("The symbols there are", "Changes its `version` with every publication.", schemas.Symbols)
MARKETS = _route(
    "All markets at a glance",
    "One row per symbol and its first model: price, the last 7 days, the nearest modelled zones above and below the "
    "price, the score, and whether it is stale. Nothing is replayed for it.",
    schemas.Markets,
)
HEALTH = _route(
    "Whether the data are fresh and whole",
    "503 with the same body where they are not. Needs no token.",
    schemas.Health,
)
HEALTH["responses"] = {
    200: {"description": "Fresh and whole.", "model": schemas.Health},
    503: {"description": "Stale or empty; `reason` says what to do.", "model": schemas.Health},
    **{status: HEALTH["responses"][status] for status in (405, 414, 422)},
}
READY = _route(
    "Whether requests can be answered",
    "200 while a publication is open and answers, however old it is: for what sends traffic. Needs no token.",
    schemas.Ready,
)
READY["responses"] = {
    200: {"description": "Ready.", "model": schemas.Ready},
    503: {"description": "Not ready; `reason` says why.", "model": schemas.Ready},
    **{status: READY["responses"][status] for status in (405, 414, 422)},
}
CACHE = _route("What the cache does", "Counts since the server was started.", schemas.CacheStats)

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}
code{font:0.9em ui-monospace,monospace;background:#eef1f5;padding:.1em .3em;border-radius:3px}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{border-bottom:1px solid #d5dae1;padding:.35rem .5rem;text-align:left;vertical-align:top}
h2{margin-top:2.5rem}.old{color:#666}
@media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#12151a}code{background:#232933}
td,th{border-color:#333b47}a{color:#8ab4ff}.old{color:#9aa3b0}}
"""


def docs_page(schema: dict[str, Any]) -> bytes:
    """Return the schema as one page of HTML, without scripts."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(schema['info']['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(schema['info']['title'])} {escape(schema['info']['version'])}</h1>",
        f"<p>{escape(schema['info']['description'])}</p>",
        "<p><a href='.'>The page</a> · <a href='openapi.json'>openapi.json</a></p>",
    ]
    for path, methods in schema["paths"].items():
        parts += _route_html(path, methods["get"], schema)
    return "\n".join([*parts, "</body></html>"]).encode()


def _route_html(path: str, route: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    old = " <span class='old'>(deprecated)</span>" if route.get("deprecated") else ""
    parts = [f"<h2><code>GET {escape(path)}</code>{old}</h2><p>{escape(route['description'])}</p>"]
    if route.get("parameters"):
        parts.append("<table><tr><th>parameter</th><th>allowed</th><th>default</th><th>meaning</th></tr>")
        for parameter in route["parameters"]:
            default = parameter["schema"].get("default")
            shown = (
                "required"
                if parameter["required"]
                else ""
                if default is None
                else f"<code>{escape(str(default))}</code>"
            )
            parts.append(
                f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(_allowed(parameter['schema']))}</td>"
                f"<td>{shown}</td><td>{escape(parameter.get('description', ''))}</td></tr>"
            )
        parts.append("</table>")
    parts.append("<table><tr><th>status</th><th>meaning</th><th>body</th></tr>")
    for status, answer in route["responses"].items():
        body = answer.get("content", {}).get("application/json", {}).get("schema", {})
        cells = (status, answer["description"], _fields(body, schema))
        parts.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return [*parts, "</table>"]


def _allowed(kind: dict[str, Any]) -> str:
    if "enum" in kind:
        return ", ".join(kind["enum"])
    bounds = [
        f"{word} {kind[key]:g}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in kind
    ]
    return " ".join([str(kind.get("format", kind.get("type", ""))), *bounds])


def _fields(body: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return the names of a body's fields; of several shapes one after the other."""
    shapes = []
    for shape in body.get("anyOf", [body]):
        name = shape.get("$ref", "").rsplit("/", 1)[-1]
        fields = schema["components"]["schemas"].get(name, {}).get("properties", {})
        if fields:
            shapes.append(f"{{{', '.join(fields)}}}")
    return " or ".join(shapes)
