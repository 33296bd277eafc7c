"""Asset checks: what must hold of the stored rows, as a table of rules per asset.

The rules themselves are queries and live in `store.checks`. Those that mean "wrong data" block: nothing downstream of
them runs, so nothing wrong is drawn or published.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from typing import Any

import dagster as dg

from heatmap_pipeline.chain.due import first_due
from heatmap_pipeline.chain.fit import misfit_words
from heatmap_pipeline.chain.history import read_history, rebuilding, stale_days
from heatmap_pipeline.chain.liquidations import STREAMS, feeds
from heatmap_pipeline.chain.reach import closed_words, last_expected
from heatmap_pipeline.chain.recovery import loss
from heatmap_pipeline.commands import command
from heatmap_pipeline.model.score.table import LEVEL_BRACKET, TRAILING_DAYS, level_in_bracket
from heatmap_pipeline.orchestration.assets import (
    liquidation_snapshots,
    map_scores,
    position_events,
    published_database,
    raw_candles,
    raw_liquidations,
    raw_open_interest,
)
from heatmap_pipeline.orchestration.assets.common import asset_key, step_of
from heatmap_pipeline.orchestration.partitions import days_of_run
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import checks, read
from heatmap_pipeline.store.checks import Check, CheckReport, Numbers
from heatmap_pipeline.store.days import coarse_days
from heatmap_pipeline.store.ended import ended_symbols
from heatmap_pipeline.store.odd import odd_days
from heatmap_pipeline.store.read import published_histories, stored_days
from heatmap_pipeline.store.scores import StoredScore, load_score, published_score
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.store.whole import days_not_whole


@dataclass(frozen=True)
class Rule:
    """One check: its name, what it says, the asset it looks at, how it is evaluated, and whether it blocks."""

    name: str
    asset: str
    evaluate: Callable[[Any, Settings, str, str, date, date], CheckReport]
    blocking: bool = True
    per_model: bool = True


def _stored(query: Check) -> Callable[..., CheckReport]:
    def evaluate(con: Any, _: Settings, symbol: str, model: str, first: date, last: date) -> CheckReport:
        return query(con, symbol, model, first, last)

    return evaluate


def _chain_unbroken(con: Any, settings: Settings, symbol: str, model: str, _first: date, _last: date) -> CheckReport:
    """No stored day is stale, each follows from what is stored now; and none that is published is lost."""
    history = read_history(con, settings, symbol)
    # Once is enough: it is about all models.
    if model == settings.models[0] and (lost := loss(con, settings, symbol)):
        return CheckReport(False, lost)
    stale = stale_days(settings, history, model)
    if not stale:
        return CheckReport(True, "every day follows from the day before it", {"days": len(history.days[model])})
    return CheckReport(
        False,
        f"{stale[0].day} is stale: {stale[0].reason}; rebuild with `{rebuilding(settings, history)}`",
        {"stale_days": len(stale), "first": stale[0].day.isoformat()},
    )


def _snapshots_current(con: Any, settings: Settings, symbol: str, model: str, *_: date) -> CheckReport:
    """Every stored day has snapshots made from its present events, also the days that the run is not about."""
    history = read_history(con, settings, symbol)
    days = history.days[model]
    if not days:
        return CheckReport(True, "snapshots: no day is stored")
    first = max(min(days), history.cells_from(settings, model))
    report = checks.snapshots_current(con, symbol, model, first, max(days))
    mixed = len({seconds for _, seconds in history.snapshots[model].values()}) > 1
    if report.passed and not mixed:
        return report
    text = "snapshots at more than one interval" if report.passed else report.description
    return CheckReport(False, f"{text}; make them with `{rebuilding(settings, history)}`", report.numbers)


_LATE_TICKS = 3
"""Ticks of the intraday schedule that may pass without newer data: the exchange is late, or a run takes long."""


def up_to_date(con: Any, settings: Settings, symbol: str, _model: str = "", *_: date) -> CheckReport:
    """Every day until yesterday is computed and none is failed; a folder of archive files is as old as it is.

    What counts is what is stored, not when something last ran: days computed again make nothing newer.
    """
    newest = read.newest_candle(con, symbol)
    numbers: Numbers = {} if newest is None else {"newest_data": f"{newest:%Y-%m-%d %H:%M} UTC"}
    failed = read.failed_days(con, symbol)
    if failed:
        stage, day, message = failed[0]
        return CheckReport(False, f"{day} failed at {stage}: {message}", {**numbers, "failed_days": len(failed)})
    ended = ended_symbols(con).get(symbol)
    until = last_expected(settings, symbol) if ended is None else ended.day
    histories = published_histories(Warehouse(settings.home), [symbol])
    first = first_due(con, settings, symbol, until, histories, again=ended is None)
    catch_up = f"catch up with `{command(settings, 'refresh', symbol)}`"
    if first is None:
        begin = command(settings, "run", symbol, days=("DAY", "DAY"))
        return CheckReport(False, f"nothing of it is stored; begin with `{begin}`", {**numbers, "failed_days": 0})
    missing = (until - first).days + 1
    if missing > 0 and settings.kind.grows:
        text = f"{first} .. {until} are missing or not final; {catch_up}"
        return CheckReport(False, text, {**numbers, "failed_days": 0, "missing_days": missing})
    numbers |= {"failed_days": 0, "missing_days": 0}
    if ended is not None and missing <= 0:
        return CheckReport(True, f"ended on {ended.day}: {ended.reason}", numbers)
    if newest is not None and _behind_the_day(settings, symbol, newest):
        text = f"the newest candle is of {newest:%Y-%m-%d %H:%M} UTC, with HEATMAP_INTRADAY_MINUTES"
        return CheckReport(False, f"{text} = {settings.intraday_minutes}; {catch_up}", numbers)
    return CheckReport(True, "nothing is missing or failed", numbers)


def _behind_the_day(settings: Settings, symbol: str, newest: datetime) -> bool:
    """Whether today is to be kept current within the day, and is not; `newest` is the start of the newest candle."""
    if settings.intraday_minutes is None or not settings.kind.has_today or closed_words(settings, symbol):
        return False
    late = timedelta(minutes=(_LATE_TICKS + 1) * settings.intraday_minutes)
    return newest < datetime.now(UTC).replace(tzinfo=None) - late


def _days_whole(con: Any, _: Settings, symbol: str, *_rest: Any) -> CheckReport:
    """Every stored day, also before the run, is of whole files that match their CHECKSUM. A warning, no fault."""
    days = days_not_whole(con, symbol)
    text = f"{max(days)}: {days[max(days)]}" if days else "every day is whole"
    return CheckReport(not days, text, {"days_not_whole": len(days)})


def _days_believable(con: Any, _: Settings, symbol: str, *_rest: Any) -> CheckReport:
    """No stored day, also before the run, held rows that cannot be true. A warning: they are left out or followed."""
    days = odd_days(con, symbol)
    text = f"{max(days)}: {days[max(days)]}" if days else "nothing stored cannot be true"
    return CheckReport(not days, text, {"days_not_believable": len(days)})


def _bucket_fits(con: Any, settings: Settings, symbol: str, model: str, *_days: date) -> CheckReport:
    """The bucket of the newest day is 0.02 to 2 % of its last close, and no day has too many cells. A warning."""
    words = misfit_words(con, settings, symbol, model)
    coarse = coarse_days(con, symbol, model)
    if coarse and not words:
        words = f"{len(coarse)} days had more cells than are stored of one: those far from the price are put together"
    return CheckReport(not words, words or "the bucket fits the price", {"coarse_days": len(coarse)})


def _feed_alive(con: Any, settings: Settings, symbol: str, _: str, first: date, last: date) -> CheckReport:
    """No recorded stream printed nothing for 6 hours in which the market moved more than usual. A warning, no fault."""
    streams = feeds(con, settings, symbol, first, last)
    numbers = {f"{feed.source}_{name}": value for feed in streams for name, value in feed.numbers.items()}
    silent = [feed.words for feed in streams if feed.words]
    return CheckReport(not silent, "; ".join(silent) or "every stream that is recorded lives", numbers)


_WORSE = 0.05
"""By how much the agreement of the trailing days may be below the one published before."""


def _agreement(score: StoredScore | None) -> dict[str, float]:
    """Return the agreement of the trailing days by side, where there is one."""
    rows = score.rows if score is not None else ()
    window = f"{TRAILING_DAYS}d"
    wanted = [row for row in rows if (row.window, row.horizon, row.measure) == (window, "nowcast", "spearman")]
    return {row.side: row.value for row in wanted if not row.baseline and isfinite(row.value)}


def _score_not_worse(con: Any, settings: Settings, symbol: str, model: str, *_: date) -> CheckReport:
    """The agreement of 28 days is not more than 0.05 below the one that is published, of the same source."""
    now = load_score(con, symbol, model)
    before = published_score(Warehouse(settings.home), symbol, model)
    if before is not None and now is not None and before.source != now.source:
        return CheckReport(True, f"the score before was held against another record, {before.source}")
    values, published = _agreement(now), _agreement(before)
    numbers: Numbers = {f"{side}_agreement": value for side, value in values.items()}
    numbers |= {f"{side}_agreement_before": value for side, value in published.items()}
    worse = [side for side, value in values.items() if value < published.get(side, -1.0) - _WORSE]
    text = "; ".join(f"{side}s {values[side]:.3f}, published before {published[side]:.3f}" for side in worse)
    return CheckReport(not worse, f"the map agrees less than before: {text}" if worse else "not worse", numbers)


def _level_in_bracket(con: Any, _: Settings, symbol: str, model: str, *_days: date) -> CheckReport:
    """Predicted / reported over 28 days is of a believable size, 0.5 to 5, where there is a level."""
    score = load_score(con, symbol, model)
    rows = [row for row in (score.rows if score else ()) if (row.window, row.measure) == (f"{TRAILING_DAYS}d", "level")]
    off = [f"{row.side}s {row.value:.2f}" for row in rows if not level_in_bracket(row.value)]
    numbers: Numbers = {f"{row.side}_level": row.value for row in rows if isfinite(row.value)}
    low, high = LEVEL_BRACKET
    text = f"predicted / reported is outside {low:g} to {high:g}: {', '.join(off)}" if off else "within the bracket"
    return CheckReport(not off, text if rows else "there is no level", numbers)


RULES: Sequence[Rule] = (
    Rule("candles_valid", raw_candles.NAME, _stored(checks.candles_valid), per_model=False),
    Rule("candles_complete", raw_candles.NAME, _stored(checks.candles_complete), blocking=False, per_model=False),
    Rule("open_interest_valid", raw_open_interest.NAME, _stored(checks.open_interest_valid), per_model=False),
    Rule(
        "open_interest_complete",
        raw_open_interest.NAME,
        _stored(checks.open_interest_complete),
        blocking=False,
        per_model=False,
    ),
    Rule("chain_unbroken", position_events.NAME, _chain_unbroken),
    Rule("ledger_conserves", position_events.NAME, _stored(checks.ledger_conserves)),
    Rule("totals_equal_open_interest", position_events.NAME, _stored(checks.totals_equal_open_interest)),
    Rule("days_unique", position_events.NAME, _stored(checks.days_unique)),
    Rule("levels_consumed", position_events.NAME, _stored(checks.levels_consumed)),
    Rule("quantities_valid", position_events.NAME, _stored(checks.quantities_valid)),
    Rule("cells_add_up", liquidation_snapshots.NAME, _stored(checks.cells_add_up)),
    Rule("cells_unique", liquidation_snapshots.NAME, _stored(checks.cells_unique)),
    Rule("snapshots_current", liquidation_snapshots.NAME, _snapshots_current),
    Rule("bucket_fits", liquidation_snapshots.NAME, _bucket_fits, blocking=False),
    Rule("score_not_worse", map_scores.NAME, _score_not_worse, blocking=False),
    Rule("level_in_bracket", map_scores.NAME, _level_in_bracket, blocking=False),
    Rule("days_whole", published_database.NAME, _days_whole, blocking=False, per_model=False),
    Rule("days_believable", published_database.NAME, _days_believable, blocking=False, per_model=False),
    Rule("up_to_date", published_database.NAME, up_to_date, blocking=False, per_model=False),
)
"""Every check of a symbol."""

STREAM_RULES = (Rule("feed_alive", raw_liquidations.NAME, _feed_alive, blocking=False, per_model=False),)
"""And of one whose liquidations are recorded from a stream."""


def build_checks(settings: Settings) -> Sequence[dg.AssetChecksDefinition]:
    """Return the checks of every symbol: one op per checked asset, which opens the warehouse once for all its rules."""
    rules = [*RULES, *(STREAM_RULES if STREAMS.keys() & set(settings.liquidation_sources) else ())]
    assets = list(dict.fromkeys(rule.asset for rule in rules))
    return [
        _checks_of(settings, symbol, asset, [rule for rule in rules if rule.asset == asset])
        for symbol in settings.symbols
        for asset in assets
    ]


def _checks_of(settings: Settings, symbol: str, asset: str, rules: Sequence[Rule]) -> dg.AssetChecksDefinition:
    key = asset_key(symbol, asset)
    specs = [
        dg.AssetCheckSpec(
            rule.name,
            asset=key,
            blocking=rule.blocking,
            description=(rule.evaluate.__doc__ or getattr(checks, rule.name).__doc__ or "").split("\n")[0],
        )
        for rule in rules
    ]

    @dg.multi_asset_check(name=f"{step_of(symbol, asset)}_checks", specs=specs, can_subset=True)
    def run_checks(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        chosen = {check.name for check in context.selected_asset_check_keys}
        with warehouse.get_connection(symbol) as con:
            first, last = days_of_run(context.run.tags) or stored_days(con, symbol)
            results = [_result(con, settings, symbol, key, rule, first, last) for rule in rules if rule.name in chosen]
        yield from results  # closed by then: a run that is stopped here would leave the warehouse locked

    return run_checks


def _result(
    con: Any, settings: Settings, symbol: str, key: dg.AssetKey, rule: Rule, first: date, last: date
) -> dg.AssetCheckResult:
    models = settings.models if rule.per_model else ("",)
    reports = {model: rule.evaluate(con, settings, symbol, model, first, last) for model in models}
    numbers: dict[str, Any] = {"first_day": first.isoformat(), "last_day": last.isoformat()}
    for model, report in reports.items():
        prefix = f"{model}_" if model else ""
        numbers.update({f"{prefix}{name}": value for name, value in report.numbers.items()})
    failed = [f"{model} {report.description}".strip() for model, report in reports.items() if not report.passed]
    return dg.AssetCheckResult(
        check_name=rule.name,
        asset_key=key,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if rule.blocking else dg.AssetCheckSeverity.WARN,
        description=f"{symbol}: {'; '.join(failed) or next(iter(reports.values())).description}",
        metadata=numbers,
    )
