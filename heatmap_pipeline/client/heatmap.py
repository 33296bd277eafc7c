"""The one class of the client: questions to a file or an endpoint, which answer alike, cell by cell.

Both are asked in the language of docs/api.md; what differs is only who answers (`local.py`, `remote.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np
import orjson

from heatmap_pipeline.client.answers import (
    VOLUMES,
    BookMap,
    Floats,
    Ints,
    Market,
    Part,
    Provenance,
    Score,
    Series,
    Zone,
    Zones,
    instant_of,
    text_of,
)
from heatmap_pipeline.client.errors import ClientError
from heatmap_pipeline.errors import printable

Moment: TypeAlias = "str | date | datetime | np.datetime64"
"""An instant: ISO 8601 or an object that has one; without an offset it is UTC, a day is its midnight."""

LeverageWeights: TypeAlias = "Mapping[float, float]"
"""Weight by leverage; only the ratio of weights counts."""

LeverageTiers: TypeAlias = "str | Iterable[float]"
"""Leverages whose lots alone are shown; `near`: 25 and up; `all`. The books hold every lot all the same."""

Interval: TypeAlias = Literal["5m", "15m", "1h", "4h", "1d"]


class Access(Protocol):
    """Who answers."""

    where: str

    def ask(self, path: str, query: Mapping[str, str]) -> bytes:
        """Return the body of an answer, JSON as docs/api.md says."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class Heatmap:
    """The heatmap of a published file or of an endpoint, to read.

    New publications are followed: each question is answered by the newest.

    Args:
        source: `heatmap.duckdb`, the home that holds it, or the address of `heatmap serve`; None means the home of
            HEATMAP_HOME.
        token: of the endpoint, if it asks for one.
        timeout: seconds that the endpoint may be silent.

    Raises:
        ClientError: if there is no such file, or it is not a published database, or the address is none.

    Example:
        >>> Heatmap("https://heatmap.example.org", token="a-secret")
        Heatmap('https://heatmap.example.org')
    """

    def __init__(self, source: str | Path | None = None, *, token: str | None = None, timeout: float = 60.0) -> None:
        self._access = _access(source, token, timeout)

    def __repr__(self) -> str:
        return f"Heatmap({self._access.where!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or the connections."""
        self._access.close()

    def markets(self) -> tuple[Market, ...]:
        """Return what is published, by name.

        Raises:
            ClientError: if nobody answers.
        """
        listing = self._ask("/symbols")
        with self._reading():
            return tuple(_market(entry) for entry in listing["symbols"])

    def bases(self) -> dict[str, tuple[str, ...]]:
        """Return the bases of the markets that are published, by name, and the ids of the markets of each.

        Raises:
            ClientError: if nobody answers.
        """
        listing = self._ask("/symbols")
        with self._reading():
            return {entry["base"]: tuple(entry["markets"]) for entry in listing["bases"]}

    def map(
        self,
        symbol: str,
        at: Moment | None = None,
        *,
        model: str | None = None,
        price_bin_size: float | None = None,
        leverage_weights: LeverageWeights | None = None,
        leverage_tiers: LeverageTiers | None = None,
    ) -> BookMap:
        """Return the modelled liquidation levels at a moment.

        Args:
            symbol: a market, as the exchange writes it, or a base, such as BTC: the sum of its markets' books.
            at: the state after the last candle that ended by then; None means the newest.
            model: None means the symbol's first.
            price_bin_size: quote asset, a whole multiple of the bucket; None means the finest that fits.
            leverage_weights: others than the model's.
            leverage_tiers: whose lots alone are shown; None means all.

        Raises:
            ClientError: for an unknown symbol or model, naming those there are; for a moment that there is no state of,
                naming the range; for a wrong argument; if nobody answers.
        """
        record, provenance = self._state(symbol, at, model, price_bin_size, leverage_weights, leverage_tiers, None)
        with self._reading():
            buckets = record["buckets"]
            column = {
                name: np.array([bucket[name] for bucket in buckets], dtype=np.float64)
                for name in ("price", "long", "short", "cumulative_long", "cumulative_short", "distance_percent")
            }
            return BookMap(
                provenance=provenance,
                time=instant_of(record["time"]),
                price=record["price"],
                price_bin_size=record["price_bin_size"],
                prices=column.pop("price"),
                **column,
                total_long=record["total_long_volume"],
                total_short=record["total_short_volume"],
                located_share=record["located_share"],
                provisional=record["provisional"],
            )

    def zones(
        self,
        symbol: str,
        at: Moment | None = None,
        *,
        model: str | None = None,
        within_percent: float = 10.0,
        leverage_weights: LeverageWeights | None = None,
        leverage_tiers: LeverageTiers | None = None,
    ) -> Zones:
        """Return what stands out of the map at a moment, near the price.

        Args:
            symbol: a market, as the exchange writes it, or a base, such as BTC: the sum of its markets' books.
            at: as `map`.
            model: None means the symbol's first.
            within_percent: how far from the price zones are looked for, 0.1 to 1000.
            leverage_weights: others than the model's.
            leverage_tiers: whose lots alone are shown; None means all.

        Raises:
            ClientError: as `map`.
        """
        record, provenance = self._state(symbol, at, model, None, leverage_weights, leverage_tiers, within_percent)
        with self._reading():
            clusters, nearest = record["clusters"], record["nearest"]
            return Zones(
                provenance=provenance,
                time=instant_of(record["time"]),
                price=record["price"],
                within_percent=record["within_percent"],
                above=tuple(_zone(zone) for zone in clusters["above"]),
                below=tuple(_zone(zone) for zone in clusters["below"]),
                nearest_above=None if nearest["above"] is None else _zone(nearest["above"]),
                nearest_below=None if nearest["below"] is None else _zone(nearest["below"]),
            )

    def series(
        self,
        symbol: str,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        interval: Interval = "15m",
        model: str | None = None,
        price_bin_size: float | None = None,
        max_rows: int | None = None,
        leverage_weights: LeverageWeights | None = None,
        leverage_tiers: LeverageTiers | None = None,
    ) -> Series:
        """Return the maps of a range of moments.

        Args:
            symbol: a market, as the exchange writes it, or a base, such as BTC: the sum of its markets' books.
            start: rounded down to the interval; None means 7 days before the end.
            end: intervals that start before it are answered; None means the newest data.
            interval: their width, at least that of the stored candles; at most 3,000 of them.
            model: None means the symbol's first.
            price_bin_size: quote asset, a whole multiple of the largest bucket of the days.
            max_rows: most price bins where `price_bin_size` is None, 10 to 2,000 (default).
            leverage_weights: others than the model's.
            leverage_tiers: whose lots alone are shown; None means all.

        Raises:
            ClientError: as `map`; for a range without data, naming what there is; for more than one answer may hold.
        """
        query = {
            "symbol": symbol,
            "start_time": None if start is None else text_of(instant(start, "start")),
            "end_time": None if end is None else text_of(instant(end, "end")),
            "interval": interval,
            "model": model,
            "price_bin_size": price_bin_size,
            "max_rows": max_rows,
            "leverage_weights": _weights(leverage_weights),
            "leverage_tiers": _tiers(leverage_tiers),
            "format": "columns",
        }
        record = self._ask("/liquidations/heatmap-timeseries", query)
        with self._reading():
            meta = record["meta"]
            times = _times(record["timestamps"])
            step = np.timedelta64(meta["interval_seconds"], "s")
            missing = np.zeros(len(times), dtype=np.bool_)
            for first, last in meta["without_candles"]:
                missing[first:last] = True
            candles = {
                name: np.array(values, dtype=np.float64)
                for name, values in record["candles"].items()
                if name not in {"interval_seconds", "open_time"}
            }
            return Series(
                provenance=self._provenance(meta)[0],
                times=times,
                state_at=np.minimum(times + step, _naive(instant_of(meta["as_of"]))),
                prices=np.array(record["prices"], dtype=np.float64),
                interval_seconds=meta["interval_seconds"],
                price_bin_size=meta["price_bin_size"],
                missing=missing,
                cells={name: _cells(record[name]) for name in VOLUMES},
                candles={**candles, "open_time": _times(record["candles"]["open_time"])},
                reported=record["reported"],
                located_share=meta["located_share"],
                clipped=tuple(meta["clipped"]),
                meta=meta,
                by_market={
                    market["symbol"]: {name: np.array(market[name], dtype=np.float64) for name in VOLUMES}
                    for market in record.get("by_market", ())
                },
            )

    def score(self, symbol: str, *, model: str | None = None) -> Score:
        """Return how well the map agrees with liquidations that really happened.

        Args:
            symbol: as the exchange writes it.
            model: None means the symbol's first.

        Raises:
            ClientError: as `map`; a symbol without a score is answered, with words that say why.
        """
        record = self._ask("/score", {"symbol": symbol, "model": model})
        names = ("scored", "words", "source", "windows", "days", "hours", "reference")
        with self._reading():
            return Score(provenance=self._provenance(record)[0], **{name: record[name] for name in names})

    def _state(
        self,
        symbol: str,
        at: Moment | None,
        model: str | None,
        price_bin_size: float | None,
        leverage_weights: LeverageWeights | None,
        leverage_tiers: LeverageTiers | None,
        within_percent: float | None,
    ) -> tuple[dict[str, Any], Provenance]:
        """Return the map of a moment, which there has to be a state of."""
        moment = None if at is None else instant(at, "at")
        query = {
            "symbol": symbol,
            "time": None if moment is None else text_of(moment),
            "model": model,
            "price_bin_size": price_bin_size,
            "leverage_weights": _weights(leverage_weights),
            "leverage_tiers": _tiers(leverage_tiers),
            "within_percent": within_percent,
        }
        record = self._ask("/liquidations/map", query)
        with self._reading():
            provenance, market = self._provenance(record)
            state_at = instant_of(record["time"])
        if moment is not None and moment >= state_at + timedelta(seconds=market.candle_seconds):
            raise ClientError(
                f"{symbol} {provenance.model} has no state of {text_of(moment)}, the last one before it is of "
                f"{text_of(state_at)}; {symbol} is computed from {market.first_day} to {text_of(market.as_of)}",
                404,
            )
        return record, provenance

    def _provenance(self, record: Mapping[str, Any]) -> tuple[Provenance, Market]:
        """Return where an answer comes from, and its market."""
        listing = self._ask("/symbols")
        shown = record.get("candles_of", record["symbol"])
        entry = next((entry for entry in listing["symbols"] if entry["symbol"] == shown), None)
        if entry is None or record["model"] not in entry["parameters"]:
            raise ClientError(
                f"{record['symbol']} {record['model']} has just been removed from {self._access.where}", 404
            )
        market = _market(entry)
        parts = tuple(_part(each) for each in record.get("parts", ()))
        names = {part.symbol for part in parts}
        sources = [each["source"] for each in listing["symbols"] if each["symbol"] in names]
        weights, tiers = record.get("leverage_weights"), record.get("leverage_tiers")
        provenance = Provenance(
            symbol=record["symbol"],
            model=record["model"],
            kind="simulated" if record["simulated"] else "modelled",
            exchange=None if parts else market.exchange,
            title=record["title"] if parts else market.title,
            source=", ".join(dict.fromkeys(sources)) if parts else market.source,
            as_of=instant_of(record["as_of"]),
            parameters=market.parameters[record["model"]],
            leverage_weights=None if weights is None else tuple((row[0], row[1]) for row in weights),
            leverage_tiers=None if tiers is None else tuple(tiers),
            units=record.get("units") or {"time": "UTC", "price": market.quote, "volume": market.quote},
            schema_version=listing["schema_version"],
            publication=listing["version"],
            where=self._access.where,
            parts=parts,
            candles_of=record.get("candles_of"),
            not_shown=record.get("not_shown", {}),
        )
        return provenance, market

    def _ask(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        parameters = {name: _plain(value) for name, value in (query or {}).items() if value is not None}
        body = self._access.ask(path, parameters)
        try:
            return orjson.loads(body)
        except ValueError:
            raise self._not_understood("no JSON") from None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say of an answer that is not as it should be whose it is: another version, or a stranger."""
        try:
            yield
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise self._not_understood(f"{type(error).__name__}: {error}") from error

    def _not_understood(self, what: str) -> ClientError:
        return ClientError(
            f"{self._access.where} does not answer as an endpoint of this version does ({printable(what)}); check the "
            "address, and that both are of the same version"
        )


def _access(source: str | Path | None, token: str | None, timeout: float) -> Access:
    if isinstance(source, str) and "://" in source:
        from heatmap_pipeline.client.remote import Remote  # noqa: PLC0415

        return Remote(source, token, timeout)
    from heatmap_pipeline.client.local import Local  # noqa: PLC0415

    try:
        path = None if source is None else Path(source).expanduser()
    except RuntimeError:
        raise ClientError(f"{source}: no such home folder is known here; write a whole path") from None
    return Local(path)


def _market(entry: Mapping[str, Any]) -> Market:
    return Market(
        symbol=entry["symbol"],
        models=tuple(entry["models"]),
        quote=entry["quote"],
        bucket=entry["bucket"],
        first_day=date.fromisoformat(entry["first_day"]),
        last_day=date.fromisoformat(entry["last_day"]),
        ended=None if entry["ended"] is None else date.fromisoformat(entry["ended"]),
        as_of=instant_of(entry["as_of"]),
        price=entry["price"],
        simulated=entry["simulated"],
        exchange=entry["exchange"],
        title=entry["title"],
        source=entry["source"],
        provisional=entry["provisional"],
        located_share=entry["located_share"],
        candle_seconds=entry["candle_interval_seconds"],
        parameters=entry["parameters"],
    )


def _part(record: Mapping[str, Any]) -> Part:
    as_of = record["as_of"]
    known = {name: record[name] for name in ("symbol", "market", "exchange", "quote", "late", "missing", "share")}
    return Part(**known, as_of=None if as_of is None else instant_of(as_of))


def _zone(record: Mapping[str, Any]) -> Zone:
    known = {name: record[name] for name in ("side", "price", "volume", "distance_percent")}
    return Zone(**known, more={name: value for name, value in record.items() if name not in known})


def _cells(record: Mapping[str, Sequence[Any]]) -> tuple[Ints, Ints, Floats]:
    time, price = (np.array(record[name], dtype=np.int64) for name in ("time", "price"))
    return time, price, np.array(record["volume"], dtype=np.float64)


def _times(milliseconds: Sequence[int]) -> Any:
    return np.array(milliseconds, dtype=np.int64).astype("datetime64[ms]").astype("datetime64[us]")


def _naive(instant: datetime) -> np.datetime64:
    return np.datetime64(instant.astimezone(UTC).replace(tzinfo=None), "us")


def instant(moment: Moment, name: str) -> datetime:
    """Return a moment in UTC.

    Args:
        moment: see `Moment`.
        name: of the argument, for the error.

    Raises:
        ClientError: if it is none.

    Example:
        >>> instant("2024-07-01T02:00+02:00", "at") == instant(date(2024, 7, 1), "at")
        True
    """
    text = moment.isoformat() if isinstance(moment, date) else str(moment).strip()
    try:
        parsed = datetime.fromisoformat(text.upper())
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ClientError(
            f"{name} = {printable(text)!r}: not an ISO 8601 time; write 2024-07-01, 2024-07-01T12:00Z or "
            "2024-07-01T14:00+02:00",
            422,
        ) from None


def _weights(weights: LeverageWeights | None) -> str | None:
    return None if weights is None else ",".join(f"{_plain(each)}:{_plain(weight)}" for each, weight in weights.items())


def _tiers(tiers: LeverageTiers | None) -> str | None:
    return tiers if tiers is None or isinstance(tiers, str) else ",".join(_plain(tier) for tier in tiers)


def _plain(value: Any) -> str:
    """Return a value of a question as text, numbers to their last digit."""
    if isinstance(value, float):  # numpy's too, whose repr is another
        return repr(float(value))
    return str(value)
