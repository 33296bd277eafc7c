"""The recorder against servers that play the exchanges: cuts, silence, doubled and late messages, and SIGKILL."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.market.liquidations.recorder import Recorder, StreamState
from heatmap_pipeline.market.liquidations.recording import RecordingReader
from heatmap_pipeline.market.liquidations.tables import Liquidations, microseconds
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.settings import SettingsError
from heatmap_pipeline_tests.market._hostile_server import HostileServer
from heatmap_pipeline_tests.market._socks import go_through, relay_to
from heatmap_pipeline_tests.market.liquidations._stream_server import (
    Client,
    Script,
    StreamServer,
    bybit,
    force_order,
    mark_price,
    now,
    row,
)

HOUR = 3_600_000
WINDOW = 3 * HOUR


class Trial:
    """What a recorder did while a script ran."""

    def __init__(self, root: Path, exchange: str, server: StreamServer, recorder: Recorder, said: list[str]) -> None:
        self.root, self.exchange, self.server, self.said = root, exchange, server, said
        self.state: StreamState = recorder.states[0]

    def read(self) -> Liquidations:
        at = now()
        return RecordingReader(self.root).read(self.exchange, "BTCUSDT", (at - WINDOW) * 1000, (at + WINDOW) * 1000)

    def recorded(self) -> list[tuple[float, float]]:
        """Return the recorded stretches, seconds before now."""
        return [((start / 1e6) - now() / 1e3, (end / 1e6) - now() / 1e3) for start, end in self.read().recorded]


def play(
    root: Path,
    exchange: str,
    script: Script,
    until: Callable[[Trial], bool],
    *,
    pongs: bool = True,
    after: float = 0.0,
    **options: Any,
) -> Trial:
    """Run a recorder against a script until something holds, at most 10 s, and stop it."""

    async def scenario() -> Trial:
        said: list[str] = []
        async with StreamServer(exchange, script, pongs=pongs) as server:
            recorder = Recorder(
                root,
                ["BTCUSDT"],
                [exchange],
                urls={exchange: server.url},
                report=said.append,
                **{"backoff": 0.05, "ping": 0.1, **options},
            )
            trial = Trial(root, exchange, server, recorder, said)
            stop = asyncio.Event()
            running = asyncio.create_task(recorder.run(stop))
            await reached(lambda: until(trial) or running.done())
            await asyncio.sleep(after)
            stop.set()
            await running
            return trial

    return asyncio.run(scenario())


async def reached(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.01)


def script(*steps: Callable[[Client], Awaitable[None]]) -> Script:
    """Return a script: the first connection gets the first step, later ones the last."""

    async def run(client: Client) -> None:
        await client.acknowledge()
        await steps[min(client.number, len(steps)) - 1](client)
        await client.stay()

    return run


def events(count: int) -> Callable[[Trial], bool]:
    return lambda trial: trial.state.events >= count


def test_bybit_is_written_down_whole(tmp_path: Path) -> None:
    at = now()

    async def step(client: Client) -> None:
        await client.send(bybit(row(at), row(at + 82, "Sell", "1.250", "97410.0")))

    trial = play(tmp_path, "bybit", script(step), events(2), after=0.6)
    assert trial.server.asked == [{"op": "subscribe", "args": ["allLiquidation.BTCUSDT"]}]
    made = trial.read()
    assert (made.source, made.exchange) == ("bybit_stream", "bybit")
    assert made.table["complete"].all()
    assert made.table["side"].tolist() == ["long", "short"]
    assert microseconds(made.table["timestamp"]).tolist() == [at * 1000, (at + 82) * 1000]
    assert made.table["volume"].tolist() == [0.015 * 96250.5, 1.25 * 97410.0]
    assert made.repairs == {}
    [(start, end)] = made.recorded.tolist()
    assert 500_000 < end - start < 5_000_000
    assert trial.said == []


def test_binance_is_written_down_as_incomplete(tmp_path: Path) -> None:
    at = now()

    async def step(client: Client) -> None:
        other = force_order(at, symbol="ETHUSDT")
        await client.send(mark_price(), force_order(at), other, force_order(at + 1000, "BUY"))
        await client.send(force_order(at + 2000, filled="0"), mark_price())

    trial = play(tmp_path, "binance", script(step), events(2))
    request = trial.server.asked[0]
    assert (request["method"], request["params"]) == ("SUBSCRIBE", ["btcusdt@forceOrder", "btcusdt@markPrice"])
    assert trial.server.paths == ["/market/ws"]
    made = trial.read()
    assert made.table["side"].tolist() == ["long", "short"]
    assert made.table["price"].tolist() == [9910.5, 9910.5]
    assert not made.table["complete"].any()


def test_a_cut_is_a_gap_and_what_comes_again_counts_once(tmp_path: Path) -> None:
    at = now()

    async def first(client: Client) -> None:
        await client.send(bybit(row(at), row(at)), bybit(row(at + 1)))
        await asyncio.sleep(0.5)
        await client.cut()

    async def again(client: Client) -> None:
        await client.send(bybit(row(at), row(at)), bybit(row(at + 1)), bybit(row(at + 2)))

    trial = play(tmp_path, "bybit", script(first, again), events(7), backoff=1.0, after=0.3)
    made = trial.read()
    # The two equal ones of one message are two.
    assert (microseconds(made.table["timestamp"]) // 1000 - at).tolist() == [0, 0, 1, 2]
    assert made.repairs == {"redelivered_rows": 3}
    (first_start, first_end), (second_start, _) = made.recorded.tolist()
    assert first_start < first_end < second_start - 400_000
    assert "the connection ended" in trial.said[0]
    assert "trying again in" in trial.said[0]


def test_a_doubled_message_counts_once(tmp_path: Path) -> None:
    at = now()

    async def step(client: Client) -> None:
        message = bybit(row(at))
        await client.send(message, message)

    made = play(tmp_path, "bybit", script(step), events(2)).read()
    assert len(made.table) == 1
    assert made.repairs == {"redelivered_rows": 1}


def test_a_late_message_is_filed_by_its_own_time(tmp_path: Path) -> None:
    at = now()

    async def step(client: Client) -> None:
        await client.send(bybit(row(at)), bybit(row(at - HOUR)), bybit(row(at - 48 * HOUR)))

    trial = play(tmp_path, "bybit", script(step), lambda trial: trial.state.events >= 3)
    made = trial.read()
    assert (at - microseconds(made.table["timestamp"]) // 1000).tolist() == [HOUR, 0]
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime((at - HOUR) / 1000))
    late = tmp_path / "bybit" / "BTCUSDT" / f"BTCUSDT-{hour}.jsonl"
    assert f'{{"event":{at - HOUR},' in late.read_text()
    # Two days old is no late message.
    assert made.repairs["odd_messages"] == 1


@pytest.mark.parametrize("exchange", ["bybit", "binance"])
def test_a_stream_that_acknowledges_and_stays_silent_is_reported_and_not_recorded(
    tmp_path: Path, exchange: str
) -> None:
    async def nothing(client: Client) -> None:
        await client.stay()

    trial = play(
        tmp_path,
        exchange,
        script(nothing),
        lambda trial: len(trial.said) >= 2,
        pongs=False,
        silence=0.4,
    )
    assert all("is silent: it acknowledged and sent nothing for 0.4 s" in line for line in trial.said)
    assert trial.said[0].startswith(f"{exchange} BTCUSDT: ")
    assert len(trial.server.asked) >= 2
    made = trial.read()
    assert (made.recorded[:, 1] - made.recorded[:, 0]).sum() < 100_000


def test_a_stream_that_does_not_even_acknowledge_is_silent_too(tmp_path: Path) -> None:
    async def nothing(client: Client) -> None:
        await client.stay()

    trial = play(tmp_path, "bybit", nothing, lambda trial: bool(trial.said), pongs=False, silence=0.3)
    assert "it accepted the connection and sent nothing for 0.3 s" in trial.said[0]
    assert trial.state.connections == 0


def test_answers_to_pings_are_no_silence_but_a_quiet_stream_is_named(tmp_path: Path) -> None:
    async def nothing(client: Client) -> None:
        await client.stay()

    trial = play(tmp_path, "bybit", script(nothing), lambda trial: len(trial.said) >= 2, silence=0.5, quiet=0.7)
    assert all("lives, but printed no liquidation for" in line for line in trial.said)
    assert trial.state.connections == 1
    [(start, end)] = trial.read().recorded.tolist()
    assert end - start > 1_300_000


def test_a_refused_subscription_is_reported_in_the_words_of_the_exchange(tmp_path: Path) -> None:
    async def refuse(client: Client) -> None:
        await client.send({"success": False, "ret_msg": "error:handler not found,topic:x", "op": "subscribe"})
        await client.stay()

    trial = play(tmp_path, "bybit", refuse, lambda trial: len(trial.said) >= 2)
    assert "the exchange refuses the subscription: error:handler not found" in trial.said[0]
    assert trial.state.connections == 0


def test_what_nobody_understands_is_kept_and_counted(tmp_path: Path) -> None:
    at = now()

    async def step(client: Client) -> None:
        broken = row(at)
        await client.send("<html>busy</html>", bybit({**broken, "p": "NaN"}), bybit({**broken, "S": "Up"}), "[1]")
        await client.send(bybit({**broken, "T": "soon"}), b"\xff\xfe", bybit(row(at)))

    trial = play(tmp_path, "bybit", script(step), events(1))
    made = trial.read()
    assert (len(made.table), made.repairs) == (1, {"odd_messages": 6})
    assert trial.state.odd == 6
    assert len(trial.said) == 1
    assert "not understood" in trial.said[0]


def test_whoever_says_goodbye_was_heard_until_then(tmp_path: Path) -> None:
    async def leave(client: Client) -> None:
        await asyncio.sleep(0.7)
        await client.close()

    async def stay(client: Client) -> None:
        await client.send(bybit(row(now())))

    trial = play(tmp_path, "bybit", script(leave, stay), events(1), ping=30.0)
    first = trial.read().recorded[0]
    assert 650_000 < first[1] - first[0] < 1_500_000


def test_a_clock_that_is_wrong_is_named_once(tmp_path: Path) -> None:
    async def step(client: Client) -> None:
        ahead = {**bybit(row(now())), "ts": now() + 90_000}
        await client.send(ahead, ahead, bybit(row(now() + 1)))

    trial = play(tmp_path, "bybit", script(step), events(3))
    assert len(trial.said) == 1
    assert "clock and the exchange's differ by -90 s" in trial.said[0]


def test_a_server_that_comes_late_is_found(tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        said: list[str] = []

        async def step(client: Client) -> None:
            await client.send(bybit(row(now())))

        async with StreamServer("bybit", script(step)) as gone:
            port = gone.port
        recorder = Recorder(
            tmp_path, ["BTCUSDT"], ["bybit"], urls={"bybit": gone.url}, report=said.append, backoff=0.02
        )
        stop = asyncio.Event()
        running = asyncio.create_task(recorder.run(stop))
        await reached(lambda: len(said) >= 3)
        async with StreamServer("bybit", script(step), port=port):
            await reached(lambda: recorder.states[0].events == 1)
            stop.set()
            await running
        return said

    said = asyncio.run(scenario())
    assert all("no connection" in line and "Errno" not in line for line in said)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY"])
def test_it_goes_through_a_socks_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """By the variables that REST goes by; a proxy that is not there is a connection that fails."""

    async def scenario(port: int, said: list[str], wanted: Callable[[StreamState], bool]) -> None:
        urls = {"bybit": f"ws://exchange.example:{port}/market/ws"}
        recorder = Recorder(tmp_path, ["BTCUSDT"], ["bybit"], urls=urls, report=said.append, backoff=0.05)
        stop = asyncio.Event()
        running = asyncio.create_task(recorder.run(stop))
        await reached(lambda: wanted(recorder.states[0]) or running.done())
        stop.set()
        await running

    async def served(asked: list[str]) -> None:
        async with StreamServer("bybit", script(lambda client: client.send(bybit(row(now()))))) as server:
            with HostileServer(relay_to(server.port, asked), head=False) as proxy:
                go_through(monkeypatch, proxy, variable)
                await scenario(server.port, [], lambda state: state.events == 1)

    asked: list[str] = []
    asyncio.run(served(asked))
    assert asked == ["exchange.example"]
    said: list[str] = []
    asyncio.run(scenario(1, said, lambda _: bool(said)))  # the proxy of before is gone
    assert "no connection" in said[0]
    assert "trying again" in said[0]


def test_pauses_double_with_jitter_up_to_a_minute(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, ["BTCUSDT"], ["bybit"], backoff=1.0)
    for failures, most in ((1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (1000, 60.0)):
        pauses = [recorder.pause(failures) for _ in range(200)]
        assert most / 2 <= min(pauses) < max(pauses) <= most
        assert len(set(pauses)) > 100


def test_two_recorders_do_not_write_the_same_files(tmp_path: Path) -> None:
    async def stay(client: Client) -> None:
        await client.stay()

    async def scenario() -> None:
        async with StreamServer("bybit", script(stay)) as server:
            urls = {"bybit": server.url}
            stop = asyncio.Event()
            first = asyncio.create_task(Recorder(tmp_path, ["BTCUSDT"], ["bybit"], urls=urls).run(stop))
            await reached(lambda: bool(server.asked))
            with pytest.raises(MarketError, match="another recorder writes here"):
                await Recorder(tmp_path, ["ETHUSDT", "BTCUSDT"], ["bybit"], urls=urls).run(stop)
            stop.set()
            await first
            # What it held is free again.
            await Recorder(tmp_path, ["ETHUSDT", "BTCUSDT"], ["bybit"], urls=urls).run(stop)

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_written_ends_it_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bybit").write_text("in the way")
    with pytest.raises(MarketError, match="cannot be written"):
        asyncio.run(Recorder(tmp_path, ["BTCUSDT"], ["bybit"]).run(asyncio.Event()))


def test_a_disk_that_fails_while_it_records_ends_it_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()

    async def step(client: Client) -> None:
        (tmp_path / "bybit" / "BTCUSDT").joinpath(
            f"BTCUSDT-{time.strftime('%Y-%m-%dT%H', time.gmtime((at - 2 * HOUR) / 1000))}.jsonl"
        ).mkdir()
        await client.send(bybit(row(at - 2 * HOUR)))

    with pytest.raises(MarketError, match=r"jsonl: cannot be written"):
        play(tmp_path, "bybit", script(step), lambda trial: False)


@pytest.mark.parametrize(
    ("symbols", "exchanges", "urls", "words"),
    [
        ([], None, {}, "nothing to record"),
        (["BTCUSDT"], [], {}, "nothing to record"),
        (["BTCUSDT"], ["kraken"], {}, "no stream of kraken can be recorded; known are bybit, binance"),
        (["BTCUSDT"], None, {"okx": "wss://x"}, "no stream of okx"),
        (["BTCUSDT"], None, {"bybit": "https://x/y"}, "not at an address of the kind wss"),
        (["../x"], None, {}, "is not a symbol"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, symbols: list[str], exchanges: list[str] | None, urls: dict[str, str], words: str
) -> None:
    with pytest.raises((MarketError, SettingsError), match=words):
        Recorder(tmp_path, symbols, exchanges, urls=urls)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_recorder_loses_less_than_a_second(tmp_path: Path, end: signal.Signals) -> None:
    program = (
        "import sys; from pathlib import Path; from heatmap_pipeline.market.liquidations.recorder import record; "
        "record(Path(sys.argv[1]), ['BTCUSDT'], ['bybit'], urls={'bybit': sys.argv[2]}, ping=0.2)"
    )
    sent: list[int] = []

    async def pour(client: Client) -> None:
        await client.acknowledge()
        while True:
            at = now()
            await client.send(bybit(row(at, size=f"{len(sent) + 1}.5")))
            sent.append(at)
            await asyncio.sleep(0.01)

    async def scenario() -> tuple[int, int | None]:
        async with StreamServer("bybit", pour) as server:
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), server.url)
            await reached(lambda: len(sent) > 150, 60.0)
            killed = now()
            process.send_signal(end)
            return killed, await process.wait()

    killed, code = asyncio.run(scenario())
    assert code == (-signal.SIGKILL if end is signal.SIGKILL else 0)
    made = RecordingReader(tmp_path).read("bybit", "BTCUSDT", (killed - HOUR) * 1000, (killed + HOUR) * 1000)
    quantities = made.table["quantity"].tolist()
    assert quantities == [number + 1.5 for number in range(len(quantities))]
    older = sum(at < killed - 1000 for at in sent)
    assert older > 20
    assert len(quantities) >= older
    [(start, until)] = made.recorded.tolist()
    assert start // 1000 - sent[0] < 1000
    assert killed - 1000 <= until // 1000 <= killed + 1000
    assert made.repairs.get("torn_lines", 0) <= 1


@pytest.mark.slow
def test_it_stops_in_the_middle_of_a_flood(tmp_path: Path) -> None:
    async def flood(client: Client) -> None:
        await client.acknowledge()
        while True:
            await client.send(mark_price())
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with StreamServer("binance", flood) as server:
            for number in range(60):
                stop = asyncio.Event()
                recorder = Recorder(tmp_path, ["BTCUSDT"], ["binance"], urls={"binance": server.url})
                running = asyncio.create_task(recorder.run(stop))
                await reached(lambda recorder=recorder: recorder.states[0].listening)  # type: ignore[misc]
                await asyncio.sleep(0.001 * number)
                stop.set()
                _, late = await asyncio.wait([running], timeout=5)
                assert not late, "it does not stop"
                await running

    asyncio.run(scenario())
