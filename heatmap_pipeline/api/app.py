"""The routes: what is asked for, what answers it, and how both are described in /openapi.json and /docs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Route

from heatmap_pipeline import __version__
from heatmap_pipeline.api import describe
from heatmap_pipeline.api.answers import answer
from heatmap_pipeline.api.encode import dump
from heatmap_pipeline.api.errors import STATUS, ApiError
from heatmap_pipeline.api.health import health, readiness
from heatmap_pipeline.api.heatmap import plan_heatmap
from heatmap_pipeline.api.liquidation_map import plan_lots, plan_map
from heatmap_pipeline.api.listing import plan_alerts, plan_klines, plan_score, plan_symbols
from heatmap_pipeline.api.markets import plan_markets
from heatmap_pipeline.api.metrics import CONTENT_TYPE, Metrics
from heatmap_pipeline.api.pages import add_pages, make_pages
from heatmap_pipeline.api.parameters import (
    AlertsQuery,
    HealthQuery,
    HeatmapQuery,
    KlinesQuery,
    LevelsQuery,
    LotsQuery,
    MapQuery,
    ScoreQuery,
    sentence,
)
from heatmap_pipeline.api.security import Shield, TokenGate, problem
from heatmap_pipeline.api.service import Service
from heatmap_pipeline.api.traffic import Listener, Traffic
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.views.errors import ViewError

_DEPRECATED = {
    "Deprecation": "@1794787200",  # 2026-11-16: since then the map says the same and more
    "Link": '</liquidations/map>; rel="successor-version"',
}

_OLD_FIELDS = {
    "Warning": '299 - "max_pain is deprecated: it moves with within_percent; clusters say what stands where"'
}


def create_app(
    settings: Settings, *, tell: Callable[[str], None] | None = None, log: Listener | None = None
) -> FastAPI:
    """Return the endpoint over the published database of a home; it reads the file when it starts to serve.

    Args:
        settings: home, and everything that begins with `api_`.
        tell: is given a line whenever something else is served, or cannot be.
        log: is told of each request.
    """
    service = Service(settings, tell)
    metrics = Metrics(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(make_pages)  # once, and not while others wait
        watching = asyncio.create_task(service.publications.watch(service.tidy))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await service.close()

    app = FastAPI(
        title="Liquidation heatmap",
        version=__version__,
        summary="Estimated liquidation levels of crypto perpetuals, over time and by price.",
        description=describe.TEXT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=_middleware(settings, [metrics.count, *([log] if log is not None else [])]),
    )
    app.state.service = service
    router = _routes(service)
    app.include_router(router)
    add_pages(app, service)
    _add_metrics(app, metrics)
    metrics.routes = frozenset(route.path for route in [*router.routes, *app.routes] if isinstance(route, Route))
    _answer_errors(app)
    return app


def _middleware(settings: Settings, listeners: Sequence[Listener]) -> list[Middleware]:
    """Return what stands in the way of every request, the outermost first."""
    stack = [Middleware(Traffic, listeners=listeners), Middleware(Shield)]
    if settings.api_cors_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.api_cors_origins),
                allow_methods=["GET", "HEAD"],
                allow_headers=["Authorization", "If-None-Match"],
                expose_headers=["ETag", "Deprecation", "Link", "Retry-After", "Warning"],
            )
        )
    if settings.api_token is not None:
        token = settings.api_token.get_secret_value()
        stack.append(Middleware(TokenGate, token=token, open_paths=["/health", "/ready"]))
    return stack


def _routes(service: Service) -> APIRouter:
    router = APIRouter(default_response_class=Response)
    books = service.books

    @router.get("/liquidations/heatmap-timeseries", tags=["liquidations"], **describe.HEATMAP)
    async def heatmap_timeseries(request: Request, query: Annotated[HeatmapQuery, Query()]) -> Response:
        return await answer(service, request, lambda version: plan_heatmap(version, books, query))

    @router.get("/liquidations/map", tags=["liquidations"], **describe.MAP)
    async def liquidation_map(request: Request, query: Annotated[MapQuery, Query()]) -> Response:
        return await answer(service, request, lambda version: plan_map(version, books, query), _OLD_FIELDS)

    @router.get("/liquidations/lots", tags=["liquidations"], **describe.LOTS)
    async def lots(request: Request, query: Annotated[LotsQuery, Query()]) -> Response:
        return await answer(service, request, lambda version: plan_lots(version, books, query))

    @router.get("/liquidations/levels", tags=["liquidations"], deprecated=True, **describe.LEVELS)
    async def levels(request: Request, query: Annotated[LevelsQuery, Query()]) -> Response:
        asked = MapQuery(**query.model_dump())
        return await answer(service, request, lambda version: plan_map(version, books, asked, levels=True), _DEPRECATED)

    @router.get("/prices/klines", tags=["prices"], **describe.KLINES)
    async def klines(request: Request, query: Annotated[KlinesQuery, Query()]) -> Response:
        return await answer(service, request, lambda version: plan_klines(version, books, query))

    _add_service_routes(router, service)
    return router


def _add_service_routes(router: APIRouter, service: Service) -> None:
    """Add what is said of the map, of the markets and of the server itself."""
    settings, bare = service.settings, [Depends(_no_parameters)]

    @router.get("/score", tags=["service"], **describe.SCORE)
    async def score(request: Request, query: Annotated[ScoreQuery, Query()]) -> Response:
        return await answer(service, request, lambda version: plan_score(version, query))

    @router.get("/alerts", tags=["service"], **describe.ALERTS)
    async def alerts(request: Request, query: Annotated[AlertsQuery, Query()]) -> Response:
        return await answer(service, request, lambda version: plan_alerts(version, query))

    @router.get("/symbols", tags=["service"], dependencies=bare, **describe.SYMBOLS)
    async def symbols(request: Request) -> Response:
        return await answer(service, request, plan_symbols)

    @router.get("/markets", tags=["service"], dependencies=bare, **describe.MARKETS)
    async def markets(request: Request) -> Response:
        return await answer(service, request, lambda version: plan_markets(version, settings))

    @router.get("/health", tags=["service"], **describe.HEALTH)
    async def how_it_is(query: Annotated[HealthQuery, Query()]) -> Response:
        version = await service.publications.current()
        try:
            status, body = health(version, service.publications.problem, settings)
        finally:
            if version is not None:
                version.release()
        status = 200 if query.always_ok else status
        return Response(dump(body), status, {"Cache-Control": "no-store"}, "application/json")

    @router.get("/ready", tags=["service"], dependencies=bare, **describe.READY)
    async def whether_ready() -> Response:
        status, body = await readiness(service.publications)
        return Response(dump(body), status, {"Cache-Control": "no-store"}, "application/json")

    @router.get("/cache/stats", tags=["service"], dependencies=bare, **describe.CACHE)
    async def cache_stats() -> Response:
        return Response(dump(service.report()), 200, {"Cache-Control": "no-store"}, "application/json")


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """Add GET /metrics, which is no JSON and no part of the schema."""

    async def answer_metrics(request: Request) -> Response:
        await _no_parameters(request)
        connection = request.scope.get("extensions", {}).get("heatmap.connection", {}).get("connection")
        content = metrics.text(None if connection is None else connection.crowd)
        return Response(content, 200, {"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE})

    app.add_route("/metrics", answer_metrics, methods=["GET"], include_in_schema=False)


async def _no_parameters(request: Request) -> None:
    for name in request.query_params:
        raise ApiError(422, f"{ascii(name)[:80]} is no parameter here; there are none")


def _answer_errors(app: FastAPI) -> None:
    """Every refusal is `{"detail": sentence}`."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return problem(error.status, str(error), error.headers)

    @app.exception_handler(ViewError)
    async def no_view(_: Request, error: ViewError) -> Response:
        return problem(STATUS[error.kind], str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(422, sentence(error.errors(), _allowed(request)))

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return problem(404, f"there is nothing at {ascii(request.url.path)[:200]}; /docs lists what there is")
        if error.status_code == 405:
            return problem(405, "only GET and HEAD are answered here", {"Allow": "GET, HEAD"})
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def defect(_: Request, error: Exception) -> Response:
        return problem(500, f"a defect of this server ({type(error).__name__}); its log says more")


def _allowed(request: Request) -> Sequence[str]:
    """Return the names of the parameters that the route of a request knows."""
    dependant: Any = getattr(request.scope.get("route"), "dependant", None)
    fields = [field for parameter in getattr(dependant, "query_params", []) for field in _fields(parameter)]
    return fields or ["none"]


def _fields(parameter: Any) -> list[str]:
    names = getattr(parameter.field_info.annotation, "model_fields", None)
    # `symbols` last, which came later: the sentence begins as people's programs know it.
    return sorted(names, key=lambda name: name == "symbols") if names else [parameter.alias]
