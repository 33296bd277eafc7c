"""The newest days of a symbol as they are drawn: how many, in columns and rows of which size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heatmap_pipeline.instants import DAY, MICROSECONDS, ONE_DAY, SECONDS, day_of, day_start
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError
from heatmap_pipeline.views.base import Base, find_base
from heatmap_pipeline.views.columns import Columns, as_columns, lots_of, reports_of
from heatmap_pipeline.views.data import load_version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.heatmap import make_heatmap
from heatmap_pipeline.views.replay import Books, Source
from heatmap_pipeline.views.summed import make_summed, summed_columns
from heatmap_pipeline.views.window import Window, find_model, make_window

DAYS_DRAWN = 30
"""Newest days on the page, without a gap."""
MAX_COLUMNS = 2000
"""More would be more than a screen has."""
MAX_ROWS = 1000
"""Levels reach far beyond the prices in view, which shall still have a few hundred rows."""


def newest_days(con: Connection, symbol: str, models: tuple[str, ...], seconds: int) -> dict[str, Columns]:
    """Return the newest days of a symbol by model, made as the endpoint makes a window.

    Args:
        con: the database, published or private.
        symbol: as the exchange writes it.
        models: names.
        seconds: width of a column, or the next that has a name and keeps within `MAX_COLUMNS`.

    Raises:
        ViewError: not found where nothing is stored of a model.
        StoreError: if the database contradicts itself.
    """
    version = load_version(con, models, only=[symbol])
    if symbol in version.damaged:
        raise StoreError(version.damaged[symbol])
    known = version.symbols[symbol].models if symbol in version.symbols else {}
    if symbol in version.outdated and not known.keys() >= set(models):
        raise ViewError("not_found", version.outdated[symbol])
    if symbol not in version.symbols:
        raise ViewError("not_found", f"{symbol}: nothing is stored, so there is nothing to draw")
    data = version.data(symbol)
    books = Books(0)
    sources = {name: Source(version, data, find_model(data, name), None, books) for name in models}
    return {name: newest_columns(source, seconds) for name, source in sources.items()}


def newest_days_of_base(
    con: Connection, base: str, symbols: Sequence[str], models: tuple[str, ...], seconds: int
) -> dict[str, Columns]:
    """Return the newest days of the sum of markets by model, as the endpoint makes a window; of several, or none.

    Args:
        con: the database, published or private.
        base: the asset that all of them are contracts of.
        symbols: ids of its markets; what is not stored of them is left out.
        models: names; one that no two of the markets have is left out.
        seconds: least width of a column.

    Raises:
        ViewError: if their buckets do not fit each other.
        StoreError: if the database contradicts itself.
    """
    version, books = load_version(con, models, only=symbols), Books(0)
    version = replace(version, symbols={name: each for name, each in version.symbols.items() if each.base == base})
    drawn = {}
    for model in models:
        having = [name for name, data in version.symbols.items() if model in data.models]
        if len(having) > 1:
            drawn[model] = _newest_sum(find_base(version, books, base, model), seconds)
    return drawn


def _newest_sum(base: Base, seconds: int) -> Columns:
    start = max(base.begin, day_start(day_of(base.end - 1)) - (DAYS_DRAWN - 1) * DAY)
    steps = [seconds, *(source.symbol.candles.seconds for source in base.sources)]
    name, width = next(
        (name, width)
        for name, width in SECONDS.items()
        if all(width % step == 0 for step in steps) and (base.end - start) / (width * MICROSECONDS) + 1 <= MAX_COLUMNS
    )
    return summed_columns(make_summed(base, width, name, (start, None), None, MAX_ROWS))


def newest_columns(source: Source, seconds: int) -> Columns:
    """Return the newest days of a source; `seconds` is the width of a column, or the least."""
    interval, window = newest_window(source, seconds)
    heatmap = make_heatmap(source, window, interval, None, MAX_ROWS)
    return as_columns(heatmap, reports_of(heatmap), lots_of(heatmap))


def newest_window(source: Source, seconds: int) -> tuple[str, Window]:
    """Return the window of the newest days without a gap, and the name of its interval."""
    model = source.model
    first = last = day_of(model.end - 1)
    # A history that was begun anew may be of another unit than the one before it.
    while first not in model.fresh and first - ONE_DAY in model.bounds and (last - first + ONE_DAY).days < DAYS_DRAWN:
        first -= ONE_DAY
    start = max(day_start(first), model.begin)
    fitting = (
        (name, width)
        for name, width in SECONDS.items()
        if width % seconds == 0 and width % source.symbol.candles.seconds == 0
    )
    name, width = next(
        (name, width) for name, width in fitting if (model.end - start) / (width * MICROSECONDS) + 1 <= MAX_COLUMNS
    )
    return name, make_window(source.symbol.name, model.begin, model.end, width, start, None)
