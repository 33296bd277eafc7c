"""Whether what is stored of a symbol still suits its price: its bucket, and how many cells a day has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from heatmap_pipeline.chain.history import closes
from heatmap_pipeline.errors import counted
from heatmap_pipeline.model.parameters import bucket_misfit, choose_bucket, follow_bucket
from heatmap_pipeline.settings import Settings, setting_of
from heatmap_pipeline.store import days as stored


def misfit_words(con: Any, settings: Settings, symbol: str, model: str) -> str:
    """Say how the bucket of the newest computed day does not fit its last close, and what follows; '' where it does.

    A bucket follows the price from day to day; what does not fit is one that a setting fixes, one that the price left
    within its day, and the finest there is.
    """
    records = stored.day_records(con, symbol, model)
    newest = records[max(records)] if records else None
    prices = closes(newest) if newest is not None else None
    if newest is None or prices is None:
        return ""
    bucket, price = float(json.loads(newest.parameters)["bucket"]), prices[1]
    misfit = bucket_misfit(bucket, price)
    if not misfit:
        return ""
    better = choose_bucket(price)
    if settings.of(symbol).bucket is not None:
        setting = setting_of("bucket", symbol)
        what = f"unset {setting}, or set it to {better:g}, and compute its days again with the line that is named then"
    elif better == bucket:
        what = "there is none finer"
    else:
        what = f"the next day takes {follow_bucket(bucket, price):g}"
    return f"{symbol} {newest.day}: {misfit}; {what}"


def fit_lines(con: Any, settings: Settings, symbol: str, model: str) -> Iterator[str]:
    """Yield what `heatmap status` says of a symbol whose bucket does not fit, or whose cells were too many."""
    if words := misfit_words(con, settings, symbol, model):
        yield f"bucket  {words}"
    coarse = stored.coarse_days(con, symbol, model)
    if coarse:
        day = max(coarse)
        cells, digits = coarse[day]
        more = f"; {counted(len(coarse) - 1, 'more day')}, the first {min(coarse)}" if len(coarse) > 1 else ""
        what = f"of {cells:,} cells those far from the price are put together ({digits} digits)"
        yield f"coarse  {symbol} {model} {day}: {what}{more}"
