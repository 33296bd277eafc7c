"""Answers short enough for whoever reads them as text: bounded in size, each with where it comes from.

No protocol here (`server.py`), and no question (`client/`): what the client hands out, put into few numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatmap_pipeline.bins import round_multiples
from heatmap_pipeline.client import BookMap, Market, Provenance, Score, Series, Zone, Zones
from heatmap_pipeline.client.answers import Floats, text_of

MOST_MARKETS = 50
MOST_LEVELS = 60
MOST_ZONES = 5
MOST_ROWS = 60
_MOST_EVENTS = 5
_NEAR_PERCENT = 10
_UNITS = 1e8
"""Integer prices in one of the quote asset."""


def markets(every: Sequence[Market], part: str, bases: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Return the markets whose symbol has a part, at most `MOST_MARKETS` of them, and the bases that have several."""
    wanted = [market for market in every if part.upper() in market.symbol]
    return {
        "markets": [
            {
                "symbol": market.symbol,
                "kind": "simulated" if market.simulated else "modelled",
                "exchange": market.exchange,
                "title": market.title,
                "source": market.source,
                "models": list(market.models),
                "first_day": market.first_day.isoformat(),
                "as_of": text_of(market.as_of),
                "ended": None if market.ended is None else market.ended.isoformat(),
                "provisional": market.provisional,
                "price": market.price,
                "located_share": dict(market.located_share),
                "units": {"time": "UTC", "price": market.quote, "volume": market.quote},
            }
            for market in wanted[:MOST_MARKETS]
        ],
        "left_out": max(len(wanted) - MOST_MARKETS, 0),
        "bases": {
            base: list(ids)
            for base, ids in (bases or {}).items()
            if len(ids) > 1 and any(market.symbol in ids for market in wanted[:MOST_MARKETS])
        },
        "note": "Liquidation levels of every market are modelled; `simulated`: on a market that is made up.",
    }


def book(book_map: BookMap, within_percent: float, most: int) -> dict[str, Any]:
    """Return the levels within a distance of the price, in bins wide enough that there are at most `most`.

    Bins are whole multiples of the map's own, from 0; sums are exact.
    """
    near = np.abs(book_map.prices / book_map.price - 1) * 100 <= within_percent
    units = np.rint(book_map.prices[near] * _UNITS).astype(np.int64)
    bin_units = round(book_map.price_bin_size * _UNITS)
    height = next(
        size for size in (bin_units * times for times in round_multiples()) if len(np.unique(units // size)) <= most
    )
    bins, place = np.unique(units // height, return_inverse=True)
    long, short = (np.bincount(place, side[near], len(bins)) for side in (book_map.long, book_map.short))
    return {
        "state_at": text_of(book_map.time),
        "price": book_map.price,
        "within_percent": within_percent,
        "price_bin_size": height / _UNITS,
        "levels": [
            {
                "price_from": int(number) * height / _UNITS,
                "price_to": (int(number) + 1) * height / _UNITS,
                "long": _volume(in_long),
                "short": _volume(in_short),
            }
            for number, in_long, in_short in zip(bins, long, short, strict=True)
        ],
        "within": {"long": _volume(long.sum()), "short": _volume(short.sum())},
        "in_all": {"long": book_map.total_long, "short": book_map.total_short},
        "located_share": book_map.located_share,
        "provisional": book_map.provisional,
        "provenance": about(book_map.provenance),
    }


def zones(shown: Zones) -> dict[str, Any]:
    """Return what stands out, the nearest and at most `MOST_ZONES` of the largest on each side."""

    def record(zone: Zone | None) -> dict[str, Any] | None:
        return None if zone is None else zone.record()

    return {
        "state_at": text_of(shown.time),
        "price": shown.price,
        "within_percent": shown.within_percent,
        "nearest": {"above": record(shown.nearest_above), "below": record(shown.nearest_below)},
        "largest": {
            "above": [record(zone) for zone in shown.above[:MOST_ZONES]],
            "below": [record(zone) for zone in shown.below[:MOST_ZONES]],
        },
        "provenance": about(shown.provenance),
    }


def summary(series: Series) -> dict[str, Any]:
    """Return what a range of time was: price, what the model liquidated and when, what is open, what stands out."""
    known = np.flatnonzero(~series.missing)
    dead = {side: np.bincount(*_of(series, f"consumed_{side}"), len(series.times)) for side in ("long", "short")}
    worst = np.argsort(-(dead["long"] + dead["short"]), kind="stable")[:_MOST_EVENTS]
    candles = series.candles
    close = float(candles["close"][-1])
    return {
        "start": _instant(series.times[0]),
        "state_at": _instant(series.state_at[-1]),
        "interval_seconds": series.interval_seconds,
        "intervals": len(series.times),
        "intervals_missing": int(series.missing.sum()),
        "clipped": list(series.clipped),
        "price": {
            "open": float(candles["open"][0]),
            "high": float(candles["high"].max()),
            "low": float(candles["low"].min()),
            "close": close,
            "change_percent": round((close / float(candles["open"][0]) - 1) * 100, 4),
        },
        "modelled_liquidations": {
            **{side: _volume(volumes.sum()) for side, volumes in dead.items()},
            "largest": [
                {"start": _instant(series.times[at]), **{side: _volume(volumes[at]) for side, volumes in dead.items()}}
                for at in worst
                if dead["long"][at] + dead["short"][at] > 0
            ],
        },
        "reported_liquidations": _reported(series),
        "open": {
            name: {side: _volume(series.dense(side)[at].sum()) for side in ("long", "short")}
            for name, at in (("first", known[0]), ("last", known[-1]))
        },
        f"largest_levels_within_{_NEAR_PERCENT}_percent": {
            side: _largest(series, side, int(known[-1]), close) for side in ("long", "short")
        },
        "located_share": series.located_share,
        "provenance": about(series.provenance),
    }


def score(result: Score) -> dict[str, Any]:
    """Return a score, the trailing window before all days, at most `MOST_ROWS` numbers of it; without its hours."""
    rows = [{"window": window, **row} for window, rows in result.windows.items() for row in rows]
    return {
        "scored": result.scored,
        "words": result.words,
        "record": result.source,
        "days": dict(result.days),
        "rows": rows[:MOST_ROWS],
        "left_out": max(len(rows) - MOST_ROWS, 0),
        "provenance": about(result.provenance),
    }


def about(provenance: Provenance) -> dict[str, Any]:
    """Return where an answer comes from, in words and field by field."""
    tiers = provenance.leverage_tiers
    return {
        "words": provenance.words,
        **provenance.record(),
        "leverage_tiers": "all" if tiers is None else list(tiers),  # null would read as missing
    }


def _of(series: Series, name: str) -> tuple[Any, Floats]:
    time, _, volume = series.cells[name]
    return time, volume


def _largest(series: Series, side: str, at: int, close: float) -> list[dict[str, float]]:
    """Return the largest bins of a side near the price in an interval, largest first.

    Lots of low leverage far away are the largest of every book; they would hide what is near.
    """
    near = np.abs(series.prices / close - 1) * 100 <= _NEAR_PERCENT
    volumes = np.where(near, series.dense(side)[at], 0.0)
    order = np.argsort(-volumes, kind="stable")[:_MOST_EVENTS]
    return [
        {
            "price_from": float(series.prices[row]),
            "price_to": float(series.prices[row] + series.price_bin_size),
            "volume": _volume(volumes[row]),
            "distance_percent": round((float(series.prices[row]) / close - 1) * 100, 4),
        }
        for row in order
        if volumes[row] > 0
    ]


def _reported(series: Series) -> dict[str, Any] | None:
    """Return the sums of what was really liquidated; None where nothing was recorded, which is missing and not 0."""
    if series.reported is None:
        return None
    kept = ("source", "exchange", "own_exchange", "complete", "factor")
    sums = {side: _volume(sum(series.reported[side]["volume"])) for side in ("long", "short")}
    return {**{name: series.reported[name] for name in kept}, **sums}


def _instant(time: np.datetime64) -> str:
    return f"{np.datetime_as_string(time, unit='s')}Z"


def _volume(volume: Any) -> float:
    return round(float(volume), 2)
