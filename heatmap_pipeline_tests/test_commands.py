"""Command lines in messages: they mean the settings they were made from, and say nothing that is said already."""

from __future__ import annotations

import ast
import shlex
from datetime import date
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

import heatmap_pipeline
from heatmap_pipeline import cli
from heatmap_pipeline.chain.settings import load_checked_settings
from heatmap_pipeline.cli.options import settings_of as settings_of_options
from heatmap_pipeline.commands import ONLY_OVER_STORE, OVER_STORE, TAKES, at, command, first_commands
from heatmap_pipeline.settings import Settings, load_settings

FIRST, LAST = date(2024, 7, 1), date(2024, 7, 28)


def options_of(line: str) -> tuple[str, dict[str, Any]]:
    """Return the verb of a line and what the command itself makes of the words after it."""
    name, verb, *words = shlex.split(line)
    assert name == "heatmap"
    # Below the group's context, as in use: click keeps the help option of the first one, which alone has no `-h`.
    group = cli.main.make_context("heatmap", [verb])
    return verb, cli.main.commands[verb].make_context(verb, words, parent=group).params


def settings_of(line: str) -> Settings:
    """Return the settings that the command would work with, were the line typed."""
    _, options = options_of(line)
    return settings_of_options(
        home=options["home"],
        source=options.get("source"),
        archive=options.get("archive"),
        liquidations_folder=options.get("liquidations_folder"),
        models=options.get("models", ()),
    )


def test_every_verb_and_what_it_takes_is_known() -> None:
    assert {*TAKES, "fleet"} == {*cli.main.commands, *ONLY_OVER_STORE}
    fleet = cli.main.commands["fleet"]
    assert isinstance(fleet, click.Group)
    assert set(fleet.commands) >= OVER_STORE | ONLY_OVER_STORE
    commands = {**fleet.commands, **cli.main.commands}
    for verb, takes in TAKES.items():
        names = {word.removeprefix("--") for parameter in commands[verb].params for word in parameter.opts}
        assert takes == names & {
            "start",
            "check-files",
            "restart",
            "jobs",
            "source",
            "liquidations",
            "exchange",
            "home",
            "model",
        }
        assert ("source" in takes) == ("archive" in names)


def test_what_the_environment_says_now_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = load_settings(home=tmp_path / "there")
    named = f"heatmap status --home {tmp_path / 'there'}"
    assert command(there, "status") == named
    monkeypatch.setenv("HEATMAP_HOME", "there")
    assert command(there, "status") == named, "the folder of that name is another"
    monkeypatch.chdir(tmp_path)
    assert command(there, "status") == "heatmap status"
    monkeypatch.setenv("HEATMAP_SOURCE", "nowhere")
    assert command(there, "status") == named, "who sets nonsense is told all of it"


folders = st.sampled_from(["/a", "/b c", "/d'e", "/$HOME", "/ö"]).map(Path)
choices = st.fixed_dictionaries(
    {},
    optional={
        "home": folders,
        "archive": folders,
        "models": st.sampled_from([("delta",), ("turnover",), ("turnover", "delta"), ("delta", "turnover")]),
    },
)
sources = st.sampled_from(["binance", "archive", "demo"])


@profile(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices, sources, choices, sources)
def test_a_line_means_the_settings_it_was_made_from_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
    wanted: dict[str, Any],
    source: str,
    environment: dict[str, Any],
    common_source: str,
) -> None:
    with monkeypatch.context() as patch:
        for name, value in {"source": common_source, **environment}.items():
            patch.setenv(f"HEATMAP_{name.upper()}", ",".join(value) if name == "models" else str(value))
        if source == "archive":
            wanted = {"archive": Path("/files"), **wanted}
        settings = load_settings(source=source, **wanted)
        line = command(settings, "run", "BTCUSDT", "ETHUSDT", days=(FIRST, LAST), restart=True)
        verb, options = options_of(line)
        typed = settings_of(line)
        assert command(typed, "run", "BTCUSDT", "ETHUSDT", days=(FIRST, LAST), restart=True) == line
    assert (verb, options["symbols"], options["restart"]) == ("run", ("BTCUSDT", "ETHUSDT"), True)
    assert (options["start"].date(), options["end"].date()) == (FIRST, LAST)
    assert (typed.home, typed.source, set(typed.models)) == (settings.home, settings.source, set(settings.models))
    assert typed.archive_root == settings.archive_root


def test_what_the_environment_says_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, source="archive", archive=tmp_path / "files", models=("delta",))
    days = f"heatmap run BTCUSDT --start {FIRST} --end {LAST}"
    line = command(settings, "run", "BTCUSDT", days=(FIRST, LAST))
    assert line == f"{days} --archive {tmp_path / 'files'} --home {tmp_path} --model delta"
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path))
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    assert command(settings, "run", "BTCUSDT", days=(FIRST, LAST)) == f"{days} --archive {tmp_path / 'files'}"
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(tmp_path / "files"))
    monkeypatch.setenv("HEATMAP_SOURCE", "archive")
    assert command(settings, "run", "BTCUSDT", days=(FIRST, LAST)) == days


def test_a_verb_gets_only_options_that_it_takes(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, source="binance", models=("delta",))
    lines = {verb: command(settings, verb) for verb in TAKES}
    assert lines == {
        "demo": f"heatmap demo --home {tmp_path} --model delta",
        "run": f"heatmap run --source binance --home {tmp_path} --model delta",
        "refresh": f"heatmap refresh --source binance --home {tmp_path}",
        "status": f"heatmap status --home {tmp_path}",
        "score": f"heatmap score --home {tmp_path} --model delta",
        "forget": f"heatmap forget --home {tmp_path}",
        "record": f"heatmap record --home {tmp_path}",
        "ui": f"heatmap ui --source binance --home {tmp_path}",
        "serve": f"heatmap serve --home {tmp_path}",
        "mcp": f"heatmap mcp --home {tmp_path}",
        "backup": f"heatmap backup --home {tmp_path}",
        "restore": f"heatmap restore --home {tmp_path}",
        "export": f"heatmap export --home {tmp_path}",
        "catalogue": f"heatmap fleet catalogue --home {tmp_path}",
    }


def test_a_folder_of_liquidations_is_named_where_nobody_said_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = load_checked_settings(source="demo", liquidations_folder=tmp_path)
    days = f"heatmap run BTCUSDT --start {FIRST} --end {LAST}"
    line = command(settings, "run", "BTCUSDT", days=(FIRST, LAST))
    assert line == f"{days} --liquidations {tmp_path}"
    assert settings_of(line) == settings
    assert command(settings, "status") == "heatmap status"
    monkeypatch.setenv("HEATMAP_LIQUIDATIONS_FOLDER", str(tmp_path))
    assert command(settings, "run", "BTCUSDT", days=(FIRST, LAST)) == days
    assert command(settings, "record", "BTCUSDT", exchange="bybit") == "heatmap record BTCUSDT --exchange bybit"


def test_a_wrong_environment_keeps_no_message_from_being_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEATMAP_LOCK_TIMEOUT", "soon")
    run = f"heatmap run SYMBOL --start DAY --end DAY --home {tmp_path}"
    assert first_commands(tmp_path) == f"`heatmap demo --home {tmp_path}` or `{run}`"
    assert command(at(tmp_path), "status") == f"heatmap status --home {tmp_path}"


def test_no_message_names_a_command_by_itself() -> None:
    """A line written by hand knows no home: `command` makes all of them, docstrings apart."""
    written = []
    for path in Path(heatmap_pipeline.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        docstrings = {
            id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        written += [
            f"{path}:{node.lineno}"
            for node in nodes
            if isinstance(node, ast.Constant) and id(node) not in docstrings and "`heatmap " in str(node.value)
            if any(f"`heatmap {verb}" in str(node.value) for verb in cli.main.commands)
        ]
    assert written == []


def test_a_second_source_of_folders_is_named_beside_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from heatmap_pipeline.source_kinds import SOURCES, SourceKind

    monkeypatch.setitem(SOURCES, "copies", SourceKind("copies", grows=False, given_folder=True))
    settings = load_settings(source="copies", archive=Path("/files"))
    assert command(settings, "refresh") == "heatmap refresh --source copies --archive /files"
    assert command(load_settings(source="archive", archive=Path("/files")), "refresh") == (
        "heatmap refresh --archive /files"
    )
