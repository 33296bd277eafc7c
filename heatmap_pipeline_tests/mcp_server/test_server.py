"""The server as an assistant has it: the SDK's own client, in this process for the rules and over stdio once."""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

import heatmap_pipeline.mcp_server as room
from heatmap_pipeline.client import Heatmap
from heatmap_pipeline.mcp_server import NEEDS, brief
from heatmap_pipeline.mcp_server.server import NAMES, Tools, make_server
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.migrate import SCHEMA_VERSION
from heatmap_pipeline_tests._homes import heatmap, refused
from heatmap_pipeline_tests.api.homes import BTC, ETH

CHECKOUT = Path(room.__file__).parents[2]
TITLE = f"{BTC} (Simulated USDT-M perpetual)"
MOST_BYTES = 16_000
"""Of an answer as text."""


def asked(tools: Tools, questions: Callable[[Client], Awaitable[Any]]) -> Any:
    """Return what a client in this process makes of a server."""

    async def ask() -> Any:
        async with Client(make_server(tools)) as client:
            return await questions(client)

    return asyncio.run(ask())


def call(tools: Tools, name: str, **arguments: Any) -> dict[str, Any]:
    """Return the answer of a tool, which has to be the same as text and as a structure, and small."""
    answer = asked(tools, lambda client: client.call_tool(name, arguments))
    assert not answer.is_error, answer.content
    (content,) = answer.content
    assert len(content.text) < MOST_BYTES
    record: dict[str, Any] = json.loads(content.text)
    assert record == answer.structured_content
    return record


def refusal(tools: Tools, name: str, **arguments: Any) -> str:
    answer = asked(tools, lambda client: client.call_tool(name, arguments))
    assert answer.is_error
    (content,) = answer.content
    return str(content.text)


@pytest.fixture(scope="module")
def tools(published: Settings) -> Tools:
    return Tools(published.home)


def test_the_tools_only_read_and_say_what_they_are(tools: Tools) -> None:
    listing = asked(tools, lambda client: client.list_tools()).tools
    assert tuple(tool.name for tool in listing) == NAMES
    for tool in listing:
        assert tool.annotations.read_only_hint
        assert not tool.annotations.open_world_hint
        assert tool.description.endswith(".")
    by_name = {tool.name: tool.input_schema for tool in listing}
    assert by_name["liquidation_map"]["required"] == ["symbol"]
    assert by_name["liquidation_map"]["properties"]["levels"]["maximum"] == brief.MOST_LEVELS
    assert by_name["heatmap_summary"]["properties"]["interval"]["enum"] == ["5m", "15m", "1h", "4h", "1d"]


def test_what_the_server_says_of_itself_tells_how_to_repeat_it(tools: Tools) -> None:
    async def words(client: Client) -> str:
        return str(client.instructions)

    said = asked(tools, words)
    for word in ("modelled", "simulated", "UTC", "as_of", "units", "no advice"):
        assert word in said.replace("made up", "simulated")


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_answer_has_its_provenance(tools: Tools, name: str) -> None:
    about = call(tools, name, symbol=BTC)["provenance"]
    assert about["kind"] == "simulated"
    assert about["as_of"] == "2024-01-08T00:00:00Z"
    assert (about["symbol"], about["model"], about["source"]) == (BTC, "turnover", "demo")
    assert about["schema_version"] == SCHEMA_VERSION
    assert about["units"]["volume"] == about["units"]["price"] == "USDT"
    assert about["parameters"]["liquidable"] == 0.03
    assert about["leverage_tiers"] == "all", "null would read as missing"
    assert (about["exchange"], about["title"]) == (None, "Simulated USDT-M perpetual")
    assert about["words"].startswith(
        f"modelled liquidations of {TITLE} by turnover, on simulated data, as of 2024-01-08"
    )


def test_markets_say_theirs_one_by_one(tools: Tools) -> None:
    found = call(tools, "markets")
    assert [market["symbol"] for market in found["markets"]] == [BTC, ETH]
    for market in found["markets"]:
        assert (market["kind"], market["source"], market["as_of"]) == ("simulated", "demo", "2024-01-08T00:00:00Z")
        assert (market["exchange"], market["title"]) == (None, "Simulated USDT-M perpetual")
        assert market["units"]["price"] == "USDT"
    assert found["left_out"] == 0
    assert [market["symbol"] for market in call(tools, "markets", name_contains="eth")["markets"]] == [ETH]


def test_many_markets_are_cut_and_the_rest_counted(file: Heatmap) -> None:
    many = file.markets() * 40
    found = brief.markets(many, "BTC")
    assert len(found["markets"]) == 40
    found = brief.markets(many, "")
    assert (len(found["markets"]), found["left_out"]) == (brief.MOST_MARKETS, 80 - brief.MOST_MARKETS)
    assert len(json.dumps(found)) < 2 * MOST_BYTES


@pytest.mark.parametrize("levels", [1, 7, 40, 60])
@pytest.mark.parametrize("within", [0.5, 10.0, 1000.0])
def test_a_map_is_summed_into_few_bins_and_nothing_is_lost(file: Heatmap, levels: int, within: float) -> None:
    book = file.map(BTC)
    found = brief.book(book, within, levels)
    assert len(found["levels"]) <= levels
    near = np.abs(book.prices / book.price - 1) * 100 <= within
    for side, column in (("long", book.long), ("short", book.short)):
        assert found["within"][side] == pytest.approx(column[near].sum(), abs=0.01)
        assert sum(level[side] for level in found["levels"]) == pytest.approx(column[near].sum(), abs=0.01 * levels)
    for level in found["levels"]:
        assert level["price_to"] - level["price_from"] == pytest.approx(found["price_bin_size"])
        inside = near & (book.prices >= level["price_from"]) & (book.prices < level["price_to"])
        assert level["long"] == pytest.approx(book.long[inside].sum(), abs=0.01)
        assert level["short"] == pytest.approx(book.short[inside].sum(), abs=0.01)
    if within == 1000.0:
        assert found["within"]["short"] == pytest.approx(found["in_all"]["short"], abs=0.01)


def test_without_a_distance_and_a_number_answers_are_of_ten_percent_and_at_most_forty_levels(tools: Tools) -> None:
    shown = call(tools, "liquidation_map", symbol=BTC)
    assert shown == call(tools, "liquidation_map", symbol=BTC, within_percent=10, levels=40)
    assert shown != call(tools, "liquidation_map", symbol=BTC, within_percent=9.5, levels=40)
    assert call(tools, "nearest_zones", symbol=BTC) == call(tools, "nearest_zones", symbol=BTC, within_percent=10)
    call(tools, "liquidation_map", symbol=BTC, within_percent=0.1)
    assert "0.1" in refusal(tools, "liquidation_map", symbol=BTC, within_percent=0.09)


def test_volumes_are_told_to_the_cent(tools: Tools) -> None:
    within = call(tools, "liquidation_map", symbol=BTC)["within"]
    assert within == {side: round(volume, 2) for side, volume in within.items()}
    assert any(volume != round(volume, 1) for volume in within.values())


def test_a_map_is_of_its_moment(tools: Tools, file: Heatmap) -> None:
    found = call(tools, "liquidation_map", symbol=BTC, time="2024-01-05T12:00Z", model="delta", levels=60)
    assert found["state_at"] == found["provenance"]["as_of"] == "2024-01-05T12:00:00Z"
    assert found["price"] == file.map(BTC, "2024-01-05T12:00", model="delta").price
    assert found["provenance"]["model"] == "delta"


@pytest.mark.parametrize(("given", "shown"), [("near", [25, 50, 75, 100, 125]), ("100, 25", [25, 100])])
def test_some_tiers_are_shown_and_named(tools: Tools, file: Heatmap, given: str, shown: list[float]) -> None:
    book = call(tools, "liquidation_map", symbol=BTC, leverage_tiers=given, within_percent=1000)
    wanted = file.map(BTC, leverage_tiers=shown)
    assert book["within"]["long"] == pytest.approx(wanted.total_long, abs=0.01)
    assert 0 < book["in_all"]["long"] < file.map(BTC).total_long
    found = call(tools, "nearest_zones", symbol=BTC, leverage_tiers=given)
    assert found["largest"]["below"] == [zone.record() for zone in file.zones(BTC, leverage_tiers=given).below[:5]]
    summed = call(tools, "heatmap_summary", symbol=BTC, interval="4h", leverage_tiers=given)
    series = file.series(BTC, interval="4h", leverage_tiers=shown).to_pandas()
    assert summed["modelled_liquidations"]["long"] == pytest.approx(series["consumed_long"].sum(), abs=0.1)
    for answer in (book, found, summed):
        assert answer["provenance"]["leverage_tiers"] == shown
        assert answer["provenance"]["kind"] == "simulated"
        words = answer["provenance"]["words"]
        assert words.startswith(f"modelled liquidations of {TITLE} by turnover (leverage tiers ")
        assert ", ".join(f"{tier:g}" for tier in shown) + " only), on simulated data" in words
        assert words.endswith(", in USDT; estimates, nobody's orders")


def test_zones_are_those_of_the_client(tools: Tools, file: Heatmap) -> None:
    found, wanted = call(tools, "nearest_zones", symbol=ETH, within_percent=15), file.zones(ETH, within_percent=15)
    assert wanted.nearest_above is not None
    assert found["nearest"]["above"] == wanted.nearest_above.record()
    assert found["largest"]["below"] == [zone.record() for zone in wanted.below[:5]]


def test_a_summary_adds_up(tools: Tools, file: Heatmap) -> None:
    found = call(tools, "heatmap_summary", symbol=BTC, start="2024-01-04", end="2024-01-07")
    series = file.series(BTC, "2024-01-04", "2024-01-07", interval="1h")
    frame = series.to_pandas()
    assert (found["start"], found["state_at"]) == ("2024-01-04T00:00:00Z", "2024-01-07T00:00:00Z")
    assert (found["intervals"], found["intervals_missing"]) == (72, 0)
    dead = found["modelled_liquidations"]
    hourly = frame.groupby("time")[["consumed_long", "consumed_short"]].sum()
    for side in ("long", "short"):
        assert dead[side] == pytest.approx(hourly[f"consumed_{side}"].sum(), abs=0.1)
        at_end = frame.loc[frame["time"] == series.times[-1], side]
        assert found["open"]["last"][side] == pytest.approx(at_end.sum(), abs=0.1)
        levels = found["largest_levels_within_10_percent"][side]
        assert [abs(level["distance_percent"]) <= 10 for level in levels] == [True] * 5
        near = at_end[(frame["price"] / found["price"]["close"] - 1).abs() <= 0.1]
        # Its bins are wider than those of the frame: no level holds less than the largest of these, nor more than all.
        assert near.max() <= levels[0]["volume"] <= near.sum()
        volumes = [level["volume"] for level in levels]
        assert volumes == sorted(volumes, reverse=True)
    totals = [each["long"] + each["short"] for each in dead["largest"]]
    assert totals[0] == pytest.approx(hourly.sum(axis=1).max(), abs=0.1)
    assert found["price"]["high"] == series.candles_to_pandas()["high"].max()
    assert found["reported_liquidations"] is None, "nothing was recorded: missing, not 0"


def test_a_gap_is_counted_as_missing(tools: Tools) -> None:
    found = call(tools, "heatmap_summary", symbol=ETH, start="2024-01-03", interval="4h")
    assert (found["intervals"], found["intervals_missing"]) == (30, 6)
    assert found["open"]["first"]["long"] > 0


def test_recorded_liquidations_are_summed_beside_the_modelled(file: Heatmap) -> None:
    side = {"time": [0], "price": [1.0], "place": [1.0], "quantity": [2.0], "volume": [100.25]}
    reported = {"source": "s", "exchange": "e", "own_exchange": True, "complete": False, "factor": 0.5, "recorded": {}}
    series = replace(
        file.series(BTC, interval="4h"), reported={**reported, "long": side, "short": {**side, "volume": []}}
    )
    found = brief.summary(series)["reported_liquidations"]
    assert (found["long"], found["short"], found["factor"], found["complete"]) == (100.25, 0.0, 0.5, False)


def test_a_score_says_why_there_is_none_and_is_cut(tools: Tools, file: Heatmap) -> None:
    found = call(tools, "score", symbol=BTC)
    assert (found["scored"], found["rows"], found["left_out"]) == (False, [], 0)
    assert "never scored" in found["words"]
    reference = file.score(BTC).reference["scores"][0]
    found = brief.score(replace(file.score(BTC), windows={"28d": [], **reference["windows"]}, scored=True))
    rows = reference["windows"]["all"]
    assert len(found["rows"]) + found["left_out"] == len(rows)
    assert found["rows"][0] == {"window": "all", **rows[0]}
    assert len(json.dumps(found)) < 2 * MOST_BYTES


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("liquidation_map", {"symbol": "XRPUSDT"}, f"there are {BTC}, {ETH}"),
        ("nearest_zones", {"symbol": BTC, "time": "2019-01-01"}, "has states from 2024-01-03"),
        ("heatmap_summary", {"symbol": BTC, "start": "yesterday"}, "not an ISO 8601 time"),
        ("heatmap_summary", {"symbol": BTC, "start": "2023-01-01", "end": "2023-01-02"}, "has data from 2024-01-03"),
        ("score", {"symbol": BTC, "model": "gamma"}, "there are turnover, delta"),
        ("nearest_zones", {"symbol": BTC, "leverage_tiers": "7"}, "has no tier 7; there are 3, 5, 10, 20"),
        ("liquidation_map", {"symbol": BTC, "leverage_tiers": "far"}, "'far' is no leverage; write for example 25,50"),
        ("liquidation_map", {"symbol": BTC, "levels": 1000}, "less than or equal to 60"),
        ("liquidation_map", {}, "symbol"),
    ],
)
def test_a_refusal_is_for_the_assistant_to_read(tools: Tools, name: str, arguments: Any, words: str) -> None:
    said = refusal(tools, name, **arguments)
    assert words in said
    assert "Traceback" not in said


def test_a_home_may_be_empty_until_something_is_published(published: Settings, tmp_path: Path) -> None:
    tools = Tools(tmp_path)
    assert "nothing is published in" in refusal(tools, "markets")
    (tmp_path / "heatmap.duckdb").hardlink_to(published.home / "heatmap.duckdb")
    assert len(call(tools, "markets")["markets"]) == 2


def test_an_endpoint_does_as_well_as_a_home(tools: Tools, address: str) -> None:
    of_url, of_home = (call(each, "liquidation_map", symbol=BTC) for each in (Tools(address), tools))
    assert of_url["provenance"].pop("where") == address
    of_home["provenance"].pop("where")
    assert of_url == of_home


@pytest.mark.slow
def test_over_stdio_nothing_but_the_protocol_is_said(published: Settings, tmp_path: Path) -> None:
    """The command itself, on a home, asked by the SDK's client, which refuses any line that is none of the protocol."""
    errors = tmp_path / "stderr"
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "heatmap_pipeline", "mcp"],
        env={"HEATMAP_HOME": str(published.home), "PATH": ""},
        cwd=str(tmp_path),
    )
    heard: list[object] = []

    async def hear(message: object) -> None:
        heard.append(message)

    async def ask() -> tuple[Any, ...]:
        with errors.open("w") as errlog:
            async with Client(stdio_client(command, errlog), message_handler=hear) as client:
                listing = await client.list_tools()
                answers = [await client.call_tool(name, {"symbol": BTC} if name != "markets" else {}) for name in NAMES]
                return listing, *answers, await client.call_tool("score", {"symbol": "XRPUSDT"})

    listing, *answers, wrong = asyncio.run(ask())
    assert tuple(tool.name for tool in listing.tools) == NAMES
    assert not any(answer.is_error for answer in answers)
    assert answers[1].structured_content["provenance"]["where"] == str(published.home / "heatmap.duckdb")
    assert wrong.is_error
    assert heard == []
    assert errors.read_text() == ""


def test_without_the_extra_one_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, published: Settings
) -> None:
    for name in ("mcp", "mcp.server"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "heatmap_pipeline.mcp_server.server")
    line = refused(heatmap("mcp", "--home", published.home), 1, "the package mcp is not installed")
    assert line.endswith(f"install it with `pip install '{NEEDS}'`")


def test_with_another_version_of_the_extra_the_same_is_said(
    monkeypatch: pytest.MonkeyPatch, published: Settings
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server", ModuleType("mcp.server"))  # that of version 1 has no MCPServer
    monkeypatch.delitem(sys.modules, "heatmap_pipeline.mcp_server.server")
    line = refused(heatmap("mcp", "--home", published.home), 1, "the package mcp is another version than this server")
    assert line.endswith(f"install it with `pip install '{NEEDS}'`")


def test_what_it_needs_is_what_the_extra_has() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["mcp"] == [NEEDS]
    assert NEEDS in extras["test"]


def test_a_home_and_an_address_exclude_each_other(tmp_path: Path) -> None:
    refused(heatmap("mcp", "--home", tmp_path, "--url", "http://127.0.0.1:1"), 2, "--url and --home exclude each other")


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    refused(heatmap("mcp", "--url", "ftp://host"), 1, "'ftp://host' is no address of an endpoint")
    refused(heatmap("mcp", "--url", "host:8888"), 1, "host:8888 is not there; give", "the address of an endpoint")
