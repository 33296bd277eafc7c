"""Files and names made to do harm: each refused in one sentence, within bounded memory, leaving nothing behind."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from heatmap_pipeline.cli import main
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market import download, exchange
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.archive_file import MAX_ROWS, read_archive_csv
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.binance import BinanceSource
from heatmap_pipeline.market.brackets import load_bracket
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.market.download import ArchiveDownloader
from heatmap_pipeline.market.exchange import ExchangeReader
from heatmap_pipeline.market.sources import ArchiveMarket, DemoMarket
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.render.page import write_page
from heatmap_pipeline.settings import SettingsError, check_symbol, load_settings
from heatmap_pipeline.store import days as chain
from heatmap_pipeline.store import raw, read
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.fuzz._mutate_zip import large_claims, large_end, pack, patched
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.market._files import (
    DAY,
    candle_rows,
    candles_path,
    csv_text,
    write_bytes,
    write_candles,
)

CSV = csv_text(candle_rows())
MEGABYTE = 2**20


def refusal(work: Callable[[], Any], *names: str) -> str:
    """Return the sentence with which something is refused."""
    with pytest.raises(HeatmapError) as caught:
        work()
    text = str(caught.value)
    assert text.isprintable(), text
    assert len(text) < 1500, text
    assert all(name in text for name in names), text
    return text


def read_candles(root: Path) -> Any:
    return ArchiveReader(root).read_candles("BTCUSDT", DAY, 300)


# --- names of members ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.csv", "/etc/evil.csv", "..\\evil.csv", "C:\\evil.csv", "\\\\host\\share\\evil.csv",
        "a/../../evil.csv", "evil.csv/", "./evil.csv", "~/evil.csv", "", ".", "..", "evil.sh",
        "evil.csv.exe", "A" * 65_000 + "/a.csv",
    ],
)  # fmt: skip
def test_a_member_that_would_be_written_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = write_bytes(candles_path(tmp_path), pack(CSV, name))
    refusal(lambda: read_candles(tmp_path), str(path))
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFBLK])
def test_a_member_that_is_a_link_or_a_device_is_only_ever_text(tmp_path: Path, kind: int) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(CSV)
    path = write_bytes(candles_path(tmp_path), pack(str(secret).encode(), mode=kind | 0o777))
    refusal(lambda: read_candles(tmp_path), str(path))


def test_what_lies_inside_an_inner_zip_is_not_looked_for(tmp_path: Path) -> None:
    inner = pack(CSV)
    for _ in range(4):
        inner = pack(inner)
    path = write_bytes(candles_path(tmp_path), inner)
    refusal(lambda: read_candles(tmp_path), str(path), "is not UTF-8 text")


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (large_claims(CSV, 10**12, 10**12, 0), "is not a whole zip file"),
        (large_claims(CSV, 10**12, 10**12, 2**63), "is not a whole zip file"),
        (large_claims(CSV, len(CSV), 2**63 - 1, 2**64 - 1), "is not a whole zip file"),
        (large_end(pack(CSV), 10**12, 0), "is not a whole zip file"),
        (large_end(pack(CSV), 2**64 - 1, 2**64 - 1), "is not a whole zip file"),
        (patched(pack(CSV), "central", 24, "I", 10), "is not a whole zip file"),
        (patched(pack(CSV), "end", 10, "H", 0xFFFF), ""),
    ],
)
def test_sizes_that_lie(tmp_path: Path, claim: bytes, said: str) -> None:
    """A claimed size is never believed: what comes out is what the sum over the content confirms, or nothing."""
    path = write_bytes(candles_path(tmp_path), claim)
    try:
        assert read_archive_csv(path).data == CSV.rstrip(b"\n")
    except MarketError:
        refusal(lambda: read_candles(tmp_path), str(path), said)


def test_more_rows_than_any_day_has(tmp_path: Path) -> None:
    row = CSV.splitlines(keepends=True)[0]
    path = write_bytes(candles_path(tmp_path), pack(row * (MAX_ROWS + 1)))
    refusal(lambda: read_candles(tmp_path), str(path), f"more than {MAX_ROWS} lines")
    write_bytes(path, pack(row * MAX_ROWS))
    assert read_candles(tmp_path).repairs == {"duplicate_candles": MAX_ROWS - 1, "missing_candles": 287}


# What a process reads here is far larger than what it may need for it. Runs alone, so that its peak is its own.
_MEASURED = """
import json, resource, sys
from datetime import date
from pathlib import Path
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.brackets import load_bracket

def peak(reset=False):
    if reset:  # of this process alone: what getrusage says includes the process that started it
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))

def read(root):
    if root.suffix == ".json":
        return load_bracket(root, "BTCUSDT", date(2024, 9, 14))
    return ArchiveReader(root).read_candles("BTCUSDT", date(2024, 9, 14), 300)

good, *roots = map(Path, sys.argv[1:])
read(good)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
found = {}
for root in roots:
    before = peak(reset=True)
    try:
        read(root)
        found[root.name] = [peak() - before, "accepted"]
    except HeatmapError as error:
        found[root.name] = [peak() - before, str(error)]
print(json.dumps(found))
"""


def sparse(path: Path, size: int, beginning: bytes = b"") -> None:
    """Write a file that is larger than it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(beginning)
        stream.truncate(size)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are told by Linux only")
def test_bombs_are_refused_within_bounded_memory(tmp_path: Path) -> None:
    deflated = tmp_path / "deflated"
    with zipfile.ZipFile(deflated, "w") as archive:
        entry = zipfile.ZipInfo("a.csv")
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as stream:
            for _ in range(200):
                stream.write(bytes(MEGABYTE))
    bomb = deflated.read_bytes()
    assert len(bomb) < MEGABYTE
    many = pack(b"", more=[(f"{i}.csv", b"") for i in range(20_000)])
    cases: dict[str, tuple[bytes, str]] = {
        "ratio": (bomb, "unpacks to more than"),
        "says-little": (patched(bomb, "central", 24, "I", 10), "is not a whole zip file"),
        "says-nothing": (patched(patched(bomb, "central", 24, "I", 0), "central", 16, "I", 0), "holds no candles"),
        "nested": (pack(bomb), "is not UTF-8 text"),
        "many": (many, "holds more than 100 files"),
        "lines": (pack(b"1\n" * 7_000_000), "lines, which no file of one day has"),
        "blanks": (pack(b" \r" * 7_000_000), "lines, which no file of one day has"),
        "columns": (pack(b"1," * 7_000_000), "Expected 12 columns"),
        "header": (pack(b"ab," * 5_000_000), "the header is"),
        "wide": (pack("😀".encode() * 4_000_000), "Expected 12 columns, got 1"),
        "field": (pack(b"1," + b"9" * 15_000_000 + b",1" * 10), "row 1"),
        "label": (pack(b"9" * 15_000_000 + b",1" * 11), "row 1"),
    }
    for name, (packed, _) in cases.items():
        write_bytes(candles_path(tmp_path / name), packed)
    said = {name: text for name, (_, text) in cases.items()}
    sparse(candles_path(tmp_path / "stored"), 2**40, b"PK\x03\x04")
    said["stored"] = "is larger than"
    checksum = write_candles(tmp_path / "checksum")
    sparse(checksum.with_name(checksum.name + ".CHECKSUM"), 2**30)
    said["checksum"] = "zip.CHECKSUM: is larger than 4096 bytes"
    sparse(tmp_path / "sparse.json", 2**40, b"[")
    said["sparse.json"] = "is larger than"
    (tmp_path / "deep.json").write_bytes(b"[" * 4_000_000)
    said["deep.json"] = "is not JSON (it nests too deep)"
    (tmp_path / "lists.json").write_bytes(b"[" + b"[]," * 1_300_000 + b"[]]")
    said["lists.json"] = "entry 1 is not in the exchange's shape"
    (tmp_path / "number.json").write_bytes(b"9" * 4_000_000)
    said["number.json"] = "is not JSON"
    write_candles(tmp_path / "good")
    paths = [str(tmp_path / name) for name in ("good", *said)]
    command = [sys.executable, "-c", _MEASURED, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert list(found) == list(said)
    for name, text in said.items():
        growth, sentence = found[name]
        assert text in sentence, (name, sentence)
        assert sentence.isprintable(), name
        assert len(sentence) < 700, name
        assert growth < 150, (name, growth, "MB")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ExchangeServer]:
    write_demo_days(tmp_path / "served", "BTCUSDT", [DAY])
    with ExchangeServer(tmp_path / "served", datetime(2024, 9, 16, 12)) as running:
        yield running


def test_a_checksum_without_an_end(server: ExchangeServer, tmp_path: Path) -> None:
    loader = ArchiveDownloader(server.url, tmp_path / "here", timeout=5, total_time=20, retries=0)
    server.fault("CHECKSUM", Fault(endless=True))
    refusal(lambda: loader.fetch([ArchiveFile("BTCUSDT", DAY, "5m")]), "zip.CHECKSUM: the answer is larger than")
    assert not [one for one in (tmp_path / "here").rglob("*") if one.is_file() and one.suffix != ".lock"]


def test_an_answer_that_unpacks_to_too_much(server: ExchangeServer) -> None:
    """Nobody asked for a compressed answer; what it unpacks to counts."""
    body = gzip.compress(bytes(80 * MEGABYTE), 1)
    server.fault("exchangeInfo", Fault(body=body, headers={"Content-Encoding": "gzip"}))
    rest = ExchangeReader(server.url, timeout=5, total_time=20, retries=0)
    refusal(lambda: rest.symbol("BTCUSDT"), "exchangeInfo: the answer is larger than")


# --- symbols ---------------------------------------------------------------------------------------------------------

HOSTILE = [
    "../../etc/passwd", "..", ".", "/BTCUSDT", "BTC/USDT", "BTC\\USDT", "C:BTC", "~root", "BTC%2e%2e", "BTC&limit=1",
    "BTC#", "BTC?x=1", "BTC'; DROP TABLE raw_candles;--", 'BTC" OR 1=1', "BTC USDT", "BTCUSDT\n", "BTC\x00USDT",
    "$(id)", "`id`", "btcusdt", "ＢＴＣ", "BTC٣", "", "B", "A" * 31, "A" * 100_000, "<script>", "{{7*7}}", "%s%n",
]  # fmt: skip
"""What is no symbol: paths, SQL, addresses, commands, templates, lookalikes, lengths."""


class NoNetwork:
    """In place of every web client: whatever is asked is a failure of the test."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def name(self, path: str) -> str:
        return path

    def get(self, path: str, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"asked for {path!r}")

    def close(self) -> None:
        pass


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "WebClient", NoNetwork)
    monkeypatch.setattr(download, "WebClient", NoNetwork)


def _entries(root: Path) -> dict[str, Callable[[str], Any]]:
    """Return every way by which a symbol comes in, below a folder that has to stay as it is."""
    today = datetime.now(UTC).date()
    files, archive, demo = ArchiveReader(root), ArchiveMarket(root), DemoMarket(root / "demo", 7)
    source, rest = BinanceSource(root / "binance"), ExchangeReader()
    none = pd.DataFrame({"open_time": pd.Series(dtype="datetime64[us]")})
    settings = load_settings(home=root / "home")
    return {
        "check_symbol": check_symbol,
        "settings": lambda symbol: load_settings(symbols=(symbol,)),
        "reader days": lambda symbol: files.days(symbol, "5m"),
        "reader interval": lambda symbol: files.choose_interval(symbol, [DAY], None, strict=False),
        "reader candles": lambda symbol: files.read_candles(symbol, DAY, 300),
        "reader samples": lambda symbol: files.read_open_interest(symbol, DAY, none, 300),
        "archive available": lambda symbol: archive.available(symbol, [DAY]),
        "archive interval": lambda symbol: archive.interval(settings, symbol, [DAY]),
        "archive candles": lambda symbol: list(archive.candles(symbol, [DAY], 300)),
        "archive samples": lambda symbol: list(archive.open_interest(symbol, {DAY: none}, 300)),
        "demo prepare": lambda symbol: demo.prepare(symbol, [DAY]),
        "demo candles": lambda symbol: list(demo.candles(symbol, [DAY], 300)),
        "demo files": lambda symbol: write_demo_days(root / "demo", symbol, [DAY]),
        "binance prepare": lambda symbol: source.prepare(symbol, [DAY]),
        "binance available": lambda symbol: source.available(symbol, [DAY]),
        "binance candles": lambda symbol: list(source.candles(symbol, [DAY], 300)),
        "binance today": lambda symbol: list(source.candles(symbol, [today + timedelta(days=1)], 300)),
        "binance samples": lambda symbol: list(source.open_interest(symbol, {DAY: none}, 300)),
        "download": lambda symbol: ArchiveDownloader("https://a.test", root).fetch([ArchiveFile(symbol, DAY, "5m")]),
        "rest symbol": rest.symbol,
        "rest candles": lambda symbol: rest.read_candles(symbol, DAY, 300),
        "rest samples": lambda symbol: rest.read_open_interest(symbol, DAY, none, 300),
        "page": lambda symbol: write_page(root / "renders", symbol, {}),
    }


@pytest.mark.usefixtures("offline")
def test_a_hostile_symbol_gets_in_nowhere(tmp_path: Path) -> None:
    for name, enter in _entries(tmp_path).items():
        for symbol in HOSTILE:
            try:
                with pytest.raises(HeatmapError) as caught:
                    enter(symbol)
            except BaseException as error:
                raise AssertionError(f"{name}: {symbol[:40]!r}") from error
            assert str(caught.value).isprintable(), (name, symbol[:40])
            assert len(str(caught.value)) < 700 + 2 * len(symbol), (name, symbol[:40])
    assert list(tmp_path.rglob("*")) == []


def test_a_hostile_symbol_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for symbol in HOSTILE:
        if "\x00" in symbol or not symbol.strip() or symbol != symbol.strip():
            continue  # no variable can hold the first; blanks around a name in a list are not part of it
        monkeypatch.setenv("HEATMAP_SYMBOLS", f"ETHUSDT, {symbol}")
        with pytest.raises(SettingsError, match="HEATMAP_SYMBOLS"):
            load_settings()


@pytest.mark.parametrize("verb", ["run", "refresh"])
def test_a_hostile_symbol_on_the_command_line(tmp_path: Path, verb: str) -> None:
    days = ["--start", "2024-09-14", "--end", "2024-09-14"] if verb == "run" else []
    for symbol in HOSTILE:
        done = CliRunner().invoke(main, [verb, *days, "--source", "demo", "--home", str(tmp_path), "--", symbol])
        assert done.exit_code == 2, (symbol[:40], done.output)
        assert "is not a symbol" in done.output
    assert list(tmp_path.rglob("*")) == []


def test_a_hostile_symbol_is_only_a_value_in_sql(tmp_path: Path) -> None:
    """Past every check, as a caller of the library might: nothing is found, and nothing else happens."""
    with Warehouse(tmp_path).connect("BTCUSDT") as con:
        tables = con.execute("SHOW TABLES").fetchall()
        for symbol in HOSTILE:
            assert raw.get_symbol(con, symbol) is None
            assert all(not days for days in raw.raw_days(con, symbol).values())
            assert raw.load_candles(con, symbol, DAY, DAY).empty
            assert chain.day_records(con, symbol, symbol) == {}
            chain.record_failure(con, symbol, symbol, DAY, symbol)
            assert [stage for stage, *_ in read.failed_days(con, symbol)] == [symbol]
            chain.clear_failures(con, symbol, symbol, DAY, DAY)
        assert con.execute("SHOW TABLES").fetchall() == tables
        assert con.execute("SELECT count(*) FROM raw_candles").fetchall() == [(0,)]


def test_a_folder_with_a_hostile_name_is_not_a_symbol(tmp_path: Path) -> None:
    write_candles(tmp_path)
    for name in ("..evil", "BTC'; DROP", "btcusdt", "A" * 31):
        (candles_path(tmp_path).parents[2] / name / "5m").mkdir(parents=True)
    assert ArchiveReader(tmp_path).symbols() == ["BTCUSDT"]
    strange = candles_path(tmp_path, "ETHUSDT").parents[1]
    for name in ("evil\nnews: all is lost", "\x1b[2J", *(f"{i}h" * 50 for i in range(50))):
        (strange / name).mkdir(parents=True)
    refusal(lambda: ArchiveReader(tmp_path / ".").choose_interval("ETHUSDT", [DAY], None, strict=False), "ETHUSDT")


# --- leverage brackets -----------------------------------------------------------------------------------------------

TIERS = [{"notionalFloor": 0, "maintMarginRatio": 0.004, "initialLeverage": 125}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"symbol": "BTCUSDT", "symbol": "ETHUSDT", "brackets": []}]', "the key 'symbol' twice"),
        (json.dumps([{"symbol": "BTCUSDT", "brackets": TIERS}] * 2), "'BTCUSDT' has an entry before it"),
        (json.dumps([{"symbol": ["BTCUSDT"], "brackets": TIERS}]), "symbol a list"),
        (json.dumps([{"symbol": "BTCUSDT", "brackets": {"a": 1}}]), "brackets an object"),
        (json.dumps([{"symbol": "BTCUSDT", "brackets": TIERS}])[:-1] + ', {"a": NaN}]', "NaN is not a number"),
        (json.dumps([{"symbol": "B", "brackets": [{"notionalFloor": "\x1b[2J" * 9999}]}]), "is not a number"),
    ],
)
def test_brackets_that_could_be_read_in_two_ways(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(text)
    refusal(lambda: load_bracket(file, "BTCUSDT", DAY), str(file), said)


def test_a_folder_of_brackets_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any) -> Any:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "iterdir", denied)
    refusal(lambda: load_bracket(tmp_path, "BTCUSDT", date(2024, 9, 14)), str(tmp_path), "Permission denied")
