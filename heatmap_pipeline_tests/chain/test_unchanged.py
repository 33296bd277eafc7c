"""Whether a run would do anything is told as the run itself would tell it, whatever single thing has changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import heatmap_pipeline
from heatmap_pipeline.chain import reading, unchanged
from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.history import Connect
from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.chain.unchanged import Change, drawing_inputs, find_changes
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import ONE_DAY, SECONDS
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.render.page import is_drawn, write_page
from heatmap_pipeline.settings import Settings, SymbolSettings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store.last_run import write_last_run
from heatmap_pipeline.store.origin import remember_archive
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline_tests._homes import clean_environment
from heatmap_pipeline_tests.orchestration.computed import OpenedOnce, days_between
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    FIRST,
    assert_same,
    break_file,
    candles_file,
    checksum_of,
    created,
    day,
    metrics_file,
    real,
    rewrite,
    tables,
    wilder,
    write_archive,
)

LAST = 3
SETTINGS = {"models": ("delta",), "snapshot_interval": "1h"}


@dataclass
class Place:
    """A home with its archive, and what the settings of the next run say besides those of the run that made it."""

    home: Path
    archive: Path
    first: date = FIRST
    last: date = FIRST + 2 * ONE_DAY
    more: dict[str, Any] = field(default_factory=dict)
    of_symbol: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        chosen = real(self.home, self.archive, **{**SETTINGS, **self.more})
        return chosen.model_copy(update={"per_symbol": {BTC: SymbolSettings(**self.of_symbol)}})

    def sql(self, *statements: str) -> None:
        with Warehouse(self.home).connect(BTC) as con:
            for statement in statements:
                con.execute(statement)


def small_picture(data: Columns, path: Path) -> None:
    """Write a picture that is made in no time, and differs where what it shows does."""
    path.write_bytes(repr((data.meta, data.times.tolist())).encode())


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heatmap_pipeline.render.page.write_png", small_picture)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Three days of four as a run leaves them. Nobody changes it; `place` is a copy."""
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        patch.setattr("heatmap_pipeline.render.page.write_png", small_picture)
        folder = tmp_path_factory.mktemp("unchanged")
        made = Place(folder / "home", write_archive(folder / "archive", LAST + 1, BTC))
        run(made.settings, made.first, made.last)
        (made.home / "dagster").mkdir()
        return made


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    home, archive = tmp_path / "home", tmp_path / "archive"
    shutil.copytree(made.home, home)
    shutil.copytree(made.archive, archive)
    copy = Place(home, archive)
    with Warehouse(home).locked(BTC):
        remember_archive(copy.settings, BTC)
    return copy


def run(settings: Settings, first: date, last: date) -> set[str]:
    """Do all that a run of days does; return the stages that changed anything, or that it failed."""
    return set(busy_stages(settings, first, last))


def busy_stages(settings: Settings, first: date, last: date) -> Iterator[str]:
    """Do what a run of days does, stage by stage; tell each that changed anything, or that it failed."""
    warehouse, days = Warehouse(settings.home), days_between(first, last)
    with closing(OpenedOnce(warehouse)) as once:
        with once.connect(BTC) as con:
            held = [each for each in stored.day_records(con, BTC, settings.models[0]) if each > last]
        days += held
        try:
            market = open_market(settings)
            for stage in (ingest_candles, ingest_open_interest):
                if sum(report.changed for report in stage(partial(once.connect, BTC), market, settings, BTC, days)):
                    yield stage.__name__
            for chained in (advance, sample):
                if sum(not report.skipped for report in chained(partial(once.connect, BTC), settings, BTC, days)):
                    yield chained.__name__
            if draw(settings, partial(once.connect, BTC)):
                yield "draw"
            once.close()
            if publish(warehouse, [BTC]).changed:
                yield "publish"
        except HeatmapError:
            yield "failed"


def draw(settings: Settings, connect: Connect) -> bool:
    """Draw as the run's stage does; return whether anything was."""
    folder = settings.home / "renders"
    with connect() as con:
        inputs = drawing_inputs(con, settings, BTC)
        if is_drawn(folder, BTC, inputs):
            return False
        seconds = SECONDS[settings.snapshot_interval_of(BTC)]
        write_page(folder, BTC, newest_days(con, BTC, settings.models, seconds), [], inputs)
    return True


def change(place: Place) -> Change | None:
    pages = place.home / "renders"
    changes = find_changes(place.settings, place.first, place.last, lambda name, inputs: is_drawn(pages, name, inputs))
    return changes[BTC]


def touch(place: Place) -> None:
    os.utime(candles_file(place.archive, 2), (0, 0))


def corrected_candles(place: Place) -> None:
    rewrite(candles_file(place.archive, 2), wilder)


def corrected_samples(place: Place) -> None:
    def more(rows: list[list[str]]) -> list[list[str]]:
        return [[*row[:2], str(float(row[2]) * 1.01), *row[3:]] for row in rows]

    rewrite(metrics_file(place.archive, 2), more)


def packed_anew(place: Place) -> None:
    rewrite(candles_file(place.archive, 2), lambda rows: rows)


def broken(place: Place) -> None:
    break_file(candles_file(place.archive, 3))


def without_checksum(place: Place) -> None:
    checksum_of(candles_file(place.archive, 2)).unlink()


def another_checksum(place: Place) -> None:
    path = checksum_of(candles_file(place.archive, 2))
    path.write_text("0" * 64 + path.read_text()[64:])


def file_gone(place: Place) -> None:
    candles_file(place.archive, 2).unlink()
    metrics_file(place.archive, 1).unlink()


def archive_gone(place: Place) -> None:
    shutil.rmtree(place.archive)


def lacking(name: str) -> Callable[[Place], None]:
    def remove(place: Place) -> None:
        path = place.home / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    remove.__name__ = f"without_{name}"
    return remove


def set_to(**values: Any) -> Callable[[Place], None]:
    def choose(place: Place) -> None:
        place.more |= values

    choose.__name__ = "set_" + "_".join(f"{name}_{value}" for name, value in values.items())
    return choose


def of_symbol(**values: Any) -> Callable[[Place], None]:
    def choose(place: Place) -> None:
        place.of_symbol |= values

    choose.__name__ = "of_symbol_" + "_".join(f"{name}_{value}" for name, value in values.items())
    return choose


def same_bucket(place: Place) -> None:
    with Warehouse(place.home).connect(BTC) as con:
        ((bucket,),) = con.execute("SELECT bucket FROM symbols").fetchall()
    place.of_symbol["bucket"] = bucket


def rows_lost(table: str, where: str) -> Callable[[Place], None]:
    def delete(place: Place) -> None:
        place.sql(f"DELETE FROM {table} WHERE symbol = '{BTC}' AND {where} AND day = '{day(2)}'")

    delete.__name__ = f"lost_{table}_{where}"
    return delete


def other_state(place: Place) -> None:
    place.sql(f"UPDATE heatmap_days SET state_hash = 'another' WHERE day = '{day(2)}'")


def published_before(place: Place) -> None:
    with Warehouse(place.home).connect(BTC) as con:
        con.execute(f"UPDATE heatmap_days SET created_at = created_at + INTERVAL 1 SECOND WHERE day = '{day(3)}'")


def more_days(place: Place) -> None:
    place.last = day(LAST + 1)


def days_before(place: Place) -> None:
    place.first = day(0)


def only_the_last(place: Place) -> None:
    place.first = place.last


CHANGES = (
    corrected_candles,
    corrected_samples,
    packed_anew,
    broken,
    another_checksum,
    archive_gone,
    lacking("renders"),
    lacking("heatmap.duckdb"),
    set_to(models=("turnover", "delta")),
    set_to(snapshot_interval="30m"),
    set_to(keep_cells=2),
    set_to(accept_implausible=(f"{BTC}-5m-{day(2)}",)),
    of_symbol(candle_interval="15m"),
    of_symbol(bucket=5.0),
    of_symbol(max_leverage=50.0),
    of_symbol(maintenance_margin_rate=0.01),
    rows_lost("heatmap_days", "model = 'delta'"),
    rows_lost("snapshot_days", "model = 'delta'"),
    rows_lost("raw_days", "kind = 'candles'"),
    rows_lost("raw_days", "kind = 'open_interest'"),
    other_state,
    published_before,
    more_days,
    days_before,
)
"""What a run has something to do for, or fails at."""

HARMLESS = (
    (
        touch,
        without_checksum,
        set_to(candle_interval="15m"),
        set_to(check_days=3, lock_timeout=5.0, webhook="http://127.0.0.1:9/none", api_queue=3),
        set_to(accept_implausible=(f"ETHUSDT-5m-{day(2)}",)),
        set_to(accept_checksum=(f"{BTC}-5m-{day(2)}",)),
        same_bucket,
    ),
    (file_gone, only_the_last),
)
"""What a run has nothing to do for, neither for each nor for all that come before it; of other files in each row."""

PAGES = ("index.html", "page.js", "plotly.min.js", *(f"{BTC}/{name}" for name in ("delta.js", "score.js", "meta.json")))
PICTURES = (f"{BTC}/heatmap.png", f"{BTC}/heatmap-delta.png")


@pytest.mark.parametrize("alter", CHANGES, ids=lambda alter: alter.__name__)
def test_what_a_run_would_do_something_for_is_told(place: Place, alter: Callable[[Place], None]) -> None:
    alter(place)
    assert change(place) is not None
    assert next(busy_stages(place.settings, place.first, place.last), None) is not None


@pytest.mark.parametrize("alterations", HARMLESS, ids=["settings and times", "files gone"])
def test_what_a_run_would_do_nothing_for_is_not_told(
    place: Place, alterations: Sequence[Callable[[Place], None]]
) -> None:
    assert change(place) is None
    for alter in alterations:
        alter(place)
        assert change(place) is None, alter.__name__
    assert run(place.settings, place.first, place.last) == set()


def test_whatever_is_missing_of_the_page_is_told_and_drawn(place: Place) -> None:
    """Of each file the last byte; the run then draws all of them."""
    for name in (*PAGES, *PICTURES):
        path = place.home / "renders" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        told = change(place)
        assert told is not None, name
        assert told.reason == "its pictures and its page do not show what is stored", name
        path.write_bytes(whole)
    assert change(place) is None
    path.write_bytes(whole[:-1])
    assert run(place.settings, place.first, place.last) == {"draw"}
    assert path.read_bytes() == whole


def test_where_only_reading_tells_the_run_reads_and_finds_all_as_it_was(place: Place) -> None:
    lacking("reading.json")(place)
    told = change(place)
    assert told is not None
    assert told.day == day(1)
    assert run(place.settings, place.first, place.last) == set()


def test_a_run_from_the_day_that_is_told_leaves_what_a_run_of_all_days_leaves(place: Place, made: Place) -> None:
    corrected_candles(place)
    told = change(place)
    assert told == Change(day(2), f"the file with the candles of {day(2)} is another one")
    before = created(place.settings)
    run(place.settings, day(2), place.last)
    after = created(place.settings)
    assert {key[2] for key in after if after[key] != before[key]} == {day(2), day(3)}
    assert change(place) is None
    whole = Place(made.home.parent / "whole", place.archive)
    run(whole.settings, whole.first, whole.last)
    assert_same(tables(Warehouse(place.home).published), tables(Warehouse(whole.home).published))


def test_another_program_reads_again_and_draws_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert change(place) is None
    for module in (reading, unchanged):
        monkeypatch.setattr(module, "program", lambda: "another")
    told = change(place)
    assert told is not None
    assert told.day == day(1)
    assert "read by another version of this program" in told.reason
    assert run(place.settings, place.first, place.last) == {"draw"}
    assert change(place) is None


def test_days_read_by_an_earlier_program_stay_told_until_they_are_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reading, unchanged):
        monkeypatch.setattr(module, "program", lambda: "another")
    run(place.settings, day(3), day(3))
    told = change(place)
    assert told is not None
    assert told.day == day(1), "days 1 and 2 were not read by it"
    place.first = day(3)
    assert change(place) is None


def test_the_digest_of_the_program_changes_with_any_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "market").mkdir()
    module = tmp_path / "market" / "repair.py"
    (tmp_path / "__init__.py").touch()
    module.write_text("RULE = 1\n")
    monkeypatch.setattr(heatmap_pipeline, "__file__", str(tmp_path / "__init__.py"))
    digests = set()
    for text in ("RULE = 1\n", "RULE = 2\n", "RULE = 1\n"):
        module.write_text(text)
        digests.add(reading.program.__wrapped__())
    assert len(digests) == 2
    monkeypatch.setattr(reading, "version", lambda name: "0.0")
    assert reading.program.__wrapped__() not in digests


def test_after_a_failure_a_killed_command_or_without_history_there_is_something_to_do(place: Place) -> None:
    with Warehouse(place.home).connect(BTC) as con:
        stored.record_failure(con, BTC, "raw_candles", day(2), "no such file")
    assert change(place) == Change(day(2), "it failed before")
    with Warehouse(place.home).connect(BTC) as con:
        stored.clear_failures(con, BTC, "raw_candles", day(2), day(2))
    assert change(place) is None
    write_last_run(place.home, [BTC], [BTC], began=_instant(1), ended=_instant(2), failed=True)
    assert change(place) == Change(None, "the last run failed")
    write_last_run(place.home, [BTC, "ETHUSDT"], ["ETHUSDT"], began=_instant(3), ended=_instant(4), failed=True)
    assert change(place) is None
    note = place.home / "dagster" / f"{unchanged.NOTE}1.json"
    note.touch()
    assert change(place) == Change(None, "another command goes on, or was killed")
    note.unlink()
    (place.home / "dagster").rmdir()
    assert change(place) is not None


def _instant(hour: int) -> datetime:
    return datetime(2024, 4, 1, hour, tzinfo=UTC)


def test_nothing_is_written_by_asking(place: Place) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        files = [path for path in place.home.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.suffix != ".lock"}

    before = state()
    assert change(place) is None
    corrected_candles(place)
    assert change(place) is not None
    assert state() == before
