"""The files of the recorder: what it heard, and when it was listening at all, in append-only hours.

    ROOT/EXCHANGE/SYMBOL/SYMBOL-YYYY-MM-DDTHH.jsonl

One JSON object per line, times in milliseconds since 1970, UTC:

    {"begin": T, "run": "..."}    a recorder opened the file
    {"open": T}                   its subscription stands: from here on it is recorded
    {"alive": T}                  it still listened, every half second
    {"closed": T, "why": "..."}   until here, the last instant that the exchange is known to have been heard
    {"event": T, "side": ..., "price": ..., "quantity": ..., "message": N, "received": T}
    {"odd": T, "text": "..."}     a message that nobody understood

Events lie in the hour they happened, everything else in the hour it was written. So a recorder that is killed leaves
whole lines but for the last, and what was recorded until then is known to half a second.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from heatmap_pipeline.files import open_regular
from heatmap_pipeline.market.liquidations.sides import position_side
from heatmap_pipeline.market.liquidations.streams import STREAMS, Event
from heatmap_pipeline.market.liquidations.tables import (
    Liquidations,
    clean_liquidations,
    clip_ranges,
    drop_redelivered,
    merge_ranges,
    refuse_row,
)
from heatmap_pipeline.market.strict_json import load_json
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import check_symbol

LONGEST_PAUSE = 10_000
"""Milliseconds between two signs of life beyond which a recorder did not run (a machine asleep): not recorded."""

PLAUSIBLE = 86_400_000
"""Milliseconds that an event may lie from the clock of this machine; others are kept, but as odd."""

_HOUR = 3_600_000
_KINDS = ("begin", "open", "alive", "closed", "event", "odd")
_FILE = re.compile(r"[^-.]+-(\d{4}-\d{2}-\d{2}T\d{2})\.jsonl", re.ASCII)
_ODD_LENGTH = 1000


class RecordingWriter:
    """Appends what one stream says to its hours; for one thread, `fsync` excepted.

    Args:
        root: folder of all recordings.
        exchange: of the stream.
        symbol: as our candles call the market.
        run: tells this recorder's messages from another's.
        now: milliseconds since 1970.

    Raises:
        MarketError: if the folder cannot be written, or another recorder writes there.
    """

    def __init__(self, root: Path, exchange: str, symbol: str, run: str, now: int) -> None:
        self.folder = root / exchange / check_symbol(symbol)
        self._symbol, self._run = symbol, run
        self._files: dict[int, FileIO] = {}
        self._dirty: set[int] = set()
        self._open = False
        self._hour = now // _HOUR
        self._lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise MarketError(
                f"{self.folder}: another recorder writes here; stop it, or record into another folder"
            ) from None
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    def open(self, now: int) -> None:
        """Note that the subscription stands."""
        self._hour = now // _HOUR
        self._open = True
        self._append(self._hour, {"open": now}, now)

    def alive(self, now: int) -> None:
        """Note that it is still listened; a new hour begins where the one before ends."""
        if not self._open:
            return
        self._append(self._hour, {"alive": now}, now)
        if now // _HOUR != self._hour:
            self.open(now)

    def closed(self, until: int, why: str, now: int) -> None:
        """Note that the connection ended, and until when the exchange is known to have been heard."""
        if self._open:
            self._append(self._hour, {"closed": until, "why": why[:200]}, now)
        self._open = False

    def event(self, event: Event, message: int, now: int) -> None:
        """Write one liquidation into the hour it happened in."""
        line = {"event": event.time, "side": event.side, "price": event.price, "quantity": event.quantity}
        line |= {"message": message, "received": now}
        if abs(event.time - now) > PLAUSIBLE:
            self.odd(json.dumps(line), now)
        else:
            self._append(event.time // _HOUR, line, now)

    def odd(self, text: str, now: int) -> None:
        """Keep a message that nobody understood."""
        self._append(self._hour, {"odd": now, "text": text[:_ODD_LENGTH]}, now)

    def sync(self) -> list[int]:
        """Return the descriptors of what was written since the last call, for `fsync`; close what is not needed."""
        dirty = [self._files[hour].fileno() for hour in self._dirty]
        for hour in [hour for hour in self._files if hour < self._hour - 1 and hour not in self._dirty]:
            self._files.pop(hour).close()
        self._dirty.clear()
        return dirty

    def close(self) -> None:
        """Put everything on the disk and let another recorder write here."""
        fsync(self.sync())
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._lock.release()

    def _append(self, hour: int, line: dict[str, Any], now: int) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            file = self._files.get(hour) or self._begin(hour, now)
            if file.write(data) != len(data):
                raise OSError(0, "the disk took only a part of a line")
        except OSError as error:
            raise _unwritable(self.folder / _name(self._symbol, hour), error) from None
        self._dirty.add(hour)

    def _begin(self, hour: int, now: int) -> FileIO:
        """Open the file of an hour, and end a line that a killed recorder left half written."""
        path = self.folder / _name(self._symbol, hour)
        file = FileIO(path, "a+")
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        begin = json.dumps({"begin": now, "run": self._run}, separators=(",", ":")).encode()
        file.write((b"\n" if torn else b"") + begin + b"\n")
        self._files[hour] = file
        return file


def fsync(descriptors: Iterable[int]) -> None:
    """Put files on the disk; may be called from another thread."""
    for descriptor in descriptors:
        os.fsync(descriptor)


class RecordingReader:
    """Reads what recorders wrote; keeps nothing open, and may be used while they write.

    Args:
        root: folder of all recordings.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def exchanges(self, symbol: str) -> list[str]:
        """Return the exchanges of which there are recordings of a symbol, sorted."""
        check_symbol(symbol)
        return [name for name in sorted(STREAMS) if (self.root / name / symbol).is_dir()]

    def read(self, exchange: str, symbol: str, start: int, end: int) -> Liquidations:
        """Return the liquidations recorded in [start, end), and when it was recorded.

        Repairs: `torn_lines` (the last line of a recorder that was killed), `odd_messages` (not understood),
        `redelivered_rows` (sent again after a reconnection) and those of `clean_liquidations`.

        Args:
            exchange: of the stream, one of `STREAMS`.
            symbol: as our candles call the market.
            start: microseconds since 1970.
            end: microseconds since 1970.

        Raises:
            NoDataError: if there is no file of these hours.
            MarketError: for a file that cannot be read or a line that no recorder wrote; names both.
        """
        folder = self.root / exchange / check_symbol(symbol)
        # What was written of the window may begin the hour before, and end with the first line of the hour after.
        first, last = (start // 1000 - _HOUR) // _HOUR, (end // 1000 + _HOUR) // _HOUR
        hours = _Hours(exchange)
        for path in _files(folder):
            if first <= _hour_of(path) <= last:
                hours.read(path)
        if not hours.files:
            raise NoDataError(
                f"{folder}: nothing was recorded from {_text(start)} to {_text(end)}; run heatmap record {symbol}"
            )
        raw = hours.rows()
        time = raw["time"].to_numpy()
        raw = raw.loc[(time >= start) & (time < end)]
        repairs = {name: count for name, count in hours.repairs.items() if count}
        raw = drop_redelivered(raw, raw["delivery"].to_numpy(np.int64), repairs)
        return clean_liquidations(
            raw,
            symbol=symbol,
            source=f"{exchange}_stream",
            place=str(folder),
            complete=STREAMS[exchange].complete,
            recorded=clip_ranges(merge_ranges(hours.recorded), start, end),
            repairs=repairs,
            facts={"files": hours.files},
        )


class _Hours:
    """What the lines of some files come to."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.files = 0
        self.recorded: list[tuple[int, int]] = []
        self.repairs = {"torn_lines": 0, "odd_messages": 0}
        self._rows: list[tuple[int, str, float, float, float, int, str, int]] = []
        self._deliveries: dict[tuple[str, int], int] = {}
        self._run = ""
        self._stretch: tuple[int, int] | None = None

    def rows(self) -> pd.DataFrame:
        """Return the events as `clean_liquidations` takes them, and `delivery`, the number of their message."""
        columns = {
            "time": "int64", "side": "str", "price": "float64", "quantity": "float64", "volume": "float64",
            "row": "int64", "place": "str", "delivery": "int64",
        }  # fmt: skip
        return pd.DataFrame(self._rows, columns=list(columns)).astype(columns)

    def read(self, path: Path) -> None:
        """Take in one file."""
        try:
            with open_regular(path) as stream:
                lines = stream.read().split(b"\n")
        except OSError as error:
            raise MarketError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None
        self.files += 1
        self._run, self._stretch = "", None
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            if line[:9] == b'{"alive":' and line[-1:] == b"}" and line[9:-1].isdigit():  # nearly all
                self._listened(int(line[9:-1]))
                continue
            try:
                entry = load_json(line)
                kind = next(iter(entry)) if isinstance(entry, dict) and entry else ""
                if kind not in _KINDS or type(entry[kind]) is not int:
                    raise ValueError("no such line")
                self._take(kind, entry, path, number)
            except (ValueError, KeyError, TypeError):
                if number < len(lines) and not lines[number].startswith(b'{"begin"'):
                    refuse_row(str(path), number, "is no line of a recorder")
                self.repairs["torn_lines"] += 1
        self._end()

    def _take(self, kind: str, entry: dict[str, Any], path: Path, number: int) -> None:
        at = int(entry[kind])
        if kind == "event":
            self._event(entry, path, number)
        elif kind == "odd":
            self.repairs["odd_messages"] += 1
        elif kind == "begin":
            self._end()
            self._run = str(entry["run"])
        elif kind == "closed":
            if self._stretch is not None:
                joined = self.recorded and self.recorded[-1][1] == self._stretch[0] * 1000
                if joined:  # silent since the hour before
                    self.recorded[-1] = self.recorded[-1][0], min(self.recorded[-1][1], at * 1000)
                self._stretch = self._stretch[0], at
            self._end()
        else:
            if kind == "open":
                self._end()
            self._listened(at)

    def _listened(self, at: int) -> None:
        """Take note that the stream was listened to, since the sign of life before unless that is too long ago."""
        if self._stretch is None or at - self._stretch[1] > LONGEST_PAUSE:
            self._end()
            self._stretch = at, at
        else:
            self._stretch = self._stretch[0], at

    def _event(self, entry: dict[str, Any], path: Path, number: int) -> None:
        side = position_side(self.exchange, str(entry["side"]))
        if side is None:
            refuse_row(str(path), number, f"side {str(entry['side'])[:20]!r} is no word of {self.exchange}")
        delivery = self._deliveries.setdefault((self._run, int(entry["message"])), len(self._deliveries))
        amounts = float(entry["price"]), float(entry["quantity"])
        self._rows.append((int(entry["event"]) * 1000, side, *amounts, float("nan"), number, str(path), delivery))

    def _end(self) -> None:
        if self._stretch is not None:
            self.recorded.append((self._stretch[0] * 1000, self._stretch[1] * 1000))
        self._stretch = None


def _name(symbol: str, hour: int) -> str:
    return f"{symbol}-{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H}.jsonl"


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _FILE.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MarketError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from None


def _hour_of(path: Path) -> int:
    match = _FILE.fullmatch(path.name)
    try:
        written = datetime.strptime(match[1] if match else "", "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        return -1
    return round(written.timestamp()) // 3600


def _text(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant / 1e6, UTC):%Y-%m-%d %H:%M}"


def _unwritable(path: Path, error: OSError) -> MarketError:
    return MarketError(f"{path}: cannot be written: {error.strerror}; check the disk and its permissions")
