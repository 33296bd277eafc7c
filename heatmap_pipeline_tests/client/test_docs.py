"""What README.md and docs/ print of client and MCP server is what there is, and runs as printed."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import heatmap_pipeline.client as room
from heatmap_pipeline import cli
from heatmap_pipeline.client import Heatmap
from heatmap_pipeline.mcp_server.server import NAMES
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api.homes import BTC
from heatmap_pipeline_tests.tables_page import PAGE

CHECKOUT = Path(room.__file__).parents[2]


def printed(page: str, mark: str, language: str) -> str:
    """Return the block of code after a mark."""
    text = (CHECKOUT / page).read_text("utf-8")
    (block,) = re.findall(rf"<!-- {mark} -->\n```{language}\n(.*?)```", text, re.DOTALL)
    return str(block)


def test_the_lines_of_the_readme_run_as_printed(
    published: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their output has the shape that README.md shows, word by word but for numbers and days."""
    code = printed("README.md", "client", "python")
    assert len([line for line in code.splitlines() if line]) == 10
    monkeypatch.setenv("HEATMAP_HOME", str(published.home))
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    said = capsys.readouterr().out
    title = f"{BTC} (Simulated USDT-M perpetual)"
    assert f"modelled liquidations of {title} by turnover, on simulated data, as of 2024-01-07 12:00 UTC" in said
    text = (CHECKOUT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"<!-- client -->.*?```text\n(.*?)```", text, re.DOTALL)
    assert shape(said) == shape(shown)


def test_the_lines_for_candles_of_ones_own_run_as_printed() -> None:
    names: dict[str, Any] = {}
    exec(printed("README.md", "model", "python"), names)  # noqa: S102
    first, second = names["snapshots"]
    assert first.total_long_volume > 0
    assert second.consumed_long > 0


def test_what_the_pages_ask_is_answered_in_any_home(
    published: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None of their lines names a day, which another home would not have."""
    monkeypatch.setenv("HEATMAP_HOME", str(published.home))
    monkeypatch.chdir(tmp_path)
    exec(printed("docs/client.md", "figure", "python"), {})  # noqa: S102
    assert (tmp_path / "map.html").stat().st_size > 1_000_000, "a figure with the library that draws it"
    monkeypatch.chdir(published.home)
    names: dict[str, Any] = {}
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(lines, names)  # noqa: S102
    assert len(names["cells"]) > 1000
    documented = re.findall(r"```sql\n(.*?)```", PAGE.read_text() + (CHECKOUT / "README.md").read_text(), re.DOTALL)
    assert len(documented) >= 13
    unanswered = [query for query in documented if not names["con"].sql(query).fetchall()]
    assert ["AND recorded" in query for query in unanswered] == [True], "all but that of a record, which a demo lacks"
    names["con"].close()


def shape(text: str) -> list[list[str]]:
    """Return the words of each line, every number or date alike."""
    return [["0" if re.match(r"-?\d", word) else word for word in line.split()] for line in text.strip().splitlines()]


def test_the_pages_name_what_there_is() -> None:
    client = (CHECKOUT / "docs" / "client.md").read_text("utf-8")
    questions = {name for name, each in inspect.getmembers(Heatmap, inspect.isfunction) if not name.startswith("_")}
    assert set(re.findall(r"^\| `(\w+)\(", client, re.MULTILINE)) == questions - {"close"}
    for name in re.findall(r"[`(]([a-z_]+)\(\)`", client):
        assert any(hasattr(each, name) for each in (*vars(room).values(),)), name
    tools = re.findall(r"^\| `(\w+)` \|", (CHECKOUT / "docs" / "mcp.md").read_text("utf-8"), re.MULTILINE)
    assert tuple(tools) == NAMES


def test_the_configuration_of_an_assistant_is_one() -> None:
    (server,) = json.loads(printed("docs/mcp.md", "configuration", "json"))["mcpServers"].values()
    verb, *options = server["args"]
    command = cli.main.commands[verb]
    assert command.make_parser(cli.main.make_context("heatmap", [verb])).parse_args(options)
    assert {name.removeprefix("HEATMAP_").lower() for name in server["env"]} <= Settings.model_fields.keys()
