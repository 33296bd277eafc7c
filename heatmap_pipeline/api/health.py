"""Whether what is served is what a reader may rely on: how old it is, and whether its chain of days holds.

Stale is a symbol whose newest complete day ended longer ago than the setting allows, unless its market has ended, or of
which a stored day does not follow from the one before it. Days missing between two histories are listed, but the source
never had them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from heatmap_pipeline.api.publications import Publications
from heatmap_pipeline.commands import command, first_commands
from heatmap_pipeline.instants import DAY, day_start, iso
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.origin import as_stored
from heatmap_pipeline.views.data import ModelSummary, SymbolSummary, Version

_READY_SECONDS = 5.0
"""How long the open publication may take to answer a question that takes a millisecond."""


def health(
    version: Version | None, problem: str, settings: Settings, now: float | None = None
) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of GET /health.

    Args:
        version: what is served; None where there is nothing.
        problem: why the newest file could not be read, or ''.
        settings: the home, and the age of the newest complete day beyond which a symbol is stale.
        now: seconds since 1970-01-01 UTC, for tests.
    """
    moment = time.time() if now is None else now
    if version is None or not version.symbols:
        outdated = "; ".join(version.outdated.values()) if version is not None else ""
        reason = problem or outdated or f"nothing is published yet; run {first_commands(settings.home)}"
        return 503, {
            "status": "empty",
            "version": None,
            "newest_day": None,
            "as_of": None,
            "age_seconds": None,
            "symbols": [],
            "reason": reason,
        }
    reports = [
        _report(symbol, model, settings, moment)
        for symbol in version.symbols.values()
        for model in symbol.models.values()
    ]
    reasons = [*version.outdated.values(), *version.damaged.values()]
    reasons += [f"{report['symbol']} {report['model']}: {report['reason']}" for report in reports if report["stale"]]
    if problem:
        reasons.insert(0, f"an older version is served: {problem}")
    # The oldest of the newest: what is served is as fresh as the symbol that is furthest behind.
    going = [report for report in reports if report["ended"] is None] or reports
    newest = min((report["newest_day"] for report in going if report["newest_day"]), default=None)
    body: dict[str, Any] = {
        "status": "stale" if reasons else "ok",
        "version": version.name,
        "newest_day": newest,
        "as_of": min(report["as_of"] for report in going),
        "age_seconds": max(report["age_seconds"] for report in going),
        "symbols": reports,
    }
    if reasons:
        body["reason"] = "; ".join(reasons)
    return (503 if reasons else 200), body


async def readiness(publications: Publications) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of GET /ready: whether a publication is open and answers, however old it is."""
    version = await publications.current()
    if version is None:
        return 503, _not_ready(publications.problem or "nothing is published yet")
    try:
        answers = await asyncio.wait_for(asyncio.to_thread(version.answers), _READY_SECONDS)
    except Exception as error:  # whatever it is, that is what is asked
        return 503, _not_ready(f"the publication that is open does not answer ({type(error).__name__})")
    finally:
        version.release()
    if not answers:
        return 503, _not_ready("the publication that is open holds no symbol")
    return 200, {"status": "ready", "version": version.name}


def _not_ready(reason: str) -> dict[str, Any]:
    return {"status": "not ready", "version": None, "reason": reason}


def _report(symbol: SymbolSummary, model: ModelSummary, settings: Settings, now: float) -> dict[str, Any]:
    newest = model.newest_complete
    end = (day_start(newest) + DAY if newest is not None else model.begin) / 1e6
    age = max(int(now - end), 0)
    reasons = []
    if symbol.ended is None and age > settings.api_stale_hours * 3600:
        what = f"the newest complete day is {newest}" if newest is not None else "no day is complete yet"
        line = command(as_stored(settings, symbol.name, symbol.source), "refresh", symbol.name)
        limit = f"{settings.api_stale_hours:g} h"
        reasons.append(f"{what}, {age // 3600} h old, which is more than {limit}; run `{line}`")
    if model.broken:
        reasons.append(
            f"{model.broken[0]} does not follow from the day before it; `{command(settings, 'status')}` names the "
            "command that rebuilds it"
        )
    report: dict[str, Any] = {
        "symbol": symbol.name,
        "model": model.name,
        "newest_day": newest.isoformat() if newest is not None else None,
        "as_of": iso(model.end),
        "age_seconds": age,
        "stale": bool(reasons),
        "missing_days": [day.isoformat() for day in model.missing],
        "broken_days": [day.isoformat() for day in model.broken],
        "not_whole": {day.isoformat(): words for day, words in symbol.not_whole.items()},
        "cells_from": model.cells_from.isoformat() if model.cells_from is not None else None,
        "provisional": model.last_day in model.provisional,
        "ended": None if symbol.ended is None else symbol.ended.day.isoformat(),
    }
    if reasons:
        report["reason"] = "; ".join(reasons)
    return report
