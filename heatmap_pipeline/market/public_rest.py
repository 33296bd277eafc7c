"""Asking an exchange's public REST: paced, tried again, and its refusals turned into sentences.

What is asked and what the answers mean is the business of the files of the exchanges, here and in `liquidations/`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from heatmap_pipeline.errors import printable
from heatmap_pipeline.market.exchange_json import parse_json, refuse_answer
from heatmap_pipeline.market.strict_json import shown
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.market.web import Patience, Reply, TryAgainError, WebClient, WebError

_LARGEST_ANSWER = 8 * 2**20

Parsed = TypeVar("Parsed")
Refusal = tuple[str, str]
"""An exchange's own code and words for what it does not want to answer."""


class PublicRest:
    """Asks one exchange, one request at a time; threads may share it.

    Args:
        base_url: of the exchange, or of what stands in for it.
        setting: where the user sets `base_url`, for messages.
        gap: seconds between two requests, at least.
        refusal: finds the exchange's own error in an answer, None if it is none.
        timeout: seconds of silence that are borne.
        total_time: seconds one request may take, tries and pauses included.
        retries: tries after the first one.
        backoff: seconds of the first pause between two tries.
        pause: what waits; for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        setting: str,
        gap: float,
        refusal: Callable[[Any], Refusal | None],
        timeout: float = 20.0,
        total_time: float = 300.0,
        retries: int = 5,
        backoff: float = 0.5,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._web = WebClient(base_url, setting=setting, timeout=timeout, retries=retries, backoff=backoff)
        self._gap, self._refusal, self._total_time, self._pause = gap, refusal, total_time, pause
        self._lock = threading.Lock()
        self._next = 0.0

    def close(self) -> None:
        """Close the connections; it may be used again afterwards."""
        self._web.close()

    def name(self, path: str) -> str:
        """Return how messages call what lies at `path`."""
        return self._web.name(path)

    def ask(
        self,
        path: str,
        query: Mapping[str, str | int],
        parse: Callable[[Any, int], Parsed],
        in_words: Callable[[str, Refusal], MarketError],
    ) -> Parsed:
        """Return what `parse` makes of the answer and of the instant it was given, microseconds since 1970.

        Args:
            path: below the base address.
            query: what stands behind the question mark.
            parse: reads one answer.
            in_words: makes an error of the exchange's own refusal of what lies at a place.

        Raises:
            MarketError: for an exchange that cannot be asked, refuses, or answers something else.
        """
        patience = Patience(self._total_time, self._pause)
        place = self.name(path)

        def take(reply: Reply) -> Parsed:
            answer = parse_json(reply.body(_LARGEST_ANSWER))
            refused = self._refusal(answer)
            if refused is not None:
                raise in_words(place, refused)
            return parse(answer, _answered(reply.headers.get("Date", "")))

        def pace() -> dict[str, str]:
            with self._lock:
                turn = max(self._next, time.monotonic())
                self._next = turn + self._gap
            if (wait := turn - time.monotonic()) > 0:
                patience.wait(wait)
            return {}

        try:
            return self._web.get(path, take, patience=patience, query=query, headers=pace)
        except WebError as error:
            try:
                refused = self._refusal(parse_json(error.body)) if error.body else None
            except TryAgainError:
                refused = None
            if refused is None:
                raise
            raise in_words(place, refused) from None


def as_refusal(code: Any, words: Any) -> Refusal:
    """Return an exchange's code and words as fit for a message."""
    return printable(str(code), 60), printable(str(words))


def as_instant(value: Any, place: str, row: int, name: str) -> int:
    """Return a time in seconds or milliseconds since 1970, told by magnitude, as microseconds."""
    whole = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 15 else value
    if type(whole) is not int or not (10**9 <= whole < 10**11 or 10**12 <= whole < 10**14):
        refuse_answer(place, row, f"{name} {shown(value)} is not in seconds or milliseconds since 1970")
    return whole * (10**6 if whole < 10**11 else 1000)


def _answered(date: str) -> int:
    """Return when an answer was given, by the server's clock where it tells it."""
    try:
        return round(parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp()) * 10**6
    except (TypeError, ValueError):
        return time.time_ns() // 1000
