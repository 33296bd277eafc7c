"""The overview of all markets: its answer, which is made once for a publication and what has become stale since."""

from __future__ import annotations

from typing import Any

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.health import health
from heatmap_pipeline.api.plan import Plan
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.views.data import Version
from heatmap_pipeline.views.overview import market_records


def plan_markets(version: Version, settings: Settings, now: float | None = None) -> Plan:
    """Plan the overview.

    Args:
        version: what is served.
        settings: which age is stale.
        now: seconds since 1970-01-01 UTC, for tests.
    """
    _, state = health(version, "", settings, now)
    reasons: dict[tuple[str, str], str | None] = {
        (report["symbol"], report["model"]): report.get("reason") for report in state["symbols"]
    }

    def make() -> bytes:
        markets: list[dict[str, Any]] = []
        for record in market_records(version):
            reason = reasons[record["symbol"], record["model"]]
            markets.append({**record, "stale": reason is not None, "reason": reason})
        return encode.dump({"markets": markets, "version": version.name})

    # Of health only the words are in the answer: they change when a market becomes stale, and once an hour then.
    order = tuple((name, *symbol.models) for name, symbol in version.symbols.items())
    return Plan(("markets", order, tuple(reasons.values())), version.name, make, live=True)
