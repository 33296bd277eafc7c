"""Damaged answers of the exchange: refused with its place named, or every row is what the text says.

The answers reach the reader as bytes, past the network: what a server may do to the way is tested elsewhere. More
inputs: see `_harness.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market import exchange
from heatmap_pipeline.market.exchange import ExchangeReader
from heatmap_pipeline.market.exchange_json import SymbolInfo
from heatmap_pipeline.market.tables import CleanDay
from heatmap_pipeline.market.web import Reply, TryAgainError, WebError
from heatmap_pipeline_tests.fuzz._harness import Tally, budget, outcome
from heatmap_pipeline_tests.fuzz._mutate_csv import byte_steps, mutate_bytes
from heatmap_pipeline_tests.fuzz._mutate_json import json_steps, mutate_json
from heatmap_pipeline_tests.fuzz._oracle import (
    answer_said,
    candle_problems,
    check_candles,
    check_samples,
    klines_said,
    midnight,
    open_interest_said,
    utc,
)
from heatmap_pipeline_tests.fuzz._seeds import Seed

HOST = "exchange.test"
KLINES, SAMPLES, INFO, TIME = (
    "/fapi/v1/klines",
    "/futures/data/openInterestHist",
    "/fapi/v1/exchangeInfo",
    "/fapi/v1/time",
)


class Answered(Reply):
    """An answer that is here already."""

    def __init__(self, data: bytes) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {}
        self._data = data

    def body(self, limit: int) -> bytes:
        assert len(self._data) <= limit
        return self._data


class NoWeb:
    """In place of the client: gives the answers it was told, and gives up at once where the real one tries again."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.answers: dict[str, bytes] = {}

    def name(self, path: str) -> str:
        return HOST + path

    def get(self, path: str, take: Any, *, headers: Any, **_: Any) -> Any:
        headers()
        try:
            return take(Answered(self.answers[path]))
        except TryAgainError as error:
            raise WebError(f"{self.name(path)}: {error.cause}, 6 times; try again later") from None


@pytest.fixture(scope="module", autouse=True)
def no_web() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "WebClient", NoWeb)
        patch.setattr(exchange._log, "disabled", True)  # the clock of each case differs from this machine's
        yield


def reader(seed: Seed, now: datetime, **answers: bytes) -> ExchangeReader:
    """Return a reader of these answers, and of right ones to everything else."""
    made = ExchangeReader()
    told = {
        KLINES: seed.klines(),
        SAMPLES: seed.open_interest(),
        INFO: seed.exchange_info(),
        TIME: {"serverTime": int(now.replace(tzinfo=UTC).timestamp() * 1000)},
    }
    made._web.answers = {path: json.dumps(answer).encode() for path, answer in told.items()}  # type: ignore[attr-defined]
    made._web.answers |= {globals()[name]: data for name, data in answers.items()}  # type: ignore[attr-defined]
    return made


def day_after(seed: Seed) -> datetime:
    return utc(midnight(seed.day) // 1000) + timedelta(days=1, hours=9)


def test_klines(seeds: list[Seed], tally: Tally, record_property: Any, request: Any) -> None:
    usual = [reader(seed, day_after(seed)).read_candles(seed.symbol, seed.day, seed.seconds).repairs for seed in seeds]

    @budget()
    @given(st.integers(0, len(seeds) - 1), json_steps(), byte_steps(1), st.sampled_from([0, 0, 0, -1, 4, 20]))
    def case(at: int, steps: Any, cuts: Any, unfinished: int) -> None:
        seed = seeds[at]
        data = mutate_bytes(mutate_json(seed.klines(), steps), cuts)
        now = day_after(seed)
        if unfinished:  # today: the last candles of the slice are not closed
            last = seed.klines()[-1][0]
            now = utc(last + 1500 if unfinished < 0 else last - unfinished * seed.seconds * 1000)
        note(f"{seed.symbol} {data!r}")
        said = klines_said(data, seed.seconds)
        open_ = [row for row in said.rows if utc(row[2] // 1000) >= now]
        said.rows = [row for row in said.rows if utc(row[2] // 1000) < now]
        problems = said.problems or candle_problems(said.rows, seed.day, seed.seconds)
        mine = reader(seed, now, KLINES=data)
        clean = outcome(lambda: mine.read_candles(seed.symbol, seed.day, seed.seconds))
        if isinstance(clean, HeatmapError):
            tally.refused(clean, HOST + KLINES)
            assert problems or said.doubts, f"refused for no reason: {clean}"
            return
        assert not problems, f"accepted {problems[:3]}"
        since = (now - utc(midnight(seed.day) // 1000)).total_seconds()
        closed = min(int(since // seed.seconds), 86_400 // seed.seconds)
        missing = max(closed - len({row[0] for row in said.rows}), 0)
        check_candles(clean, said, seed.day, seed.seconds, missing)
        assert clean.repairs.get("unfinished_candles", 0) == len(open_)
        assert clean.facts.get("provisional", False) == (unfinished != 0)
        tally.read({n: c for n, c in clean.repairs.items() if not unfinished or "sort" in n or "dup" in n},
                   {} if unfinished else usual[at])  # fmt: skip

    case()
    tally.check(record_property, request.node.name, refused=15, repaired=2, accepted=2)


def test_open_interest(seeds: list[Seed], tally: Tally, record_property: Any, request: Any) -> None:
    candles = [reader(seed, day_after(seed)).read_candles(seed.symbol, seed.day, seed.seconds).table for seed in seeds]

    def read(at: int, data: bytes) -> CleanDay:
        seed = seeds[at]
        mine = reader(seed, day_after(seed), SAMPLES=data)
        return mine.read_open_interest(seed.symbol, seed.day, candles[at], seed.seconds)

    usual = [read(at, json.dumps(seed.open_interest()).encode()).repairs for at, seed in enumerate(seeds)]

    @budget()
    @given(st.integers(0, len(seeds) - 1), json_steps(), byte_steps(1))
    def case(at: int, steps: Any, cuts: Any) -> None:
        seed = seeds[at]
        data = mutate_bytes(mutate_json(seed.open_interest(), steps), cuts)
        note(f"{seed.symbol} {data!r}")
        said = open_interest_said(data, seed.symbol)
        clean = outcome(lambda: read(at, data))
        if isinstance(clean, HeatmapError):
            tally.refused(clean, HOST + SAMPLES)
            assert said.problems or said.doubts or not said.rows, f"refused for no reason: {clean}"
            return
        assert not said.problems, f"accepted {said.problems[:3]}"
        check_samples(clean, said, seed.day, seed.seconds, after=midnight(seed.day))
        tally.read(clean.repairs, usual[at])

    case()
    tally.check(record_property, request.node.name, refused=15, repaired=2, accepted=2)


def is_no_perpetual(answer: Any, symbol: str) -> bool:
    """Whether an answer calls the contract of a symbol something else."""
    listed = answer.get("symbols") if isinstance(answer, dict) else None
    known = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    kinds = [one.get("contractType") for one in known if one.get("symbol") == symbol]
    return any(isinstance(kind, str) and "PERPETUAL" not in kind for kind in kinds)


def test_what_the_exchange_says_of_itself(seeds: list[Seed], tally: Tally, record_property: Any, request: Any) -> None:
    """Its clock and its symbols: what is taken from them is what the text says, in bounds."""

    @budget()
    @given(st.integers(0, len(seeds) - 1), json_steps(), byte_steps(1), st.booleans())
    def case(at: int, steps: Any, cuts: Any, clock: bool) -> None:
        seed, now = seeds[at], day_after(seeds[at])
        right = {"serverTime": 1726358400000} if clock else seed.exchange_info()
        data = mutate_bytes(mutate_json(right, steps), cuts)
        mine = reader(seed, now, **{"TIME" if clock else "INFO": data})
        note(f"{seed.symbol} {data!r}")
        answer, _ = answer_said(data)
        found: Any = outcome(mine.now if clock else lambda: mine.symbol(seed.symbol))
        if isinstance(found, HeatmapError):
            names = [HOST + (TIME if clock else INFO)]
            if not clock and is_no_perpetual(answer, seed.symbol):  # the answer is sound, the symbol is refused
                names.append(f"symbol {seed.symbol} is a delivery contract")
            tally.refused(found, *names)
            return
        if clock:
            assert timedelta(0) <= found - utc(answer["serverTime"]) < timedelta(seconds=5)
        else:
            assert isinstance(found, SymbolInfo)
            known = [one for one in answer["symbols"] if isinstance(one, dict)]
            one = next(one for one in known if one.get("symbol") == seed.symbol)
            assert found.listed == utc(one["onboardDate"]).date()
            assert (found.symbol, found.status, one["status"]) == (seed.symbol, "TRADING", "TRADING")
        tally.read({}, {})

    case()
    tally.check(record_property, request.node.name, refused=15, accepted=10)
