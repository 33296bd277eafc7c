"""What README.md and docs/ print of client and MCP server is what there is, and runs as printed."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

import heatmap_pipeline.client as room
from heatmap_pipeline import cli
from heatmap_pipeline.client import Heatmap
from heatmap_pipeline.mcp_server.server import NAMES
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api.homes import BTC

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
