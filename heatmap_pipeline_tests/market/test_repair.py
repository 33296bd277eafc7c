"""Every repair is made and counted; what cannot be repaired is refused with its row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.market.repair import clean_candles, clean_samples, step_of_labels
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, OPEN_INTEREST_COLUMNS, CleanDay, MarketError
from heatmap_pipeline.prices import MAX_PRICE
from heatmap_pipeline_tests.market._files import DAY, at, raw_candles, raw_samples

NAN = float("nan")


def candles(raw: pd.DataFrame, interval: int = 300) -> CleanDay:
    return clean_candles(raw, symbol="BTCUSDT", day=DAY, interval=interval, file="f.zip")


def samples(raw: pd.DataFrame, interval: int = 300) -> CleanDay:
    table = candles(raw_candles()).table
    return clean_samples(raw, symbol="BTCUSDT", day=DAY, interval=interval, candles=table, file="m.zip")


def seconds_of(clean: CleanDay) -> list[float]:
    taken = clean.table["snapshot_time"].to_numpy().astype(np.int64)
    return [(int(instant) - at(0)) / 1e6 for instant in taken]


def test_a_whole_day_needs_no_repair() -> None:
    clean = candles(raw_candles())
    assert clean.repairs == {}
    assert len(clean.table) == 288
    assert tuple(clean.table.columns) == CANDLE_COLUMNS
    types = {name: str(kind) for name, kind in clean.table.dtypes.items()}
    assert types == dict.fromkeys(CANDLE_COLUMNS, "float64") | {"open_time": "datetime64[us]", "trades": "int64"}
    assert clean.step == 300


def test_rows_out_of_order_are_sorted_and_counted() -> None:
    raw = raw_candles()
    clean = candles(raw.iloc[[0, 3, 1, 2, *range(4, 288)]])
    assert clean.repairs == {"sorted_rows": 2}
    assert clean.content_hash() == candles(raw).content_hash()


def test_exact_duplicates_are_dropped_and_counted() -> None:
    raw = raw_candles()
    clean = candles(pd.concat([raw, raw.iloc[[5, 5, 9]].assign(row=[290, 291, 292])]))
    assert clean.repairs == {"sorted_rows": 3, "duplicate_candles": 3}
    assert clean.content_hash() == candles(raw).content_hash()


@pytest.mark.parametrize("column", ["close", "volume", "trades", "quote_volume"])
def test_two_different_candles_with_one_open_time_are_refused(column: str) -> None:
    raw = raw_candles()
    other = raw.iloc[[5]].assign(row=290)
    other[column] -= 1
    with pytest.raises(MarketError, match=rf"f\.zip, row 290: another candle with the open_time of row 7.*{column}"):
        candles(pd.concat([raw, other]))


def test_missing_candles_are_counted_and_not_filled() -> None:
    clean = candles(raw_candles().drop(index=[0, 7, 287]))
    assert clean.repairs == {"missing_candles": 3}
    assert len(clean.table) == 285


def test_blank_optional_columns_are_unknown() -> None:
    unknown = ["quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume"]
    clean = candles(raw_candles().assign(**dict.fromkeys(unknown, NAN)))
    assert (clean.table[unknown] == 0).all().all()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("open", 0.0, "open is blank, zero"),
        ("close", -1.0, "close is blank, zero, negative"),
        ("high", NAN, "high is blank"),
        ("low", 9e-9, "low is blank, zero, negative or below"),
        ("high", MAX_PRICE * 1.01, "high is above"),
        ("high", float("inf"), "high is above"),
        ("low", 106.0, "low is above open or close"),
        ("high", 116.0, "high is below open or close"),
        ("high", 99.0, "high is below low"),
        ("volume", -1.0, "volume is blank, negative"),
        ("volume", NAN, "volume is blank"),
        ("volume", float("inf"), "volume is blank, negative or not finite"),
        ("quote_volume", -1.0, "quote_volume is negative"),
        ("taker_buy_volume", float("inf"), "taker_buy_volume is negative or not finite"),
        ("trades", 1.5, "the count of trades"),
        ("trades", -1.0, "the count of trades"),
    ],
)
def test_impossible_candles_are_refused_by_row(column: str, value: float, reason: str) -> None:
    raw = raw_candles()
    raw.loc[[0, 13], column] = value
    raw = raw.iloc[::-1]  # the first in the order of the file is named, not the first in time
    with pytest.raises(MarketError, match=rf"f\.zip, row 15: {reason}"):
        candles(raw)


def test_touching_bodies_and_zero_volume_are_fine() -> None:
    raw = raw_candles(1).assign(open=100.0, high=100.0, low=100.0, close=100.0, volume=0.0)
    assert candles(raw).repairs == {"missing_candles": 287}


@pytest.mark.parametrize(
    ("second", "reason"),
    [(-300, "does not open on 2024-09-14"), (86400, "does not open on 2024-09-14"), (301, "grid of 300 s")],
)
def test_candles_outside_the_day_or_grid_are_refused(second: int, reason: str) -> None:
    raw = raw_candles()
    raw.loc[4, "open_time"] = np.datetime64(at(second), "us")
    with pytest.raises(MarketError, match=rf"row 6: .*{reason}"):
        candles(raw)


def test_a_day_without_candles_is_refused() -> None:
    with pytest.raises(MarketError, match=r"f\.zip: holds no candles of 2024-09-14"):
        candles(raw_candles(0))


@pytest.mark.parametrize(
    ("seconds", "step"),
    [
        ([0, 300, 600, 900], 300),
        ([0, 3600, 7200, 7500], 3600),
        ([0, 300, 900], 300),  # a tie: the smallest
        ([0], 900),  # one label: the candles' step
        ([], 900),
        ([600, 0, 300, 300, 300, 300], 300),  # distinct labels, in any order
        ([3, 301, 607, 899, 1204], 300),  # labels a few seconds late
        ([0, 20, 40], 20),
        ([0, 0.1, 0.2], 1),
    ],
)
def test_step_of_labels(seconds: list[float], step: int) -> None:
    label = np.array([round(second * 1e6) for second in seconds], dtype=np.int64)
    assert step_of_labels(label, 900) == step


def test_invalid_rows_count_for_the_step() -> None:
    raw = raw_samples(range(0, 3600, 300), [5, NAN] * 6)
    assert samples(raw).step == 300


def test_labels_near_the_grid_are_snapped() -> None:
    clean = samples(raw_samples([0, 330, 570, 931, 1200, 1500, 1800, 2100], range(1, 9)))
    assert seconds_of(clean) == [0, 300, 600, 931, 1200, 1500, 1800, 2100]
    assert clean.repairs["snapped_labels"] == 2


def test_samples_are_sorted_and_exact_duplicates_dropped() -> None:
    clean = samples(raw_samples([600, 0, 300, 300, 900], [3, 1, 2, 2, 4]))
    assert seconds_of(clean) == [0, 300, 600, 900]
    assert clean.table["contracts"].tolist() == [1, 2, 3, 4]
    assert clean.repairs == {"sorted_rows": 3, "duplicate_samples": 1, "unknown_values": 4}


def test_the_later_of_two_valid_rows_wins() -> None:
    clean = samples(raw_samples([0, 300, 300, 600, 302], [1, 2, 20, 3, 25]))
    assert clean.table["contracts"].tolist() == [1, 25, 3]
    assert clean.repairs["replaced_samples"] == 2
    assert "duplicate_samples" not in clean.repairs


def test_the_last_row_wins_even_if_it_repeats_an_earlier_one() -> None:
    clean = samples(raw_samples([0, 300, 300, 300, 600], [1, 2, 20, 2, 3]))
    assert clean.table["contracts"].tolist() == [1, 2, 3]
    assert (clean.repairs["duplicate_samples"], clean.repairs["replaced_samples"]) == (1, 1)


@pytest.mark.parametrize("invalid", [NAN, float("inf"), 0.0, -4.0])
def test_contracts_that_are_none_never_replace_a_valid_row(invalid: float) -> None:
    clean = samples(raw_samples([0, 300, 300, 600], [1, 2, invalid, invalid]))
    assert clean.table["contracts"].tolist() == [1, 2]
    assert clean.repairs["invalid_contracts"] == 2
    assert "replaced_samples" not in clean.repairs


def test_values_that_are_none_are_unknown() -> None:
    clean = samples(raw_samples([0, 300, 600, 900], [1, 2, 3, 4], [10, 0, -1, float("inf")]))
    assert clean.repairs == {"unknown_values": 3}
    assert clean.table["value"].tolist()[0] == 10
    assert clean.table["value"].isna().tolist() == [False, True, True, True]


def test_absurd_values_do_not_decide_the_clock() -> None:
    raw = candles(raw_candles()).table
    seconds = [300 * i for i in range(200)]
    value = raw["open"].to_numpy()[:200] * 2
    contracts = np.full(200, 2.0)
    value[50], value[51], contracts[51] = 1e12, 1e308, 1e-300
    clean = samples(raw_samples(seconds, contracts.tolist(), value.tolist()))
    assert clean.facts["clock"]["rule"] == "price"
    assert clean.facts["clock"]["samples"] == 198
    assert clean.facts["clock"]["offset_seconds"] == 0


def test_samples_taken_outside_the_day_are_dropped() -> None:
    clean = samples(raw_samples([-300, 0, 300, 86100, 86400, 86700], [1, 2, 3, 4, 5, 6]))
    assert seconds_of(clean) == [0, 300, 86100, 86400]
    assert clean.repairs["outside_day"] == 2


def test_the_day_is_judged_after_the_clock_is_applied() -> None:
    later = raw_samples([-300, 0, 86100, 86400], [1, 2, 3, 4], [NAN] * 4)
    price = candles(raw_candles()).table["open"].tolist()[1:101]
    measured = raw_samples([300 * i for i in range(100)], [1] * 100, price)  # a label is the start of its step
    clean = samples(pd.concat([later.iloc[:1], measured, later.iloc[2:]]))
    assert clean.facts["clock"]["offset_seconds"] == 300
    assert seconds_of(clean) == [0, *[300 * i + 300 for i in range(100)], 86400]
    assert clean.repairs["outside_day"] == 1


def test_no_samples_give_an_empty_day() -> None:
    clean = samples(raw_samples([], []))
    assert len(clean.table) == 0
    assert tuple(clean.table.columns) == OPEN_INTEREST_COLUMNS
    assert str(clean.table["snapshot_time"].dtype) == "datetime64[us]"
    assert (clean.step, clean.repairs) == (300, {})


def test_a_sample_without_a_time_is_refused() -> None:
    raw = raw_samples([0, 300], [1, 2])
    raw.loc[1, "label"] = pd.NaT
    with pytest.raises(MarketError, match=r"m\.zip, row 3: the time"):
        samples(raw)
