"""The command as a test calls it, and what must hold of every refusal; small archives come from orchestration.homes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

import heatmap_pipeline.chain.status

# A module that is first imported while something of it is replaced would keep the replacement.
import heatmap_pipeline.definitions
import heatmap_pipeline.orchestration.runs
from heatmap_pipeline.chain import calendar
from heatmap_pipeline.cli import main
from heatmap_pipeline.orchestration.runs import Outcome
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.raw import get_symbol
from heatmap_pipeline_tests.orchestration.light import run_lightly


def heatmap(*arguments: object) -> Result:
    """Run the command in this process. It may only end as a command ends: anything else raised is a defect."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="heatmap")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def done(*arguments: object) -> Result:
    """Run the command in this process; it must succeed."""
    result = heatmap(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(result: Result, code: int, *fragments: object) -> str:
    """Assert that a command failed with one clear last line that says all of `fragments`; return the line."""
    assert result.exit_code == code, result.output
    assert "published (" not in result.stdout
    return last_line(result.stderr, code, *fragments)


def last_line(stderr: str, code: int, *fragments: object) -> str:
    """Assert that the last line of stderr is the only error, one for people, and says all of `fragments`."""
    assert "Traceback" not in stderr
    opening = "heatmap: " if code == 1 else "Error: "
    lines = stderr.rstrip("\n").split("\n")
    assert lines[-1].startswith(opening), stderr
    assert len([line for line in lines if line.startswith(opening)]) == 1, stderr
    for fragment in fragments:
        assert str(fragment) in lines[-1], lines[-1]
    assert "(unexpected;" not in lines[-1], "an error that nobody foresaw does not say what to do"
    return lines[-1]


def start(*arguments: object, **variables: object) -> subprocess.Popen[str]:
    """Start the command as a process of its own, with these environment variables."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    command = [sys.executable, "-m", "heatmap_pipeline", *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave the pictures away: they take longer than everything else of a small run."""
    patch.setattr("heatmap_pipeline.render.page.write_page", lambda *_: None)
    draw_only_the_page(patch)


def draw_only_the_page(patch: pytest.MonkeyPatch) -> None:
    """Leave away the picture of a run's metadata, which takes as long as those of the page."""
    patch.setattr("heatmap_pipeline.render.picture.small_png", lambda *_: b"")


def load_no_picture(patch: pytest.MonkeyPatch) -> None:
    """Read nothing of what the pictures of a symbol show, either, which takes a tenth of a small run."""

    def nothing(con: Any, symbol: str, models: Iterable[str], _: int) -> dict[str, Any]:
        record = get_symbol(con, symbol)
        meta = {"last_day": "", "units": {"price": "none"}, "price": 0.0, "located_share": 0.0}
        meta["simulated"] = record is not None and record.simulated
        return {model: SimpleNamespace(meta=meta) for model in models}

    patch.setattr("heatmap_pipeline.orchestration.assets.heatmap_render.newest_days", nothing)


def work_little(patch: pytest.MonkeyPatch) -> None:
    """Compute one model, a snapshot an hour, without pictures, and in runs without Dagster."""
    patch.setenv("HEATMAP_MODELS", "delta")
    patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    draw_nothing(patch)
    load_no_picture(patch)
    run_lightly(patch)


def only_ask(patch: pytest.MonkeyPatch) -> list[tuple[Settings, dict[str, tuple[date, date]]]]:
    """Let commands say which days they would run, as if all were had; return the list that each run is added to."""
    asked: list[tuple[Settings, dict[str, tuple[date, date]]]] = []

    def note(settings: Settings, requests: dict[str, tuple[date, date]], *, restart: bool = False) -> Outcome:
        asked.append((settings, dict(requests)))
        return Outcome(dict(requests), {})

    patch.setattr(heatmap_pipeline.orchestration.runs, "run_days", note)
    return asked


def clean_environment(patch: pytest.MonkeyPatch) -> None:
    """Forget the settings of the machine, for fixtures that live longer than a test."""
    for name in list(os.environ):
        if (name.startswith("HEATMAP_") and name != "HEATMAP_TEST_MARKET") or name == "DAGSTER_HOME":
            patch.delenv(name)


def as_if_yesterday_were(patch: pytest.MonkeyPatch, day: date) -> None:
    """Set the last complete day, in every module that has taken the function by its name."""
    real = calendar.yesterday
    for name, module in list(sys.modules.items()):
        if name.startswith("heatmap_pipeline.") and getattr(module, "yesterday", None) is real:
            patch.setattr(module, "yesterday", lambda: day)


def published(home: Path) -> Path:
    return home / "heatmap.duckdb"


def days(home: Path, symbol: str) -> dict[str, list[date]]:
    """Return the published days of a symbol by model."""
    with duckdb.connect(str(published(home)), read_only=True) as con:
        query = "SELECT model, list(day ORDER BY day) FROM heatmap_days WHERE symbol = ? GROUP BY 1"
        return dict(con.execute(query, [symbol]).fetchall())
