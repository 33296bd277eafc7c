"""Which stored days no longer follow, and what is said of them: days written down here, without a database."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.chain.history import CLOSES, History, Stale, parameter_changes, resolve_parameters, stale_days
from heatmap_pipeline.market.brackets import Tier, keep_tiers
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.settings import Settings, SymbolSettings
from heatmap_pipeline.store.days import DayRecord
from heatmap_pipeline.store.raw import RawDay, SymbolRecord

SYMBOL = SymbolRecord("BTCUSDT", 300, 100.0, "archive", simulated=False)
MODEL = "turnover"
FIRST = date(2024, 3, 4)
DAYS = [FIRST + timedelta(days=number) for number in range(6)]


def chain(settings: Settings) -> History:
    """Return six days, each made from the rows stored of it and from the day before."""
    raw = {
        kind: {day: RawDay(f"{kind} {day}", 300, 288, {}, {}, "file") for day in DAYS}
        for kind in ("candles", "open_interest")
    }
    history = History(SYMBOL, raw, {MODEL: {}}, {MODEL: {}})
    parameters = resolve_parameters(settings, SYMBOL, MODEL, FIRST, 100.0).to_json()
    made = datetime(2024, 4, 1, tzinfo=UTC)
    state = {CLOSES: [60_000.0, 60_100.0]}
    records = {}
    for day in DAYS:
        previous = f"state {day - timedelta(days=1)}" if day != FIRST else ""
        rows = history.input_hash(day)
        assert rows is not None
        records[day] = DayRecord(
            "BTCUSDT", MODEL, day, rows, previous, f"state {day}", parameters, {}, False, state, made
        )
    return replace(history, days={MODEL: records})


def _with(parameters: str, **values: Any) -> str:
    return json.dumps({**json.loads(parameters), **values}, sort_keys=True)


def test_days_that_follow_are_not_stale() -> None:
    settings = Settings()
    assert stale_days(settings, chain(settings), MODEL) == []


def test_what_comes_after_a_changed_day_names_the_first_one_that_is_stale() -> None:
    """That is where a rebuild has to begin; the day just before is as stale as the one it is asked about."""
    settings = Settings()
    history = chain(settings)
    changed = replace(history.raw["candles"][DAYS[1]], content_hash="other rows")
    history = replace(history, raw={**history.raw, "candles": {**history.raw["candles"], DAYS[1]: changed}})
    assert stale_days(settings, history, MODEL) == [
        Stale(DAYS[1], "its candles or open interest changed", DAYS[1]),
        *(Stale(day, f"it follows {DAYS[1]}", day) for day in DAYS[2:]),
    ]


def test_the_tiers_that_an_exchange_told_are_the_parameters_of_its_market(tmp_path: Path) -> None:
    """Those of the day, unless a setting or the user's own file says something else; of each day those seen by then."""
    record = replace(SYMBOL, symbol="BYBIT_BTCUSDT", exchange="bybit")
    mine = tmp_path / "mine.json"
    brackets = [{"notionalFloor": 0, "maintMarginRatio": 0.01, "initialLeverage": 50}]
    mine.write_text(json.dumps([{"symbol": "BYBIT_BTCUSDT", "brackets": brackets}]))

    def bracket(day: date, record: SymbolRecord = record, **settings: Any) -> tuple[float, float]:
        made = resolve_parameters(Settings(home=tmp_path, **settings), record, MODEL, day, 100.0).bracket
        return made.maintenance_margin_rate, made.max_leverage

    assert bracket(FIRST) == (0.004, 125.0), "nobody has told"
    keep_tiers(tmp_path / "archive", "BYBIT_BTCUSDT", [Tier(2e6, 0.005, 100.0), Tier(4e6, 0.01, 50.0)], DAYS[1])
    keep_tiers(tmp_path / "archive", "BYBIT_BTCUSDT", [Tier(3e5, 0.0033, 150.0)], DAYS[3])
    assert [bracket(day) for day in DAYS] == [(0.005, 100.0)] * 3 + [(0.0033, 150.0)] * 3
    assert bracket(FIRST, SYMBOL) == (0.004, 125.0), "of another exchange"
    assert bracket(FIRST, leverage_brackets=mine) == (0.01, 50.0)
    own = {"BYBIT_BTCUSDT": SymbolSettings(max_leverage=20)}
    assert bracket(FIRST, per_symbol=own) == (0.005, 20.0)


def test_new_tiers_make_no_earlier_day_stale(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    keep_tiers(tmp_path / "archive", "BTCUSDT", [Tier(2e6, 0.005, 100.0)], FIRST)
    history = chain(settings)
    assert stale_days(settings, history, MODEL) == []
    keep_tiers(tmp_path / "archive", "BTCUSDT", [Tier(2e6, 0.0033, 150.0)], DAYS[4])
    stale = stale_days(settings, history, MODEL)
    assert [each.day for each in stale] == DAYS[4:]
    assert "other parameters: maintenance_margin_rate 0.005 -> 0.0033, max_leverage 100 -> 150" in stale[0].reason


def test_a_second_reason_does_not_hide_the_first_day() -> None:
    settings = Settings()
    history = chain(settings)
    days = dict(history.days[MODEL])
    days[DAYS[1]] = replace(days[DAYS[1]], parameters=_with(days[DAYS[1]].parameters, bucket=50.0))
    days[DAYS[3]] = replace(days[DAYS[3]], input_hash="of other rows")
    history = replace(history, days={MODEL: days})
    assert [stale.reason for stale in stale_days(settings, history, MODEL)] == [
        "it was computed with other parameters: bucket 50 -> 100",
        f"it follows {DAYS[1]}",
        "its candles or open interest changed",
        f"it follows {DAYS[1]}",
        f"it follows {DAYS[1]}",
    ]


def test_a_new_history_does_not_follow_what_is_stale_before_it() -> None:
    settings = Settings()
    history = chain(settings)
    days = dict(history.days[MODEL])
    days[DAYS[0]] = replace(days[DAYS[0]], parameters="{}")
    del days[DAYS[2]]
    days[DAYS[3]] = replace(days[DAYS[3]], previous_hash="")
    history = replace(history, days={MODEL: days})
    assert [stale.day for stale in stale_days(settings, history, MODEL)] == DAYS[:2]


def test_changed_parameters_are_named_three_at_most() -> None:
    settings = Settings()
    history = chain(settings)
    record = history.days[MODEL][DAYS[0]]

    def reason(parameters: str) -> str:
        days = {**history.days[MODEL], DAYS[0]: replace(record, parameters=parameters)}
        return stale_days(settings, replace(history, days={MODEL: days}), MODEL)[0].reason

    said = "it was computed with other parameters: "
    two = _with(record.parameters, bucket=200.0, turnover=0.07)
    assert reason(two) == f"{said}bucket 200 -> 100, turnover 0.07 -> {MODELS[MODEL].turnover:g}"
    many = _with(two, leverage_weights=[[3, 1.0]], dust_rule="of another version", extra=True)
    names = reason(many).removeprefix(said).split(", ")
    assert names[0] == "bucket 200 -> 100"
    assert names[1].startswith("dust_rule of another version -> ")
    assert names[2:] == ["extra True -> none", "2 more"]


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.none() | st.floats(0, 9) | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    )
)
def test_parameters_do_not_differ_from_themselves_and_each_difference_is_named(record: dict[str, Any]) -> None:
    text = json.dumps(record)
    assert parameter_changes(text, text) == []
    changed = json.dumps({**record, "a": 17.5})
    assert len(parameter_changes(text, changed)) == 1, "17.5 is nothing that `a` is"
    assert len(parameter_changes(changed, text)) == 1
