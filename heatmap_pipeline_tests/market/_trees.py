"""Archive trees as people have them, made from one as the exchange has it: each way changes the tree it is given."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from heatmap_pipeline_tests.market._files import write

KLINES = "futures/um/daily/klines/BTCUSDT/5m"
METRICS = "futures/um/daily/metrics/BTCUSDT"
MONTHLY = "futures/um/monthly/klines/BTCUSDT/5m"


def by_range(root: Path) -> None:
    """As the exchange's own downloader leaves files when it is given a range of days; an older range holds one too."""
    for folder in (root / KLINES, root / METRICS):
        inside = folder / "2020-01-01_2024-09-15"
        inside.mkdir()
        for path in list(folder.iterdir()):
            if path.is_file():
                path.rename(inside / path.name)
        older = folder / "2020-01-01_2024-09-14"
        older.mkdir()
        (older / min(inside.glob("*.zip")).name).write_bytes(b"an older copy, damaged")


def unzipped(root: Path) -> None:
    for path in list(root.rglob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent)
        path.unlink()
        path.with_name(path.name + ".CHECKSUM").unlink()


def unzipped_into_folders(root: Path) -> None:
    """As `Extract all` leaves candles, each in a folder; and zips of metrics made anew, on a Mac, of such folders."""
    for path in list(root.rglob("*.zip")):
        path.with_name(path.name + ".CHECKSUM").unlink()
        folder = path.with_suffix("")
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        path.unlink()
        if "metrics" in path.name:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(f"{folder.name}/", "")
                archive.write(folder / f"{folder.name}.csv", f"{folder.name}/{folder.name}.csv")
                archive.writestr(f"{folder.name}/.DS_Store", "x")
            shutil.rmtree(folder)


def deeper(root: Path) -> None:
    (root / "data").mkdir()
    (root / "futures").rename(root / "data" / "futures")


def zipped_on_a_mac(root: Path) -> None:
    for path in list(root.rglob("*.zip")):
        path.with_name(path.name + ".CHECKSUM").unlink()
        with zipfile.ZipFile(path, "a") as archive:
            for name in (f"__MACOSX/._{path.stem}.csv", "__MACOSX/", ".DS_Store", f"._{path.stem}.csv"):
                archive.writestr(name, "x")


def in_capitals_and_gzipped(root: Path) -> None:
    """Candles as a disk that knows no small letters leaves them, open interest packed anew as data tools do."""
    for path in list(root.rglob("*.zip")):
        path.with_name(path.name + ".CHECKSUM").unlink()
        if "metrics" in path.name:
            with zipfile.ZipFile(path) as archive:
                path.with_suffix(".csv.gz").write_bytes(gzip.compress(archive.read(archive.namelist()[0])))
            path.unlink()
        else:
            path.rename(path.with_suffix(".ZIP"))


def by_month(root: Path) -> None:
    months: dict[str, bytes] = {}
    for path in sorted((root / KLINES).glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            rows = archive.read(archive.namelist()[0]).split(b"\n", 1)[1]
        month = path.stem.rpartition("-")[0]
        months[month] = months.get(month, b"") + rows
    shutil.rmtree(root / KLINES)
    with zipfile.ZipFile(root / KLINES.replace("/5m", "/x.zip"), "w") as unrelated:
        unrelated.writestr("x", "y")
    for name, rows in months.items():
        write(root / MONTHLY / f"{name}.zip", rows, checksum=True)


def by_month_unzipped_and_deeper(root: Path) -> None:
    by_month(root)
    unzipped(root / "futures/um/monthly")
    deeper(root)


def by_month_in_folders(root: Path) -> None:
    by_month(root)
    unzipped_into_folders(root / "futures/um/monthly")


WAYS: tuple[Callable[[Path], None], ...] = (
    by_range,
    unzipped,
    unzipped_into_folders,
    deeper,
    zipped_on_a_mac,
    in_capitals_and_gzipped,
    by_month,
    by_month_unzipped_and_deeper,
    by_month_in_folders,
)
