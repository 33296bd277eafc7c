"""`heatmap run` as people use it: the days and models it computes, what it refuses, and what it leaves behind."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import duckdb
import pytest

from heatmap_pipeline.chain.history import ChainError
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline_tests._homes import (
    as_if_yesterday_were,
    clean_environment,
    days,
    done,
    heatmap,
    only_ask,
    published,
    refused,
    work_little,
)
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    assert_same,
    break_file,
    candles_file,
    day,
    real,
    rewrite,
    tables,
    untouched,
    wilder,
    write_archive,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute one model, draw nothing, keep the history in memory: this is about something else."""
    as_if_yesterday_were(monkeypatch, day(4))
    work_little(monkeypatch)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("files"), 4, BTC, ETH)


@pytest.fixture(scope="module")
def ran(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with days 1 to 3 of both symbols, one model, without pictures and history."""
    home = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        work_little(patch)
        arguments = ("--archive", files, "--start", day(1), "--end", day(3), "--model", "delta", "--home", home)
        result = done("run", BTC, ETH, BTC, *arguments)
    assert result.stdout.splitlines()[:2] == [
        f"{symbol}: {day(1)} .. {day(3)} computed and published (real data)" for symbol in (BTC, ETH)
    ]
    return home


@pytest.fixture
def home(ran: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran, tmp_path / "home"))


def test_a_run_within_the_stored_days_rebuilds_to_the_last(home: Path, files: Path, tmp_path: Path) -> None:
    before = tables(published(home), BTC)
    archive = Path(shutil.copytree(files, tmp_path / "archive"))
    rewrite(candles_file(archive, 2), wilder)
    result = done("run", BTC, "--archive", archive, "--start", day(2), "--end", day(2), "--home", home)
    assert result.stdout.startswith(f"{BTC}: {day(2)} .. {day(3)} computed and published")
    clean = tmp_path / "clean"
    compute_home(real(clean, archive), day(1), day(3))
    after = tables(published(home), BTC)
    other = tables(published(clean), BTC)
    for kept in (after, other):
        kept.pop("raw_days")  # names the files
    assert_same(after, other)
    assert after["raw_candles"] != before["raw_candles"]


def test_a_symbol_that_fails_publishes_the_days_before_and_the_others_are_published(
    home: Path, files: Path, tmp_path: Path
) -> None:
    archive = Path(shutil.copytree(files, tmp_path / "archive"))
    rewrite(candles_file(archive, 3, ETH), wilder)  # a good day before the bad one
    break_file(candles_file(archive, 4, ETH))
    arguments = ("--archive", archive, "--start", day(3), "--end", day(4), "--home", home)
    result = heatmap("run", BTC, ETH, *arguments)
    assert result.exit_code == 1
    assert f"{BTC}: {day(3)} .. {day(4)} computed and published" in result.stdout
    assert result.stderr.splitlines()[-1].startswith(f"heatmap: {ETH} failed: {candles_file(archive, 4, ETH)}")
    assert days(home, BTC) == {"delta": [day(number) for number in (1, 2, 3, 4)]}
    assert f"{ETH}: {day(3)} .. {day(3)} computed and published" in result.stdout
    with duckdb.connect(str(published(home)), read_only=True) as con:
        newest = con.execute(f"SELECT max(day) FROM heatmap_days WHERE symbol = '{ETH}'").fetchone()
    assert newest == (day(3),)


def test_symbols_may_stand_at_different_days(home: Path, files: Path) -> None:
    compute_home(real(home, files), day(4))
    result = done("run", BTC, ETH, "--archive", files, "--start", day(3), "--end", day(3), "--home", home)
    assert result.stdout.splitlines()[:2] == [
        f"{BTC}: {day(3)} .. {day(4)} computed and published (real data)",
        f"{ETH}: {day(3)} .. {day(3)} computed and published (real data)",
    ]


def test_models_may_be_chosen(home: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEATMAP_MODELS")
    assert days(home, BTC) == {"delta": [day(1), day(2), day(3)]}
    done("run", BTC, "--archive", files, "--start", day(1), "--end", day(1), "--home", home)
    assert days(home, BTC) == {model: [day(1), day(2), day(3)] for model in ("delta", "turnover")}
    compute_home(real(tmp_path / "clean", files), day(1), day(3))
    assert_same(tables(published(home), BTC), tables(published(tmp_path / "clean"), BTC))


def test_variables_and_options_are_the_same(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = only_ask(monkeypatch)
    monkeypatch.delenv("HEATMAP_MODELS")
    monkeypatch.setenv("HEATMAP_BUCKET_BTCUSDT", "500")
    arguments = ("run", BTC, "--start", day(1), "--end", day(1))
    options = ("--source", "archive", "--archive", files, "--model", "delta", "--home", tmp_path)
    first = done(*arguments, *options)
    for name, value in {"SOURCE": "archive", "ARCHIVE": files, "MODELS": "delta", "HOME": tmp_path}.items():
        monkeypatch.setenv(f"HEATMAP_{name}", str(value))
    second = done(*arguments)
    assert second.stdout == first.stdout
    (settings, days_of_options), (others, days_of_variables) = asked
    assert settings == others
    assert days_of_options == days_of_variables == {BTC: (day(1), day(1))}
    assert (settings.source, settings.archive, settings.models, settings.home) == (
        "archive",
        files,
        ("delta",),
        tmp_path,
    )
    compute_home(settings, day(1))
    assert tables(published(tmp_path))["symbols"]["bucket"].to_pylist() == [500]


def test_an_archive_that_the_demo_market_wrote_stays_simulated(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Path(shutil.copytree(files, tmp_path / "archive"))
    (archive / "SIMULATED.txt").write_text("made up")
    home = tmp_path / "home"
    asked = only_ask(monkeypatch)
    result = done("run", BTC, "--archive", archive, "--start", day(1), "--end", day(1), "--home", home)
    assert "(simulated data)" in result.stdout
    ((settings, _),) = asked
    compute_home(settings, day(1))
    assert tables(published(home))["symbols"]["simulated"].to_pylist() == [True]
    assert "simulated" in done("status", "--home", home).stdout.splitlines()[2]


def test_a_new_history_may_begin_where_the_source_has_no_data(files: Path, tmp_path: Path) -> None:
    archive, home = Path(shutil.copytree(files, tmp_path / "archive")), tmp_path / "home"
    candles_file(archive, 3).unlink()
    compute_home(real(home, archive), day(2))
    arguments = ("run", BTC, "--archive", archive, "--start", day(4), "--end", day(4), "--home", home)
    with untouched(published(home)):
        refused(heatmap(*arguments), 1, BTC, f"{day(4)} does not follow the last stored day {day(2)}", "--restart")
    done(*arguments, "--restart")
    assert days(home, BTC) == {"delta": [day(2), day(4)]}
    status = done("status", "--home", home).stdout
    assert f"gap     {BTC} {day(3)} .. {day(3)}: 1 day without data" in status


def test_a_repairing_command_repairs(files: Path, tmp_path: Path) -> None:
    """What an error tells people to type can be typed as it stands."""
    late = tmp_path / "late"
    compute_home(real(late, files, ETH), day(1), day(2))
    arguments = ("run", ETH, "--archive", files, "--start", day(4), "--end", day(4), "--home", late)
    line = refused(heatmap(*arguments), 1, "fill the gap")
    words = shlex.split(line.split("`")[1])
    assert words[0] == "heatmap"
    done(*words[1:])
    compute_home(real(late, files, ETH), day(4))
    assert days(late, ETH) == {"delta": [day(number) for number in (1, 2, 3, 4)]}


def test_a_model_that_was_left_out_begins_where_the_history_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    compute_home(load_settings(home=home, symbols=(BTC,)), day(2), day(3))
    monkeypatch.setenv("HEATMAP_MODELS", "delta,turnover")
    settings = load_settings(home=home, symbols=(BTC,))
    with pytest.raises(ChainError, match=rf"turnover.* has no day before.*--start {day(2)}"):
        compute_home(settings, day(4))
    asked = only_ask(monkeypatch)
    done("refresh", BTC, "--home", home)
    assert [span for _, span in asked] == [{BTC: (day(2), day(4))}]
    compute_home(settings, day(2), day(4))
    assert days(home, BTC) == {model: [day(2), day(3), day(4)] for model in ("delta", "turnover")}
