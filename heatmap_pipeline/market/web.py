"""One way to ask a web server for something: politely, within limits, and with errors that people can act on.

What is asked for, and what the answer means, is the business of `download.py` (archive files) and `exchange.py` (REST).
Addresses in messages never show a user name, a password or the path of a private mirror.
"""

from __future__ import annotations

import calendar
import email.utils
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NoReturn, TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import requests
import urllib3
from urllib3.util.retry import Retry

import heatmap_pipeline
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.market.watchdog import WatchedAdapter, watched

MAX_REDIRECTS = 5

LONGEST_BACKOFF = 30.0
"""Seconds between two tries where the server does not say how long to wait."""

QUIET_SECONDS = 10.0
"""Seconds of tries and pauses after which a server that is asked over and over is named, and then once in that time."""

UNSAID_BAN = 600.0
"""Seconds that a ban lasts of which the server does not say when it ends; the exchange's shortest takes two minutes."""

_BLOCK = 1 << 16
_BUSY = frozenset({408, 418, 425, 429})  # and every 5xx
_BANNED_UNTIL = re.compile(rb"banned until (\d{13})\b", re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
CLOSED = frozenset({202, 403, 451})
"""Statuses of a server that does not serve this place; 202 is how a firewall before it puts a riddle to browsers."""
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_SCHEMES = ("http", "https")

_log = logging.getLogger(__name__)

Taken = TypeVar("Taken")


class WebError(MarketError):
    """A server that did not give what was asked for, after all that could be tried.

    Attributes:
        status: of the answer; None if there was none.
        body: the beginning of an answer that was refused for its status.
        wait: seconds that the server asked to be left alone, longer than it could be waited for; None if it did not.
    """

    temporary = True

    def __init__(
        self, message: str, *, status: int | None = None, body: bytes = b"", wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.wait = wait


class TryAgainError(Exception):
    """What went wrong with one try of several; `wait` is what the server asked for, in seconds."""

    def __init__(self, cause: str, *, wait: float | None = None, status: int | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.wait = wait
        self.status = status


class Patience:
    """The time that one call may take in all, over every request, try and pause, in any number of threads.

    Args:
        seconds: until it ends.
        pause: what waits; `None` waits in a way that `stop` ends at once.
    """

    def __init__(self, seconds: float, pause: Callable[[float], object] | None = None) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait

    @property
    def left(self) -> float:
        """Seconds left, at least 0; 0 once it was stopped."""
        return 0.0 if self._stopped.is_set() else max(0.0, self._end - time.monotonic())

    def stop(self) -> None:
        """End it now: another thread failed, and what is under way is not wanted any more."""
        self._stopped.set()

    def wait(self, seconds: float) -> None:
        """Wait, no longer than is left."""
        self._pause(min(seconds, self.left))


class Reply:
    """An answer whose status is wanted; its body is read by who asked.

    Attributes:
        status: of the answer.
        headers: of the answer, found in any case of letters.
    """

    def __init__(self, response: requests.Response, where: str, patience: Patience) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._where = where
        self._patience = patience

    def blocks(self, limit: int) -> Iterator[bytes]:
        """Yield the body as it comes.

        Raises:
            WebError: if it is larger than `limit` bytes or the time is over.
            TryAgainError: if it breaks off.
        """
        encoded = "Content-Encoding" in self.headers
        declared = self.headers.get("Content-Length", "")
        expected = int(declared) if _LENGTH.fullmatch(declared) and not encoded else None
        if expected is not None and expected > limit:
            self._too_large(limit)
        size = 0
        # read1 hands over what is there: a server that drips byte by byte cannot outlast the time limit.
        while block := self._read1():
            size += len(block)
            if size > limit:
                self._too_large(limit)
            yield block
            if not self._patience.left:
                raise _out_of_time(self._where, self._patience, "was still sending")
        if expected is not None and size < expected:
            raise TryAgainError(f"the connection was cut after {size} of {expected} bytes")
        if expected is None and not self._patience.left:  # shut when the time was over, which looks like an end
            raise _out_of_time(self._where, self._patience, "was still sending")

    def body(self, limit: int) -> bytes:
        """Return the whole body; raises as `blocks`."""
        return b"".join(self.blocks(limit))

    def _read1(self) -> bytes:
        try:
            return self._response.raw.read1(_BLOCK, decode_content=True) or b""
        except urllib3.exceptions.TimeoutError:
            raise TryAgainError("it went silent in the middle of its answer") from None
        except urllib3.exceptions.DecodeError:
            raise TryAgainError("its answer is compressed and damaged") from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise TryAgainError("the connection was cut in the middle of its answer") from None

    def _too_large(self, limit: int) -> NoReturn:
        raise WebError(
            f"{self._where}: the answer is larger than {limit} bytes, which no right answer is; see what stands "
            "between here and the server",
            status=self.status,
        )


class WebClient:
    """Asks one server, over and over if need be; threads may share it.

    Tries again after a connection that cannot be made, hangs or is cut, after 408, 418, 425, 429 and 5xx: as late as
    `Retry-After` says (then every thread waits), else after a pause that doubles, with jitter. Where that lasts, a
    warning says so, for all threads together one in `QUIET_SECONDS`. Follows redirects within http and https, never
    from https to http. Proxies (SOCKS too) and certificates are set the usual way
    (HTTPS_PROXY, ALL_PROXY, REQUESTS_CA_BUNDLE).

    Args:
        base_url: everything that is asked for lies below it; may hold a path, a user name and a password.
        setting: where the user sets `base_url`, for messages.
        timeout: seconds of silence that are borne.
        retries: tries after the first one.
        backoff: seconds of the first pause.
        connections: threads that will use it.

    Raises:
        MarketError: for an address that is none.

    Example:
        >>> client = WebClient("https://data.binance.vision", setting="HEATMAP_ARCHIVE_URL")
        >>> client.name("data/a.zip")
        'data.binance.vision/data/a.zip'
    """

    def __init__(
        self,
        base_url: str,
        *,
        setting: str,
        timeout: float = 30.0,
        retries: int = 5,
        backoff: float = 0.5,
        connections: int = 4,
    ) -> None:
        self._base = _checked(base_url, setting)
        self._url = base_url.rstrip("/") + "/"
        self._setting = setting
        self._timeout = timeout
        self._retries = retries
        self._backoff = backoff
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"heatmap-pipeline/{heatmap_pipeline.__version__}"
        # The size and the ranges of files are counted in the bytes that are stored.
        self._session.headers["Accept-Encoding"] = "identity"
        adapter = WatchedAdapter(pool_connections=2, pool_maxsize=max(connections, 1), max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._turn = threading.Lock()
        self._not_before = 0.0
        self._said_until = 0.0

    def __enter__(self) -> WebClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may be used again afterwards."""
        self._session.close()

    def name(self, path: str) -> str:
        """Return how messages call what lies at `path`."""
        port = f":{self._base.port}" if self._base.port else ""
        return f"{self._base.hostname}{port}/{path.lstrip('/')}"

    def get(
        self,
        path: str,
        take: Callable[[Reply], Taken],
        *,
        patience: Patience,
        query: Mapping[str, str | int] | None = None,
        headers: Callable[[], Mapping[str, str]] = dict,
        accept: frozenset[int] = frozenset({200}),
    ) -> Taken:
        """Ask until `take` could make something of an answer, and return that.

        Args:
            path: below the base address.
            take: reads one answer; may raise `TryAgainError`, and is called again for each try.
            patience: the time that is left.
            query: what stands behind the question mark.
            headers: called before each try.
            accept: the statuses that `take` knows.

        Raises:
            WebError: when nothing more can be tried; says what was asked for, what happened and what to do.
        """
        where = self.name(path)
        begun, tries = time.monotonic(), 0
        while True:
            self._wait_for_turn(where, patience)
            asked_with = headers()
            try:
                with watched(patience.left):
                    return self._try(path, where, take, patience, query, asked_with, accept)
            except TryAgainError as error:
                if not patience.left:
                    raise _out_of_time(where, patience, error.cause) from None
                tries += 1
                if tries > self._retries:
                    raise WebError(
                        f"{where}: {error.cause}, {tries} times; try again later, or set {self._setting} to another "
                        "address",
                        status=error.status,
                    ) from None
                self._put_off(where, error, tries, patience, begun)

    def _wait_for_turn(self, where: str, patience: Patience) -> None:
        """Wait while the server has asked for a pause, whoever it told so."""
        with self._turn:
            pause = self._not_before - time.monotonic()
        if pause > 0:
            if pause > patience.left:
                raise _out_of_time(where, patience, f"has asked to be left alone for {pause:.0f} s")
            patience.wait(pause)
        if not patience.left:
            raise _out_of_time(where, patience, "has not been asked yet")

    def _put_off(self, where: str, error: TryAgainError, tries: int, patience: Patience, begun: float) -> None:
        """Wait before the next try, or set the time before which no thread asks again."""
        pause = error.wait
        if pause is None:
            pause = min(self._backoff * 2 ** (tries - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.0)
        if pause >= patience.left:
            then = datetime.now(UTC) + timedelta(seconds=pause)
            raise _out_of_time(
                where,
                patience,
                f"{error.cause}; the next try would be in {pause:.0f} s, at {then:%Y-%m-%d %H:%M:%S} UTC",
                error,
            ) from None
        with self._turn:
            until = time.monotonic() + pause
            lasts = until - max(begun, self._said_until) > QUIET_SECONDS
            self._said_until = until if lasts else self._said_until
        if lasts:
            again = f"trying again in {pause:.0f} s ({tries + 1} of {self._retries + 1})"
            _log.warning("%s: %s; %s", where, error.cause, again)
        if error.wait is None:
            patience.wait(pause)
        else:
            with self._turn:
                self._not_before = max(self._not_before, time.monotonic() + pause)

    def _try(
        self,
        path: str,
        where: str,
        take: Callable[[Reply], Taken],
        patience: Patience,
        query: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
        accept: frozenset[int],
    ) -> Taken:
        url = urljoin(self._url, quote(path.lstrip("/")))  # a symbol may be written in any alphabet
        for _ in range(MAX_REDIRECTS + 1):
            with self._send(url, where, query, headers, min(self._timeout, patience.left)) as response:
                status = response.status_code
                if status < 200:
                    # The answer itself may still come, and must not be taken for that to the next request.
                    self._session.close()
                    raise TryAgainError(f"the server announced its answer ({status}) instead of giving it")
                if status in accept:
                    return take(Reply(response, where, patience))
                if status not in _REDIRECTS:
                    _refuse_status(Reply(response, where, patience), where, self._setting)
                url, query = self._follow(url, response.headers.get("Location", ""), where), None
        raise WebError(f"{where}: redirects more than {MAX_REDIRECTS} times; check {self._setting}")

    def _send(
        self,
        url: str,
        where: str,
        query: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> requests.Response:
        try:
            return self._session.get(
                url, params=query, headers=dict(headers), stream=True, allow_redirects=False, timeout=max(timeout, 0.01)
            )
        except requests.exceptions.SSLError:
            raise WebError(
                f"{where}: its certificate cannot be verified; behind a proxy of a company set REQUESTS_CA_BUNDLE to "
                "the file of its certificates"
            ) from None
        except requests.exceptions.ProxyError:
            raise TryAgainError("the proxy (HTTPS_PROXY, ALL_PROXY) cannot be reached") from None
        except requests.exceptions.Timeout:
            raise TryAgainError(f"no answer within {timeout:.0f} s") from None
        except requests.exceptions.ConnectionError as error:
            words = repr(error)
            cause = "the connection was refused or cut"
            if "SOCKS" in words:
                cause = "the SOCKS proxy (HTTPS_PROXY, ALL_PROXY), or the server through it, cannot be reached"
            elif "NameResolution" in words:
                cause = "its name cannot be resolved (no network?)"
            raise TryAgainError(cause) from None
        # A host name that cannot be encoded, or a port beyond all ports, is found out only here.
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError, OverflowError) as error:
            wrong = _wrong_proxy(url) or f"cannot be asked for ({type(error).__name__}); check {self._setting}"
            raise WebError(f"{where}: {wrong}") from None

    def _follow(self, url: str, location: str, where: str) -> str:
        try:
            target = urlsplit(urljoin(url, location))
            _ = target.port
        except ValueError:
            target = urlsplit("")
        allowed = _SCHEMES if urlsplit(url).scheme == "http" else ("https",)
        if not location or target.scheme not in allowed or not target.hostname:
            raise WebError(
                f"{where}: redirects to an address that is not followed "
                f"({target.scheme or 'none'}://{target.hostname or ''}); check {self._setting}"
            )
        return target.geturl()


def proxy_of(url: str) -> str | None:
    """Return the proxy that a request or websocket goes through, by the variables of the machine; None is none.

    Args:
        url: of the kind https://host/path or wss://host/path.
    """
    web = f"http{url.removeprefix('ws')}" if url.startswith("ws") else url
    proxy: str | None = requests.utils.select_proxy(web, requests.utils.get_environ_proxies(web))
    return proxy


def _wrong_proxy(url: str) -> str:
    """Say what is wrong with how the proxy of an address is written, without what may be secret in it; '' is nothing.

    Desktops are known to set `socks://`, which says nothing of the version.
    """
    proxy = proxy_of(url)
    try:
        parts = urlsplit(proxy or "http://none")
        if parts.scheme in _PROXY_SCHEMES and parts.hostname:
            return ""
        written = f"{parts.scheme}://..."
    except ValueError:
        written = "..."
    kinds = "socks5h://HOST:PORT or http://HOST:PORT"
    return f"the proxy is written {written}, which is no address of one; set HTTPS_PROXY or ALL_PROXY to {kinds}"


def web_page(beginning: bytes) -> bool:
    """Whether a body is a page for people (or an XML error), which neither a zip, a checksum nor JSON begins like."""
    return beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def _checked(base_url: str, setting: str) -> SplitResult:
    try:
        base = urlsplit(base_url)
        right = base.scheme in _SCHEMES and bool(base.hostname) and not base.query and not base.fragment
        _ = base.port
    except ValueError:
        right = False
    if not right:
        raise MarketError(f"{setting} is not an address of the kind https://host/path; correct it")
    return base


def _refuse_status(reply: Reply, where: str, setting: str) -> NoReturn:
    """Raise for a status that nobody wanted: once more later, or never."""
    status = reply.status
    wait = _retry_after(reply.headers.get("Retry-After"))
    if status in (418, 429):
        wait = max((seconds for seconds in (wait, _banned_for(reply)) if seconds is not None), default=None)
    if status == 418 and wait is None:
        raise WebError(
            f"{where}: the server has banned this address for asking too often (418) and does not say for how long; "
            "wait some minutes before the next run",
            status=status,
            wait=UNSAID_BAN,
        )
    if status in _BUSY or status >= 500:
        why = {418: "banned for asking too often (418)", 429: "asked too often (429)"}
        raise TryAgainError(why.get(status, f"the server answered {status}"), wait=wait, status=status)
    advice = {
        401: f"give the user name and password of the mirror in {setting}",
        403: f"the server refuses this address or its path; check {setting}, a proxy or a firewall in between",
        404: f"there is nothing at this path; check {setting}",
        407: "the proxy wants a user name and a password: put them into HTTPS_PROXY",
        451: f"the exchange does not serve the place this runs at; set {setting} to a server that may be used",
    }
    body = _refusal(reply)
    raise WebError(
        f"{where}: the server answered {status}; {advice.get(status, f'check {setting}')}", status=status, body=body
    )


def _retry_after(value: str | None) -> float | None:
    """Return the seconds a server asks to be left alone, at most a day; None if it does not say so in a known way."""
    if value is None:
        return None
    try:
        return Retry(retry_after_max=86400).parse_retry_after(value)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def _refusal(reply: Reply) -> bytes:
    try:
        return reply.body(1 << 16)
    except (TryAgainError, WebError):
        return b""  # the status says enough


def _banned_for(reply: Reply) -> float | None:
    """Return the seconds until the instant that the words of a ban name; None if they name none, or one long past.

    The server's own Date counts as now, where it gives one: the clock of this machine may be wrong.
    """
    match = _BANNED_UNTIL.search(_refusal(reply))
    if match is None:
        return None
    date = email.utils.parsedate(reply.headers.get("Date", ""))
    now = calendar.timegm(date) if date is not None else time.time()
    seconds = int(match[1]) / 1000 - now
    return seconds + 1 if -60 < seconds < 366 * 86400 else None


def _out_of_time(where: str, patience: Patience, what: str, last: TryAgainError | None = None) -> WebError:
    return WebError(
        f"{where}: {what}; the time limit of {patience.seconds:g} s is used up: run again later",
        status=last.status if last is not None else None,
        wait=last.wait if last is not None else None,
    )
