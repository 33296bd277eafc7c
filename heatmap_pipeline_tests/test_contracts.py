"""Contracts unlike BTCUSDT through the command line: other quotes, other alphabets, and those that are not computed.

Which name says what is the business of test_symbols.py; here is that it arrives in every place.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import dagster as dg
import duckdb
import matplotlib.text
import pytest

from heatmap_pipeline.chain.reach import Plan
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.archive_names import ArchiveFile, checksum_beside, checksum_text
from heatmap_pipeline.market.binance import BinanceSource
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.market.exchange import ExchangeReader
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.orchestration import schedules
from heatmap_pipeline.orchestration.assets.common import asset_key, step_of
from heatmap_pipeline.orchestration.forget import _forget_assets
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.runs import _failures
from heatmap_pipeline.render.picture import _Canvas, drawable
from heatmap_pipeline.settings import SIMULATED_MARKER, Settings, load_settings
from heatmap_pipeline.store.ended import Ended
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.symbols import Contract, contract_of, safe_name
from heatmap_pipeline.views.data import load_version
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline_tests._homes import (
    clean_environment,
    done,
    draw_nothing,
    draw_only_the_page,
    heatmap,
    refused,
    start,
)
from heatmap_pipeline_tests.api.homes import HEATMAP, MAP, TestClient, client
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, day
from heatmap_pipeline_tests.orchestration.light import run_lightly
from heatmap_pipeline_tests.store.tiny import MODELS_USED, fill

USDC, CHINESE = "BTCUSDC", "币安人生USDT"
STANDS_FOR_IT = "u5E01u5B89u4EBAu751FUSDT"


def under_the_name_of(root: Path, symbol: str) -> None:
    """Give the archive the files of BTCUSDT under the name of another symbol as well, rows and checksums included."""
    for path in sorted(root.rglob(f"{BTC}-*.zip")):
        target = Path(str(path).replace(BTC, symbol))
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
            (name,) = old.namelist()
            new.writestr(name.replace(BTC, symbol), old.read(name).decode().replace(BTC, symbol))
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        checksum_beside(target).write_text(checksum_text(digest, target.name))


def archive_of(root: Path, days: list[date], *symbols: str) -> Path:
    write_demo_days(root, BTC, days)
    for symbol in symbols:
        under_the_name_of(root, symbol)
    (root / SIMULATED_MARKER).unlink()
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of three contracts."""
    return archive_of(tmp_path_factory.mktemp("archive"), [day(1), day(2), day(3)], USDC, CHINESE)


@pytest.fixture(scope="module")
def home(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `heatmap run` makes of two days of the two, drawn and published."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        draw_only_the_page(patch)
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
        patch.setenv("HEATMAP_MODELS", "turnover")
        patch.setenv(f"HEATMAP_BUCKET_{STANDS_FOR_IT}", "500")
        days = ("--start", day(1), "--end", day(2))
        said = done("run", USDC, CHINESE, "--archive", archive, *days, "--home", home).stdout
    assert f"{USDC}: {day(1)} .. {day(2)} computed and published" in said
    assert f"{CHINESE}: {day(1)} .. {day(2)} computed and published" in said
    return home


@pytest.fixture(scope="module")
def settings(home: Path, archive: Path) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        models = ("turnover",)
        return load_settings(home=home, archive=archive, source="archive", symbols=(USDC, CHINESE), models=models)


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[TestClient]:
    with client(settings) as asking:
        yield asking


# -- the quote asset in every unit


@pytest.mark.slow
def test_every_answer_of_the_endpoint_is_in_the_quote_asset(served: TestClient) -> None:
    level = {"time": "UTC", "price": "USDC", "volume": "USDC"}
    asked = {"symbol": USDC, "interval": "1d"}
    nested, columns = (served.get(HEATMAP, params={**asked, "format": form}) for form in ("nested", "columns"))
    for answer in (nested, columns):
        assert answer.json()["meta"]["units"] == {**level, "density": "USDC per price bin and side"}
    book, levels = (served.get(path, params={"symbol": USDC}) for path in (MAP, "/liquidations/levels"))
    for answer in (book, levels):
        assert answer.json()["units"] == level
    candles = served.get("/prices/klines", params=asked)
    assert candles.json()["meta"]["units"] == {
        "time": "UTC", "price": "USDC", "volume": "contracts", "quote_volume": "USDC"
    }  # fmt: skip
    wrong = [served.get(path, params={"symbol": USDC, "price_bin_size": 0.3}) for path in (HEATMAP, MAP)]
    wrong.append(served.get(MAP, params={"symbol": USDC, "price_bin_size": 10_000_000}))
    assert all("USDC; ask for" in answer.json()["detail"] for answer in wrong)
    for answer in (nested, columns, book, levels, candles, *wrong):
        assert "USDT" not in answer.text, answer.text[-500:]
    listed = {entry["symbol"]: entry["quote"] for entry in served.get("/symbols").json()["symbols"]}
    assert listed == {USDC: "USDC", CHINESE: "USDT"}
    described = json.dumps(served.get("/openapi.json").json()).replace("BTCUSDT", "")
    assert "USDT" not in described, "what the fields are in depends on the symbol"


@pytest.mark.slow
def test_picture_and_numbers_of_the_page_are_in_the_quote_asset(settings: Settings) -> None:
    folder = settings.home / "renders" / USDC
    for model in settings.models:
        assert "USDT" not in (folder / f"{model}.js").read_text()
    with Warehouse(settings.home).connect(USDC) as con:
        drawn = newest_days(con, USDC, settings.models, 3600)
    for data in drawn.values():
        words = [text.get_text() for text in _Canvas(data, (1600, 900)).draw().findobj(matplotlib.text.Text)]
        assert any(re.fullmatch(r"Modelled USDC per [\d.]+ USDC of price", text) for text in words)
        assert not any("USDT" in text for text in words)


@pytest.mark.slow
def test_sql_says_the_quote_asset(settings: Settings) -> None:
    with duckdb.connect(str(settings.home / "heatmap.duckdb"), read_only=True) as con:
        assert con.execute("SELECT symbol, quote FROM symbols ORDER BY ALL").fetchall() == [
            (USDC, "USDC"), (CHINESE, "USDT")
        ]  # fmt: skip
        comments = con.execute(
            "SELECT comment FROM duckdb_tables() UNION ALL SELECT comment FROM duckdb_columns() "
            "UNION ALL SELECT comment FROM duckdb_views()"
        ).fetchall()
    said = [text.replace("(USDT, USDC, ...)", "").replace("BTCUSDT", "") for (text,) in comments if text]
    assert [text for text in said if "USDT" in text] == [], "what the columns are in depends on the symbol"


def materialised(home: Path, symbol: str, asset: str) -> dict[str, Any]:
    """Return the metadata of the newest materialisation of an asset, as Dagster's UI shows it."""
    with open_history(home / "dagster") as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey([safe_name(symbol), asset]))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.mark.slow
def test_dagster_says_the_quote_asset(home: Path) -> None:
    for symbol, unit in ((USDC, "usdc"), (CHINESE, "usdt")):
        day_of_book = materialised(home, symbol, "position_events")
        assert day_of_book[f"turnover_active_volume_{unit}"] > 0
        assert f"turnover_consumed_volume_{unit}" in materialised(home, symbol, "liquidation_snapshots")
        assert materialised(home, symbol, "heatmap_render")[f"price_{unit}"] > 0


# -- a symbol in another alphabet


@pytest.mark.slow
def test_a_symbol_in_another_alphabet_is_answered_percent_encoded(served: TestClient) -> None:
    encoded = quote(CHINESE)
    assert encoded.isascii()
    answer = served.get(f"{HEATMAP}?symbol={encoded}&interval=1d")
    assert answer.status_code == 200
    assert answer.json()["meta"]["symbol"] == CHINESE
    again = served.get(f"{HEATMAP}?symbol={encoded}&interval=1d", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert served.get(MAP, params={"symbol": CHINESE}).json()["symbol"] == CHINESE
    unknown = served.get(MAP, params={"symbol": "龙虾USDT"})
    assert unknown.status_code == 404
    assert unknown.json()["detail"] == f"symbol 龙虾USDT is not published; there are {USDC}, {CHINESE}"
    for symbol, words in (
        ("BTCUSD_PERP", "symbol = BTCUSD_PERP is coin-margined"),
        ("btcusdt", "symbol = 'btcusdt' is not a symbol; write it as the exchange does, do you mean BTCUSDT?"),
        ("币/安USDT", r"symbol = '\u5e01/\u5b89USDT' is not a symbol"),
        ("../币", "is not a symbol"),
    ):
        refusal = served.get(MAP, params={"symbol": symbol})
        assert refusal.status_code == 422, refusal.text
        assert words in refusal.json()["detail"]
        assert refusal.json()["detail"].isascii()


@pytest.mark.slow
def test_a_symbol_in_another_alphabet_names_its_folder_and_addresses_of_it_are_encoded(home: Path) -> None:
    folder = home / "renders"
    assert (folder / CHINESE / "heatmap.png").stat().st_size > 10_000
    manifest = json.loads(re.findall(r"\{\"live\".*\}", (folder / "index.html").read_text())[0].replace("&#34;", '"'))
    (entry,) = [entry for entry in manifest["symbols"] if entry["symbol"] == CHINESE]
    for model in entry["models"]:
        for address in (model["data"], model["picture"]):
            assert address.isascii()
            assert (folder / unquote(address.split("?")[0])).is_file()


@pytest.mark.slow
def test_what_stands_for_a_symbol_is_taken_where_letters_are_few(home: Path, settings: Settings) -> None:
    assert safe_name(CHINESE) == STANDS_FOR_IT
    parameters = ask(settings, f"SELECT DISTINCT parameters FROM heatmap_days WHERE symbol = '{CHINESE}'")
    assert {json.loads(text)["bucket"] for (text,) in parameters} == {500}, "of HEATMAP_BUCKET_u5E01..."
    with open_history(home / "dagster") as instance:
        keys = {key.path[0] for key in instance.all_asset_keys()}
        (run,) = instance.get_runs()
    assert keys == {USDC, STANDS_FOR_IT}
    assert run.tags["heatmap/symbols"] == f"{USDC} {CHINESE}"


@pytest.mark.slow
def test_status_and_refusals_write_the_symbol_as_the_exchange_does(home: Path, archive: Path) -> None:
    lines = done("status", "--home", home).stdout.splitlines()
    assert any(line.startswith(CHINESE) for line in lines)
    days = ("--start", day(9), "--end", day(9))
    line = refused(heatmap("run", CHINESE, "--archive", archive, *days, "--home", home), 1, f"{CHINESE}: ", "gap")
    assert f"heatmap run '{CHINESE}' --start {day(3)}" in line, "the line can be copied into a shell"


def test_a_picture_has_the_letters_or_says_what_stands_for_them() -> None:
    assert drawable(BTC) == (BTC, ["DejaVu Sans"])
    name, fonts = drawable(CHINESE)
    assert (name, len(fonts)) in {(CHINESE, 2), (STANDS_FOR_IT, 1)}
    assert not any("Last Resort" in family for family in fonts), "which draws boxes"
    assert drawable("БИТUSDT")[0] == "БИТUSDT", "letters that matplotlib's own font has"


@pytest.mark.parametrize("ended", [BTC, CHINESE])
def test_the_schedule_chooses_assets_of_a_symbol_in_another_alphabet(
    ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two symbols has ended: each gets a run of its own assets."""
    due = dict.fromkeys((BTC, CHINESE), (day(1), day(1)))
    plan = Plan(due, day(2), ended={ended: Ended(day(1), "for the test")})
    monkeypatch.setattr(schedules, "plan_due", lambda *_: plan)
    settings = load_settings(home=tmp_path, symbols=(BTC, CHINESE))
    keys = {symbol: asset_key(symbol, "raw_candles") for symbol in settings.symbols}
    asked = schedules.request(settings, list(keys.values()), day(1), "")
    assert isinstance(asked, list)
    (going,) = {BTC, CHINESE} - {ended}
    assert [run.asset_selection for run in asked] == [[keys[going]], [keys[ended]]]
    assert all(str(day(2)) in (run.run_key or "") for run in asked), "asked for again tomorrow, where it fails today"


def test_forgetting_a_symbol_in_another_alphabet_wipes_its_assets() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for symbol in (BTC, CHINESE):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset_key(symbol, "raw_candles")))
        _forget_assets(instance, CHINESE)
        assert list(instance.all_asset_keys()) == [asset_key(BTC, "raw_candles")]


def test_a_symbol_in_another_alphabet_is_published_also_where_its_export_fails() -> None:
    failed = SimpleNamespace(user_failure_data=SimpleNamespace(description="the disk is full", metadata={}), error=None)
    events: list[Any] = [
        SimpleNamespace(event_type_value="STEP_SUCCESS", step_key=step_of(CHINESE, "published_database")),
        SimpleNamespace(
            event_type_value="STEP_FAILURE", step_key=step_of(CHINESE, "parquet_export"), step_failure_data=failed
        ),
    ]
    failure = _failures(load_settings(symbols=(CHINESE,)), events)[CHINESE]
    assert (failure.message, failure.stage, failure.published) == ("the disk is full", "parquet_export", True)


@pytest.mark.slow
def test_the_command_as_a_process_with_the_plainest_surroundings(archive: Path, tmp_path: Path) -> None:
    """LC_ALL=C is what services and containers have."""
    words = ("run", CHINESE, "--archive", archive, "--start", day(1), "--end", day(1), "--home", tmp_path / "home")
    process = start(*words, "--model", "delta", LC_ALL="C", LANG="C", HEATMAP_SNAPSHOT_INTERVAL="4h")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"{CHINESE}: {day(1)} .. {day(1)} computed and published" in out


def without_saying_utf8(path: Path, symbol: str) -> None:
    """Write the zip of a symbol as programs do that put UTF-8 into its names and do not say so."""
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        rows = archive.read(name)
    stand_in = "x" * len(symbol.encode())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name.replace(CHINESE, stand_in), rows)
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), symbol.encode()))
    checksum_beside(path).unlink()


def test_names_inside_of_zips_are_read_in_any_alphabet(archive: Path, tmp_path: Path) -> None:
    files = Path(shutil.copytree(archive, tmp_path / "files"))
    reader = ArchiveReader(files)
    path = files / ArchiveFile(CHINESE, day(1), "5m").path
    whole = reader.read_candles(CHINESE, day(1), 300).content_hash()
    without_saying_utf8(path, CHINESE)
    assert reader.read_candles(CHINESE, day(1), 300).content_hash() == whole
    without_saying_utf8(files / ArchiveFile(CHINESE, day(2), "5m").path, "龙虾人生USDT")
    with pytest.raises(MarketError, match=r"holds 龙虾人生USDT-5m-.*, another file of the archive under a wrong name"):
        reader.read_candles(CHINESE, day(2), 300)


# -- the exchange


TODAY = datetime.now(UTC).date()
BEFORE = [TODAY - timedelta(days=ago) for ago in (2, 1)]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive_of(tmp_path_factory.mktemp("market"), BEFORE, CHINESE)


@pytest.fixture
def exchange(market: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExchangeServer]:
    """The exchange now; its archive has not published yesterday."""
    with ExchangeServer(market, datetime.now(UTC).replace(tzinfo=None)) as running:
        running.hide(str(BEFORE[-1]))
        for name, value in (("SOURCE", "binance"), ("ARCHIVE_URL", running.url), ("REST_URL", running.url)):
            monkeypatch.setenv(f"HEATMAP_{name}", value)
        monkeypatch.setenv("HEATMAP_MODELS", "turnover")
        draw_nothing(monkeypatch)
        run_lightly(monkeypatch)  # Dagster and such names: above
        yield running


def says(**changes: object) -> Fault:
    """What the exchange says of every contract, changed."""

    def edit(answer: Any) -> Any:
        return {**answer, "symbols": [{**entry, **changes} for entry in answer["symbols"]]}

    return Fault(edit=edit)


@pytest.mark.slow
def test_a_symbol_in_another_alphabet_comes_from_archive_and_rest_and_is_what_the_exchange_says(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    """Also its quote asset: that counts more than the name."""
    exchange.fault("/fapi/v1/exchangeInfo", says(quoteAsset="USDE", marginAsset="USDE"), always=True)
    home = tmp_path / "home"
    done("run", CHINESE, "--start", BEFORE[0], "--end", BEFORE[-1], "--home", home)
    settings = load_settings(home=home)
    facts = "SELECT DISTINCT json_extract_string(facts, '$.via') FROM raw_days WHERE symbol = '" + CHINESE + "' AND day"
    assert ask(settings, f"{facts} < DATE '{BEFORE[-1]}'") == [("archive",)]
    assert ask(settings, f"{facts} = DATE '{BEFORE[-1]}'") == [("rest",)]
    assert ask(settings, "SELECT symbol, quote FROM symbols", published=True) == [(CHINESE, "USDE")]
    files = [path for path in exchange.paths("/data/") if path.endswith(".zip")]
    assert files
    assert all(path.isascii() and CHINESE in unquote(path) for path in files), "addresses are percent-encoded"
    assert (home / "archive/binance/futures/um/daily/klines" / CHINESE / "5m").is_dir()


def test_a_contract_that_the_exchange_says_is_another_is_refused(exchange: ExchangeServer, tmp_path: Path) -> None:
    exchange.fault("/fapi/v1/exchangeInfo", says(contractType="CURRENT_QUARTER"), always=True)
    days = ("--start", BEFORE[0], "--end", BEFORE[1])
    refused(heatmap("run", BTC, *days, "--home", tmp_path / "home"), 1, f"symbol {BTC} is a delivery contract")
    assert exchange.paths("/data/") == [], "nothing of it is fetched"


def source_of(tmp_path: Path, address: str) -> BinanceSource:
    reader = ExchangeReader(address, retries=0, backoff=0.01, total_time=5)
    return BinanceSource(tmp_path / "files", address, address, exchange=reader)


@pytest.mark.parametrize(
    ("changes", "contract"),
    [
        ({}, Contract(BTC, "BTC", "USDT")),
        ({"contractType": "TRADIFI_PERPETUAL", "quoteAsset": "USDT"}, Contract(BTC, "BTC", "USDT")),
        ({"contractType": "PERPETUAL_DELIVERING", "status": "SETTLING"}, Contract(BTC, "BTC", "USDT")),
        ({"contractType": "", "status": "PENDING_TRADING"}, Contract(BTC, "BTC", "USDT")),
        ({"baseAsset": "BTCUSD", "quoteAsset": "TUSD"}, Contract(BTC, "BTCUSD", "TUSD")),
    ],
)
def test_contracts_as_the_exchange_describes_them(
    exchange: ExchangeServer, tmp_path: Path, changes: dict[str, str], contract: Contract
) -> None:
    exchange.fault("/fapi/v1/exchangeInfo", says(**changes), always=True)
    with source_of(tmp_path, exchange.url) as source:
        assert source.contract(BTC) == contract


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contractType": "NEXT_QUARTER"}, "is a delivery contract, which ends"),
        ({"quoteAsset": "BTC", "marginAsset": "BTC"}, "is quoted in BTC"),
        ({"quoteAsset": "USD", "marginAsset": "BTC"}, "is coin-margined"),
        ({"quoteAsset": 7}, "quoteAsset or marginAsset that is no text"),
    ],
)
def test_contracts_that_the_exchange_says_are_not_computed(
    exchange: ExchangeServer, changes: dict[str, Any], words: str
) -> None:
    exchange.fault("/fapi/v1/exchangeInfo", says(**changes), always=True)
    reader = ExchangeReader(exchange.url, retries=0)
    with pytest.raises(MarketError, match=words):
        reader.symbol(BTC)


def test_where_the_exchange_says_nothing_the_name_counts_if_it_tells(exchange: ExchangeServer, tmp_path: Path) -> None:
    with source_of(tmp_path, exchange.url) as source:
        assert source.contract("DELISTEDUSDC") == contract_of("DELISTEDUSDC"), "it does not know those that ended"
        with pytest.raises(MarketError, match="does not know the symbol NOSUCH"):
            source.contract("NOSUCH")
    exchange.fault("/fapi/", Fault(status=451), always=True)
    with source_of(tmp_path, exchange.url) as source:
        assert source.contract("BTCUSDC").quote == "USDC"
        with pytest.raises(MarketError, match="closed to the place"):
            source.contract("NOSUCH")


# -- what is not computed


REFUSED = {
    "ETHBTC": "is quoted in BTC",
    "BTCEUR": "is quoted in EUR",
    "BTCTRY": "is quoted in TRY",
    "BTCUSD": "is coin-margined",
    "BTCUSD_PERP": "is coin-margined",
    "BTCUSD_250328": "is coin-margined",
    "BTCUSDT_240927": "is a delivery contract, which ends on 2024-09-27",
    "ETHUSDT_250328": "is a delivery contract, which ends on 2025-03-28",
    "btcusdt": "do you mean BTCUSDT?",
    "ＢＴＣUSDT": "do you mean BTCUSDT?",
    "🚀USDT": "is not a symbol",
    "../BTCUSDT": "is not a symbol",
    "B" * 300: "more than 30 letters",
}


@pytest.mark.parametrize("symbol", REFUSED)
def test_a_contract_that_is_not_computed_is_refused_for_what_it_is(
    archive: Path, tmp_path: Path, symbol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    days = ("--start", day(1), "--end", day(1))
    for words in (
        ("run", symbol, "--archive", archive, *days),
        ("run", symbol, "--source", "demo", *days),
        ("refresh", symbol),
        ("score", symbol),
        ("record", symbol),
    ):
        refused(heatmap(*words, "--home", home), 2, REFUSED[symbol])
    monkeypatch.setenv("HEATMAP_SYMBOLS", f"BTCUSDT,{symbol}")
    refused(heatmap("status", "--home", home), 2, "HEATMAP_SYMBOLS", REFUSED[symbol])
    assert not home.exists()


def test_an_archive_does_not_say_what_a_contract_is_quoted_in(tmp_path: Path) -> None:
    under_the_name_of(root := archive_of(tmp_path, [day(1)]), "BTCXYZ")
    market = open_market(load_settings(source="archive", archive=root, home=tmp_path / "home"))
    assert market.contract("BTCUSDC") == Contract("BTCUSDC", "BTC", "USDC")
    with pytest.raises(MarketError, match=r"^symbol BTCXYZ does not end with an asset .* \(USDT, USDC, FDUSD"):
        market.contract("BTCXYZ")
    with pytest.raises(MarketError, match=r"archive .* does not know the symbol NOSUCH; it holds BTCUSDT, BTCXYZ"):
        market.contract("NOSUCH")


def test_what_an_earlier_version_has_computed_is_still_shown_in_its_own_unit(tmp_path: Path) -> None:
    with Warehouse(tmp_path).connect(BTC) as con:
        fill(con, "ETHBTC")
        con.execute("UPDATE symbols SET quote = ''")
        version = load_version(con, MODELS_USED)
        assert {name: symbol.quote for name, symbol in version.symbols.items()} == {"ETHBTC": "BTC"}
