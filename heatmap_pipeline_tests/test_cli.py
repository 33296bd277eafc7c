"""The `heatmap` command as people use it: every verb, its options and variables, what it prints and what it leaves."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import dagster as dg
import duckdb
import pytest
import yaml

import heatmap_pipeline
from heatmap_pipeline import cli
from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.chain.settings import DEMO_MARKETS
from heatmap_pipeline.cli import showing
from heatmap_pipeline.orchestration.runs import packaged_file
from heatmap_pipeline.orchestration.turns import RunError
from heatmap_pipeline.orchestration.ui import front
from heatmap_pipeline.render.picture import write_png
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests._homes import (
    as_if_yesterday_were,
    clean_environment,
    days,
    done,
    draw_nothing,
    draw_only_the_page,
    heatmap,
    load_no_picture,
    only_ask,
    published,
    refused,
    work_little,
)
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    day,
    untouched,
)

VERBS = (
    *("demo", "run", "refresh", "record", "status", "score"),
    *("ui", "serve", "mcp", "backup", "restore", "forget", "export"),
)
BYBIT = "BYBIT_BTCUSDT"
LAST = day(4)
"""Yesterday, as these tests have it."""


@pytest.fixture(autouse=True)
def _yesterday_is_day_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a snapshot is one of an hour, of which there are a quarter as many."""
    as_if_yesterday_were(monkeypatch, LAST)
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute one model, draw nothing, keep the history in memory: for tests that are about something else."""
    work_little(monkeypatch)


# -- help


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_examples(verb: str) -> None:
    text = done(verb, "--help").stdout
    assert re.search(rf"^ +Examples?:\n +heatmap {verb}\b", text, re.M), text
    assert "--home DIRECTORY" in text
    assert done(verb, "-h").stdout == text
    # What the examples show is understood: every option in them exists.
    for line in re.findall(r"^ +(heatmap .*)$", text, re.M):
        words = shlex.split(line)
        assert words[1] == verb
        for word in words:
            assert not word.startswith("--") or word in text.split("Options:")[1], line


@pytest.mark.parametrize("verb", ["run", "refresh", "catalogue", "pull", "collect"])
def test_every_verb_of_the_fleet_explains_itself_with_examples(verb: str) -> None:
    assert re.search(rf"^  {verb} +\w", done("fleet", "--help").stdout, re.M)
    text = done("fleet", verb, "--help").stdout
    assert re.search(rf"^ +Examples?:\n +heatmap fleet {verb}\b", text, re.M), text


def test_the_command_itself() -> None:
    text = done("--help").stdout
    assert all(re.search(rf"^  {verb} +\w", text, re.M) for verb in VERBS)
    assert done("--version").stdout.strip() == f"heatmap, version {heatmap_pipeline.__version__}"
    assert set(cli.main.commands) == {*VERBS, "fleet"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", BTC, "--start", "2026-11-31"), "'2026-11-31' is no day that there is; write one such as 2026-11-21"),
        (("run", BTC, "--jobs", "abc"), "'abc' is not allowed; write a whole number from 1 to 64"),
        (("backup", "DIR", "--keep", "0"), "'0' is not allowed; write a whole number from 1 on"),
        (("fleet", "collect", "--grace", "x"), "'x' is not allowed; write a number from 0 to 720"),
        (("status", "--home", ""), "nothing is given; write a path"),
        (("status", "--home", "~who/x"), "'~who/x': no such home folder is known here; write a whole path"),
        (("backup", "~who/x"), "'~who/x': no such home folder is known here; write a whole path"),
        (("fleet", "pull", "~who/x"), "'~who/x': no such home folder is known here; write a whole path"),
        (("fleet", "collect", "--grace", "nan"), "'nan' is not allowed; write a number from 0 to 720"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_with_what_is_allowed(words: tuple[str, ...], said: str) -> None:
    refused(heatmap(*words), 2, said)


def test_every_number_day_and_path_of_an_option_is_refused_in_our_words() -> None:
    verbs = [*cli.main.commands.values(), *cli.main.commands["fleet"].commands.values()]  # type: ignore[attr-defined]
    kinds = {type(parameter.type) for verb in verbs for parameter in verb.params}
    assert not kinds & {
        click.IntRange,
        click.FloatRange,
        click.DateTime,
        click.Path,
        type(click.INT),
        type(click.FLOAT),
    }


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from heatmap_pipeline.cli import main\n"
        "for words in (['--help'], ['run', '--help'], ['demo', '--help']):\n"
        "    main(words, standalone_mode=False)\n"
        "heavy = {'dagster', 'pandas', 'numba', 'pydantic', 'numpy', 'duckdb', 'plotly', 'matplotlib', 'pyarrow'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or None)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", [[sys.executable, "-m", "heatmap_pipeline"], ["heatmap"]], ids=["module", "script"])
def test_it_starts_as_a_program(command: list[str], tmp_path: Path) -> None:
    if command == ["heatmap"]:
        script = Path(sys.executable).with_name("heatmap")
        if not script.exists():
            pytest.skip("the package is not installed, so there is no command")
        command = [str(script)]
    result = subprocess.run([*command, "run", "--help"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert result.stdout.startswith("Usage: heatmap run [OPTIONS] SYMBOL...")
    wrong = subprocess.run([*command, "run"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1].startswith("Error: Missing ")


# -- demo, status and refresh, whole: all its markets, both models, pictures and history


def _first_model(data: Any, path: Path) -> None:
    """Draw the picture of the first model; those of the other are a third of the time of the whole run."""
    write_png(data, path) if path.stem == "heatmap-turnover" else path.write_bytes(b"")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The home of `heatmap demo --days 2`, with a snapshot an hour, and what it printed."""
    home = tmp_path_factory.mktemp("demo") / "a home"
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        as_if_yesterday_were(patch, LAST)
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
        draw_only_the_page(patch)
        patch.setattr("heatmap_pipeline.render.page.write_png", _first_model)
        result = done("demo", "--days", "2", "--home", home)
    return home, result.stdout, result.stderr


@pytest.mark.slow
def test_demo_says_what_it_made_and_where(shown: tuple[Path, str, str]) -> None:
    home, out, _ = shown
    assert out.splitlines() == [
        *(f"{market}: {day(3)} .. {day(4)} computed and published (simulated data)" for market in DEMO_MARKETS),
        f"page      {(home / 'renders' / 'index.html').as_uri()}",
        f"database  {published(home)}",
    ]
    assert (home / "renders" / "index.html").is_file()
    for symbol in ("BTC", *DEMO_MARKETS):
        assert (home / "renders" / symbol / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    for symbol in DEMO_MARKETS:
        assert days(home, symbol) == {model: [day(3), day(4)] for model in ("delta", "turnover")}
    assert (home / "archive" / "demo" / "SIMULATED.txt").is_file()
    with duckdb.connect(str(published(home)), read_only=True) as con:
        assert con.execute("SELECT DISTINCT source, simulated FROM symbols").fetchall() == [("demo", True)]
        sides = con.execute("SELECT symbol, base, exchange, oi_sides FROM symbols ORDER BY symbol").fetchall()
        assert sides == [(BTC, "BTC", "binance", 1), (BYBIT, "BTC", "bybit", 2), (ETH, "ETH", "binance", 1)]
        halved = con.execute(
            "SELECT round(avg(contracts) FILTER (symbol = ?) / avg(contracts) FILTER (symbol = ?), 1) "
            "FROM raw_open_interest",
            [BTC, BYBIT],
        ).fetchone()
        assert halved is not None
        assert 2 < halved[0] < 3, "what adds both sides is counted once, as the other market's is"


@pytest.mark.slow
def test_progress_is_plain_lines_where_there_is_no_terminal(shown: tuple[Path, str, str]) -> None:
    lines = shown[2].splitlines()
    for symbol in DEMO_MARKETS:
        for stage in ("raw_candles", "raw_open_interest", "position_events", "liquidation_snapshots"):
            mine = [line for line in lines if line.startswith(f"{symbol} {stage}: ")]
            assert mine == [f"{symbol} {stage}: {number} of 2 days" for number in (1, 2)]
    assert "\x1b" not in shown[2]
    assert all(re.fullmatch(r"[A-Z_]+ [a-z_]+: \d+ of \d+ days", line) for line in lines), shown[2]


def test_progress_is_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", terminal)
    with showing.progress():
        tell(BTC, "raw_candles", 1, 4)
        tell(BTC, "raw_candles", 4, 4)
        tell(ETH, "raw_candles", 1, 4)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search(rf"{BTC} raw_candles .*4/4 days", text)
    assert re.search(rf"{ETH} raw_candles .*1/4 days", text)


def test_long_work_tells_a_line_a_quarter(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 91):
        showing._plain(BTC, "raw_candles", number, 90)
    assert capsys.readouterr().err.splitlines() == [
        f"{BTC} raw_candles: {number} of 90 days" for number in (23, 45, 68, 90)
    ]
    for number in range(3):
        showing._plain("heatmap.duckdb", "parts", number, 2)
    assert capsys.readouterr().err.splitlines() == [f"heatmap.duckdb parts: {n} of 2 symbols" for n in range(3)]


@pytest.mark.slow
def test_status_is_a_line_per_symbol_and_model(shown: tuple[Path, str, str]) -> None:
    home = shown[0]
    out = done("status", "--home", home).stdout
    assert out.startswith(f"home {home}\n")
    for symbol in DEMO_MARKETS:
        for model in ("turnover", "delta"):
            rows = [line.split() for line in out.splitlines() if f" {model} " in line]
            (row,) = [row for row in rows if row[0] == symbol]
            assert row[2:9] == ["2", str(day(3)), str(day(4)), "0", "0", "0", "0"]
            assert row[9].endswith("%")
            assert row[10:] == [str(day(4)), "23:55", "simulated"]
    assert f"market  Simulated USDT-M perpetual: {', '.join(DEMO_MARKETS)}" in out.splitlines()
    assert out.splitlines()[-1] == "nothing is failed, stale or missing"


def test_status_of_nothing(tmp_path: Path) -> None:
    out = done("status", "--home", tmp_path / "none").stdout
    assert str(tmp_path / "none") in out
    home = tmp_path / "none"
    assert f"begin with `heatmap demo --home {home}` or `heatmap run SYMBOL --start DAY --end DAY --home {home}`" in out
    assert not (tmp_path / "none").exists(), "looking makes nothing"


@pytest.mark.slow
def test_the_demo_again_changes_nothing(
    shown: tuple[Path, str, str], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEATMAP_MODELS")
    home, out, _ = shown
    with untouched(published(home)):
        again = done("demo", "--days", "2", "--home", home).stdout
    assert again == out.replace(
        "computed and published (simulated data)", "stored, unchanged and published: nothing to do"
    )


@pytest.mark.slow
def test_every_run_is_in_one_history_from_whatever_folder(
    shown: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(shown[0], home)
    draw_nothing(monkeypatch)
    load_no_picture(monkeypatch)
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    arguments = ("--source", "demo", "--start", day(4), "--end", day(4))
    done("run", BTC, *arguments, "--home", "../home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATMAP_HOME", "home")
    done("run", BTC, *arguments)
    assert list(elsewhere.iterdir()) == []
    assert os.environ["DAGSTER_HOME"] == str(home / "dagster")
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        runs = instance.get_runs()
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 3
        assert {run.job_name for run in runs} == {"heatmap_daily"}
        assert not instance.telemetry_enabled


@pytest.mark.slow
def test_refresh_continues_to_yesterday_and_then_has_nothing_to_do(tmp_path: Path, quick: None) -> None:
    home = tmp_path / "home"
    compute_home(load_settings(home=home, symbols=(BTC,)), day(1), day(2))
    assert f"{BTC}: {day(3)} .. {day(4)} computed and published (simulated data)" in (
        done("refresh", BTC, "--home", home).stdout
    )
    assert days(home, BTC) == {"delta": [day(number) for number in (1, 2, 3, 4)]}
    with untouched(published(home)):
        assert done("refresh", BTC, "--home", home).stdout == f"{BTC}: up to date, the last stored day is {day(4)}\n"


def test_refresh_begins_at_heatmap_start(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    line = refused(heatmap("refresh", BTC, "--home", home), 1, BTC, "nothing is stored yet", "HEATMAP_START")
    assert f"heatmap run {BTC} --start" in line
    with monkeypatch.context() as patch:
        patch.setenv("HEATMAP_START", str(day(3)))
        asked = only_ask(patch)
        done("refresh", BTC, "--home", home)
    assert [days for _, days in asked] == [{BTC: (day(3), day(4))}]
    # A symbol that has nothing to begin with does not hold up one that is stored.
    compute_home(load_settings(home=home, symbols=(BTC,)), day(4))
    result = heatmap("refresh", BTC, ETH, "--home", home)
    assert f"{BTC}: up to date" in result.stdout
    refused(result, 1, ETH, "nothing is stored yet")


def test_an_old_demo_is_continued_where_it_ended(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    compute_home(load_settings(home=home, symbols=(BTC,)), day(1))
    monkeypatch.setenv("HEATMAP_SYMBOLS", f"{BTC},{ETH}")
    asked = only_ask(monkeypatch)
    done("demo", "--days", "1", "--home", home)
    # What was never stored needs no more than was asked.
    assert [days for _, days in asked] == [{BTC: (day(2), day(4)), ETH: (day(4), day(4))}]


# -- where things are


def test_the_default_home_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "heatmap") in done("status").stdout


def test_the_files_that_start_dagster_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    workspace = yaml.safe_load(packaged_file("workspace.yaml").read_text())
    (entry,) = workspace["load_from"]
    assert entry["python_module"]["module_name"] == "heatmap_pipeline.definitions"
    instance = yaml.safe_load(packaged_file("dagster.yaml").read_text())
    assert instance["telemetry"] == {"enabled": False}
    # An installed package carries both inside, a checkout has both beside it.
    package = tmp_path / "site-packages" / "heatmap_pipeline"
    package.mkdir(parents=True)
    monkeypatch.setattr(heatmap_pipeline, "__file__", str(package / "__init__.py"))
    with pytest.raises(RunError, match=r"dagster\.yaml is missing from the installation of heatmap-pipeline"):
        packaged_file("dagster.yaml")
    (package / "dagster.yaml").touch()
    assert packaged_file("dagster.yaml") == package / "dagster.yaml"


def test_ui_hands_its_home_and_its_socket_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[dict[str, Any], dict[str, str], bool]] = []

    def keep(plan: dict[str, Any], bound: socket.socket, _lock: int, environment: dict[str, str]) -> int:
        kept.append((plan, environment, bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1))
        return 0

    monkeypatch.setattr(front, "_kept", keep)
    monkeypatch.setenv("DAGSTER_HOME", "")  # so that what the command sets is taken back
    monkeypatch.setenv("HEATMAP_UI_HOSTS", "heatmap.example.org, Other.example.org:8443")
    monkeypatch.chdir(tmp_path)
    port = free_port()
    out = done("ui", "--port", port, "--archive", "files", "--home", "home").stdout
    ((plan, environment, listening),) = kept
    assert plan == {
        "module": "heatmap_pipeline.definitions",
        "locations": {"heatmap_pipeline": {}},
        "host": "127.0.0.1",
        "port": str(port),
        "names": "heatmap.example.org,other.example.org:8443",
    }
    assert listening
    assert f"http://127.0.0.1:{port} for {tmp_path / 'home'}" in out
    assert environment["DAGSTER_HOME"] == str(tmp_path / "home" / "dagster")
    assert (tmp_path / "home" / "dagster" / "dagster.yaml").read_bytes() == packaged_file("dagster.yaml").read_bytes()
    assert environment["HEATMAP_HOME"] == str(tmp_path / "home")
    assert environment["HEATMAP_SOURCE"] == "archive"
    assert environment["HEATMAP_ARCHIVE"] == str(tmp_path / "files")


def test_ui_refuses_a_taken_port_and_a_second_one_on_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(heatmap("ui", "--port", port, "--home", tmp_path), 1, f"port {port} on 127.0.0.1 is taken", "--port")
    assert not list(tmp_path.iterdir())
    second: list[Any] = []

    def keep(*_: Any) -> int:
        second.append(heatmap("ui", "--port", free_port(), "--home", tmp_path))
        return 0

    monkeypatch.setattr(front, "_kept", keep)
    done("ui", "--port", free_port(), "--home", tmp_path)
    refused(second[0], 1, f"process {os.getpid()} runs the UI and the schedule of {tmp_path} already; use that")
    with front.nobody_else(Settings(home=tmp_path), lambda _: None):
        during = heatmap("ui", "--port", free_port(), "--home", tmp_path)
    words = f"process {os.getpid()} restores a backup into {tmp_path}; wait for it, or choose another --home"
    refused(during, 1, words)


def test_a_host_that_is_an_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_UI_HOSTS", "https://heatmap.example.org")
    refused(heatmap("ui", "--home", tmp_path), 2, "HEATMAP_UI_HOSTS", "write heatmap.example.org, or")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
