"""What people open in a browser: the live page, the page of all markets, /docs and the schema that /docs is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, partial

from fastapi import FastAPI, Request
from starlette.responses import Response

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.answers import finish
from heatmap_pipeline.api.describe import docs_page
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.api.security import PAGE_POLICY
from heatmap_pipeline.api.service import ENCODINGS, Service
from heatmap_pipeline.render.overview import MANY, overview_page
from heatmap_pipeline.render.page import live_page

_A_YEAR = "public, max-age=31536000, immutable"
_KEPT = frozenset({"/page.js", "/page.css", "/plotly.min.js", "/overview.js", "/overview.css"})
"""What may be kept for ever where its address names its content."""


@cache
def page_files() -> dict[str, tuple[bytes, str, str]]:
    """Return content, media type and hash by path."""
    files = {**live_page(), **overview_page()}
    files["/map"] = files["/"]  # where the map of a market is, whatever is shown first
    return {path: (content, kind, encode.digest(content)) for path, (content, kind) in files.items()}


@cache
def _coded(path: str, encoding: str) -> bytes:
    """Return a file in a content coding, compressed as well as can be."""
    return encode.compress(page_files()[path][0], encoding, thorough=True)


def make_pages() -> None:
    """Make and compress what a browser asks for first: it would take as long as its first numbers."""
    for path in page_files():
        _coded(path, ENCODINGS[0])


def add_pages(app: FastAPI, service: Service) -> None:
    """Add the routes; none of them is part of the schema."""

    async def page(request: Request) -> Response:
        path = request.url.path
        kept = _A_YEAR if "v" in request.query_params and path in _KEPT else "no-cache"
        return await _shown(service, request, *page_files()[path], kept, partial(_coded, path))

    async def first_page(request: Request) -> Response:
        version = service.publications.version
        many = version is not None and len(version.symbols) > MANY
        path = "/overview" if many else "/"
        if not many:
            service.read_ahead()
        return await _shown(service, request, *page_files()[path], "no-cache", partial(_coded, path))

    @cache
    def schema() -> tuple[bytes, str, str]:
        content = encode.dump(app.openapi())
        return content, "application/json", encode.digest(content)

    @cache
    def docs() -> tuple[bytes, str, str]:
        content = docs_page(app.openapi())
        return content, "text/html; charset=utf-8", encode.digest(content)

    async def schema_page(request: Request) -> Response:
        return await _shown(service, request, *schema(), "no-cache")

    async def docs_route(request: Request) -> Response:
        return await _shown(service, request, *docs(), "no-cache")

    routes: dict[str, Callable[[Request], Awaitable[Response]]] = {"/openapi.json": schema_page, "/docs": docs_route}
    routes |= {"/": first_page, "/map": page, "/overview": page, **dict.fromkeys(_KEPT, page)}
    for path, function in routes.items():
        app.add_route(path, function, methods=["GET"], include_in_schema=False)


async def _shown(
    service: Service,
    request: Request,
    content: bytes,
    media_type: str,
    fingerprint: str,
    kept: str,
    coded: Callable[[str], bytes] | None = None,
) -> Response:
    plan = Plan(("page", request.url.path), fingerprint, lambda: content, live=False, coded=coded)
    headers = {"Cache-Control": kept, "Content-Security-Policy": PAGE_POLICY}
    return await finish(service, request, None, plan, headers, media_type=media_type, thorough=True)
