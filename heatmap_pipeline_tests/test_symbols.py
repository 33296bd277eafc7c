"""What a name says of a contract, what may be one, and that what stands for it can be read back: for any text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.store.migrate import select_as_today
from heatmap_pipeline.symbols import (
    DOLLARS,
    EXCHANGES,
    MAX_LENGTH,
    OTHER_EXCHANGES,
    OTHERS,
    UNDERLINED,
    Contract,
    contract_of,
    exchange_and_name,
    is_dollar,
    market_id,
    of_safe_name,
    own_exchange,
    safe_name,
    title_of,
    typed_name,
    why_no_symbol,
    why_not_computed,
    why_not_written,
    words_for_unknown_quote,
)


@given(st.sampled_from(DOLLARS), st.booleans())
def test_a_title_says_whose_contract_it_is_and_what_it_is_margined_in(quote: str, simulated: bool) -> None:
    title = title_of(f"BTC{quote}", quote, simulated=simulated)
    whose, kind = title.split(" ", 1)
    assert kind == f"{quote}-M perpetual"
    assert whose == ("Simulated" if simulated else EXCHANGES[own_exchange("BTCUSDT")])


letters = st.characters(categories=["Lu", "Lo", "Nd"]).filter(lambda letter: not why_not_written(f"A{letter}"))
bases = st.text(letters, min_size=1, max_size=8)
ended_by_nothing = bases.filter(lambda base: not contract_of(f"A{base}").quote)


@given(ended_by_nothing, st.sampled_from(DOLLARS))
def test_a_perpetual_in_dollars_is_its_base_and_its_quote(base: str, quote: str) -> None:
    contract = contract_of(f"{base}{quote}")
    if contract.quote == quote:  # else the base's last letters and the quote make the name of another
        assert contract == Contract(f"{base}{quote}", base, quote)
    else:
        assert contract.quote.endswith(quote)
    assert why_no_symbol(f"{base}{quote}") == "" == why_not_computed(contract)


@given(ended_by_nothing, st.sampled_from(OTHERS))
def test_what_is_quoted_in_something_else_is_refused_with_its_name(base: str, quote: str) -> None:
    name = f"{base}{quote}"
    words = why_no_symbol(name)
    assert words.startswith(
        f"symbol {name} is quoted in {contract_of(name).quote}, and only contracts quoted in dollars"
    )
    assert words.count("\n") == 0


@given(ended_by_nothing, st.sampled_from(DOLLARS), st.dates(date(2019, 1, 1), date(2068, 12, 31)))
def test_what_ends_is_refused_with_the_day_and_the_contract_that_does_not(base: str, quote: str, day: date) -> None:
    words = why_no_symbol(f"{base}{quote}_{day:%y%m%d}")
    assert f"is a delivery contract, which ends on {day}, and only perpetual contracts" in words
    assert words.endswith(f"choose one, such as {base}{quote}")


@pytest.mark.parametrize("name", ["BTCUSDT", "BYBIT_ETHUSDT", "GATE_BTC_USDT"])
@pytest.mark.parametrize("kind", ["delivery", "coin-margined"])
def test_what_is_none_against_its_name_is_not_named_as_the_way_out(name: str, kind: str) -> None:
    words = why_not_computed(replace(contract_of(name), kind=kind))  # type: ignore[arg-type]
    assert words.endswith(" are computed; choose another")


@pytest.mark.parametrize(
    ("name", "base", "quote", "kind"),
    [
        ("BTCUSDT", "BTC", "USDT", "perpetual"),
        ("1000SHIBUSDC", "1000SHIB", "USDC", "perpetual"),
        ("BTCFDUSD", "BTC", "FDUSD", "perpetual"),
        ("BTCUSD1", "BTC", "USD1", "perpetual"),
        ("BTCBUSD", "BTC", "BUSD", "perpetual"),
        ("USDCUSDT", "USDC", "USDT", "perpetual"),
        ("币安人生USDT", "币安人生", "USDT", "perpetual"),
        ("שלוםUSDT", "שלום", "USDT", "perpetual"),
        ("ETHBTC", "ETH", "BTC", "perpetual"),
        ("BTCEUR", "BTC", "EUR", "perpetual"),
        ("BTCTRY", "BTC", "TRY", "perpetual"),
        ("BTCUSD", "BTC", "USD", "coin-margined"),
        ("BTCUSD_PERP", "BTC", "USD", "coin-margined"),
        ("BTCUSD_250328", "BTC", "USD", "coin-margined"),
        ("BTCUSDT_240927", "BTC", "USDT", "delivery"),
        ("币安人生USDT_250328", "币安人生", "USDT", "delivery"),
        ("NOSUCH", "", "", "perpetual"),
        ("BYBIT_BTCUSDT", "BTC", "USDT", "perpetual"),
        ("BYBIT_ETHPERP", "ETH", "USDC", "perpetual"),
        ("BYBIT_BTCUSD", "BTC", "USD", "coin-margined"),
        ("BYBITUSDT", "BYBIT", "USDT", "perpetual"),
        ("GATE_BTC_USDT", "BTC", "USDT", "perpetual"),
        ("GATE_1INCH_USDC", "1INCH", "USDC", "perpetual"),
        ("GATE_BTC_USD", "BTC", "USD", "coin-margined"),
        ("GATEUSDT", "GATE", "USDT", "perpetual"),
        ("USDT", "", "", "perpetual"),
    ],
)
def test_contracts_by_name(name: str, base: str, quote: str, kind: str) -> None:
    assert contract_of(name) == Contract(name, base, quote, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ETHBTC", "is quoted in BTC, and only contracts quoted in dollars are computed; choose one, such as ETHUSDT"),
        ("BTCEUR", "is quoted in EUR, and only"),
        ("BTCTRY", "is quoted in TRY, and only"),
        ("BTCUSD", "is coin-margined (COIN-M: its contracts are US dollars, paid in BTC)"),
        ("BTCUSD_PERP", "is coin-margined (COIN-M: its contracts are US dollars, paid in BTC), and only contracts "),
        ("BTCUSD_250328", "is coin-margined (COIN-M"),
        (
            "ETHUSDT_250328",
            "is a delivery contract, which ends on 2025-03-28, and only perpetual contracts are computed",
        ),
        ("ETHUSDT_259999", "is a delivery contract, which ends, and only"),
        ("BYBIT_BTCUSD", "symbol bybit:BTCUSD is coin-margined"),
        ("BYBIT_ETHBTC", "symbol bybit:ETHBTC is quoted in BTC, and only contracts quoted in dollars are computed; "),
        ("BYBIT_ETHBTC", "choose one, such as bybit:ETHUSDT"),
        ("BYBIT_btcusdt", "'bybit:btcusdt' is not a symbol; write it as the exchange does, do you mean bybit:BTCUSDT?"),
        ("BYBIT_BTC-26DEC25", "('-' is neither a letter nor a digit 0 to 9)"),
        ("BYBIT_A", "for example bybit:BTCUSDT"),
        ("BYBIT_", "is not a symbol"),
        ("GATE_BTCUSDT", "'gate:BTCUSDT' is not a symbol; write it as the exchange does, do you mean gate:BTC_USDT?"),
        ("GATE_btc_usdt", "do you mean gate:BTC_USDT?"),
        ("GATE_NOSUCH", "for example gate:BTC_USDT"),
        ("GATE_BTC_USD", "symbol gate:BTC_USD is coin-margined"),
        ("GATE_BTC_USD", "choose one, such as gate:BTC_USDT"),
        (
            "GATE_ETH_BTC",
            "is quoted in BTC, and only contracts quoted in dollars are computed; choose one, such as gate",
        ),
        ("GATE_BTC_USDT_20261225", "is not a symbol"),
        ("GATE__USDT", "is not a symbol"),
        ("KRAKEN_BTCUSDT", "('_' is neither a letter nor a digit 0 to 9)"),
        ("kraken:BTCUSDT", "(before a colon stands an exchange: binance, bybit or gate)"),
        ("BYBIT_240927", "is a delivery contract"),
        ("BYBIT_BTCUSDT_240927", "is a delivery contract"),
        ("btcusdt", "'btcusdt' is not a symbol; write it as the exchange does, do you mean BTCUSDT?"),
        ("ethusdt_250328", "do you mean ETHUSDT?"),
        ("BTCUSDT_PERP", "do you mean BTCUSDT? ('_' is neither a letter nor a digit 0 to 9)"),
        ("ＢＴＣＵＳＤＴ", "do you mean BTCUSDT?"),
        ("BTC１USDT", "do you mean BTC1USDT?"),
        (unicodedata.normalize("NFD", "한글USDT"), "do you mean 한글USDT?"),
        ("🚀USDT", r"('\U0001f680' is neither a letter nor a digit 0 to 9)"),
        ("\u202eBTCUSDT", r"('\u202e' is neither a letter nor a digit 0 to 9)"),
        ("BTC\u200bUSDT", "is neither a letter nor a digit"),
        ("\u0301BTCUSDT", "is not a symbol; write it as the exchange does, for example BTCUSDT"),
        ("BTC٣USDT", "do you mean BTC3USDT? ("),
        ("BTC/USDT", "('/' is neither a letter nor a digit 0 to 9)"),
        ("..", "'..' is not a symbol"),
        ("BTC\0USDT", r"('\x00' is neither"),
        ("B" * 31, "(more than 30 letters)"),
        ("币" * 5000, "(more than 30 letters)"),
        ("A", "'A' is not a symbol"),
        ("", "'' is not a symbol"),
    ],
)
def test_each_is_refused_for_what_it_is(name: str, words: str) -> None:
    said = why_no_symbol(name)
    assert words in said
    assert said.startswith("symbol ")
    assert "\n" not in said
    assert said.isprintable()
    assert len(said) < 300


@given(st.text(max_size=40))
def test_what_may_be_a_symbol_is_safe_everywhere(text: str) -> None:
    """No path, no option, no glob, no quotes, nothing unseen, not longer than a file's name may be."""
    if why_not_written(text):
        assert why_no_symbol(text)
        return
    assert text == unicodedata.normalize("NFKC", text)
    assert re.fullmatch(r"\w{2,30}", text)
    assert "_" not in text
    for exchange in OTHER_EXCHANGES:
        there = f"{exchange.upper()}_{'1_' if exchange in UNDERLINED else ''}{text}"
        assert bool(why_not_written(there)) == (
            len(there) > MAX_LENGTH or re.fullmatch(r"PERP|\d{6}", text) is not None
        )
    assert text.isprintable()
    assert Path(text).name == text
    assert len(f"{safe_name(text)}-liquidationSnapshot-2024-01-01.zip.CHECKSUM") < 400
    assert len(f"{text}-liquidationSnapshot-2024-01-01.zip.CHECKSUM".encode()) < 200


@given(st.text(letters, min_size=MAX_LENGTH, max_size=MAX_LENGTH))
def test_the_longest_are_taken(text: str) -> None:
    assert why_not_written(text) == ""
    assert why_not_written(f"{text}A")


@given(st.text())
def test_what_stands_for_a_symbol_can_be_read_back(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch("([A-Z]+_([A-Za-z0-9]+_)?)?[A-Za-z0-9]*", name)
    assert "_" not in name or exchange_and_name(text)[0] != "binance"
    assert of_safe_name(name) == text
    assert name == text or not re.fullmatch("[A-Z0-9]*", text), "plain ones stand for themselves"


@given(st.sampled_from([*OTHER_EXCHANGES, "binance"]), bases, bases)
def test_a_market_is_read_back_from_what_is_typed_and_what_stands_for_it(exchange: str, base: str, quote: str) -> None:
    """One id, one text to type, one name in settings and Dagster, and none of them is that of another market."""
    name = f"{base}_{quote}" if exchange in UNDERLINED else f"{base}{quote}"
    symbol = market_id(f"{exchange}:{name}")
    assert market_id(exchange) == exchange, "without the mark it is no exchange"
    assert market_id(f"{exchange.upper()}:{name}") == symbol == market_id(symbol)
    if not why_not_written(symbol):
        assert exchange_and_name(symbol) == (exchange, name)
        assert market_id(typed_name(symbol)) == symbol == of_safe_name(safe_name(symbol))
        assert ":" not in symbol


@given(bases, st.sampled_from(["PERP", "240927", "991231"]), st.sampled_from(OTHER_EXCHANGES))
def test_a_name_of_binance_with_an_underline_is_never_a_market_of_another_exchange(
    pair: str, ending: str, exchange: str
) -> None:
    """However its pair is called, also as an exchange is; nor is what stands behind an exchange such an ending."""
    for name in (f"{pair}_{ending}", f"{exchange.upper()}_{ending}"):
        assert exchange_and_name(name) == ("binance", name)
        assert contract_of(name).symbol == name
        assert why_not_written(name)
        assert "_" not in safe_name(name)


@given(st.text(), st.from_regex(r"\A([A-Z]+_){0,2}([A-Z0-9]|u[0-9A-F]{4}){1,8}\Z"))
def test_one_name_stands_for_one_symbol(text: str, name: str) -> None:
    for asked in (text, name):
        symbol = of_safe_name(asked)
        assert symbol == "" or safe_name(symbol) == asked


def test_letters_beyond_the_first_plane_become_two() -> None:
    assert safe_name("𠮷USDT") == "uD842uDFB7USDT"
    assert of_safe_name("uD842uDFB7USDT") == "𠮷USDT"
    assert of_safe_name("uD842USDT") == "", "half of one stands for nothing"
    assert of_safe_name("u0041USDT") == "", "A stands for itself"


def test_dollars_are_dollars() -> None:
    assert all(map(is_dollar, (*DOLLARS, "XUSD")))
    assert not any(map(is_dollar, OTHERS))
    assert "BTCUSDT" in words_for_unknown_quote("NOSUCH")


def test_sql_reads_the_same_quote_off_a_name() -> None:
    """Of homes of before the quote was stored, the migration says in SQL what `contract_of` says."""
    names = [
        f"{base}{quote}" for base in ("BTC", "TUSD", "FD", "1000SHIB", "币安人生") for quote in (*DOLLARS, *OTHERS)
    ]
    with duckdb.connect(":memory:") as con:
        con.execute("CREATE TABLE symbols (symbol VARCHAR, candle_interval_seconds BIGINT, bucket DOUBLE)")
        con.execute("ALTER TABLE symbols ADD COLUMN source VARCHAR")
        con.execute("ALTER TABLE symbols ADD COLUMN simulated BOOLEAN")
        con.executemany(
            "INSERT INTO symbols VALUES (?, 300, 1.0, 'archive', false)", [[name] for name in [*names, "X"]]
        )
        have = ["symbol", "candle_interval_seconds", "bucket", "source", "simulated"]
        found = con.execute(f"SELECT symbol, quote FROM ({select_as_today('symbols', 'symbols', have)})").fetchall()
    assert dict(found) == {name: contract_of(name).quote for name in [*names, "X"]}
