"""Planted bad data: every blocking rule stops the run it is found in, and nothing after it is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from heatmap_pipeline.orchestration import checks
from heatmap_pipeline.orchestration.assets import STAGES
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.checks import RULES, Rule
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.checks import CheckReport
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    FIRST,
    QUIET,
    Ran,
    ask,
    command_in,
    day,
    ran,
    real,
    run_job,
    untouched,
)

NOON = f"TIMESTAMP '{day(2)} 12:00'"
PLANTED: Mapping[str, str] = {
    "candles_valid": f"UPDATE raw_candles SET low = open * 1.5 WHERE open_time = {NOON}",
    "open_interest_valid": f"UPDATE raw_open_interest SET contracts = -1 WHERE snapshot_time = {NOON}",
    "chain_unbroken": f"UPDATE heatmap_days SET previous_hash = 'another' WHERE model = 'delta' AND day = '{day(5)}'",
    "days_unique": f"INSERT INTO heatmap_days SELECT * FROM heatmap_days WHERE model = 'delta' AND day = '{day(2)}'",
    "ledger_conserves": f"UPDATE book_ledger SET closed = closed + 0.01 WHERE model = 'delta' AND timestamp = {NOON}",
    "totals_equal_open_interest": "UPDATE book_ledger SET open_interest = open_interest + 0.01 "
    f"WHERE model = 'turnover' AND side = 'long' AND timestamp = {NOON}",
    "levels_consumed": "UPDATE open_positions SET liq_price = 1e7 WHERE rowid = "
    f"(SELECT min(rowid) FROM open_positions WHERE side = 'long' AND day = '{day(1)}')",
    "quantities_valid": "UPDATE position_events SET quantity = 'nan' WHERE rowid = "
    f"(SELECT min(rowid) FROM position_events WHERE timestamp = {NOON})",
    "cells_add_up": "UPDATE liquidation_snapshots SET active_volume = active_volume * 1.001 + 1 WHERE rowid = "
    f"(SELECT min(rowid) FROM liquidation_snapshots WHERE timestamp = {NOON})",
    "cells_unique": "INSERT INTO liquidation_snapshots SELECT symbol, model, timestamp, price_bucket, side, 0, 0 "
    f"FROM liquidation_snapshots WHERE timestamp = {NOON} LIMIT 1",
    "snapshots_current": f"UPDATE snapshot_days SET state_hash = 'another' WHERE model = 'delta' AND day = '{day(5)}'",
}
"""One piece of bad data per blocking rule."""

ORDER = [stage.NAME for stage in STAGES]

RUN = ("candles_valid", "open_interest_valid", "chain_unbroken", "snapshots_current")
"""One rule per checked stage, tried by a whole run; of the others only what they say of the same rows is asked."""


def check_only(settings: Settings) -> Ran:
    """Run nothing but the checks, as someone may from the UI; such a run has no days."""
    job = dg.define_asset_job("only_checks", selection=dg.AssetSelection.all_asset_checks())
    definitions = dg.Definitions.merge(build_defs(settings, start=FIRST), dg.Definitions(jobs=[job]))
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("only_checks").execute_in_process(
            run_config=QUIET, instance=instance, raise_on_error=False
        )
        return ran(result.all_events, result.success)


def failed_alone(settings: Settings) -> set[str]:
    """Return which checks fail in a run of them alone, by calling what such a run calls."""
    failed = set()
    for found in checks.build_checks(settings):
        context = SimpleNamespace(selected_asset_check_keys=found.check_keys, run=SimpleNamespace(tags={}))
        function: Any = found.op.compute_fn
        for result in function.decorated_fn(
            context, WarehouseResource(database=str(Warehouse(settings.home).published))
        ):
            if not result.passed:
                failed.add(f"{result.asset_key.to_user_string()}:{result.check_name}")
    return failed


def test_every_blocking_rule_is_tried_and_every_stage_with_one_by_a_run() -> None:
    blocking = [rule for rule in RULES if rule.blocking]
    assert set(PLANTED) == {rule.name for rule in blocking}
    assert {rule.asset for rule in blocking} == {rule.asset for rule in blocking if rule.name in RUN}


def test_rules_that_block_are_checks_that_block(finished: Settings) -> None:
    specs = [spec for check in checks.build_checks(finished) for spec in check.check_specs]
    assert {spec.name: spec.blocking for spec in specs} == {rule.name: rule.blocking for rule in RULES}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.blocking], ids=lambda rule: rule.name)
def test_planted_bad_data_are_found_by_their_rule_and_no_other(rule: Rule, finished: Settings, home: Path) -> None:
    settings = real(home, finished.archive or home)
    ask(settings, PLANTED[rule.name])
    with Warehouse(home).connect(BTC) as con:
        results = [
            checks._result(con, settings, BTC, dg.AssetKey([BTC, other.asset]), other, day(1), day(2))
            for other in RULES
            if other.blocking and ORDER.index(other.asset) <= ORDER.index(rule.asset)
        ]
    (failed,) = (result for result in results if not result.passed)
    assert (failed.check_name, failed.severity) == (rule.name, dg.AssetCheckSeverity.ERROR)
    assert (failed.description or "").startswith(f"{BTC}: "), failed.description


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.name in RUN], ids=lambda rule: rule.name)
def test_planted_bad_data_stop_the_run(rule: Rule, finished: Settings, home: Path) -> None:
    """The bad row is of day 2, or of day 5 where a run that is about day 5 would mend it."""
    settings = real(home, finished.archive or home)
    ask(settings, PLANTED[rule.name])
    with untouched(home / "heatmap.duckdb"):
        run = run_job(settings, 1, 2)
    assert not run.success
    assert run.failed_checks() == {f"{BTC}/{rule.asset}:{rule.name}"}
    made = {name.split("/")[1] for name in run.materialised}
    assert made == set(ORDER[: ORDER.index(rule.asset) + 1]), "nothing after the checked asset"
    told = run.checks[f"{BTC}/{rule.asset}:{rule.name}"][1]
    assert told.startswith(f"{BTC}: "), told
    if rule.name in ("chain_unbroken", "snapshots_current"):
        assert command_in(told)[3:7] == ["--start", str(day(5)), "--end", str(day(5))]
        run_job(settings, 5).ok()
        assert not failed_alone(settings)


def test_a_run_that_is_stopped_between_two_results_leaves_nothing_locked(finished: Settings, home: Path) -> None:
    settings = real(home, finished.archive or home)
    check = checks.build_checks(settings)[0]
    context = SimpleNamespace(selected_asset_check_keys=check.check_keys, run=SimpleNamespace(tags={}))
    function: Any = check.op.compute_fn
    results = function.decorated_fn(context, WarehouseResource(database=str(home / "heatmap.duckdb")))
    assert next(results).passed
    with Warehouse(home).connect(BTC) as con:
        assert con.execute("SELECT count(*) FROM heatmap_days").fetchall() == [(10,)]
    assert next(results).passed, "it was not the only one"


def test_a_run_of_the_checks_alone_looks_at_every_stored_day(finished: Settings, home: Path) -> None:
    settings = real(home, finished.archive or home)
    run = check_only(settings)
    assert run.success
    assert run.failed_checks() == failed_alone(settings) == set()
    assert {name.split(":")[1] for name in run.checks} == {rule.name for rule in RULES}
    for number in (1, 5):
        at = f"TIMESTAMP '{day(number)} 12:00'"
        ask(settings, f"UPDATE book_ledger SET opened = opened + 1 WHERE model = 'delta' AND timestamp = {at}")
        assert failed_alone(settings) == {f"{BTC}/position_events:ledger_conserves"}
        if number == 1:
            assert check_only(settings).failed_checks() == {f"{BTC}/position_events:ledger_conserves"}
        ask(settings, f"UPDATE book_ledger SET opened = opened - 1 WHERE model = 'delta' AND timestamp = {at}")


@pytest.mark.parametrize("blocking", [True, False])
def test_only_blocking_rules_stop_a_run(
    blocking: bool, finished: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> CheckReport:
        """Never content."""
        return CheckReport(False, "not content", {"faults": 3})

    monkeypatch.setattr(checks, "RULES", (Rule("never_content", "raw_candles", refuse, blocking, per_model=False),))
    run = run_job(real(home, finished.archive or home), 5, dagster=blocking)
    assert run.checks == {f"{BTC}/raw_candles:never_content": (False, f"{BTC}: not content")}
    assert run.success is not blocking
    assert (f"{BTC}/published_database" in run.materialised) is not blocking


def test_checks_are_about_the_days_of_the_run(finished: Settings, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[date, date]] = []

    def note(_con: object, _settings: object, _symbol: str, _model: str, first: date, last: date) -> CheckReport:
        """Notes the days."""
        asked.append((first, last))
        return CheckReport(True, "noted")

    monkeypatch.setattr(checks, "RULES", (Rule("noted", "raw_candles", note, per_model=False),))
    settings = real(home, finished.archive or home)
    run_job(settings, 2, 4, stages=["raw_candles"], dagster=True).ok()
    run_job(settings, 3, stages=["raw_candles"], dagster=True).ok()
    check_only(settings)
    assert asked == [(day(2), day(4)), (day(3), day(3)), (day(1), day(5))]
