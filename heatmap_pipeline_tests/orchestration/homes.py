"""Small homes that tests run for real: archives of a few demo days, runs of the job, and whole databases to compare."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.cli import main
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.partitions import range_tags
from heatmap_pipeline.settings import SIMULATED_MARKER, Settings, load_settings
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import draw_nothing, load_no_picture
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.light import Job

BTC, ETH = "BTCUSDT", "ETHUSDT"
FIRST = date(2024, 3, 4)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def day(number: int) -> date:
    """Return a day of the small history; the first is day 1."""
    return FIRST + timedelta(days=number - 1)


def real(home: Path, archive: Path, *symbols: str, **more: Any) -> Settings:
    """Return settings that take archive files for real ones."""
    return load_settings(home=home, source="archive", archive=archive, symbols=symbols or (BTC,), **more)


# -- archives


def write_archive(root: Path, days: int, *symbols: str) -> Path:
    """Write archive files of days 1..days. The demo market makes them; without its marker they pass for real ones."""
    for symbol in symbols:
        write_demo_days(root, symbol, [day(number) for number in range(1, days + 1)])
    (root / SIMULATED_MARKER).unlink()
    return root


def candles_file(root: Path, number: int, symbol: str = BTC) -> Path:
    return root / f"futures/um/daily/klines/{symbol}/5m/{symbol}-5m-{day(number)}.zip"


def metrics_file(root: Path, number: int, symbol: str = BTC) -> Path:
    return root / f"futures/um/daily/metrics/{symbol}/{symbol}-metrics-{day(number)}.zip"


def checksum_of(path: Path) -> Path:
    return path.with_name(path.name + ".CHECKSUM")


def rewrite(path: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    """Replace an archive file by another valid one, with its CHECKSUM; `change` gets and gives the rows."""
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        header, *lines = archive.read(name).decode().splitlines()
    text = "\n".join([header, *(",".join(row) for row in change([line.split(",") for line in lines]))]) + "\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    path.write_bytes(packed.getvalue())
    checksum_of(path).write_text(f"{hashlib.sha256(packed.getvalue()).hexdigest()}  {path.name}\n")


def wilder(rows: list[list[str]]) -> list[list[str]]:
    """Return the candles of a day on which more was traded, price went further up, and some ran from low to high."""
    for number, row in enumerate(rows):
        if number % 5 == 0:
            row[1], row[4] = row[3], row[2]
        row[2] = f"{float(row[2]) * 1.004:.1f}"
        row[5] = f"{float(row[5]) * (1 + number % 7):.3f}"
    return rows


def break_file(path: Path) -> None:
    """Spoil an archive file as a broken download does: its second half is missing, nobody kept its CHECKSUM."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checksum_of(path).unlink(missing_ok=True)


# -- an exchange of their own


# -- an exchange


def of_the_exchange(patch: pytest.MonkeyPatch, server: ExchangeServer, **more: str) -> None:
    """Let commands ask a local exchange, compute `delta` with a snapshot an hour, and draw nothing.

    `more` are further settings, by their names without HEATMAP_.
    """
    values = {"SOURCE": "binance", "ARCHIVE_URL": server.url, "REST_URL": server.url}
    for name, value in {**values, "MODELS": "delta", "SNAPSHOT_INTERVAL": "1h", **more}.items():
        patch.setenv(f"HEATMAP_{name}", value)
    draw_nothing(patch)
    load_no_picture(patch)


# -- runs


@dataclass(frozen=True)
class Ran:
    """What a run of the job left in the event log."""

    success: bool
    materialised: dict[str, dict[str | None, dict[str, Any]]]
    """Asset -> partition (None where it has none) -> metadata."""
    checks: dict[str, tuple[bool, str]]
    """Asset and check -> passed, description."""
    failures: dict[str, str]
    """Step -> description of its failure."""

    def ok(self) -> Ran:
        assert self.success, (self.failures, {key: text for key, (passed, text) in self.checks.items() if not passed})
        return self

    def failed_checks(self) -> set[str]:
        return {name for name, (passed, _) in self.checks.items() if not passed}


def ran(events: Sequence[dg.DagsterEvent], success: bool) -> Ran:
    """Read the events of a run."""
    result = Ran(success, {}, {}, {})
    for event in events:
        kind = event.event_type_value
        if kind == "ASSET_MATERIALIZATION":
            found = event.step_materialization_data.materialization
            metadata = {name: value.value for name, value in found.metadata.items()}
            result.materialised.setdefault(found.asset_key.to_user_string(), {})[found.partition] = metadata
        elif kind == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            name = f"{check.asset_key.to_user_string()}:{check.check_name}"
            result.checks[name] = (check.passed, check.description or "")
        elif kind == "STEP_FAILURE":
            data = event.step_failure_data
            text = (
                data.user_failure_data.description
                if data.user_failure_data
                else str(data.error and data.error.to_string())
            )
            result.failures[event.step_key or ""] = str(text)
    return result


def run_job(
    settings: Settings,
    first: int,
    last: int | None = None,
    *,
    stages: Sequence[str] | None = None,
    restart: bool = False,
    start: date = FIRST,
    instance: dg.DagsterInstance | None = None,
    dagster: bool = False,
) -> Ran:
    """Run the daily job in this process, for one day by its partition key or for several by range tags.

    `stages` are the assets to materialise, of every symbol; None means all of the job. It is a light run, unless it is
    to be one of Dagster or has an instance of it.
    """
    dagster = dagster or instance is not None
    job: Any = build_defs(settings, start=start).resolve_job_def("heatmap_daily") if dagster else Job(settings)
    config: dict[str, Any] = dict(QUIET)
    if restart:
        config["ops"] = {f"{symbol}__position_events": {"config": {"restart": True}} for symbol in settings.symbols}
    keys = None if stages is None else [dg.AssetKey([symbol, name]) for symbol in settings.symbols for name in stages]
    days: dict[str, Any] = {"partition_key": day(first).isoformat()}
    if last is not None:
        days = {"tags": range_tags(day(first), day(last))}
    with nullcontext(instance) if instance or not dagster else dg.DagsterInstance.ephemeral() as used:
        result = job.execute_in_process(
            run_config=config, instance=used, raise_on_error=False, asset_selection=keys, **days
        )
        return ran(result.all_events, result.success)


def compute(settings: Settings, first: int, last: int) -> Settings:
    """Return the settings of a home to begin with, which holds days as the job leaves them, made without Dagster."""
    return compute_home(settings, day(first), day(last))


def command_in(text: str) -> list[str]:
    """Return the words of the one command that a message tells its reader to run."""
    (found,) = dict.fromkeys(re.findall(r"`(heatmap run [^`]*)`", text))
    return shlex.split(found)


def obey(text: str) -> str:
    """Run the command that a message names, as its reader would, and return what it prints."""
    words = command_in(text)
    result = CliRunner().invoke(main, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


# -- databases


def tables(path: Path, *symbols: str) -> dict[str, Any]:
    """Return every table of a database as Arrow, without created_at, in an order that only depends on its rows.

    Of the folder of private databases, those of all of them together: of one after the other, as their names go.
    """
    if path.is_dir():
        each = [tables(file, *symbols) for file in sorted(path.glob("*.duckdb"))]
        if not each:
            return {}
        versions = [one.pop("schema_version", None) for one in each]
        whole = {name: pa.concat_tables([one[name] for one in each]) for name in each[0]}
        return whole | ({"schema_version": versions[0]} if versions[0] is not None else {})
    where = f"WHERE symbol IN {(*symbols, '')}" if symbols else ""
    con = _comparing()
    con.execute(f"ATTACH '{path}' AS them (READ_ONLY)")
    try:
        con.execute("USE them")
        columns = con.execute(
            "SELECT table_name, list('\"' || column_name || '\"' ORDER BY column_index) FROM duckdb_columns() "
            "WHERE database_name = 'them' AND column_name NOT IN ('created_at', 'failed_at') "
            "AND table_name IN (SELECT table_name FROM duckdb_tables()) GROUP BY 1"
        ).fetchall()
        return {
            name: con.sql(f"SELECT {', '.join(names)} FROM {name} {where} ORDER BY ALL").to_arrow_table()
            for name, names in sorted(columns)
            if not symbols or '"symbol"' in names
        }
    finally:
        con.execute("USE memory")
        con.execute("DETACH them")


@cache
def _comparing() -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, which is not the program's; starting one takes as long as what it is used for."""
    return duckdb.connect(":memory:", config={"threads": "1"})


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that two databases hold the same rows, to the last bit."""
    assert one.keys() == other.keys()
    for name, table in one.items():
        against = other[name]
        assert table.schema == against.schema, name
        assert table.num_rows == against.num_rows, f"{name}: {table.num_rows} rows and {against.num_rows}"
        for column in table.column_names:
            pair = [rows.column(column).combine_chunks() for rows in (table, against)]
            different: Any = np.flatnonzero(_bits(pair[0]) != _bits(pair[1])) if _may_differ(*pair) else ()
            assert not len(different), (
                f"{name}.{column}: {len(different)} rows differ, the first: "
                f"{table.slice(different[0], 1).to_pylist()} and {against.slice(different[0], 1).to_pylist()}"
            )


def _may_differ(left: Any, right: Any) -> bool:
    """Whether columns have to be looked at value by value: 0 and -0 are equal numbers, and NaN never equals itself."""
    return pa.types.is_floating(left.type) or not left.equals(right)


def _bits(column: Any) -> Any:
    """Return values that are equal only where every bit is."""
    if pa.types.is_floating(column.type):
        return column.to_numpy(zero_copy_only=False).view(np.int64)  # a missing number is NaN here
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=object)


def problems(settings: Settings) -> list[str]:
    """Return the lines of `heatmap status` about days that are failed, stale or missing in between."""
    return [line for line in status_lines(settings) if line.startswith(("failed ", "stale ", "gap "))]


def created(settings: Settings) -> dict[tuple[str, str, date], Any]:
    """Return when each day of the chain was computed: a day that was skipped keeps it."""
    found = ask(settings, "SELECT symbol, model, day, created_at FROM heatmap_days")
    return {(symbol, model, when): made for symbol, model, when, made in found}


def ask(settings: Settings, query: str, *, published: bool = False) -> list[tuple[Any, ...]]:
    """Return the rows of a query to the private databases, or to what is published; a change is made in each."""
    warehouse = Warehouse(settings.home)
    found: list[tuple[Any, ...]] = []
    if published or (len(warehouse.symbols()) > 1 and query.startswith(("SELECT", "FROM", "WITH"))):
        with warehouse.read() if published else every_private(settings.home) as con:
            return con.execute(query).fetchall()
    for symbol in warehouse.symbols():
        with warehouse.connect(symbol) as con:
            found = con.execute(query).fetchall()
    return found


@contextmanager
def every_private(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the private databases of all symbols of a home as one, to read them."""
    warehouse = Warehouse(home)
    with duckdb.connect(":memory:") as con:
        for number, symbol in enumerate(warehouse.symbols()):
            con.execute(f"ATTACH '{warehouse.path(symbol)}' AS s{number} (READ_ONLY)")
        for table in symbol_tables():
            rows = " UNION ALL ".join(f"FROM s{n}.main.{table.name}" for n in range(len(warehouse.symbols())))
            con.execute(f"CREATE VIEW {table.name} AS {rows}")
        yield con


@contextmanager
def untouched(path: Path) -> Iterator[None]:
    """Assert that a file stays as it is, byte for byte, and is not even replaced by an equal one."""
    before = path.read_bytes(), path.stat().st_ino
    yield
    assert (path.read_bytes(), path.stat().st_ino) == before, f"{path} was touched"


def copy_home(finished: Path, home: Path) -> Path:
    """Copy a finished home, without Dagster's history and the pictures."""
    home.mkdir(parents=True, exist_ok=True)
    if (finished / "warehouse").exists():  # nothing was computed yet
        shutil.copytree(finished / "warehouse", home / "warehouse")
    for name in ("heatmap.duckdb", "archives.json"):
        if (finished / name).exists():  # no folder was named where the market is simulated
            shutil.copyfile(finished / name, home / name)
    return home
