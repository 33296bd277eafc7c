"""Nonsense in perfect form, through the pipeline: left out or refused at its own day, counted, and said in `status`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from heatmap_pipeline.chain.compute import advance
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.orchestration.checks import RULES
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.odd import days_to_mention, odd_days
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import heatmap, last_line
from heatmap_pipeline_tests.orchestration.computed import OpenedOnce, ingest
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    ask,
    candles_file,
    copy_home,
    day,
    metrics_file,
    real,
    rewrite,
)

Rows = list[list[str]]


@pytest.fixture
def files(archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archive, tmp_path / "files"))


def compute(settings: Settings, first: int, last: int) -> None:
    """Ingest and compute days without Dagster."""
    days = [day(number) for number in range(first, last + 1)]
    with closing(OpenedOnce(Warehouse(settings.home))) as once:
        ingest(settings, BTC, days, once=once)
        list(advance(partial(once.connect, BTC), settings, BTC, days))


def odd(settings: Settings) -> dict[int, str]:
    """Return what is said of each day of the small history, by its number."""
    with Warehouse(settings.home).connect(BTC) as con:
        return {(found - day(1)).days + 1: words for found, words in odd_days(con, BTC).items()}


def times(column: int, factor: float, first: int = 0) -> Callable[[Rows], Rows]:
    """Return a change of rows: a column times a factor, from some row on."""

    def change(rows: Rows) -> Rows:
        for row in rows[first:]:
            row[column] = repr(float(row[column]) * factor)
        return rows

    return change


def both(*changes: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        for one in changes:
            rows = one(rows)
        return rows

    return change


def swapped(rows: Rows) -> Rows:
    return [[*row[:2], row[3], row[2], *row[4:]] for row in rows]


def zero(rows: Rows) -> Rows:
    return [[*row[:2], "0", "0", *row[4:]] for row in rows]


def locations(settings: Settings) -> float:
    """Return the largest located share of any candle of days 1 to 4, and of any model."""
    query = (
        "SELECT max(share) FROM (SELECT sum(located) / count(*) / any_value(open_interest) AS share FROM book_ledger "
        f"WHERE symbol = '{BTC}' AND timestamp < '{day(5)}' GROUP BY model, timestamp)"
    )
    ((share,),) = ask(settings, query)
    return float(share)


@pytest.fixture(scope="module")
def begun(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with days 1 and 2, in which day 3 will be nonsense. Nobody changes it."""
    settings = real(tmp_path_factory.mktemp("begun"), archive)
    compute(settings, 1, 2)
    return settings


@pytest.mark.parametrize(
    ("change", "repair", "words"),
    [
        (swapped, "swapped_samples", "288 samples left out, contracts and value are swapped; value / contracts is"),
        (times(2, 1000), "other_price_samples", "value / contracts is 0.001 times the price there"),
        (times(3, 1000), "other_price_samples", "value / contracts is 1e+03 times the price there"),
        (both(times(2, 1000), times(3, 1000)), "other_unit_samples", "288 samples left out, contracts are in another"),
        (both(times(2, 1000, 100), times(3, 0)), "other_unit_samples", "188 samples left out"),
        (zero, "invalid_contracts", "288 samples are 0, blank or no number"),
    ],
)
def test_samples_that_cannot_be_true_are_left_out_counted_and_said(
    begun: Settings,
    finished: Settings,
    files: Path,
    tmp_path: Path,
    change: Callable[[Rows], Rows],
    repair: str,
    words: str,
) -> None:
    rewrite(metrics_file(files, 3), change)
    home = copy_home(begun.home, tmp_path / "home")
    settings = real(home, files)
    compute(settings, 3, 4)
    found = ask(settings, f"SELECT DISTINCT day, repairs FROM heatmap_days WHERE day > '{day(2)}' ORDER BY day")
    (_, third), (_, fourth) = found  # both models say the same
    assert json.loads(third)["open_interest"][repair] in (288, 188)
    assert repair not in json.loads(fourth)["open_interest"]
    assert json.loads(third)["held"] is (repair != "other_unit_samples" or "288" in words)
    assert "level_shifts" not in json.loads(fourth), "the level goes on where it was"
    said = odd(settings)
    assert list(said) == [3]
    assert words in said[3]
    assert any(line.startswith(f"odd     {BTC} {day(3)}: ") and words in line for line in status_lines(settings))
    # A held day closes nothing, so that a little more stays; it is nowhere near the whole.
    assert locations(settings) <= 1.25 * locations(finished)
    with Warehouse(home).connect(BTC) as con:
        mentioned = days_to_mention(con, [BTC])[BTC]
    assert mentioned[day(3)].endswith(said[3]), "the page and /health say it as well"


def test_a_file_that_becomes_nonsense_does_not_leave_what_was_read_before(
    begun: Settings, files: Path, tmp_path: Path
) -> None:
    """Else the stored day would be of a file that is not there any more, and due again for ever."""
    rewrite(metrics_file(files, 2), swapped)
    settings = real(copy_home(begun.home, tmp_path / "home"), files)
    compute(settings, 2, 2)
    rows = f"SELECT rows FROM raw_days WHERE kind = 'open_interest' AND day = '{day(2)}'"
    assert ask(settings, rows) == [(0,)]
    assert list(odd(settings)) == [2]


@pytest.mark.parametrize("rows", [slice(None), slice(10, 30)])
@pytest.mark.parametrize("factor", [10.0, 0.001])
def test_candles_that_cannot_be_true_stop_their_day_and_what_follows(
    begun: Settings, files: Path, tmp_path: Path, rows: slice, factor: float
) -> None:
    def other(lines: Rows) -> Rows:
        for row in lines[rows]:
            row[1:5] = [repr(float(price) * factor) for price in row[1:5]]
        return lines

    rewrite(candles_file(files, 3), other)
    settings = real(copy_home(begun.home, tmp_path / "home"), files)
    name = candles_file(files, 3).stem
    with pytest.raises(MarketError, match=rf"^{name}\.zip: .* HEATMAP_ACCEPT_IMPLAUSIBLE={name}$"):
        compute(settings, 3, 4)
    assert ask(settings, "SELECT max(day) FROM raw_days") == [(day(2),)]
    accepting = settings.model_copy(update={"accept_implausible": (name,)})
    if rows == slice(10, 30):
        compute(accepting, 3, 4)
        assert odd(settings)[3].startswith("288 candles are taken as they are, by HEATMAP_ACCEPT_IMPLAUSIBLE; 19 samp")
    else:
        with pytest.raises(MarketError, match=f"^{candles_file(files, 4).name}: "):
            compute(accepting, 3, 4)  # the day after does not follow from it either, and says so


def test_another_unit_that_is_accepted_is_a_level_shift(begun: Settings, files: Path, tmp_path: Path) -> None:
    """A contract may really be counted anew, and then the days after it follow without a word."""
    for number in (3, 4):
        rewrite(metrics_file(files, number), both(times(2, 0.01), times(3, 0)))
    name = metrics_file(files, 3).stem
    settings = real(copy_home(begun.home, tmp_path / "home"), files, accept_implausible=(name,))
    compute(settings, 3, 4)
    assert list(odd(settings)) == [3]
    assert odd(settings)[3].startswith("288 samples are taken as they are, by HEATMAP_ACCEPT_IMPLAUSIBLE; 1 shift of")
    refusing = real(copy_home(begun.home, tmp_path / "other"), files)
    compute(refusing, 3, 4)
    assert [words[:24] for words in odd(refusing).values()] == ["288 samples left out, co"] * 2


def test_a_history_does_not_begin_with_nonsense(files: Path, tmp_path: Path) -> None:
    rewrite(metrics_file(files, 1), swapped)
    name = metrics_file(files, 1).stem
    words = rf"a history cannot begin with {name}, whose samples .*288: contracts and value are swapped; .*{name}$"
    with pytest.raises(MarketError, match=words):
        compute(real(tmp_path / "home", files), 1, 2)
    rewrite(metrics_file(files, 1), both(swapped, times(2, 1000), times(3, 1000)))
    with pytest.raises(MarketError, match=rf"^{name}\.zip: a history cannot begin with these 288 samples"):
        compute(real(tmp_path / "other", files), 1, 2)


def test_a_file_of_both_sides_is_halved_and_said(begun: Settings, files: Path, tmp_path: Path) -> None:
    """The map is the one of contracts that were counted once."""
    for number in (1, 2):
        rewrite(metrics_file(files, number), both(times(2, 2), times(3, 2)))
    settings = real(tmp_path / "home", files)
    compute(settings, 1, 2)
    assert list(odd(settings)) == [1, 2]
    assert odd(settings)[2] == "288 samples add both sides of a contract, halved"
    query = "SELECT * EXCLUDE symbol FROM book_ledger ORDER BY ALL"
    assert ask(settings, query) == ask(begun, query)


@pytest.mark.usefixtures("light_commands")
def test_the_command_says_it_and_the_other_symbol_goes_on(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wiring: exit code and last line, `status`, the check, for a refused day and for one whose samples go."""
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    rewrite(metrics_file(files, 2), swapped)
    rewrite(candles_file(files, 3, ETH), lambda rows: [[*row[:5], f"{float(row[5]) * 1000}", *row[6:]] for row in rows])
    settings = real(tmp_path / "home", files, BTC, ETH)
    failed = heatmap("run", BTC, ETH, "--archive", files, "--start", day(1), "--end", day(3), "--home", settings.home)
    assert failed.exit_code == 1
    last_line(failed.stderr, 1, candles_file(files, 3, ETH).name, "an average trade has", "HEATMAP_ACCEPT_IMPLAUSIBLE")
    assert f"{BTC}: {day(1)} .. {day(3)} computed and published" in failed.stdout
    assert f"{ETH}: {day(1)} .. {day(2)} computed and published" in failed.stdout
    lines = list(status_lines(settings))
    assert any(line.startswith(f"odd     {BTC} {day(2)}: 288 samples left out") for line in lines)
    assert any(line.startswith(f"failed  {ETH} {day(3)} raw_candles: ") for line in lines)
    (rule,) = (rule for rule in RULES if rule.name == "days_believable")
    with Warehouse(settings.home).connect(BTC) as con:
        report = rule.evaluate(con, settings, BTC, "", day(3), day(3))
    assert (report.passed, report.numbers, rule.blocking) == (False, {"days_not_believable": 1}, False)
    assert report.description.startswith(f"{day(2)}: 288 samples left out")
