"""The first bracket of a symbol, from the file that belongs to the day."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.market import brackets
from heatmap_pipeline.market.brackets import load_bracket
from heatmap_pipeline.market.tables import MarketError

DAY = date(2024, 9, 14)


def entry(symbol: str, rate: Any, leverage: Any) -> dict[str, Any]:
    second = {"bracket": 2, "initialLeverage": 5, "notionalFloor": 5000, "notionalCap": 9e9, "maintMarginRatio": 0.1}
    first = {"bracket": 1, "initialLeverage": leverage, "notionalFloor": 0, "maintMarginRatio": rate, "cum": 0}
    return {"symbol": symbol, "brackets": [second, first]}


def save(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps(entries))
    return path


def test_the_lowest_floor_is_the_first_bracket(tmp_path: Path) -> None:
    file = save(tmp_path / "b.json", entry("ETHUSDT", 0.005, 100), entry("BTCUSDT", 0.004, 125))
    assert load_bracket(file, "BTCUSDT", DAY) == (0.004, 125.0)
    assert load_bracket(file, "ETHUSDT", DAY) == (0.005, 100.0)
    assert load_bracket(file, "DOGEUSDT", DAY) is None


def test_a_file_may_be_the_answer_for_one_symbol(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    file.write_text(json.dumps(entry("BTCUSDT", 0.004, 125)))
    assert load_bracket(file, "BTCUSDT", DAY) == (0.004, 125.0)


@pytest.mark.parametrize(
    ("day", "leverage"),
    [(date(2024, 1, 1), 20), (date(2024, 6, 19), 20), (date(2024, 8, 1), 30), (date(2024, 9, 1), 30), (DAY, 40)],
)
def test_the_newest_file_not_later_than_the_day(tmp_path: Path, day: date, leverage: int) -> None:
    for text, of in (("2024-09-14", 40), ("2024-06-20", 20), ("2024-08-01", 30)):
        save(tmp_path / f"some_name_{text}.json", entry("BTCUSDT", 0.004, of))
    save(tmp_path / "undated.json", entry("BTCUSDT", 0.004, 99))
    assert load_bracket(tmp_path, "BTCUSDT", day) == (0.004, leverage)


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    file = save(tmp_path / "b.json", entry("BTCUSDT", 0.004, 125))
    assert load_bracket(file, "BTCUSDT", DAY) == (0.004, 125.0)
    save(file, entry("BTCUSDT", 0.005, 100))
    os.utime(file, ns=(1, 1))
    assert load_bracket(file, "BTCUSDT", DAY) == (0.005, 100.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "7",
        "[7]",
        '{"code": -2014, "msg": "API-key format invalid."}',
        '[{"symbol": "BTCUSDT", "brackets": []}]',
        '[{"symbol": "BTCUSDT"}]',
        json.dumps([entry("BTCUSDT", "0.004", 125)]),
        json.dumps([entry("BTCUSDT", True, 125)]),
        json.dumps([entry("BTCUSDT", 1.5, 125)]),
        json.dumps([entry("BTCUSDT", 0.004, True)]),
        json.dumps([entry("BTCUSDT", 0.004, 0)]),
        json.dumps([entry("BTCUSDT", 0.004, float("nan"))]),
        json.dumps([entry("BTCUSDT", 0.004, 10**400)]),
        "[" * 100_000,
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(text)
    with pytest.raises(MarketError, match=r"b\.json: .*(is not JSON|is not a list|is not in the exchange's shape)"):
        load_bracket(file, "BTCUSDT", DAY)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "b.json", entry("BTCUSDT", 0.004, 125))
    monkeypatch.setattr(brackets, "MAX_BYTES", file.stat().st_size - 1)
    with pytest.raises(MarketError, match=r"b\.json: is larger than \d+ bytes"):
        load_bracket(file, "BTCUSDT", DAY)
    monkeypatch.setattr(brackets, "MAX_BYTES", file.stat().st_size)
    assert load_bracket(file, "BTCUSDT", DAY) == (0.004, 125.0)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MarketError, match=r"none\.json: No such file"):
        load_bracket(tmp_path / "none.json", "BTCUSDT", DAY)
    with pytest.raises(MarketError, match="holds no file named"):
        load_bracket(tmp_path, "BTCUSDT", DAY)
    (tmp_path / "b_2024-13-01.json").write_text("[]")
    with pytest.raises(MarketError, match="2024-13-01 is not a date"):
        load_bracket(tmp_path, "BTCUSDT", DAY)


@pytest.mark.market
def test_real_brackets_follow_the_day(market_dir: Path) -> None:
    folder = market_dir / "leverage_brackets"
    assert load_bracket(folder, "BTCUSDT", DAY) == (0.004, 125.0)
    assert load_bracket(folder, "BTCUSDT", date(2026, 1, 1)) == (0.004, 150.0)
    assert load_bracket(folder, "NOSUCHUSDT", DAY) is None
