"""Archive trees as people have them: the same days from all of them, or a sentence that says what is there instead."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.market.sources import ArchiveMarket
from heatmap_pipeline.market.tables import CleanDay, MarketError, NoDataError
from heatmap_pipeline_tests.market._files import candle_rows, csv_text, write
from heatmap_pipeline_tests.market._trees import KLINES, MONTHLY, WAYS, by_month

DAYS = [date(2024, 9, 14), date(2024, 9, 15)]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    write_demo_days(root, "BTCUSDT", DAYS)
    return root


def read(root: Path, days: list[date] = DAYS) -> tuple[list[CleanDay], list[CleanDay]]:
    archive = ArchiveMarket(root)
    archive.prepare("BTCUSDT", days)
    assert archive.available("BTCUSDT", days) == set(days)
    candles = list(archive.candles("BTCUSDT", days, 300))
    return candles, list(archive.open_interest("BTCUSDT", {day.day: day.table for day in candles}, 300))


@pytest.mark.parametrize("leave", WAYS)
def test_the_same_days_are_read_however_the_files_were_left(
    leave: Callable[[Path], None], published: Path, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    shutil.copytree(published, root)
    leave(root)
    for right, mine in zip(read(published), read(root), strict=True):
        assert [day.content_hash() for day in mine] == [day.content_hash() for day in right]
        assert [day.repairs for day in mine] == [day.repairs for day in right]
    reader = ArchiveReader(root)
    assert reader.symbols() == ["BTCUSDT"]
    assert reader.days("BTCUSDT", "5m") == DAYS
    assert reader.choose_interval("BTCUSDT", DAYS, None, strict=False) == 300


def test_a_file_of_its_own_day_wins_over_that_of_the_month(published: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(published, root)
    by_month(root)
    write(root / KLINES / f"BTCUSDT-5m-{DAYS[1]}.zip", csv_text(candle_rows(288, day=DAYS[1])))
    first, second = read(root)[0]
    assert first.content_hash() == read(published)[0][0].content_hash()
    assert second.facts["file"] == f"BTCUSDT-5m-{DAYS[1]}.zip"


def test_a_month_says_which_days_it_holds_and_its_damage_is_named_when_read(published: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(published, root)
    by_month(root)
    reader = ArchiveReader(root)
    with pytest.raises(
        NoDataError, match=r"BTCUSDT-5m-2024-09-16\.zip is missing\); it holds 2024-09-14 to 2024-09-15;"
    ):
        reader.read_candles("BTCUSDT", date(2024, 9, 16), 300)
    path = root / MONTHLY / "BTCUSDT-5m-2024-09.zip"
    path.write_bytes(path.read_bytes()[:-40])
    path.with_name(path.name + ".CHECKSUM").unlink()
    assert reader.days("BTCUSDT", "5m") == [date(2024, 9, 1) + timedelta(days=number) for number in range(30)]
    with pytest.raises(MarketError, match=r"BTCUSDT-5m-2024-09\.zip: is not a whole zip file"):
        reader.read_candles("BTCUSDT", DAYS[0], 300)


def test_a_month_of_the_finest_candles_is_read(tmp_path: Path) -> None:
    rows = [row for day in range(1, 31) for row in candle_rows(1440, 60, day=date(2024, 9, day))]
    write(tmp_path / MONTHLY.replace("5m", "1m") / "BTCUSDT-1m-2024-09.zip", csv_text(rows))
    reader = ArchiveReader(tmp_path)
    assert len(reader.days("BTCUSDT", "1m")) == 30
    assert len(reader.read_candles("BTCUSDT", date(2024, 9, 30), 60).table) == 1440


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([], r"is empty: no futures/um/daily/klines/SYMBOL/ in it; give the folder that holds futures/um/daily"),
        (
            ["spot/daily/klines/BTCUSDT/5m/x.zip"],
            r"holds spot, but no futures/um/daily/klines/SYMBOL/; give the folder",
        ),
        (["data/spot/x"], r"holds data/spot, but no futures/um/daily/klines/SYMBOL/; give the folder"),
        (
            ["BTCUSDT-5m-2024-09-14.zip", "BTCUSDT-metrics-2024-09-14.zip"],
            r"put BTCUSDT-5m-2024-09-14\.zip into futures/um/daily/klines/BTCUSDT/5m below one, the others alike",
        ),
        (
            [f"{KLINES}/BTCUSDT.csv"],
            r"its folder holds 5m; 5m holds BTCUSDT\.csv; they are named BTCUSDT-5m-YYYY-MM-DD",
        ),
        ([f"{KLINES}/mine/BTCUSDT-5m-2024-09-14.zip"], r"5m holds mine; they are named BTCUSDT-5m-YYYY-MM-DD\.zip"),
        (
            [KLINES.replace("BTC", "ETH") + "/ETHUSDT-5m-2024-09-14.zip"],
            "does not know the symbol BTCUSDT; it holds ETHU",
        ),
    ],
)
def test_what_cannot_be_read_is_said_with_what_is_there(paths: list[str], said: str, tmp_path: Path) -> None:
    for path in paths:
        touch(tmp_path / path)
    with pytest.raises(NoDataError, match=said):
        ArchiveMarket(tmp_path).prepare("BTCUSDT", DAYS)


def test_a_mistyped_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="mistyped is not there; give the folder that holds"):
        ArchiveMarket(tmp_path / "mistyped").prepare("BTCUSDT", DAYS)
    touch(tmp_path / "file")
    with pytest.raises(NoDataError, match="file is no folder"):
        ArchiveMarket(tmp_path / "file").prepare("BTCUSDT", DAYS)
