"""The same `heatmap run` twice, for real: the second does nothing, without Dagster; a corrected day costs that one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline_tests._homes import done, draw_only_the_page
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    candles_file,
    created,
    day,
    real,
    rewrite,
    wilder,
    write_archive,
)

pytestmark = pytest.mark.slow

_WATCHED = """
import resource, sys
from heatmap_pipeline.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
used = resource.getrusage(resource.RUSAGE_SELF)
print("dagster" in sys.modules, used.ru_utime + used.ru_stime)
sys.exit(code)
"""
_MOST_SECONDS = 4.0
"""Of a processor, on a machine that has other work; it is below 2 on one that has none (benchmarks)."""


def digests(home: Path) -> dict[str, str]:
    files = [path for path in home.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_again_does_nothing_and_a_changed_day_costs_what_follows_it(
    pictures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    draw_only_the_page(monkeypatch)
    home, archive = tmp_path / "home", write_archive(tmp_path / "archive", 4, BTC)
    words = ["run", BTC, "--archive", archive, "--start", day(1), "--end", day(4), "--home", home]
    done(*words)
    before = digests(home)
    again = subprocess.run(
        [sys.executable, "-c", _WATCHED, *map(str, words)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    said, page, database, watched = again.stdout.splitlines()
    assert said == f"{BTC}: {day(1)} .. {day(4)} stored, unchanged and published: nothing to do"
    assert (page, database) == (
        f"page      {(home / 'renders' / 'index.html').as_uri()}",
        f"database  {home / 'heatmap.duckdb'}",
    )
    loaded, seconds = watched.split()
    assert loaded == "False"
    assert float(seconds) < _MOST_SECONDS
    assert digests(home) == before

    rewrite(candles_file(archive, 3), wilder)
    settings = real(home, archive)
    stood = created(settings)
    result = done(*words)
    assert f"{BTC}: {day(1)} .. {day(2)} stored and unchanged; then the file with the candles of" in result.stderr
    assert f"{BTC}: {day(1)} .. {day(4)} computed and published" in result.stdout
    made = created(settings)
    assert {key[2] for key in made if made[key] != stood[key]} == {day(3), day(4)}
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        newest, first = instance.get_run_records()
        partitions = [
            {
                record.partition_key
                for record in instance.get_records_for_run(
                    run.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
                ).records
                if record.partition_key is not None
            }
            for run in (first, newest)
        ]
    assert partitions == [{str(day(number)) for number in (1, 2, 3, 4)}, {str(day(3)), str(day(4))}]
    assert "nothing to do" in done(*words).stdout
