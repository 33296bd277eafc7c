"""From bytes to HTTP: content coding, entity tags, what may be kept for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from heatmap_pipeline.api.clients import client_of
from heatmap_pipeline.api.errors import ApiError
from heatmap_pipeline.api.outgoing import Taker
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.api.service import ENCODINGS, Service, etag
from heatmap_pipeline.api.turns import RETRY_SECONDS
from heatmap_pipeline.commands import first_commands
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.views.data import NotAtHandError, SymbolData, Version, without_reading
from heatmap_pipeline.views.errors import ViewError

_PAST_SECONDS = 300


def best_encoding(accepted: str | None) -> str:
    """Return the content coding that a client prefers of those there are; identity where it says nothing we know.

    Example:
        >>> best_encoding("gzip, deflate, br, zstd"), best_encoding("zstd;q=0, gzip;q=0.5"), best_encoding("?;q=x")
        ('zstd', 'gzip', 'identity')
    """
    weights: dict[str, float] = {}
    for part in (accepted or "").split(","):
        name, _, rest = part.partition(";")
        quality = rest.strip().lower().removeprefix("q=") if rest.strip() else "1"
        try:
            weights[name.strip().lower()] = float(quality)
        except ValueError:
            continue
    found = [name for name in ENCODINGS[:-1] if 0 < weights.get(name, weights.get("*", 0.0)) <= 1]
    # Ours come in the order of what they cost; a client's order among them is a matter of taste.
    return found[0] if found else "identity"


def matches(header: str | None, tag: str) -> bool:
    """Return whether an If-None-Match names a tag.

    Example:
        >>> matches('"a", W/"b"', '"b"'), matches("*", '"b"'), matches(None, '"b"')
        (True, True, False)
    """
    names = [name.strip().removeprefix("W/") for name in (header or "").split(",")]
    return tag in names or "*" in names


async def answer(
    service: Service,
    request: Request,
    plan: Callable[[Version], Plan],
    more: Mapping[str, str] | None = None,
) -> Response:
    """Answer a request from the version that is newest now, and from no other.

    Args:
        service: data, cache and workers.
        request: for its headers.
        plan: what to make, in view of the version.
        more: more headers.

    Raises:
        ViewError: what the plan raises.
        ApiError: 503 where nothing is published or the server is full.
    """
    version = await service.publications.current()
    if version is None:
        raise ApiError(
            503,
            service.publications.problem or f"nothing is published yet; run {first_commands(service.settings.home)}",
            {"Retry-After": str(RETRY_SECONDS)},
        )
    try:
        planned = await _planned(service, request, version, plan)
        age = "no-cache" if planned.live else f"max-age={_PAST_SECONDS}"
        return await finish(service, request, version, planned, {"Cache-Control": age, **(more or {})})
    except (ApiError, ViewError):
        raise
    except HeatmapError as error:
        # The request was understood; what is stored contradicts itself or cannot be read.
        raise ApiError(503, f"the published data cannot answer this: {error}", {"Retry-After": "60"}) from error
    finally:
        version.release()


async def _planned(service: Service, request: Request, version: Version, plan: Callable[[Version], Plan]) -> Plan:
    """Plan at once where all it needs is in memory, else after it was read; what was read is held until then."""
    at_hand: dict[str, SymbolData] = {}
    while True:
        try:
            with without_reading(at_hand):
                return plan(version)
        except NotAtHandError as missing:
            client, gone = _who(request)
            at_hand |= await service.read(version, missing.names, client=client, gone=gone)


async def finish(
    service: Service,
    request: Request,
    version: Version | None,
    plan: Plan,
    headers: Mapping[str, str],
    *,
    media_type: str = "application/json",
    thorough: bool = False,
) -> Response:
    """Answer with the body of a plan, or that the client has it already."""
    encoding = best_encoding(request.headers.get("accept-encoding"))
    tag = etag(plan, encoding)
    all_headers = {"ETag": tag, "Vary": "Accept-Encoding", **headers}
    if matches(request.headers.get("if-none-match"), tag):
        service.cache.stats.not_modified += 1
        return Response(status_code=304, headers=all_headers)
    client, gone = _who(request)
    body = await service.body(version, plan, encoding, client=client, gone=gone, thorough=thorough)
    if below := _below(request):
        connection = below["connection"]
        taker = Taker(client, body, connection.takes_nothing, connection.end)
        service.outgoing.admit(taker)
        connection.hold(lambda: service.outgoing.release(taker))
    if encoding != "identity":
        all_headers["Content-Encoding"] = encoding
    return Response(body, 200, all_headers, media_type)


def _below(request: Request) -> dict[str, Any]:
    """Return what the server of ours below says of a request; nothing where there is none, as in tests."""
    below: dict[str, Any] = request.scope.get("extensions", {}).get("heatmap.connection") or {}
    return below


def _who(request: Request) -> tuple[str, asyncio.Future[None] | None]:
    """Return the client, and what is done when it is gone; without a server below a request is its address's."""
    if below := _below(request):
        return below["client"], below["connection"].gone
    return client_of(request.client.host if request.client else None), None
