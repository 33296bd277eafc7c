"""Settings: what each variable means, what it refuses, and that the refusal names it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heatmap_pipeline.chain.settings import DEMO_MARKETS, load_checked_settings
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.settings import (
    Settings,
    SettingsError,
    SymbolSettings,
    check_symbol,
    environment_shown,
    interval_name,
    load_settings,
    setting_of,
)
from heatmap_pipeline.symbols import why_no_symbol


def test_without_any_variable() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.home == Path.home() / "heatmap"
    assert (settings.source, settings.symbols, settings.models) == (
        "demo",
        ("BTCUSDT", "ETHUSDT"),
        ("turnover", "delta"),
    )
    assert (settings.snapshot_interval, settings.candle_interval, settings.start) == ("15m", None, None)
    assert settings.of("BTCUSDT") == SymbolSettings()
    assert settings.simulated


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variables = {
        "HOME": tmp_path,
        "SOURCE": "archive",
        "ARCHIVE": tmp_path / "files",
        "SYMBOLS": "ETHUSDT, DOGEUSDT,ETHUSDT,",
        "START": "2024-07-01",
        "CANDLE_INTERVAL": "1m",
        "SNAPSHOT_INTERVAL": "1h",
        "MODELS": "delta",
        "LEVERAGE_BRACKETS": tmp_path / "brackets.json",
        "DEMO_SEED": "3",
        "LOCK_TIMEOUT": "1.5",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"HEATMAP_{name}", str(value))
    settings = load_settings()
    assert settings.home == tmp_path
    assert settings.archive_root == tmp_path / "files"
    assert settings.symbols == ("ETHUSDT", "DOGEUSDT"), "each symbol once, in the order given"
    assert settings.start == date(2024, 7, 1)
    assert (settings.source, settings.candle_interval, settings.snapshot_interval) == ("archive", "1m", "1h")
    assert settings.models == ("delta",)
    assert settings.leverage_brackets == tmp_path / "brackets.json"
    assert (settings.demo_seed, settings.lock_timeout) == (3, 1.5)
    assert not settings.simulated


def test_what_is_given_wins_over_the_variable_and_none_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_SYMBOLS", "ETHUSDT")
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    settings = load_settings(symbols=("DOGEUSDT",), models=None)
    assert (settings.symbols, settings.models) == (("DOGEUSDT",), ("delta",))


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "SOURCE", "START", "CANDLE_INTERVAL", "BUCKET_BTCUSDT"):
        monkeypatch.setenv(f"HEATMAP_{name}", "")
    assert load_settings() == Settings()


@pytest.mark.parametrize(("folder", "what"), [("a?b", "?"), ("a\\b/c", "\\"), ("a%20b", "%20"), ("a/%fFb", "%fF")])
def test_a_home_that_a_database_would_look_for_elsewhere_is_refused(tmp_path: Path, folder: str, what: str) -> None:
    words = f"{tmp_path / folder} has {what} in its path, which a database would read as something else; choose another"
    with pytest.raises(SettingsError, match=re.escape(words)):
        load_settings(home=tmp_path / folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["a*b", "a[b]c", "100%", "a%zz", "a'b", 'a"b', "a;b", "a b", "ä€", "a#b", "a:b"])
def test_any_other_home_is_taken(tmp_path: Path, folder: str) -> None:
    assert load_settings(home=tmp_path / folder).home == tmp_path / folder


def test_paths_are_absolute_and_the_tilde_is_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATMAP_HOME", "~/market")
    assert load_settings(archive=Path("files")).archive == tmp_path / "files"
    assert load_settings().home == tmp_path / "market"


def test_a_number_that_is_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_JOBS", "9" * 5000)
    with pytest.raises(SettingsError, match=r"^setting HEATMAP_JOBS = '9+…: write a whole number$"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SOURCE", "binanze", "HEATMAP_SOURCE = 'binanze': write 'archive', 'binance', 'demo' or 'exchange'"),
        ("SYMBOLS", "BTCUSDT,../etc", "'../etc' is not a symbol"),
        ("SYMBOLS", " , ", "at least one symbol"),
        ("MODELS", "delta,gamma", "unknown model gamma; allowed are delta and turnover"),
        ("MODELS", " , ", "unknown model (none); allowed are delta and turnover"),
        ("START", "2024-02-30", "write a day that there is, such as 2026-11-21"),
        ("START", "2024-02-03T05:00", "write a day that there is, such as 2026-11-21"),
        ("CANDLE_INTERVAL", "3m", "write '1m', '5m' or '15m'"),
        ("SNAPSHOT_INTERVAL", "7m", "'15m'"),
        ("DEMO_SEED", "x", "write a whole number"),
        ("JOBS", "100", "write a number up to 64"),
        ("CATALOGUE", "maybe", "write true or false"),
        ("INTRADAY_MINUTES", "7", "write 5 or 15"),
        ("LOCK_TIMEOUT", "0", "write a number above 0"),
        ("BUCKET_BTCUSDT", "abc", "number"),
        ("BUCKET_BTCUSDT", "0", "write a number from 1e-08 on"),
        ("BUCKET_BTCUSDT", "inf", "number"),
        ("BUCKET_BTCUSDT", "nan", ""),
        ("CANDLE_INTERVAL_BTCUSDT", "2m", "'5m'"),
        ("SNAPSHOT_INTERVAL_BTCUSDT", "2m", "'15m'"),
        ("MAINTENANCE_MARGIN_RATE_BTCUSDT", "1", "write a number below 1"),
        ("MAINTENANCE_MARGIN_RATE_BTCUSDT", "nan", ""),
        ("MAX_LEVERAGE_BTCUSDT", "1", "write a number above 1"),
        ("MAX_LEVERAGE_BTCUSDT", "nan", ""),
    ],
)
def test_a_refusal_names_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"HEATMAP_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_checked_settings()
    text = str(error.value)
    assert f"HEATMAP_{name} = '" in text
    assert value.strip(" ,") in text
    assert said in text
    assert "Input should" not in text, "the words of the library are for programmers"
    assert "\n" not in text


def test_what_came_with_the_command_is_blamed_on_no_setting() -> None:
    with pytest.raises(
        SettingsError, match=r"^'BTCUSDT,bybit:BTCUSDT': source binance has the markets of one exchange"
    ):
        load_settings(source="binance", symbols=("BTCUSDT", "bybit:BTCUSDT"))
    with pytest.raises(SettingsError, match=r"^'abc': it is not an address"):
        load_settings(rest_url="abc")


def test_variables_of_a_symbol_are_that_symbols_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_BUCKET_BTCUSDT", "50")
    monkeypatch.setenv("HEATMAP_CANDLE_INTERVAL_BTCUSDT", "1m")
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL_ETHUSDT", "4h")
    monkeypatch.setenv("HEATMAP_MAINTENANCE_MARGIN_RATE_ETHUSDT", "0.005")
    monkeypatch.setenv("HEATMAP_MAX_LEVERAGE_1000PEPEUSDT", "75")
    monkeypatch.setenv("HEATMAP_BUCKET_BYBIT_BTCUSDT", "500")
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    settings = load_settings()
    assert settings.of("BTCUSDT") == SymbolSettings(bucket=50, candle_interval="1m")
    assert settings.of("ETHUSDT") == SymbolSettings(snapshot_interval="4h", maintenance_margin_rate=0.005)
    assert settings.of("1000PEPEUSDT").max_leverage == 75
    assert settings.of("BYBIT_BTCUSDT") == SymbolSettings(bucket=500)
    assert settings.of("DOGEUSDT") == SymbolSettings()
    assert [settings.snapshot_interval_of(symbol) for symbol in ("BTCUSDT", "ETHUSDT")] == ["1h", "4h"]


def test_a_market_of_another_exchange_has_every_setting_of_a_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the name that messages give them, and of that market only."""
    values = {"bucket": 500, "candle_interval": "15m", "snapshot_interval": "4h"}
    values |= {"maintenance_margin_rate": 0.005, "max_leverage": 100}
    assert values.keys() == SymbolSettings.model_fields.keys()
    for name, value in values.items():
        monkeypatch.setenv(setting_of(name, "BYBIT_BTCUSDT"), str(value))
    settings = load_settings(source="exchange", symbols="BTCUSDT,bybit:BTCUSDT")
    assert settings.of("BYBIT_BTCUSDT") == SymbolSettings.model_validate(values)
    assert settings.of("BTCUSDT") == SymbolSettings()
    assert [settings.snapshot_interval_of(symbol) for symbol in settings.symbols] == ["15m", "4h"]
    monkeypatch.setenv("HEATMAP_BUCKET_BYBIT_ETHUSDT", "wide")
    with pytest.raises(SettingsError, match="HEATMAP_BUCKET_BYBIT_ETHUSDT = 'wide'"):
        load_settings()


def test_each_market_has_a_source_and_files_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEATMAP_SYMBOLS", "BTCUSDT,bybit:BTCUSDT,binance:ETHUSDT,BYBIT_BTCUSDT")
    settings = load_settings(source="exchange", home=tmp_path)
    assert settings.symbols == ("BTCUSDT", "BYBIT_BTCUSDT", "ETHUSDT")
    assert [settings.source_of(symbol) for symbol in settings.symbols] == ["binance", "exchange", "binance"]
    assert [settings.counts_one_side(symbol) for symbol in settings.symbols] == [True, False, True]
    assert settings.archive_root == load_settings(source="binance", symbols=["BTCUSDT"], home=tmp_path).archive_root
    demo = load_settings(source="demo", home=tmp_path)
    assert [demo.counts_one_side(symbol) for symbol in settings.symbols] == [True, False, True]
    with pytest.raises(SettingsError, match="bybit:BTCUSDT is another's; choose source exchange"):
        load_settings(source="binance")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_settings().source = "archive"


def test_an_archive_without_a_folder_is_refused() -> None:
    with pytest.raises(SettingsError, match="--archive DIR or set HEATMAP_ARCHIVE"):
        load_settings(source="archive").archive_root  # noqa: B018


def test_an_archive_of_the_demo_market_stays_simulated(tmp_path: Path) -> None:
    settings = load_settings(source="archive", archive=tmp_path)
    assert not settings.simulated
    (tmp_path / "SIMULATED.txt").write_text("made up")
    assert settings.simulated


@given(st.one_of(st.text(), st.from_regex(r"\A[A-Z0-9]{2,30}\Z")))
def test_a_symbol_is_checked_or_refused(text: str) -> None:
    words = why_no_symbol(text)  # test_symbols.py says for what
    if not words:
        assert check_symbol(text) == text
    else:
        with pytest.raises(SettingsError) as error:
            check_symbol(text)
        assert str(error.value) == words


def test_the_setting_of_a_symbol_that_no_shell_can_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = setting_of("bucket", "币安人生USDT")
    assert name == "HEATMAP_BUCKET_u5E01u5B89u4EBAu751FUSDT"
    monkeypatch.setenv(name, "0.005")
    assert load_settings().of("币安人生USDT").bucket == 0.005
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingsError, match=f"setting {name} = 'x'"):
        load_settings()
    monkeypatch.delenv(name)
    monkeypatch.setenv("HEATMAP_BUCKET_币安人生USDT", "1")
    with pytest.raises(SettingsError, match=f"HEATMAP_BUCKET_币安人生USDT is not a setting, do you mean {name}\\?"):
        load_settings()


@pytest.mark.parametrize("name", ["BUCKET_btcusdt", "BUCKET_u5e01USDT", "BUCKET_BTC_USDT", "MAX_LEVERAGE_u0041USDT"])
def test_a_setting_of_what_is_no_symbol_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"HEATMAP_{name}", "5")
    with pytest.raises(SettingsError, match=f"HEATMAP_{name} is not a setting"):
        load_settings()


def test_intervals_have_names() -> None:
    assert {interval_name(seconds): seconds for seconds in SECONDS.values()} == SECONDS
    with pytest.raises(SettingsError, match="180 s has no name"):
        interval_name(180)


def test_a_misspelt_variable_is_refused_and_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_TEST_ANYTHING", "1")
    monkeypatch.setenv("HEATMAP_BUCKET_XYZUSDT", "5")
    load_settings()
    monkeypatch.setenv("HEATMAP_SYMBOL", "BTCUSDT")
    with pytest.raises(SettingsError, match=r"HEATMAP_SYMBOL is not a setting, do you mean HEATMAP_SYMBOLS\?"):
        load_settings()
    monkeypatch.delenv("HEATMAP_SYMBOL")
    monkeypatch.setenv("HEATMAP_WQX", "1")
    with pytest.raises(SettingsError, match=r"HEATMAP_WQX is not a setting; README\.md lists them all"):
        load_settings()


# -- the markets of the demo


@pytest.mark.parametrize("address", ["file:////", "file:///a/../b", "s3://bucket/a/../b", "s3://bucket/./a"])
def test_a_store_is_not_another_folder_than_it_seems(address: str) -> None:
    """Of the first obstore would make the current folder."""
    with pytest.raises(SettingsError, match="neither s3://bucket/prefix nor file:///folder"):
        load_settings(store=address)


def test_the_demo_has_two_exchanges_but_not_in_a_home_of_before(tmp_path: Path) -> None:
    assert load_checked_settings(home=tmp_path / "new").symbols == DEMO_MARKETS
    assert load_checked_settings(home=tmp_path / "new", symbols=("BTCUSDT",)).symbols == ("BTCUSDT",)
    assert load_checked_settings(home=tmp_path / "new", source="exchange").symbols == ("BTCUSDT", "ETHUSDT")
    for home, written, expected in (
        ("of before", ("BTCUSDT", "ETHUSDT"), ("BTCUSDT", "ETHUSDT")),
        ("of now", DEMO_MARKETS, DEMO_MARKETS),
        ("killed while it began", ("BTCUSDT",), DEMO_MARKETS),
    ):
        for symbol in written:
            write_demo_days(tmp_path / home / "archive" / "demo", symbol, [date(2026, 11, 5)])
        assert load_checked_settings(home=tmp_path / home).symbols == expected, home


# -- real liquidations


def test_without_sources_of_liquidations_nothing_is_read() -> None:
    settings = load_checked_settings()
    assert settings.liquidations == settings.liquidation_sources == ()
    assert settings.liquidations_folder is None


def test_sources_of_liquidations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEATMAP_LIQUIDATIONS", "bybit_stream, gate_stats,bybit_stream")
    settings = load_checked_settings(home=tmp_path)
    assert settings.liquidation_sources == ("bybit_stream", "gate_stats"), "each once, in the order given"
    assert settings.recordings == tmp_path / "recordings"
    monkeypatch.setenv("HEATMAP_LIQUIDATIONS_FOLDER", str(tmp_path))
    assert load_checked_settings().liquidation_sources == ("files", "bybit_stream", "gate_stats")
    monkeypatch.setenv("HEATMAP_LIQUIDATIONS", "gate_stats,files")
    assert load_checked_settings().liquidation_sources == ("files", "gate_stats")
    assert load_checked_settings().liquidations_folder == tmp_path


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LIQUIDATIONS": "bybit_steam"}, "'bybit_steam' is no source of liquidations; HEATMAP_LIQUIDATIONS is a"),
        ({"LIQUIDATIONS": "gate_stats,files"}, "needs a folder; give it with --liquidations DIR or set HEATMAP_LIQ"),
        ({"LIQUIDATIONS": "gate_stats", "GATE_URL": "gate"}, "HEATMAP_GATE_URL"),
        ({"LIQUIDATIONS": "bitget_rest", "BITGET_URL": "ftp://x"}, "HEATMAP_BITGET_URL"),
    ],
)  # fmt: skip
def test_sources_of_liquidations_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"HEATMAP_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_checked_settings()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_accepted_files_are_names_of_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "HEATMAP_ACCEPT_CHECKSUM", "ETHUSDT-metrics-2026-11-20, BTCUSDT-5m-2026-11-20.zip,BTCUSDT-1m-2026-10"
    )
    names = ("ETHUSDT-metrics-2026-11-20", "BTCUSDT-5m-2026-11-20", "BTCUSDT-1m-2026-10")
    assert load_settings().accept_checksum == names
    for wrong in ("all", "../BTCUSDT-5m-2026-11-20", "BTCUSDT-5m", "btcusdt-5m-2026-11-20"):
        monkeypatch.setenv("HEATMAP_ACCEPT_CHECKSUM", wrong)
        with pytest.raises(
            SettingsError, match=r"HEATMAP_ACCEPT_CHECKSUM = .* is not a file of the archive; write ETH"
        ):
            load_settings()


def test_the_days_to_check_are_a_number_of_days(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().check_days == 45
    monkeypatch.setenv("HEATMAP_CHECK_DAYS", "-1")
    with pytest.raises(SettingsError, match="HEATMAP_CHECK_DAYS = '-1'"):
        load_settings()


def test_what_may_be_shown_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_HOME", "/srv/heatmap")
    for name in SECRET:
        monkeypatch.setenv(name, TABLE[name][0])
    monkeypatch.setenv("HEATMAP_REST_URL", "https://me:password@proxy.example.org")
    shown = {"HEATMAP_BUCKET_BTCUSDT": "50", "HEATMAP_SOURCE": "binance"}
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    assert environment_shown() == shown


# -- the table of README.md

README = Path(__file__).parents[1] / "README.md"

TABLE: dict[str, tuple[str, str | None]] = {
    "HEATMAP_HOME": ("/srv/heatmap", None),
    "HEATMAP_SOURCE": ("binance", "ftx"),
    "HEATMAP_ARCHIVE": ("/srv/archive", None),
    "HEATMAP_SYMBOLS": ("BTCUSDT,SOLUSDT", "btc/usdt"),
    "HEATMAP_START": ("2026-01-01", "yesterday"),
    "HEATMAP_MODELS": ("delta", "gamma"),
    "HEATMAP_CANDLE_INTERVAL": ("1m", "2m"),
    "HEATMAP_SNAPSHOT_INTERVAL": ("1d", "2d"),
    "HEATMAP_LEVERAGE_BRACKETS": ("/srv/brackets", None),
    "HEATMAP_LIQUIDATIONS": ("bybit_stream,gate_stats", "bybit"),
    "HEATMAP_LIQUIDATIONS_FOLDER": ("{folder}", None),
    "HEATMAP_GATE_URL": ("https://gate.example.org", "gate.example.org"),
    "HEATMAP_BITGET_URL": ("http://127.0.0.1:9", "https://"),
    "HEATMAP_BYBIT_URL": ("https://api.bytick.com", "api.bytick.com"),
    "HEATMAP_BYBIT_STREAM_URL": ("wss://stream.example.org/v5", "https://stream.example.org"),
    "HEATMAP_BINANCE_STREAM_URL": ("ws://127.0.0.1:9", "stream"),
    "HEATMAP_DEMO_SEED": ("11", "eleven"),
    "HEATMAP_LOCK_TIMEOUT": ("1.5", "-1"),
    "HEATMAP_JOBS": ("2", "0"),
    "HEATMAP_INTRADAY_MINUTES": ("5", "7"),
    "HEATMAP_UI_HOSTS": ("heatmap.example.org:8443", "https://heatmap.example.org"),
    "HEATMAP_EXPORT": ("/srv/share/heatmap", None),
    "HEATMAP_STORE": ("s3://bucket/heatmap", "https://bucket.example.org"),
    "HEATMAP_WEBHOOK": ("https://hooks.example.org/T0/secret", "hooks.example.org/T0/secret"),
    "HEATMAP_ALERTS": ("{folder}/alerts.toml", "/no/alerts.toml"),
    "HEATMAP_ARCHIVE_URL": ("https://mirror.example.org/data", "file:///data"),
    "HEATMAP_REST_URL": ("http://127.0.0.1:9", "127.0.0.1:9"),
    "HEATMAP_CHECK_DAYS": ("0", "3651"),
    "HEATMAP_ACCEPT_CHECKSUM": ("ETHUSDT-metrics-2026-11-20", "all"),
    "HEATMAP_ACCEPT_IMPLAUSIBLE": ("BTCUSDT-5m-2026-11-20", "yes"),
    "HEATMAP_KEEP_RUN_DAYS": ("0", "-1"),
    "HEATMAP_KEEP_RUNS": ("100", "all"),
    "HEATMAP_KEEP_ARCHIVE_DAYS": ("90", "for ever"),
    "HEATMAP_KEEP_CELLS": ("90", "1"),
    "HEATMAP_TABLES_UP_TO": ("2.5", "-1"),
    "HEATMAP_CATALOGUE": ("false", "perhaps"),
    "HEATMAP_SHARDS": ("20", "0"),
    "HEATMAP_SHARD": ("1", "0"),
    "HEATMAP_LOG_FORMAT": ("json", "xml"),
    "HEATMAP_API_TOKEN": ("a-long-token", "short"),
    "HEATMAP_API_PROXIES": ("127.0.0.1, 10.0.0.0/8, ::1", "proxy.example.org"),
    "HEATMAP_API_CORS_ORIGINS": ("https://example.org,*", "example.org"),
    "HEATMAP_API_CACHE_MB": ("1", "0"),
    "HEATMAP_API_SYMBOLS_MB": ("1", "0"),
    "HEATMAP_API_CACHE_SECONDS": ("0.5", "inf"),
    "HEATMAP_API_CONCURRENCY": ("64", "65"),
    "HEATMAP_API_QUEUE": ("0", "many"),
    "HEATMAP_API_STALE_HOURS": ("12", "0"),
    "HEATMAP_BUCKET_BTCUSDT": ("50", "wide"),
    "HEATMAP_CANDLE_INTERVAL_BTCUSDT": ("15m", "15"),
    "HEATMAP_SNAPSHOT_INTERVAL_BTCUSDT": ("4h", "4"),
    "HEATMAP_MAINTENANCE_MARGIN_RATE_BTCUSDT": ("0.005", "5%"),
    "HEATMAP_MAX_LEVERAGE_BTCUSDT": ("50", "50x"),
}
"""A legal and an illegal value of each setting; None where every text is legal, as any text may name a folder."""

SECRET = {"HEATMAP_API_TOKEN", "HEATMAP_WEBHOOK"}


def test_the_readme_lists_every_setting() -> None:
    rows = [row.split("|")[1] for row in README.read_text("utf-8").splitlines() if row.startswith("| `HEATMAP_")]
    assert {name for row in rows for name in re.findall(r"`(HEATMAP_[A-Z0-9_]+)`", row)} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_setting_takes_its_legal_value_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / "alerts.toml").write_text('[[alert]]\nname = "a"\nwhen = "cascade"\ntimes = 10')
    without = load_checked_settings()
    monkeypatch.setenv(name, TABLE[name][0].format(folder=tmp_path))
    assert load_checked_settings() != without, "it is read, and not what it is without the variable"


@pytest.mark.parametrize("name", [name for name, values in TABLE.items() if values[1] is not None])
def test_an_illegal_value_is_one_sentence_that_names_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    value = str(TABLE[name][1])
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_checked_settings()
    text = str(caught.value)
    shown = "***" if name in SECRET else repr(value)
    assert re.fullmatch(rf"setting {name} = {re.escape(shown)}: .{{10,}}", text), text
    assert (value in text) is (name not in SECRET)


def test_a_home_keeps_all_cells_and_a_store_those_of_90_days(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().keep_cells == 0
    assert load_settings(store="file:///srv/store").keep_cells == 90
    monkeypatch.setenv("HEATMAP_STORE", "file:///srv/store")
    assert load_settings().keep_cells == 90
    for said in ("0", "400"):
        monkeypatch.setenv("HEATMAP_KEEP_CELLS", said)
        assert load_settings().keep_cells == int(said)


@pytest.mark.parametrize("minutes", ["5", "15"])
def test_minutes_of_the_intraday_schedule_are_numbers(monkeypatch: pytest.MonkeyPatch, minutes: str) -> None:
    monkeypatch.setenv("HEATMAP_INTRADAY_MINUTES", minutes)
    assert load_checked_settings().intraday_minutes == int(minutes)


def _status(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `heatmap status` as a person does, with variables of its own."""
    return subprocess.run(
        [sys.executable, "-m", "heatmap_pipeline", "status"],
        env={**os.environ, "HEATMAP_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


TYPED = ("HEATMAP_INTRADAY_MINUTES", "HEATMAP_LIQUIDATIONS", "HEATMAP_API_TOKEN")
"""Settings of three kinds, whose errors are made in three ways."""


@pytest.mark.slow
def test_the_command_line_takes_legal_values(tmp_path: Path) -> None:
    ended = _status(tmp_path, **{name: str(TABLE[name][0]) for name in TYPED})
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPED)
def test_the_command_line_refuses_an_illegal_value(tmp_path: Path, name: str) -> None:
    ended = _status(tmp_path, **{name: str(TABLE[name][1])})
    *usage, last = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert last.startswith(f"Error: setting {name} = "), "the sentence is the last line, and nothing is after it"
    assert usage == ["Usage: heatmap status [OPTIONS]", "Try 'heatmap status --help' for help.", ""]


@pytest.mark.parametrize(
    "address",
    [
        "hooks.example.org/T0/s3cret",
        "ftp://hooks.example.org/s3cret",
        "https://",
        "https://./s3cret",
        "https:///s3cret",
        "https://a b/s3cret",
        "https://[::1/s3cret",
        "https://example.org:99999/s3cret",
        "https://example.org:0/s3cret",
        "https://a..b/s3cret",
        "https://%00/s3cret",
        "https://example.org\\s3cret/",
        "https://*/s3cret",
        f"https://{'a' * 64}.org/s3cret",
        "https://example.org/s3cret\n",
        "file:///s3cret",
    ],
)
def test_a_webhook_that_is_no_web_address_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HEATMAP_WEBHOOK", address)
    with pytest.raises(SettingsError, match=r"^setting HEATMAP_WEBHOOK = \*\*\*: write the whole address") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["https://hooks.example.org/services/T0/B0", "http://127.0.0.1:8080", "http://[::1]:80/x?y=1", "HTTP://My_host/"],
)
def test_a_webhook_may_be_any_web_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HEATMAP_WEBHOOK", address)
    assert load_settings().webhook == address
