"""The sources of liquidations by name: what ingestion asks of any of them, and which object answers for each.

Another source is another file beside `gate.py` and another entry of `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

from heatmap_pipeline.errors import printable
from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.liquidations.archive import LiquidationArchive
from heatmap_pipeline.market.liquidations.plain import PlainFolder
from heatmap_pipeline.market.liquidations.recording import RecordingReader
from heatmap_pipeline.market.liquidations.tables import Liquidations, joined
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.symbols import name_at, pair_of


@dataclass(frozen=True)
class Places:
    """Where the sources find what they read.

    Attributes:
        folder: files by symbol (`--liquidations`), which may hold the archive's tree too; None = not set.
        archive: the archive's tree.
        recordings: what the recorder wrote.
        gate_url: Gate's REST; "" = its own address.
        bitget_url: Bitget's REST; "" = its own address.
    """

    folder: Path | None
    archive: Path
    recordings: Path
    gate_url: str = ""
    bitget_url: str = ""


class LiquidationSource(Protocol):
    """What ingestion needs of a source."""

    def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
        """Return what there is of these UTC days, both included, one `Liquidations` per exchange.

        `symbol` is the id of a market, and stands in what is returned; what was recorded, kept or is asked for of an
        exchange goes by its own name there, or by the pair (`symbols.name_at`).

        Raises:
            NoDataError: if there is nothing of them (not kept, not recorded, not listed).
            MarketError: for what cannot be used, or a server that cannot be asked.
        """


def open_liquidations(names: Sequence[str], places: Places) -> dict[str, LiquidationSource]:
    """Return the sources of these names, each once, in their order.

    Raises:
        MarketError: for a name that is none, or a source that lacks its folder or address.
    """
    for name in names:
        if name not in SOURCES:
            raise MarketError(
                f"{printable(name, 40)!r} is no source of liquidations; HEATMAP_LIQUIDATIONS is a list of "
                f"{', '.join(SOURCES)}"
            )
    return {name: SOURCES[name](places) for name in dict.fromkeys(names)}


class _Files:
    """A folder of plain files, of the archive's tree, or of both.

    Of a market of another exchange than Binance files may be called by its id, and then are that exchange's, or by its
    pair, as they are for that market of Binance; rows that name the exchange are that one's in either.
    """

    def __init__(self, places: Places) -> None:
        if places.folder is None:
            raise MarketError(
                "the source files needs a folder; give it with --liquidations DIR or set HEATMAP_LIQUIDATIONS_FOLDER"
            )
        self._plain = PlainFolder(places.folder)
        self._archive = LiquidationArchive(places.folder)

    def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
        start, end = _window(first, last)
        parts = _of_archive(self._archive, symbol, first, last)
        try:
            parts += [part.between(start, end) for part in self._plain.read(symbol)]
        except NoDataError:
            if not self._archive.days(pair_of(symbol)):
                raise
        parts = [part for part in parts if len(part.table) or len(part.recorded)]
        if not parts:
            raise NoDataError(f"liquidations {self._plain.root}: nothing of {symbol} from {first} to {last}")
        return parts


class _Archive:
    """The files of liquidation orders in the archive's tree."""

    def __init__(self, places: Places) -> None:
        self._archive = LiquidationArchive(places.archive)

    def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
        _window(first, last)
        parts = _of_archive(self._archive, symbol, first, last)
        if not parts:
            raise NoDataError(
                f"archive {self._archive.root} has no liquidations of {symbol} from {first} to {last}; add "
                f"{pair_of(symbol)}-liquidationSnapshot files or leave the source out"
            )
        return parts


class _Recorded:
    """What the recorder wrote of one exchange."""

    def __init__(self, exchange: str, places: Places) -> None:
        self._exchange, self._reader = exchange, RecordingReader(places.recordings)

    def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
        made = self._reader.read(self._exchange, name_at(self._exchange, symbol), *_window(first, last))
        if not len(made.table) and not len(made.recorded):
            raise NoDataError(f"{made.source}: nothing of {symbol} was recorded from {first} to {last}")
        return [replace(made, symbol=symbol)]


class _Rest:
    """An exchange over REST."""

    def __init__(self, read: Callable[[str, int, int], Liquidations]) -> None:
        self._read = read

    def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
        made = self._read(pair_of(symbol), *_window(first, last))
        if not len(made.recorded):
            raise NoDataError(
                f"{made.source}: the exchange serves nothing of {symbol} from {first} to {last} (any more)"
            )
        return [replace(made, symbol=symbol)]


def _gate_stats(places: Places) -> LiquidationSource:
    from heatmap_pipeline.market.liquidations.gate import URL, GateReader  # noqa: PLC0415  # HTTP where it is used

    return _Rest(GateReader(places.gate_url or URL).read_sums)


def _gate_orders(places: Places) -> LiquidationSource:
    from heatmap_pipeline.market.liquidations.gate import URL, GateReader  # noqa: PLC0415

    return _Rest(GateReader(places.gate_url or URL).read_orders)


def _bitget(places: Places) -> LiquidationSource:
    from heatmap_pipeline.market.liquidations.bitget import URL, BitgetReader  # noqa: PLC0415

    return _Rest(BitgetReader(places.bitget_url or URL).read)


SOURCES: dict[str, Callable[[Places], LiquidationSource]] = {
    "files": _Files,
    "binance_archive": _Archive,
    "binance_stream": lambda places: _Recorded("binance", places),
    "bybit_stream": lambda places: _Recorded("bybit", places),
    "gate_stats": _gate_stats,
    "gate_orders": _gate_orders,
    "bitget_rest": _bitget,
}
"""The sources by name. What `files` reads is named by its exchange, `binance_file` and the like."""


REACH: Mapping[str, int] = {"gate_stats": 179, "gate_orders": 179, "bitget_rest": 3}
"""How many days back the sources go that forget; the others are asked for any day."""


def _of_archive(archive: LiquidationArchive, symbol: str, first: date, last: date) -> list[Liquidations]:
    name = pair_of(symbol)
    days = [day for day in archive.days(name) if first <= day <= last]
    return [replace(joined([archive.read_day(name, day) for day in days]), symbol=symbol)] if days else []


def _window(first: date, last: date) -> tuple[int, int]:
    if last < first:
        raise MarketError(f"the last day {last} is before the first, {first}")
    return day_start(first), day_start(first) + ((last - first) // timedelta(days=1) + 1) * DAY
