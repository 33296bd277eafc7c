"""The recorder: keeps a connection per exchange and symbol, and writes down what comes and when it was listening.

What the exchanges say is the business of `streams.py`, what the files look like that of `recording.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException

from heatmap_pipeline.errors import printable, reason
from heatmap_pipeline.market.liquidations.recording import RecordingWriter, fsync
from heatmap_pipeline.market.liquidations.streams import STREAMS, Stream
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.market.web import proxy_of
from heatmap_pipeline.settings import check_symbol

LONGEST_BACKOFF = 60.0
"""Seconds between two tries, at most."""

_SHOWN = 1.0  # seconds between two looks at the states

_MARK = 0.5  # seconds between two signs of life; with the time they take to reach the disk, less than a second
_STEADY = 60.0  # seconds a connection has to last before the next failure counts as the first again

_SKEW = 30_000  # milliseconds between the exchange's clock and this one beyond which hours are told wrong

_log = logging.getLogger(__name__)


@dataclass
class StreamState:
    """What a recorder knows of one stream, for whoever shows it.

    Attributes:
        exchange: of the stream.
        symbol: as our candles call the market.
        listening: whether its subscription stands.
        connections: how often it was made.
        events: liquidations written since the start.
        newest: milliseconds since 1970 of the newest, 0 = none.
        odd: messages that nobody understood.
        trouble: what went wrong last, "" = nothing.
    """

    exchange: str
    symbol: str
    listening: bool = False
    connections: int = 0
    events: int = 0
    newest: int = 0
    odd: int = 0
    trouble: str = ""

    @property
    def state(self) -> str:
        """Whether it listens, in words."""
        return "listening" if self.listening else "not listening"

    @property
    def line(self) -> str:
        """All of it in one line."""
        newest = (
            f", newest {datetime.fromtimestamp(self.newest / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if self.newest else ""
        )
        trouble = f" - {self.trouble}" if self.trouble else ""
        return f"{self.exchange} {self.symbol}: {self.state}, {self.events:,} liquidations{newest}{trouble}"


class Recorder:
    """Records the liquidation streams of some symbols until it is stopped.

    A connection that is refused, cut or silent is made again after a pause that doubles, with jitter. A stream that
    acknowledges and then sends nothing for `silence` seconds, not even the answer to a ping, is reported and made
    again, and that time counts as not recorded. One that lives but prints no liquidation for `quiet` seconds is
    reported and kept.

    Args:
        root: folder of all recordings.
        symbols: as our candles call the markets.
        exchanges: of `STREAMS`; None = all of them.
        urls: address of an exchange's stream in place of its own.
        silence: seconds.
        quiet: seconds.
        ping: seconds between two pings.
        backoff: seconds of the first pause.
        report: told what a person should know, one line each; None = to the log.

    Raises:
        MarketError: for an exchange that cannot be recorded, an address that is none, or no symbol.
    """

    def __init__(
        self,
        root: Path,
        symbols: Sequence[str],
        exchanges: Sequence[str] | None = None,
        *,
        urls: Mapping[str, str] | None = None,
        silence: float = 60.0,
        quiet: float = 6 * 3600.0,
        ping: float = 20.0,
        backoff: float = 1.0,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._root, self._silence, self._quiet, self._ping, self._backoff = root, silence, quiet, ping, backoff
        self._report = report or _log.warning
        self._urls = dict(urls or {})
        names = list(dict.fromkeys(exchanges if exchanges is not None else STREAMS))
        for name in [*names, *self._urls]:
            if name not in STREAMS:
                raise MarketError(f"no stream of {printable(name, 40)} can be recorded; known are {', '.join(STREAMS)}")
        for name, url in self._urls.items():
            if urlsplit(url).scheme not in ("ws", "wss") or not urlsplit(url).hostname:
                raise MarketError(f"the stream of {name} is not at an address of the kind wss://host/path; correct it")
        wanted = [check_symbol(symbol) for symbol in dict.fromkeys(symbols)]
        if not wanted or not names:
            raise MarketError("nothing to record: name at least one symbol and one exchange")
        self.states = [StreamState(name, symbol) for symbol in wanted for name in names]

    async def run(self, stop: asyncio.Event) -> None:
        """Record until `stop` is set.

        Raises:
            MarketError: if the folder cannot be written, or another recorder writes there.
        """
        run = uuid.uuid4().hex[:12]
        listeners: list[_Listener] = []
        try:
            for state in self.states:
                writer = RecordingWriter(self._root, state.exchange, state.symbol, run, _now())
                listeners.append(_Listener(self, STREAMS[state.exchange], state, writer))
            try:
                async with asyncio.TaskGroup() as tasks:
                    kept = [tasks.create_task(listener.keep()) for listener in listeners]
                    await tasks.create_task(self._mark(listeners, stop))
                    for task in kept:
                        task.cancel()
            except ExceptionGroup as errors:
                known = errors.subgroup(MarketError)
                raise (known.exceptions[0] if known is not None else errors) from None
        finally:
            for listener in listeners:
                listener.writer.close()

    async def _mark(self, listeners: Sequence[_Listener], stop: asyncio.Event) -> None:
        """Write signs of life, and put everything on the disk, twice a second."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MARK):
                    await stop.wait()
            now = _now()
            for listener in listeners:
                listener.writer.alive(now)
            await asyncio.to_thread(fsync, [file for listener in listeners for file in listener.writer.sync()])

    def url(self, stream: Stream) -> str:
        """Return where a stream is."""
        return self._urls.get(stream.exchange, stream.url)

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(self._backoff * 2.0 ** min(failures - 1, 20), LONGEST_BACKOFF) * random.uniform(0.5, 1.0)

    def tell(self, state: StreamState, what: str) -> None:
        """Report something about a stream."""
        state.trouble = what
        self._report(f"{state.exchange} {state.symbol}: {what}")

    @property
    def limits(self) -> tuple[float, float, float]:
        """Seconds of silence, of quiet, and between two pings."""
        return self._silence, self._quiet, self._ping


class _SilentError(Exception):
    """A stream that acknowledged, or not even that, and then sent nothing."""


class _RefusedError(Exception):
    """A stream that the exchange does not want to serve."""


class _Listener:
    """One stream of one symbol, over all its connections."""

    def __init__(self, owner: Recorder, stream: Stream, state: StreamState, writer: RecordingWriter) -> None:
        self.owner, self.stream, self.state, self.writer = owner, stream, state, writer
        self._messages = 0
        self._skewed = False
        self._heard = 0
        self._began = 0.0

    async def keep(self) -> NoReturn:
        """Connect, listen, and connect again, for ever."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._connection()
            except InvalidURI as error:
                raise MarketError(f"the stream of {self.state.exchange}: {printable(str(error))}") from None
            except (OSError, TimeoutError, WebSocketException, _SilentError, _RefusedError) as error:
                why = _words(error)
                # Whoever says goodbye has sent everything before; after anything else only what was heard is sure.
                orderly = isinstance(error, ConnectionClosed) and error.rcvd is not None
                now = _now()
                self._ended(now if orderly else self._heard, why, now)
            except asyncio.CancelledError:
                self._ended(self._heard, "stopped", _now())
                raise
            failures = 1 if time.monotonic() - started >= _STEADY else failures + 1
            pause = self.owner.pause(failures)
            self.owner.tell(self.state, f"{why}; trying again in {pause:.1f} s")
            await asyncio.sleep(pause)

    async def _connection(self) -> NoReturn:
        """Listen on one connection until it ends."""
        url = self.owner.url(self.stream)
        async with connect(url, proxy=proxy_of(url), open_timeout=15, close_timeout=1, ping_interval=None) as socket:
            self._heard = _now()
            self._began = time.monotonic()
            await socket.send(self.stream.subscribe(self.state.symbol))
            pings = asyncio.create_task(self._send_pings(socket)) if self.stream.ping else None
            try:
                await self._listen(socket)
            except asyncio.CancelledError:
                self._heard = _now()  # stopped, not cut: it listened until now
                raise
            finally:
                if pings is not None:
                    pings.cancel()

    async def _listen(self, socket: ClientConnection) -> NoReturn:
        silence, quiet, _ = self.owner.limits
        while True:
            try:
                # Not wait_for: where a message comes in the same instant, Python 3.11's loses that it was cancelled.
                async with asyncio.timeout(silence):
                    data = await socket.recv(decode=False)
            except TimeoutError:
                after = "acknowledged and sent" if self.state.listening else "accepted the connection and sent"
                raise _SilentError(
                    f"is silent: it {after} nothing for {silence:g} s; if that repeats, its address or path is wrong"
                ) from None
            self._heard = _now()
            self._take(data)
            if time.monotonic() - self._began >= quiet:
                self._began = time.monotonic()
                self.owner.tell(self.state, f"lives, but printed no liquidation for {quiet / 3600:.3g} h")

    def _take(self, data: bytes) -> None:
        """Write down what one message says."""
        now = self._heard
        try:
            message = self.stream.read(data, self.state.symbol)
        except ValueError as error:
            self.state.odd += 1
            self.writer.odd(data.decode("utf-8", "replace"), now)
            if self.state.odd == 1:
                self.owner.tell(self.state, f"sent a message that is not understood ({printable(str(error))}); kept")
            return
        if message.refused:
            raise _RefusedError(f"the exchange refuses the subscription: {message.refused}")
        if (message.confirmed or message.events) and not self.state.listening:
            self.state.listening = True
            self.state.connections += 1
            self.state.trouble = ""
            self.writer.open(now)
        self._messages += 1
        if message.sent and not self._skewed and abs(now - message.sent) > _SKEW:
            self._skewed = True
            self.owner.tell(
                self.state,
                f"this machine's clock and the exchange's differ by {(now - message.sent) / 1000:.0f} s, so that what "
                "was recorded is noted wrong: set it right",
            )
        for event in message.events:
            self.writer.event(event, self._messages, now)
            self.state.events += 1
            self.state.newest = max(self.state.newest, event.time)
            self._began = time.monotonic()

    async def _send_pings(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self.owner.limits[2])
                await socket.send(self.stream.ping or "")

    def _ended(self, until: int, why: str, now: int) -> None:
        self.state.listening = False
        self.writer.closed(until, why, now)


def record(
    root: Path,
    symbols: Sequence[str],
    exchanges: Sequence[str] | None = None,
    *,
    urls: Mapping[str, str] | None = None,
    report: Callable[[str], None] | None = None,
    show: Callable[[Sequence[StreamState]], None] | None = None,
    silence: float = 60.0,
    backoff: float = 1.0,
    ping: float = 20.0,
) -> None:
    """Record until SIGINT or SIGTERM; arguments and errors as of `Recorder`, and `show` is told the states each second.

    Example:
        >>> record(Path("recordings"), ["BTCUSDT"])  # doctest: +SKIP
    """
    recorder = Recorder(root, symbols, exchanges, urls=urls, report=report, silence=silence, backoff=backoff, ping=ping)

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        shown = asyncio.create_task(_show(recorder.states, show)) if show is not None else None
        try:
            await recorder.run(stop)
        finally:
            if shown is not None:
                shown.cancel()

    asyncio.run(until_stopped())


async def _show(states: Sequence[StreamState], show: Callable[[Sequence[StreamState]], None]) -> None:
    while True:
        show(states)
        await asyncio.sleep(_SHOWN)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _words(error: Exception) -> str:
    if isinstance(error, _SilentError | _RefusedError):
        return str(error)
    if isinstance(error, ConnectionClosed):
        return f"the connection ended ({printable(str(error))})"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    return f"no connection ({printable(reason(error) or type(error).__name__)})"
