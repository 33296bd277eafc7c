"""Which day is due: each rule by itself, on what is said to be stored; whole homes are refreshed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from heatmap_pipeline.chain import calendar, due
from heatmap_pipeline.chain.due import first_due
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.read import PublishedHistory

BTC = "BTCUSDT"
LAST = 20
"""Number of the newest day that is stored; the next one is asked for."""


def day(number: int) -> date:
    return date(2024, 4, number)


FILE: Mapping[str, Any] = {"sha256": "0"}
REST: Mapping[str, Any] = {"via": "rest"}
SO_FAR: Mapping[str, Any] = {"via": "rest", "provisional": True}


def asked(
    monkeypatch: pytest.MonkeyPatch,
    *,
    computed: Mapping[str, range] | None = None,
    raw: range = range(1, LAST + 1),
    candles: Mapping[int, Mapping[str, Any]] | None = None,
    samples: Mapping[int, Mapping[str, Any]] | None = None,
    failed: Sequence[tuple[str, int]] = (),
    published: Mapping[str, range] | None = None,
    unlike: int = 0,
    start: date | None = None,
    again: bool = True,
) -> date | None:
    """Return the first day due of a home that holds what is said here.

    Args:
        monkeypatch: what is stored is said, not stored.
        computed: days by model; both models have all of them unless it says otherwise.
        raw: days that were read.
        candles: facts of candles by day, where they did not come from a file.
        samples: of open interest.
        failed: stages and days.
        published: days by model; as they are computed unless it says otherwise.
        unlike: a day whose state is published otherwise.
        start: HEATMAP_START.
        again: as of `first_due`.
    """
    every = {model: range(1, LAST + 1) for model in ("turnover", "delta")} if computed is None else computed
    records = {
        model: {day(number): SimpleNamespace(state_hash=f"{model}{number}", provisional=False) for number in numbers}
        for model, numbers in every.items()
    }
    shown = {
        model: {day(number): "other" if number == unlike else f"{model}{number}" for number in numbers}
        for model, numbers in (every if published is None else published).items()
    }
    kinds = {
        kind: {day(number): SimpleNamespace(facts=(facts or {}).get(number, FILE)) for number in raw}
        for kind, facts in (("candles", candles), ("open_interest", samples))
    }
    monkeypatch.setattr(stored, "day_records", lambda _con, _symbol, model: records.get(model, {}))
    monkeypatch.setattr(stored_raw, "raw_days", lambda _con, _symbol: kinds)
    monkeypatch.setattr(due, "failed_days", lambda *_: [(stage, day(number), "why") for stage, number in failed])
    record: Any = None
    histories = {BTC: PublishedHistory(record, frozenset(), shown)} if shown else None
    settings = load_settings(models=("turnover", "delta"), start=start)
    return first_due(None, settings, BTC, day(LAST + 1), histories, again=again)


@pytest.mark.parametrize(
    ("home", "first"),
    [
        pytest.param({}, LAST + 1, id="the day after the last"),
        pytest.param({"computed": {"turnover": range(1, 21), "delta": range(1, 18)}}, 18, id="a model is behind"),
        pytest.param({"computed": {"turnover": range(3, 21)}, "raw": range(2, 21)}, 2, id="a model is new"),
        pytest.param({"candles": {20: SO_FAR}}, 20, id="the newest was not over"),
        pytest.param({"samples": {4: SO_FAR}}, 4, id="an old one was not over"),
        pytest.param({"candles": {14: REST}}, 14, id="over REST a week ago"),
        pytest.param({"samples": {14: REST, 17: REST}}, 14, id="only its open interest"),
        pytest.param({"candles": {13: REST}}, LAST + 1, id="over REST before that"),
        pytest.param({"candles": {19: REST}, "again": False}, LAST + 1, id="nothing is read again"),
        pytest.param({"failed": [("heatmap_days", 7)]}, 7, id="one failed after it was read"),
        pytest.param({"failed": [("raw_candles", 7)]}, LAST + 1, id="one that could not be read"),
        pytest.param({"failed": [("export", 28)]}, LAST, id="a failure of a day that is not there"),
        pytest.param({"unlike": 9}, LAST, id="stored otherwise than it is published"),
        pytest.param({"published": {"turnover": range(1, 21)}}, LAST, id="a model is not published"),
        pytest.param({"published": {}}, LAST, id="nothing is published"),
        pytest.param(
            {"computed": {"turnover": range(1, 21), "delta": range(5, 21)},
             "published": {"turnover": range(1, 21), "delta": range(3, 21)}}, 3, id="a published day is lost",
        ),
        pytest.param({"computed": {}, "published": {}, "raw": range(6, 9)}, 6, id="read and not computed"),
        pytest.param({"computed": {}, "raw": range(6, 9), "published": {"delta": range(2, 4)}}, 2, id="all is lost"),
        pytest.param({"computed": {}, "published": {}, "raw": range(0), "start": day(3)}, 3, id="nothing yet"),
        pytest.param({"computed": {}, "published": {}, "raw": range(0)}, None, id="nothing, and no start"),
    ],
)  # fmt: skip
def test_the_first_day_due(monkeypatch: pytest.MonkeyPatch, home: dict[str, Any], first: int | None) -> None:
    assert asked(monkeypatch, **home) == (None if first is None else day(first))


@pytest.mark.parametrize(
    ("now", "newest"),
    [((0, 0, 0), 4), ((0, 19, 59), 4), ((0, 20, 0), 5), ((23, 59, 59), 5)],
)
def test_a_day_has_begun_once_a_candle_of_any_interval_is_over(now: tuple[int, int, int], newest: int) -> None:
    assert calendar.begun(datetime(2024, 4, 5, *now, tzinfo=UTC)) == day(newest)
