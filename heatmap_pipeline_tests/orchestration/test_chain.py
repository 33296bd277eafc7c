"""The chain of days in real runs: what is refused, what becomes stale, and that the command we name repairs it."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.history import ChainError
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.orchestration.runs import Span, days_to_run
from heatmap_pipeline.orchestration.turns import RunError
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.computed import compute_home, days_between, ingest
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    Ran,
    ask,
    assert_same,
    candles_file,
    checksum_of,
    command_in,
    copy_home,
    created,
    day,
    obey,
    problems,
    real,
    rewrite,
    run_job,
    tables,
    untouched,
    wilder,
)

pytestmark = pytest.mark.usefixtures("light_commands")

MODELS = ("turnover", "delta")


@pytest.fixture
def both_models() -> None:
    """Ask for this where it is about what days of two models have to do with each other."""


@pytest.fixture(autouse=True)
def _one_model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "both_models" not in request.fixturenames:
        monkeypatch.setenv("HEATMAP_MODELS", "delta")


@pytest.fixture(scope="module")
def single(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with days 1 to 5 of one model. Nobody changes it; `its_copy` is one."""
    home = tmp_path_factory.mktemp("single")
    return compute_home(real(home, archive, models=("delta",), snapshot_interval="1h"), day(1), day(5))


@pytest.fixture
def its_copy(single: Settings, tmp_path: Path) -> Path:
    return copy_home(single.home, tmp_path / "home")


@pytest.fixture
def files(archive: Path, tmp_path: Path) -> Path:
    """A copy of the archive that a test may change."""
    return Path(shutil.copytree(archive, tmp_path / "archive"))


def stored(settings: Settings) -> list[int]:
    """Return the numbers of the days of both models in the chain."""
    found = ask(settings, "SELECT day, count(*) FROM heatmap_days GROUP BY day ORDER BY day")
    assert {count for _, count in found} <= {len(settings.models)}
    return [(when - day(1)).days + 1 for when, _ in found]


def status(settings: Settings) -> str:
    return "\n".join(status_lines(settings))


def refusal(run: Ran) -> str:
    """Return why position_events was refused; nothing after it may have run."""
    assert not run.success
    below = {name.split("/")[1] for name in run.materialised}
    assert below <= {"raw_candles", "raw_open_interest"}
    return run.failures[f"{BTC}__position_events"]


def refused_by_the_chain(settings: Settings, first: int, last: int | None = None) -> str:
    """Return why days are not computed; that such a refusal stops a run is tested below, with a gap."""
    days = days_between(day(first), day(last or first))
    ingest(settings, BTC, days)
    with pytest.raises(ChainError) as refused:
        list(advance(partial(Warehouse(settings.home).connect, BTC), settings, BTC, days))
    return str(refused.value)


@pytest.mark.usefixtures("both_models")
def test_a_home_made_without_dagster_is_as_a_run_makes_it(finished: Settings, archive: Path, tmp_path: Path) -> None:
    made = compute_home(real(tmp_path, archive), day(1), day(5))
    for name in ("heatmap.duckdb", "warehouse"):
        assert_same(tables(made.home / name), tables(finished.home / name))


# -- gaps


def test_a_gap_is_refused_with_the_command_that_fills_it(single: Settings, archive: Path, tmp_path: Path) -> None:
    settings = compute_home(real(tmp_path, archive), day(1), day(2))
    with untouched(settings.home / "heatmap.duckdb"):
        message = refusal(run_job(settings, 4, 5))
    assert f"{day(4)} does not follow the last stored day {day(2)}" in message
    assert stored(settings) == [1, 2]
    assert f"failed  {BTC} {day(4)} position_events" in status(settings)
    with pytest.raises(RunError) as planned:
        days_to_run(settings, BTC, day(4), day(5), Span(day(1), day(2)), False)
    words = ["heatmap", "run", BTC, "--start", str(day(3)), "--end", str(day(3))]
    assert command_in(message) == command_in(str(planned.value)) == [
        *words, "--archive", str(archive), "--home", str(tmp_path)
    ]  # fmt: skip
    obey(message)
    assert stored(settings) == [1, 2, 3]
    run_job(settings, 4, 5).ok()
    assert not problems(settings)
    assert_same(tables(settings.home / "heatmap.duckdb"), tables(single.home / "heatmap.duckdb"))


def test_which_days_a_request_means(tmp_path: Path) -> None:
    settings, span = load_settings(home=tmp_path), Span(day(3), day(5))

    def plan(first: int, last: int, *, restart: bool = False, known: Span | None = span) -> tuple[int, int]:
        days = days_to_run(settings, BTC, day(first), day(last), known, restart)
        return (days[0] - day(1)).days + 1, (days[1] - day(1)).days + 1

    assert plan(9, 12, known=None) == (9, 12)
    assert plan(6, 8) == (6, 8)
    assert plan(4, 4) == (4, 5), "what follows a rebuilt day is rebuilt"
    assert plan(4, 7) == (4, 7)
    assert plan(1, 2) == (1, 5), "an earlier start rebuilds everything"
    assert plan(9, 9, restart=True) == (9, 9)
    with pytest.raises(RunError, match="does not follow the last stored day"):
        plan(7, 9)
    with pytest.raises(RunError, match=f"--start {day(1)} --end {day(5)}"):
        plan(1, 1)


def test_restart_begins_a_new_history_only_where_the_source_has_nothing(
    single: Settings, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = compute_home(real(tmp_path / "home", files), day(1), day(2))
    message = refusal(run_job(settings, 4, 5, restart=True))
    assert f"would leave out days the source has, the first is {day(3)}" in message
    assert command_in(message)[3:7] == ["--start", str(day(3)), "--end", str(day(3))]
    hidden = {path: path.read_bytes() for path in (candles_file(files, 3), checksum_of(candles_file(files, 3)))}
    for path in hidden:
        path.unlink()
    run_job(settings, 4, 5, restart=True).ok()
    starts = ask(settings, "SELECT day FROM heatmap_days WHERE previous_hash = '' ORDER BY 1", published=True)
    assert starts == [(day(1),), (day(4),)]
    told = status(settings)
    assert f"gap     {BTC} {day(3)} .. {day(3)}" in told
    assert "stale " not in told.split("newest data")[1]
    # Later runs within the new history need no option.
    compute_home(settings, day(5))
    # Both histories are rebuilt by one command, which goes past the gap.
    monkeypatch.setenv(f"HEATMAP_MAX_LEVERAGE_{BTC}", "50")
    other = compute_home(real(tmp_path / "home", files), day(1), day(5))
    assert "stale " not in status(other).split("newest data")[1]
    assert ask(other, "SELECT DISTINCT day FROM heatmap_days ORDER BY 1", published=True) == [
        (day(number),) for number in (1, 2, 4, 5)
    ]
    monkeypatch.delenv(f"HEATMAP_MAX_LEVERAGE_{BTC}")
    compute_home(settings, day(1), day(5))
    # The missing day turns up: it joins the two histories.
    for path, content in hidden.items():
        path.write_bytes(content)
    compute_home(settings, day(3), day(5))
    assert_same(tables(settings.home / "heatmap.duckdb"), tables(single.home / "heatmap.duckdb"))


def test_days_put_before_a_history_make_it_stale(single: Settings, archive: Path, tmp_path: Path) -> None:
    """The first day of a history started from nothing, and now there is a day before it."""
    settings = compute_home(real(tmp_path, archive), day(3), day(5))
    with untouched(settings.home / "heatmap.duckdb"):
        run = run_job(settings, 1, 2)
    assert run.failed_checks() == {f"{BTC}/position_events:chain_unbroken"}
    told = run.checks[f"{BTC}/position_events:chain_unbroken"][1]
    assert f"{day(3)} is stale: it began a history, and now {day(2)} is before it" in told
    obey(told.split(";")[1])
    assert_same(tables(settings.home / "heatmap.duckdb"), tables(single.home / "heatmap.duckdb"))


# -- predecessors


def test_a_missing_predecessor_is_refused_and_repaired(single: Settings, its_copy: Path) -> None:
    settings = real(its_copy, single.archive or its_copy)
    ask(settings, f"DELETE FROM heatmap_days WHERE day = '{day(2)}'")
    message = refused_by_the_chain(settings, 4)
    assert f"{day(3)} before it is stale (its predecessor {day(2)} is missing)" in message
    assert command_in(message)[3:7] == ["--start", str(day(2)), "--end", str(day(5))]
    assert command_in(message) == command_in(status(settings))
    obey(message)
    assert_same(tables(its_copy / "heatmap.duckdb"), tables(single.home / "heatmap.duckdb"))


def test_a_day_after_changed_rows_is_refused(its_copy: Path, files: Path) -> None:
    settings = real(its_copy, files)
    rewrite(candles_file(files, 2), wilder)
    ingest(settings, BTC, [day(2)])
    before = created(settings)
    message = refused_by_the_chain(settings, 4, 5)
    assert f"{day(4)} cannot be computed, because {day(2)} before it is stale (its candles or open interest" in message
    assert command_in(message)[3:7] == ["--start", str(day(2)), "--end", str(day(5))]
    assert created(settings) == before


def test_snapshots_are_not_made_from_rows_that_changed(its_copy: Path, files: Path) -> None:
    """Snapshots are recomputed from the state of the day before: they must belong to the events that are stored."""
    settings = real(its_copy, files)
    rewrite(candles_file(files, 3), wilder)
    ingest(settings, BTC, [day(3)])
    ask(settings, f"DELETE FROM snapshot_days WHERE day = '{day(3)}'")
    with pytest.raises(ChainError) as refused:
        list(sample(partial(Warehouse(settings.home).connect, BTC), settings, BTC, [day(3)]))
    message = str(refused.value)
    assert f"{day(3)} is stale, its snapshots would not match its events" in message
    assert command_in(message)[3:7] == ["--start", str(day(3)), "--end", str(day(5))]


# -- a changed day in the middle


@pytest.mark.usefixtures("both_models")
def test_a_changed_day_makes_later_days_stale_and_the_named_command_rebuilds_them(
    home: Path, files: Path, tmp_path: Path
) -> None:
    settings = real(home, files)
    before = created(settings)
    rewrite(candles_file(files, 3), wilder)
    with untouched(home / "heatmap.duckdb"):
        run = run_job(settings, 3)
    assert not run.success
    assert run.failed_checks() == {f"{BTC}/position_events:chain_unbroken"}
    assert set(run.materialised) == {
        f"{BTC}/{name}" for name in ("raw_candles", "raw_open_interest", "position_events")
    }
    reason = f"its predecessor {day(3)} was computed again with another result"
    checked = run.checks[f"{BTC}/position_events:chain_unbroken"][1]
    assert f"{day(4)} is stale: {reason}" in checked
    told = status(settings)
    for model in MODELS:
        # Day 3 itself waits for its snapshots: the check stopped the run before them.
        assert f"stale   {BTC} {model} from {day(3)}: its snapshots are not made from its present events" in told
        row = next(line for line in told.splitlines() if line.split()[:2] == [BTC, model])
        assert row.split()[6] == "3", "stale days"
    assert command_in(told)[3:7] == ["--start", str(day(3)), "--end", str(day(5))]
    assert command_in(told) == command_in(checked)
    obey(told)
    after = created(settings)
    kept = {key for key in before if key[2] in (day(1), day(2))}
    assert {key for key in before if after[key] == before[key]} == kept
    assert not problems(settings)
    fresh = compute_home(real(tmp_path / "fresh", files), day(1), day(5))
    assert_same(tables(home / "heatmap.duckdb"), tables(fresh.home / "heatmap.duckdb"))


def test_a_run_over_all_days_finds_the_changed_one_by_itself(its_copy: Path, files: Path) -> None:
    settings = real(its_copy, files)
    before = created(settings)
    rewrite(candles_file(files, 4), wilder)
    run = run_job(settings, 1, 5).ok()
    changed = [key for key, told in run.materialised[f"{BTC}/raw_candles"].items() if told["changed"]]
    assert changed == [day(4).isoformat()]
    after = created(settings)
    assert {key[2] for key in before if after[key] != before[key]} == {day(4), day(5)}


# -- parameters


@pytest.mark.usefixtures("both_models")
def test_changed_parameters_are_refused_until_the_history_is_rebuilt(
    archive: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_MAX_LEVERAGE_BTCUSDT", "50")
    monkeypatch.setenv("HEATMAP_BUCKET_BTCUSDT", "40")
    settings = real(home, archive)
    message = refused_by_the_chain(settings, 5)
    assert f"{day(1)} before it is stale (it was computed with other parameters: bucket " in message
    assert "bucket 100 -> 40, max_leverage 125 -> 50, price_tick 10 -> 4, 1 more); " in message
    assert command_in(message)[3:7] == ["--start", str(day(1)), "--end", str(day(5))]
    assert command_in(status(settings)) == command_in(message)
    # Its first day alone is not enough: old and new parameters would stand side by side.
    with untouched(home / "heatmap.duckdb"):
        assert run_job(settings, 1).failed_checks() == {f"{BTC}/position_events:chain_unbroken"}
    obey(message)
    fresh = compute_home(real(tmp_path / "fresh", archive), day(1), day(5))
    assert_same(tables(home / "heatmap.duckdb"), tables(fresh.home / "heatmap.duckdb"))
    (text,) = {text for (text,) in ask(settings, "SELECT parameters FROM heatmap_days WHERE model = 'delta'")}
    assert (json.loads(text)["bucket"], json.loads(text)["max_leverage"]) == (40, 50)


@pytest.mark.usefixtures("both_models")
def test_a_changed_bucket_alone_makes_all_snapshots_again(
    archive: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `delta` no state depends on the bucket, so no hash of a state tells that it changed."""
    monkeypatch.setenv("HEATMAP_BUCKET_BTCUSDT", "250")
    settings = compute_home(real(home, archive), day(1), day(5))
    edges = "SELECT count(*), count(*) FILTER (WHERE price_bucket % 250 = 0) FROM liquidation_snapshots"
    ((cells, on_edge),) = ask(settings, edges, published=True)
    assert cells == on_edge


def brackets(folder: Path, since: str, leverage: int, symbol: str = BTC) -> None:
    """Write a file of leverage brackets as the exchange answers them."""
    folder.mkdir(exist_ok=True)
    second = {"initialLeverage": 20, "notionalFloor": 50_000, "notionalCap": 600_000, "maintMarginRatio": 0.01}
    first = {"initialLeverage": leverage, "notionalFloor": 0, "notionalCap": 50_000, "maintMarginRatio": 0.005}
    tiers = [second, first]
    (folder / f"leverageBracket_{since}.json").write_text(json.dumps([{"symbol": symbol, "brackets": tiers}]))


def test_dated_brackets_give_each_day_its_parameters(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "brackets"
    brackets(folder, "2024-01-01", 100)
    brackets(folder, str(day(3)), 50)
    settings = compute_home(real(tmp_path / "home", archive, leverage_brackets=folder), day(1), day(4))
    query = "SELECT day, parameters FROM heatmap_days WHERE model = 'delta' ORDER BY day"
    used = [json.loads(text) for _, text in ask(settings, query, published=True)]
    assert [one["max_leverage"] for one in used] == [100, 100, 50, 50]
    assert {one["maintenance_margin_rate"] for one in used} == {0.005}
    highest = "SELECT max(leverage) FROM position_events WHERE event_type = 'open' AND model = 'delta' "
    highest += "GROUP BY CAST(timestamp AS DATE) ORDER BY CAST(timestamp AS DATE)"
    assert ask(settings, highest, published=True) == [(100,), (100,), (50,), (50,)]
    # A new file only concerns the days from its date on.
    before = created(settings)
    brackets(folder, str(day(4)), 25)
    assert f"from {day(4)}: it was computed with other parameters: max_leverage 50 -> 25" in status(settings)
    compute_home(settings, day(4))
    after = created(settings)
    assert {key[2] for key in before if after[key] != before[key]} == {day(4)}


def test_a_symbol_without_bracket_is_refused(archive: Path, tmp_path: Path) -> None:
    brackets(tmp_path / "brackets", "2024-01-01", 100, symbol="ETHUSDT")
    settings = real(tmp_path / "home", archive, leverage_brackets=tmp_path / "brackets")
    with pytest.raises(
        HeatmapError, match=r"BTCUSDT is not in HEATMAP_LEVERAGE_BRACKETS.*HEATMAP_MAX_LEVERAGE_BTCUSDT"
    ):
        compute_home(settings, day(1))
