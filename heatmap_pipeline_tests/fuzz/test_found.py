"""What fuzzing found, one small case each, so that it stays found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.market import exchange_json as answers
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.brackets import load_bracket
from heatmap_pipeline.market.tables import CleanDay, MarketError
from heatmap_pipeline.market.web import TryAgainError
from heatmap_pipeline_tests.market._files import (
    DAY,
    at,
    candle_rows,
    sample_rows,
    write_candles,
    write_metrics,
)


def candles(root: Path, rows: Sequence[Sequence[str]], interval: int = 300) -> CleanDay:
    write_candles(root, rows, interval={300: "5m", 900: "15m"}[interval])
    return ArchiveReader(root).read_candles("BTCUSDT", DAY, interval)


def samples(root: Path, rows: Sequence[Sequence[str]]) -> CleanDay:
    write_candles(root)
    write_metrics(root, rows)
    reader = ArchiveReader(root)
    return reader.read_open_interest("BTCUSDT", DAY, reader.read_candles("BTCUSDT", DAY, 300).table, 300)


def changed(rows: list[list[str]], column: int, text: str) -> list[list[str]]:
    rows[4][column] = text
    return rows


# --- times -----------------------------------------------------------------------------------------------------------


def test_a_hexadecimal_time_is_refused(tmp_path: Path) -> None:
    """The CSV reader takes one for a number."""
    same = hex(at(1200) // 1000)
    with pytest.raises(MarketError, match=f"row 6: open_time: '{same}' is not a time"):
        candles(tmp_path, changed(candle_rows(), 0, same))
    labels = [[str(at(300 * i) // 1000), *row[1:]] for i, row in enumerate(sample_rows())]
    with pytest.raises(MarketError, match=f"row 6: create_time: '{same}' is not a time"):
        samples(tmp_path, changed(labels, 0, same))


@pytest.mark.parametrize("text", ["2024-09-14", "2024-09-14 00", "2024-09-14 00:20", "2024-09-14 00:20:0"])
def test_a_label_that_was_cut_off_is_refused(tmp_path: Path, text: str) -> None:
    """The CSV reader takes a date for its midnight: a sample of any hour would move there without a word."""
    with pytest.raises(MarketError, match=f"row 6: create_time: '{text}' is not a time"):
        samples(tmp_path, changed(sample_rows(), 0, text))
    with pytest.raises(MarketError, match=r"row 2: create_time: '2024-09-14' is not a time"):
        samples(tmp_path, [["2024-09-14", *row[1:]] for row in sample_rows()])


@pytest.mark.parametrize(
    "text", ["2024-02-30 00:20:00", "2024-09-14 24:00:00", "2024-09-14 00:20:60", "0000-09-14 00:20:00"]
)
def test_a_label_that_no_calendar_has_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(MarketError, match=f"row 6: create_time '{text}' is not in the calendar"):
        samples(tmp_path, changed(sample_rows(), 0, text))


def test_candles_of_another_interval_are_refused(tmp_path: Path) -> None:
    """Every third candle of a day of 5m fits the grid of 15m candles, and the other way round."""
    with pytest.raises(MarketError, match="row 2: close_time says that this is not a candle of 300 s"):
        candles(tmp_path, candle_rows(96, 900))
    with pytest.raises(MarketError, match="row 6: close_time says that this is not a candle of 300 s"):
        candles(tmp_path, changed(candle_rows(), 6, str(at(1200) // 1000)))
    with pytest.raises(MarketError, match="row 6: close_time: 'soon' is not a time"):
        candles(tmp_path, changed(candle_rows(), 6, "soon"))


@pytest.mark.parametrize("text", ["", "0", " ", str(at(1500) // 1000), str(at(1300) // 1000)])
def test_a_closing_time_may_be_unknown_whole_or_early(tmp_path: Path, text: str) -> None:
    plain = candles(tmp_path / "plain", candle_rows())
    assert candles(tmp_path, changed(candle_rows(), 6, text)).content_hash() == plain.content_hash()


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "text", "said"),
    [(5, "1e19", "volume is above"), (7, "1e26", "quote_volume is above"), (9, "9e99", "taker_buy_volume is above")],
)
def test_volumes_that_no_market_has_are_refused(tmp_path: Path, column: int, text: str, said: str) -> None:
    """Finite in the table, infinite in what is computed and drawn from it."""
    with pytest.raises(MarketError, match=f"row 6: {said}"):
        candles(tmp_path, changed(candle_rows(), column, text))


def test_open_interest_that_no_market_has_counts_as_missing(tmp_path: Path) -> None:
    rows = changed(sample_rows(), 2, "1e300")
    rows[7][3] = "1e300"
    clean = samples(tmp_path, rows)
    assert clean.repairs == {"invalid_contracts": 1, "unknown_values": 287}
    assert clean.table["contracts"].max() < 2000


def test_messages_do_not_repeat_a_long_field(tmp_path: Path) -> None:
    for column in (0, 1):
        with pytest.raises(MarketError) as caught:
            samples(tmp_path, changed(sample_rows(), column, "A" * 100_000))
        assert len(str(caught.value)) < 500 + len(str(tmp_path))


# --- answers and brackets ---------------------------------------------------------------------------------------------


def sample(**fields: Any) -> dict[str, Any]:
    right = {"symbol": "BTCUSDT", "sumOpenInterest": "1.5", "sumOpenInterestValue": "90000", "timestamp": 1726358400000}
    return right | fields


@pytest.mark.parametrize("text", ["٣", "1٣", "３.5", "1.", "+1", "1_000", " 1"])
def test_a_number_in_an_answer_is_written_in_plain_digits(text: str) -> None:
    assert answers.parse_open_interest([sample()], "BTCUSDT", "place")["contracts"].tolist() == [1.5]
    with pytest.raises(MarketError, match=r"place, row 1: sumOpenInterest .* is not a number"):
        answers.parse_open_interest([sample(sumOpenInterest=text)], "BTCUSDT", "place")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '[{"timestamp": 1, "x": 2, "timestamp": 3}]', '{"a": [{"": 1, "": 2}]}']
)
def test_an_answer_with_a_key_twice_is_asked_for_again(text: str) -> None:
    """One of the two values would win without a word."""
    with pytest.raises(TryAgainError, match="not JSON"):
        answers.parse_json(text.encode())


@pytest.mark.parametrize("depth", [1, 900, 940, 960, 980, 990])
def test_nesting_is_refused_at_every_depth(tmp_path: Path, depth: int) -> None:
    """Also where it is just not too deep to be read."""
    nested = "[" * depth + "]" * depth
    with pytest.raises((MarketError, TryAgainError)):
        answers.parse_open_interest(answers.parse_json(f'[{{"symbol": {nested}}}]'.encode()), "BTCUSDT", "place")
    with pytest.raises((MarketError, TryAgainError)):
        answers.parse_candles(answers.parse_json(f"[[{', '.join([nested] * 12)}]]".encode()), 300, "place")
    file = tmp_path / "b.json"
    file.write_text(f'[{{"symbol": {nested}, "brackets": []}}]')
    with pytest.raises(MarketError, match=r"b\.json"):
        load_bracket(file, "BTCUSDT", date(2024, 9, 14))


def test_a_refusal_of_the_exchange_has_a_number_of_its_own() -> None:
    assert answers.refusal({"code": -1121, "msg": "Invalid symbol."}) == (-1121, "Invalid symbol.")
    for code in (True, 10**400, "-1121", None, 1.5):
        assert answers.refusal({"code": code, "msg": "x"}) is None
