"""From a plan to bytes: the cache first, else a worker, once for all who ask for the same; bounded in every direction.

What belongs here: what is shared by all requests of one server. What does not: HTTP (`app.py`, `answers.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar

from heatmap_pipeline import __version__
from heatmap_pipeline.api import encode
from heatmap_pipeline.api.cache import ByteCache
from heatmap_pipeline.api.descriptors import Reserve
from heatmap_pipeline.api.errors import ApiError
from heatmap_pipeline.api.memory import GIVE_BACK_BUSY_SECONDS, GIVE_BACK_SECONDS, give_back
from heatmap_pipeline.api.outgoing import Outgoing
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.api.publications import Publications
from heatmap_pipeline.api.turns import Ticket, Turns
from heatmap_pipeline.api.warming import warm_up
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.base import shown_first
from heatmap_pipeline.views.data import (
    NotAtHandError,
    SymbolData,
    Version,
    loaded_symbols,
    published_version,
    without_reading,
)
from heatmap_pipeline.views.replay import Books

Made = TypeVar("Made")

ENCODINGS = ("zstd", "gzip", "identity")
BOOKS_BYTES = 64 << 20
LEAST_OUTGOING = 64 << 20
"""Bytes that may be on their way, however small the cache is: one answer may have 27 MB."""


class Service:
    """Data, cache and workers of one server."""

    def __init__(self, settings: Settings, tell: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        warehouse = Warehouse(settings.home)
        self.reserve = Reserve()
        self.symbols = loaded_symbols(settings.api_symbols_mb << 20)

        def load(before: Version | None) -> Version:
            with self.reserve.lent():
                version = published_version(warehouse, before, settings.models, self.symbols)
            if before is None:
                warm_up(version)
            kept = {(symbol.name, symbol.fingerprint) for symbol in version.symbols.values()}
            self.symbols.keep_only(lambda key: key in kept)
            return version

        self.publications = Publications(warehouse.published, load, tell)
        self.cache = ByteCache(settings.api_cache_mb << 20, settings.api_cache_seconds)
        self._tidied, self._given_back = (0, 0), time.monotonic()
        self.books = Books(BOOKS_BYTES)
        self.outgoing = Outgoing(max(settings.api_cache_mb << 20, LEAST_OUTGOING))
        self._turns = Turns(settings.api_concurrency, settings.api_queue, self.outgoing.room_for)
        self.outgoing.freed = self._turns.advance
        self._workers = ThreadPoolExecutor(settings.api_concurrency, thread_name_prefix="answer")
        self._flights: dict[tuple[object, ...], tuple[asyncio.Task[Any], Ticket]] = {}
        self._ahead: asyncio.Task[None] | None = None

    @property
    def queue(self) -> tuple[int, int]:
        """Answers that are being made, and questions that wait for their turn."""
        return self._turns.taken, len(self._turns)

    async def close(self) -> None:
        """End the workers and close the data."""
        self._turns.close()
        await asyncio.gather(*(flight for flight, _ in self._flights.values()), return_exceptions=True)
        if self._ahead is not None:
            await self._ahead
        self._workers.shutdown()
        await self.publications.close()
        self.reserve.close()

    async def tidy(self) -> None:
        """Forget what is too old, and have nobody wait for who takes nothing."""
        self.cache.sweep()
        if len(self._turns):
            self.outgoing.make_room()
        done = self.cache.stats.misses, self.outgoing.taken
        pause = GIVE_BACK_BUSY_SECONDS if self._flights else GIVE_BACK_SECONDS
        if done != self._tidied and time.monotonic() - self._given_back > pause:
            self._tidied, self._given_back = done, time.monotonic()
            await asyncio.to_thread(give_back)

    async def body(
        self,
        version: Version | None,
        plan: Plan,
        encoding: str,
        *,
        client: str = "",
        gone: asyncio.Future[None] | None = None,
        thorough: bool = False,
    ) -> bytes:
        """Return the body of a plan in a content coding.

        Args:
            version: kept open while the body is made.
            plan: what to make.
            encoding: one of `ENCODINGS`.
            client: who asks; clients take turns.
            gone: done when who asks is not there any more; what nobody waits for is not begun.
            thorough: whether to compress as well as can be, and to keep it for as long as there is room.

        Raises:
            ViewError: what the plan raises.
            ApiError: 503 if too many bodies are being made.
        """
        key = (plan.fingerprint, plan.key)
        kept = self.cache.get((*key, encoding))
        stats = self.cache.stats
        if kept is not None:
            stats.hits += 1
            return kept

        if (*key, encoding) in self._flights:
            stats.coalesced += 1

        def make() -> Callable[[], bytes]:
            stats.misses += 1
            return self._maker(key, plan, encoding, thorough)

        def keep(body: bytes) -> None:
            self.cache.put((*key, encoding), body, lasting=thorough)

        return await self._shared((*key, encoding), version, make, keep, client, gone)

    async def read(
        self,
        version: Version,
        names: Sequence[str],
        *,
        client: str = "",
        gone: asyncio.Future[None] | None = None,
    ) -> dict[str, SymbolData]:
        """Read symbols that are not in memory, once for all who ask for the same; it takes its turn as a body does.

        Args:
            version: kept open meanwhile.
            names: of the symbols.
            client: as in `body`.
            gone: as in `body`.

        Raises:
            StoreError: if one of them cannot be read.
            ApiError: as `body`.
        """
        key = ("symbols", *((name, version.symbols[name].fingerprint) for name in names))
        return await self._shared(
            key, version, lambda: lambda: dict(zip(names, version.several(names), strict=True)), None, client, gone
        )

    def read_ahead(self) -> None:
        """Begin to read what the page shows first: a browser asks for it as soon as it has the page."""
        if self.publications.version is not None and self._ahead is None:
            version = self.publications.version.acquire()
            self._ahead = asyncio.get_running_loop().create_task(self._read_ahead(version))

    async def _read_ahead(self, version: Version) -> None:
        try:
            with without_reading({}):
                version.several(shown_first(version))
        except NotAtHandError as missing:
            with suppress(HeatmapError):  # what is wrong with it is said to who asks for it
                await self.read(version, missing.names)
        finally:
            version.release()
            self._ahead = None

    async def _shared(
        self,
        key: tuple[object, ...],
        version: Version | None,
        make: Callable[[], Callable[[], Made]],
        keep: Callable[[Made], None] | None,
        client: str,
        gone: asyncio.Future[None] | None,
    ) -> Made:
        """Return what a worker makes, or is making already for somebody else; `make` returns what it has to call."""
        under_way = self._flights.get(key)
        if under_way is not None:
            flight, ticket = under_way
            self._turns.join(ticket, client)
        else:
            try:
                ticket = self._turns.line_up(client)
            except ApiError:
                self.cache.stats.rejected += 1
                raise
            if version is not None:
                version.acquire()
            flight = asyncio.get_running_loop().create_task(self._fly(key, ticket, version, make(), keep))
            flight.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be there to see it
            self._flights[key] = flight, ticket
        ticket.askers += 1
        try:
            # Who leaves does not end it for the others.
            if gone is None:
                return await asyncio.shield(flight)
            await asyncio.wait((flight, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ticket.askers -= 1
        if not flight.done():
            if not ticket.askers and self._turns.withdraw(ticket):
                del self._flights[key]
            raise ApiError(503, "who asked is not there any more")
        made: Made = flight.result()
        return made

    def _maker(self, key: tuple[object, ...], plan: Plan, encoding: str, thorough: bool) -> Callable[[], bytes]:
        """Return what makes the bytes: from another coding of the same body if there is one, else from the start."""
        coded = plan.coded
        if coded is not None:
            return lambda: coded(encoding)
        for other in ENCODINGS:
            known = self.cache.get((*key, other))
            if known is not None:
                kept, coding = known, other
                return lambda: encode.compress(encode.decompress(kept, coding), encoding, thorough=thorough)
        return lambda: encode.compress(plan.make(), encoding, thorough=thorough)

    async def _fly(
        self,
        key: tuple[object, ...],
        ticket: Ticket,
        version: Version | None,
        make: Callable[[], Made],
        keep: Callable[[Made], None] | None,
    ) -> Made:
        try:
            try:
                await ticket.turn
            except ApiError:
                self.cache.stats.rejected += 1
                raise
            try:
                made = await asyncio.get_running_loop().run_in_executor(self._workers, make)
            finally:
                self._turns.done(ticket)
        finally:
            if self._flights.get(key, (None, None))[1] is ticket:  # or it was withdrawn, and may be asked for anew
                del self._flights[key]
            if version is not None:
                version.release()
        if keep is not None:
            keep(made)
        return made

    def report(self) -> dict[str, Any]:
        """Return what /cache/stats answers."""
        cache, version = self.cache, self.publications.version
        asked = cache.stats.hits + cache.stats.coalesced + cache.stats.misses
        return {
            "process": os.getpid(),
            **asdict(cache.stats),
            "hit_ratio": round((cache.stats.hits + cache.stats.coalesced) / asked, 6) if asked else 0.0,
            "entries": len(cache),
            "bytes": cache.size,
            "max_bytes": cache.max_bytes,
            "max_age_seconds": cache.max_age,
            "working": len(self._flights),
            "max_working": self.settings.api_concurrency,
            "max_waiting": self.settings.api_queue,
            "outgoing_bytes": self.outgoing.size,
            "symbols": len(self.symbols),
            "symbols_bytes": self.symbols.size,
            "symbols_max_bytes": self.symbols.max_bytes,
            "symbol_reads": self.symbols.reads,
            "books": len(self.books),
            "books_bytes": self.books.size,
            "version": version.name if version is not None else None,
            "loads": self.publications.loads,
        }


def etag(plan: Plan, encoding: str) -> str:
    """Return the entity tag of a plan's body in a content coding: equal bytes for equal tags.

    It names what the body is made from and the program that makes it, so it is known before the body.
    """
    text = repr((__version__, plan.fingerprint, plan.key))
    return f'"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}-{encoding}"'
