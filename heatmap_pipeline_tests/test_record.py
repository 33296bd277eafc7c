"""`heatmap record` as a person or a service manager runs it, against a local server that plays the exchange."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from heatmap_pipeline.cli.verbs import _streams
from heatmap_pipeline.market.liquidations.recorder import StreamState
from heatmap_pipeline.market.liquidations.recording import RecordingReader
from heatmap_pipeline.market.liquidations.tables import HOUR
from heatmap_pipeline.source_kinds import RECORDED_EXCHANGES
from heatmap_pipeline_tests._homes import heatmap, last_line, refused
from heatmap_pipeline_tests.market.liquidations._stream_server import Client, StreamServer, bybit, now, row


async def _started(home: Path, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heatmap_pipeline", "record", "BTCUSDT", "--exchange", "bybit", "--home", str(home)),
        env={**os.environ, "HEATMAP_BYBIT_STREAM_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_records_until_it_is_stopped(tmp_path: Path, end: signal.Signals) -> None:
    """By either signal; the first of the two recorders is not disturbed by another, which is refused."""
    another = end == signal.SIGTERM
    sent: list[int] = []

    async def pour(client: Client) -> None:
        await client.acknowledge()
        while True:
            at = now()
            await client.send(bybit(row(at, size=f"{len(sent) + 1}.5")))
            sent.append(at)
            await asyncio.sleep(0.05)

    async def scenario() -> tuple[int | None, str, str]:
        async with StreamServer("bybit", pour) as server:
            process = await _started(tmp_path, server.url)
            async with asyncio.timeout(60):
                while len(sent) < 40:
                    await asyncio.sleep(0.05)
            if another:
                second = await _started(tmp_path, server.url)
                _, complaint = await second.communicate()
                assert second.returncode == 1
                last_line(complaint.decode(), 1, "another recorder writes here")
            process.send_signal(end)
            out, said = await process.communicate()
            return process.returncode, out.decode(), said.decode()

    code, out, said = asyncio.run(scenario())
    assert code == 0, said
    assert out.splitlines() == [
        f"recording BTCUSDT of bybit into {tmp_path / 'recordings'}; stop it with Ctrl-C",
        "stopped",
    ]
    assert said.splitlines() == ["bybit BTCUSDT: not listening", "bybit BTCUSDT: listening"], "plain lines, no table"
    made = RecordingReader(tmp_path / "recordings").read(
        "bybit", "BTCUSDT", sent[0] * 1000 - HOUR, sent[-1] * 1000 + HOUR
    )
    quantities = made.table["quantity"].tolist()
    assert quantities == [number + 1.5 for number in range(len(quantities))]
    assert len(quantities) >= 40
    assert len(made.recorded) == 1


@pytest.mark.slow
def test_an_exchange_that_is_away_is_reported_in_plain_lines(tmp_path: Path) -> None:
    async def nothing(client: Client) -> None:
        await client.cut()

    async def scenario() -> tuple[int | None, str]:
        async with StreamServer("bybit", nothing) as server:
            process = await _started(tmp_path, server.url)
            async with asyncio.timeout(60):
                while not server.times:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            _, said = await process.communicate()
            return process.returncode, said.decode()

    code, said = asyncio.run(scenario())
    assert code == 0
    assert "bybit BTCUSDT: the connection ended" in said
    assert "trying again in" in said
    assert "Traceback" not in said


def test_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(heatmap("record", "btc/usdt", "--home", tmp_path), 2, "is not a symbol")
    refused(heatmap("record", "BTCUSDT", "--exchange", "gate", "--home", tmp_path), 2, "'gate' is not one of")
    refused(
        heatmap("record", "gate:BTC_USDT", "--home", tmp_path), 2, "no stream of gate is recorded, only those of bybit"
    )
    assert heatmap("record", "--home", tmp_path).exit_code == 2
    for more in (["--exchange", "binance"], ["ETHUSDT"]):
        refused(heatmap("record", "bybit:BTCUSDT", *more, "--home", tmp_path), 2, "start one for each exchange")
    monkeypatch.setenv("HEATMAP_BYBIT_STREAM_URL", "bybit")
    words = "HEATMAP_BYBIT_STREAM_URL = 'bybit': it is not an address of the kind wss://host/path"
    refused(heatmap("record", "BTCUSDT", "--exchange", "bybit", "--home", tmp_path), 2, words)


def test_an_exchange_before_a_symbol_is_the_only_one_listened_to() -> None:
    assert _streams(["BTCUSDT"], []) == list(RECORDED_EXCHANGES)
    assert _streams(["BTCUSDT"], ["binance"]) == ["binance"]
    assert _streams(["BYBIT_BTCUSDT", "BYBIT_ETHUSDT"], []) == ["bybit"]
    assert _streams(["BYBIT_BTCUSDT"], ["bybit"]) == ["bybit"], "as `heatmap status` names it"


def test_the_state_of_a_stream_in_words() -> None:
    state = StreamState("bybit", "BTCUSDT")
    assert state.line == "bybit BTCUSDT: not listening, 0 liquidations"
    state.listening, state.events, state.newest = True, 1234, 1_720_087_200_000
    assert state.line == "bybit BTCUSDT: listening, 1,234 liquidations, newest 2024-07-04 10:00:00 UTC"
    state.trouble = "is silent"
    assert state.line.endswith(" - is silent")
