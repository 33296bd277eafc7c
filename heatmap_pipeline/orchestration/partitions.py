"""One partition per UTC day, the same for every symbol, and how the ops read which days a run asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import dagster as dg

from heatmap_pipeline.chain.calendar import EARLIEST, yesterday
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.market.tables import NoDataError
from heatmap_pipeline.settings import Settings

PARTITION_TAG = "dagster/partition"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""Tags by which Dagster tells a run its partition, or the first and last of them."""

LAUNCHED_HERE = {"heatmap/launched_by": "command line"}
"""Tag of the runs that a command makes in its own process."""

DAYS_SHOWN = 30
"""Days before yesterday at which the partitions begin when neither HEATMAP_START nor stored data say more."""


def daily(start: date | None, end: date | None = None, *, today: bool = False) -> dg.DailyPartitionsDefinition:
    """Return the day partitions from `start` to `end`; without it to yesterday, or today where its data can be had."""
    first = start or yesterday() - timedelta(days=DAYS_SHOWN - 1)
    if end is not None:
        after = (max(first, end) + ONE_DAY).isoformat()
        return dg.DailyPartitionsDefinition(start_date=first.isoformat(), end_date=after, timezone="UTC")
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC", end_offset=int(today))


def there(settings: Settings) -> tuple[date, date] | None:
    """Return the first and last day that a source which does not grow has of the symbols, as of now.

    None for a source that grows, and where there is nothing: a run then says what is missing.
    """
    if settings.kind.grows:
        return None
    last = yesterday()
    days = [EARLIEST + ONE_DAY * number for number in range((last - EARLIEST).days + 1)]
    try:
        market = open_market(settings)
    except NoDataError:
        return None
    days_there = set().union(*(market.available(symbol, days) for symbol in settings.symbols))
    return (min(days_there), max(days_there)) if days_there else None


def as_days(keys: Iterable[str]) -> list[date]:
    """Return partition keys as days, in order."""
    return sorted(date.fromisoformat(key) for key in keys)


def range_tags(first: date, last: date) -> dict[str, str]:
    """Return the tags of a run over days, both included."""
    return dict(zip(RANGE_TAGS, (first.isoformat(), last.isoformat()), strict=True))


def days_of_run(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """Return the first and last day that a run is about, None where its tags name none.

    Checks of single partitions are a preview feature of Dagster, so the checks read the run's tags instead.
    """
    if PARTITION_TAG in tags:
        day = date.fromisoformat(tags[PARTITION_TAG])
        return day, day
    if RANGE_TAGS[0] in tags:
        return date.fromisoformat(tags[RANGE_TAGS[0]]), date.fromisoformat(tags[RANGE_TAGS[1]])
    return None
