"""What is named like a file and is none: a pipe is refused with a sentence and never waited for."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest

from heatmap_pipeline.files import open_regular
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.brackets import load_bracket
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.market.download import ArchiveDownloader, Outcome
from heatmap_pipeline.market.liquidations.archive import LiquidationArchive
from heatmap_pipeline.market.liquidations.plain import PlainFolder
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer

DAY = date(2024, 9, 14)
FILE = ArchiveFile("BTCUSDT", DAY, "5m")


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def candles(root: Path) -> object:
    return ArchiveReader(root).read_candles("BTCUSDT", DAY, 300)


def zip_file(root: Path) -> Callable[[], object]:
    pipe(root / FILE.path)
    return lambda: candles(root)


def checksum_file(root: Path) -> Callable[[], object]:
    write_demo_days(root, "BTCUSDT", [DAY])
    pipe(root / f"{FILE.path}.CHECKSUM")
    return lambda: candles(root)


def brackets_file(root: Path) -> Callable[[], object]:
    path = pipe(root / "brackets_2024-01-01.json")
    return lambda: load_bracket(path, "BTCUSDT", DAY)


def brackets_in_a_folder(root: Path) -> Callable[[], object]:
    pipe(root / "brackets_2024-01-01.json")
    return lambda: load_bracket(root, "BTCUSDT", DAY)


def liquidation_orders(root: Path) -> Callable[[], object]:
    pipe(root / f"futures/um/daily/liquidationSnapshot/BTCUSDT/BTCUSDT-liquidationSnapshot-{DAY}.zip")
    return lambda: LiquidationArchive(root).read_day("BTCUSDT", DAY)


def download(root: Path) -> Callable[[], object]:
    pipe(root / FILE.path)
    published = root.with_name("published")
    write_demo_days(published, "BTCUSDT", [DAY])

    def fetch() -> object:
        with ExchangeServer(published, datetime(2024, 9, 17)) as server:
            return ArchiveDownloader(server.url, root, retries=0).fetch([FILE])

    return fetch


@pytest.mark.parametrize(
    "plant", [zip_file, checksum_file, brackets_file, brackets_in_a_folder, liquidation_orders, download]
)
def test_a_pipe_is_refused_and_not_opened(plant: Callable[[Path], Callable[[], object]], tmp_path: Path) -> None:
    read = plant(tmp_path / "root")
    with pytest.raises(MarketError, match="it is a pipe, not a file"):
        read()


@pytest.mark.parametrize("end", ["csv", "csv.gz", "parquet"])
def test_a_pipe_of_liquidations_is_refused(end: str, tmp_path: Path) -> None:
    pipe(tmp_path / f"BTCUSDT-all.{end}")
    with pytest.raises(MarketError, match="it is a pipe, not a file"):
        list(PlainFolder(tmp_path).read("BTCUSDT"))


def test_a_pipe_where_a_download_goes_on_is_replaced(tmp_path: Path) -> None:
    published, root = tmp_path / "published", tmp_path / "root"
    write_demo_days(published, "BTCUSDT", [DAY])
    pipe(root / f"{FILE.path}.part")
    pipe(root / f"{FILE.path}.CHECKSUM")
    with ExchangeServer(published, datetime(2024, 9, 17)) as server:
        assert ArchiveDownloader(server.url, root, retries=0).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert (root / FILE.path).read_bytes() == (published / FILE.path).read_bytes()


def test_folders_and_devices_are_named_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        open_regular(tmp_path)
    with pytest.raises(OSError, match="it is a device"):
        open_regular(Path("/dev/zero"))
    (tmp_path / "file").write_bytes(b"x")
    with open_regular(tmp_path / "file") as stream:
        assert stream.read() == b"x"


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def huge(path: Path) -> None:
    """Make a file of two gigabytes that takes no room."""
    with path.open("wb") as stream:
        stream.truncate(2 << 30)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)  # an address of a socket has to be short
        listener.bind(path.name)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Path.mkdir, id="a folder"),
        pytest.param(link_to("/dev/zero"), id="a device"),
        pytest.param(link_to("/dev/null"), id="an empty device"),
        pytest.param(lambda path: path.symlink_to(path.name), id="a link to itself"),
        pytest.param(link_to("nowhere"), id="a link to nothing"),
        pytest.param(link_to("/proc/self/mem"), id="memory"),
        pytest.param(huge, id="two gigabytes"),
        pytest.param(bound, id="a socket"),
    ],
)
@pytest.mark.parametrize("end", ["", ".CHECKSUM"])
def test_what_is_no_file_of_the_archive_is_refused_soon(
    make: Callable[[Path], object], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_demo_days(tmp_path, "BTCUSDT", [DAY])
    path = tmp_path / f"{FILE.path}{end}"
    path.unlink()
    make(path)
    if end and not path.exists() and path.is_symlink() and path.readlink() == Path("nowhere"):
        candles(tmp_path)  # a CHECKSUM that is nowhere is none
        return
    started = time.process_time()
    with pytest.raises(MarketError) as refused:
        candles(tmp_path)
    assert time.process_time() - started < 2
    assert FILE.name in str(refused.value)
    assert str(refused.value).isprintable()
