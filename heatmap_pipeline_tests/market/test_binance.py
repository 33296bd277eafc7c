"""Archive and REST together: each day from where it is, once, and the same tables whichever way it came."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.binance import BinanceSource
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.market.download import ArchiveDownloader
from heatmap_pipeline.market.exchange import ExchangeReader
from heatmap_pipeline.market.sources import ArchiveMarket
from heatmap_pipeline.market.tables import CleanDay, ClosedError, MarketError, NoDataError
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault

DAYS = [date(2024, 9, day) for day in (14, 15, 16, 17)]
OLD, DAY, YESTERDAY, TODAY = DAYS
NOW = datetime(2024, 9, 17, 12, 2, 30)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of four simulated days, the last of which is the exchange's today."""
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, "BTCUSDT", DAYS)
    return root


@pytest.fixture
def server(market: Path) -> Iterator[ExchangeServer]:
    """The exchange at noon: the archive has the files until the day before yesterday."""
    with ExchangeServer(market, NOW) as running:
        running.hide(str(YESTERDAY), str(TODAY))
        yield running


def source(server: ExchangeServer, root: Path, retries: int = 1, **options: Any) -> BinanceSource:
    quick: dict[str, Any] = {"timeout": 3.0, "total_time": 10.0, "backoff": 0.01, "retries": retries}
    return BinanceSource(
        root,
        downloader=ArchiveDownloader(server.url, root, accepted=options.get("accept_checksum", ()), **quick),
        exchange=ExchangeReader(server.url, **quick),
        **options,
    )


def read(source: BinanceSource, days: list[date], interval: int = 300) -> tuple[list[CleanDay], list[CleanDay]]:
    source.prepare("BTCUSDT", days)
    candles = list(source.candles("BTCUSDT", days, interval))
    tables = {day.day: day.table for day in candles}
    return candles, list(source.open_interest("BTCUSDT", tables, interval))


def test_each_day_comes_from_where_it_is(server: ExchangeServer, market: Path, tmp_path: Path) -> None:
    with source(server, tmp_path) as binance:
        candles, samples = read(binance, DAYS)
    for days in (candles, samples):
        assert [day.day for day in days] == DAYS
        assert [day.facts["via"] for day in days] == ["archive", "archive", "rest", "rest"]
        assert [day.facts.get("provisional", False) for day in days] == [False, False, False, True]
    files = ArchiveReader(market)
    for mine, own in zip(candles[:3], samples[:3], strict=True):
        theirs = files.read_candles("BTCUSDT", mine.day, 300)
        assert mine.content_hash() == theirs.content_hash()
        assert own.content_hash() == files.read_open_interest("BTCUSDT", mine.day, theirs.table, 300).content_hash()
    assert len(candles[3].table) == len(samples[3].table) == 144
    assert candles[0].facts["sha256"] == hashlib.sha256((tmp_path / _file(OLD)).read_bytes()).hexdigest()
    assert ArchiveReader(tmp_path).days("BTCUSDT", "5m") == [OLD, DAY]


def _file(day: date) -> str:
    return f"futures/um/daily/klines/BTCUSDT/5m/BTCUSDT-5m-{day}.zip"


def test_nothing_is_asked_twice(server: ExchangeServer, tmp_path: Path) -> None:
    with source(server, tmp_path) as binance:
        read(binance, DAYS)
    assert len(server.paths("/um/daily/")) == len(set(server.paths("/um/daily/")))
    server.asked.clear()
    with source(server, tmp_path) as binance:
        read(binance, [OLD, DAY])
    assert server.asked == []  # neither the archive nor the exchange is needed for days that are here


def test_days_may_be_read_without_preparation_and_at_another_interval(server: ExchangeServer, tmp_path: Path) -> None:
    with source(server, tmp_path) as binance:
        assert [day.facts["via"] for day in binance.candles("BTCUSDT", [DAY], 300)] == ["archive"]
        with pytest.raises(
            NoDataError, match=r"no finished candle.*archive has no BTCUSDT-15m-2024-09-15\.zip: not pub"
        ):
            list(binance.candles("BTCUSDT", [DAY], 900))


def test_a_day_is_read_from_the_archive_once_it_is_published(server: ExchangeServer, tmp_path: Path) -> None:
    with source(server, tmp_path) as binance:
        before = read(binance, [YESTERDAY])
        server.hidden.remove(str(YESTERDAY))
        after = read(binance, [YESTERDAY])  # prepare asks anew
    assert [days[0].facts["via"] for days in (*before, *after)] == ["rest", "rest", "archive", "archive"]
    assert [days[0].content_hash() for days in before] == [days[0].content_hash() for days in after]


def test_candles_and_open_interest_may_come_different_ways(server: ExchangeServer, tmp_path: Path) -> None:
    server.hidden[:] = [f"metrics-{YESTERDAY}", str(TODAY)]
    with source(server, tmp_path) as binance:
        candles, samples = read(binance, [YESTERDAY])
    assert (candles[0].facts["via"], samples[0].facts["via"]) == ("archive", "rest")
    assert samples[0].facts["clock"]["rule"] == "price"


def test_a_day_that_nobody_has_is_said_and_the_days_before_it_are_kept(server: ExchangeServer, tmp_path: Path) -> None:
    with source(server, tmp_path) as binance:
        days = binance.candles("BTCUSDT", [YESTERDAY, TODAY, date(2024, 9, 18)], 300)
        assert [next(days).day, next(days).day] == [YESTERDAY, TODAY]
        with pytest.raises(NoDataError, match=r"2024-09-18 has not begun.*archive has no BTCUSDT-5m-2024-09-18\.zip"):
            next(days)
        with pytest.raises(NoDataError, match="does not know the symbol DOGEUSDT"):
            list(binance.candles("DOGEUSDT", [DAY], 300))


def late(server: ExchangeServer, *hidden: str) -> None:
    """Make it two months later: REST serves no open interest of the days any more."""
    server.now = datetime(2024, 11, 15)
    server.hidden[:] = hidden


@pytest.mark.parametrize("closed", [False, True])
def test_open_interest_that_nobody_ever_had_is_a_day_without_samples(
    server: ExchangeServer, market: Path, tmp_path: Path, closed: bool
) -> None:
    """As it is where the same files are read as an archive: both ways compute the same."""
    late(server, f"metrics-{DAY}")
    if closed:
        server.fault("/fapi/", Fault(status=451), always=True)
    with source(server, tmp_path) as binance:
        _, days = read(binance, DAYS[:3])
    archive = ArchiveMarket(tmp_path)
    candles = {day.day: day.table for day in archive.candles("BTCUSDT", DAYS[:3], 300)}
    theirs = list(archive.open_interest("BTCUSDT", candles, 300))
    assert [day.content_hash() for day in days] == [day.content_hash() for day in theirs]
    assert [day.step for day in days] == [day.step for day in theirs]
    assert [len(day.table) > 0 for day in days] == [True, False, True]
    assert days[1].facts == {"via": "archive", "missing_file": f"BTCUSDT-metrics-{DAY}.zip"}


def test_open_interest_that_may_still_come_is_waited_for(server: ExchangeServer, tmp_path: Path) -> None:
    server.hidden[:] = [f"metrics-{DAY}"]
    server.fault("openInterestHist", Fault(edit=lambda rows: []), always=True)
    for now, waits in ((datetime(2024, 9, 18, 23, 59), True), (datetime(2024, 9, 19), False)):
        server.now = now
        with source(server, tmp_path) as binance:
            candles = {day.day: day.table for day in binance.candles("BTCUSDT", [OLD, DAY], 300)}
            days = binance.open_interest("BTCUSDT", candles, 300)
            assert next(days).day == OLD
            if waits:
                with pytest.raises(NoDataError, match=r"no open interest of that day.*BTCUSDT-metrics-2024-09-15\.zip"):
                    next(days)
            else:
                assert next(days).table.empty


@pytest.mark.parametrize(
    "fault", [Fault(status=451, body=b'{"code":0,"msg":"restricted location"}'), Fault(status=403)]
)
def test_while_rest_is_closed_the_days_of_the_archive_come_first(
    server: ExchangeServer, tmp_path: Path, fault: Fault
) -> None:
    server.fault("/fapi/", fault, always=True)
    with source(server, tmp_path) as binance:
        binance.prepare("BTCUSDT", DAYS)
        days = binance.candles("BTCUSDT", DAYS, 300)
        tables = {day.day: day.table for day in (next(days), next(days))}
        assert list(tables) == [OLD, DAY]
        with pytest.raises(
            ClosedError, match=r"BTCUSDT 2024-09-16: the archive does not have BTCUSDT-5m-2024-09-16\.zip yet.*REST_URL"
        ):
            next(days)
        assert [day.day for day in binance.open_interest("BTCUSDT", tables, 300)] == [OLD, DAY]
        assert len(server.paths("/fapi/")) <= 2  # once by each thread that reads, and not again in this run
        server.hidden.remove(str(YESTERDAY))
        binance.prepare("BTCUSDT", DAYS)
        assert [day.day for day in binance.candles("BTCUSDT", DAYS[:3], 300)] == DAYS[:3]


def test_while_rest_is_closed_only_days_that_may_come_are_said_to_be_available(
    server: ExchangeServer, tmp_path: Path
) -> None:
    """A day whose file is long gone is not waited for; a new one is, and reading it says why it cannot be had."""
    server.fault("/fapi/", Fault(status=451), always=True)
    today = datetime.now(UTC).date()
    with source(server, tmp_path) as binance:
        binance.prepare("BTCUSDT", [OLD])
        asked = [OLD, DAY, today - timedelta(days=1), today]
        assert binance.available("BTCUSDT", asked) == {OLD, *asked[2:]}


def spoil(server: ExchangeServer, name: str) -> None:
    text = f"{'8' * 64}  {name}.zip\n".encode()
    server.fault(f"{name}.zip.CHECKSUM", Fault(body=text), always=True)


def test_a_file_whose_checksum_never_matches_comes_from_rest_while_that_has_the_day(
    server: ExchangeServer, market: Path, tmp_path: Path
) -> None:
    for name in (f"BTCUSDT-metrics-{DAY}", f"BTCUSDT-5m-{OLD}"):
        spoil(server, name)
    with source(server, tmp_path) as binance:
        candles, samples = read(binance, DAYS[:3])
    assert [day.facts["via"] for day in candles] == ["rest", "archive", "rest"]
    assert [day.facts["via"] for day in samples] == ["archive", "rest", "rest"]
    assert samples[1].facts["damaged_file"] == f"BTCUSDT-metrics-{DAY}.zip"
    files = ArchiveReader(market)
    for mine, own in zip(candles, samples, strict=True):
        assert mine.content_hash() == files.read_candles("BTCUSDT", mine.day, 300).content_hash()
        assert own.content_hash() == files.read_open_interest("BTCUSDT", own.day, mine.table, 300).content_hash()


@pytest.mark.parametrize("closed", [False, True])
def test_a_checksum_that_never_matches_stops_its_own_day_and_names_the_ways_out(
    server: ExchangeServer, tmp_path: Path, closed: bool
) -> None:
    late(server)
    name = f"BTCUSDT-metrics-{DAY}"
    spoil(server, name)
    if closed:
        server.fault("/fapi/", Fault(status=451), always=True)
    with source(server, tmp_path) as binance:
        binance.prepare("BTCUSDT", DAYS[:3])
        candles = {day.day: day.table for day in binance.candles("BTCUSDT", DAYS[:3], 300)}
        days = binance.open_interest("BTCUSDT", candles, 300)
        assert next(days).day == OLD
        with pytest.raises(MarketError, match=f"{name}.zip: does not match its published CHECKSUM") as refused:
            next(days)
    place = tmp_path / f"futures/um/daily/metrics/BTCUSDT/{name}.zip"
    assert f"put a good copy at {place}" in str(refused.value)
    assert f"HEATMAP_ACCEPT_CHECKSUM={name}" in str(refused.value)
    assert not place.exists()


def test_a_file_may_be_accepted_or_placed_by_hand(server: ExchangeServer, market: Path, tmp_path: Path) -> None:
    late(server)
    name = f"BTCUSDT-metrics-{DAY}"
    spoil(server, name)
    with source(server, tmp_path / "a", accept_checksum=[name]) as binance:
        _, accepted = read(binance, [OLD, DAY])
    asked = len(server.paths(name))
    with source(server, tmp_path / "a", accept_checksum=[name]) as binance:
        _, again = read(binance, [OLD, DAY])
    assert len(server.paths(name)) == asked  # it is here
    place = f"futures/um/daily/metrics/BTCUSDT/{name}.zip"
    (tmp_path / "b" / place).parent.mkdir(parents=True)
    (tmp_path / "b" / place).write_bytes((market / place).read_bytes())
    with source(server, tmp_path / "b") as binance:
        _, placed = read(binance, [OLD, DAY])
    right = [day.content_hash() for day in accepted]
    for days, repairs in (
        (accepted, {"accepted_checksum": 1}),
        (again, {"accepted_checksum": 1}),
        (placed, {"placed_by_hand": 1}),
    ):
        assert [day.content_hash() for day in days] == right
        assert [day.repairs for day in days] == [{}, repairs]
    with source(server, tmp_path / "a") as binance, pytest.raises(MarketError, match="does not match its published"):
        read(binance, [OLD, DAY])  # accepted once is not accepted for ever


def test_a_file_that_the_archive_never_had_may_be_placed_by_hand(
    server: ExchangeServer, market: Path, tmp_path: Path
) -> None:
    late(server, f"metrics-{DAY}")
    place = f"futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-{DAY}.zip"
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_bytes((market / place).read_bytes())
    with source(server, tmp_path) as binance:
        _, days = read(binance, [OLD, DAY])
    assert [len(day.table) for day in days] == [288, 288]
    assert days[1].repairs == {"placed_by_hand": 1}


@pytest.mark.parametrize("status", [403, 451])
def test_while_the_archive_is_closed_days_come_from_rest_as_far_as_that_reaches(
    server: ExchangeServer, market: Path, tmp_path: Path, status: int
) -> None:
    server.fault("/data/futures/", Fault(status=status, body=b"<html>no</html>"), always=True)
    with source(server, tmp_path) as binance:
        candles, samples = read(binance, DAYS[:3])
    files = ArchiveReader(market)
    for mine, own in zip(candles, samples, strict=True):
        assert (mine.facts["via"], own.facts["via"]) == ("rest", "rest")
        assert "damaged_file" not in mine.facts
        assert mine.content_hash() == files.read_candles("BTCUSDT", mine.day, 300).content_hash()
        assert own.content_hash() == files.read_open_interest("BTCUSDT", own.day, mine.table, 300).content_hash()
    late(server)
    with source(server, tmp_path) as binance, pytest.raises(MarketError, match=f"metrics-{OLD}.*{status}"):
        read(binance, DAYS[:3])  # nobody knows whether these days were never published


@pytest.mark.parametrize("status", [403, 503])
def test_a_file_that_cannot_be_fetched_stops_its_own_day_and_kind(
    server: ExchangeServer, tmp_path: Path, status: int
) -> None:
    late(server)
    server.fault(f"metrics-{DAY}", Fault(status=status), always=True)
    with source(server, tmp_path) as binance:
        binance.prepare("BTCUSDT", DAYS[:3])
        candles = {day.day: day.table for day in binance.candles("BTCUSDT", DAYS[:3], 300)}
        assert list(candles) == DAYS[:3]
        days = binance.open_interest("BTCUSDT", candles, 300)
        assert next(days).day == OLD
        with pytest.raises(MarketError, match=f"metrics-{DAY}.*{status}"):
            next(days)


def test_available_days(server: ExchangeServer, tmp_path: Path) -> None:
    asked = [date(2024, 9, 1), *DAYS, date(2024, 9, 18)]
    server.listed = OLD
    with source(server, tmp_path) as binance:
        assert binance.available("BTCUSDT", asked) == set(DAYS)
        binance.prepare("BTCUSDT", [OLD, DAY])
    server.status = "SETTLING"
    with source(server, tmp_path) as binance:
        assert binance.available("BTCUSDT", asked) == {OLD, DAY}
    server.fault("/fapi/", Fault(status=500), always=True)
    with source(server, tmp_path) as binance:
        assert binance.available("BTCUSDT", [OLD, DAY]) == {OLD, DAY}
        with pytest.raises(MarketError, match="exchangeInfo: the server answered 500, 2 times"):
            binance.available("BTCUSDT", asked)


def test_the_interval_is_set_or_five_minutes(server: ExchangeServer, tmp_path: Path) -> None:
    binance = source(server, tmp_path, interval="15m")
    assert source(server, tmp_path).interval(load_settings(), "BTCUSDT", DAYS) == 300
    assert binance.interval(load_settings(), "BTCUSDT", DAYS) == 900
    assert binance.interval(load_settings(candle_interval="1m"), "BTCUSDT", DAYS) == 60
    assert server.asked == []


def test_real_files_are_not_put_among_simulated_ones(market: Path) -> None:
    with pytest.raises(MarketError, match="files of the demo market; name another folder"):
        BinanceSource(market)


def test_faults_on_both_ways_change_nothing_that_is_stored(server: ExchangeServer, tmp_path: Path) -> None:
    calm = read(source(server, tmp_path / "calm"), DAYS)
    server.fault("5m-2024-09-14.zip", Fault(), Fault(cut=900))
    server.fault("metrics-2024-09-15.zip", Fault(), Fault(body=b"<html>"))
    server.fault("klines/BTCUSDT/5m/BTCUSDT-5m-2024-09-15", Fault(status=503))
    server.fault("/fapi/v1/klines", Fault(body=b"<html>"), Fault(), Fault(cut=100))
    server.fault("openInterestHist", Fault(edit=lambda rows: [*rows[50:], *rows[:60]]))
    stormy = read(source(server, tmp_path / "stormy", retries=4), DAYS)
    for one, other in zip(calm, stormy, strict=True):
        assert [day.content_hash() for day in one] == [day.content_hash() for day in other]
    assert any("duplicate_samples" in day.repairs for day in stormy[1])
    files = [path for path in (tmp_path / "stormy").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".part"]


def test_ingestion_replaces_what_came_over_rest(server: ExchangeServer, tmp_path: Path) -> None:
    """The source fits ingestion: a day grows during the day, and the archive's file replaces it when it differs."""
    settings = load_settings(home=tmp_path / "home", symbols=("BTCUSDT",), source="archive", archive=tmp_path / "files")
    warehouse = Warehouse(settings.home)
    settings.home.mkdir()

    @contextmanager
    def connect() -> Iterator[Any]:
        with warehouse.connect("BTCUSDT") as con:
            yield con

    def run(days: list[date]) -> list[tuple[date, int, bool, str]]:
        with source(server, tmp_path / "files") as binance:
            reports = [
                *ingest_candles(connect, binance, settings, "BTCUSDT", days),
                *ingest_open_interest(connect, binance, settings, "BTCUSDT", days),
            ]
        return [(one.day, one.rows, one.changed, str(one.facts["via"])) for one in reports]

    assert run([YESTERDAY, TODAY]) == [(YESTERDAY, 288, True, "rest"), (TODAY, 144, True, "rest")] * 2
    server.now = datetime(2024, 9, 17, 12, 10)
    assert run([TODAY]) == [(TODAY, 146, True, "rest")] * 2
    server.now = datetime(2024, 9, 18, 6)
    server.hidden.clear()
    # Yesterday's file says the same as the REST did, and is kept with its name; today is whole now.
    assert run([YESTERDAY, TODAY]) == [(YESTERDAY, 288, True, "archive"), (TODAY, 288, True, "archive")] * 2
    assert run([YESTERDAY, TODAY]) == [(YESTERDAY, 288, False, "archive"), (TODAY, 288, False, "archive")] * 2


def test_corrected_and_late_files_name_the_days_to_read_anew(
    server: ExchangeServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with source(server, tmp_path) as binance:
        before = read(binance, DAYS)
    server.hidden.remove(str(YESTERDAY))
    corrected = tmp_path_factory.mktemp("corrected")
    write_demo_days(corrected, "BTCUSDT", [OLD], seed=99)
    for path in server.root.rglob(f"*{DAY}.zip*"):
        target = corrected / path.relative_to(server.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    server.root = corrected
    with source(server, tmp_path) as binance:
        known = {
            day: {one.facts.get("sha256", "") for kind in before for one in kind if one.day == day} for day in DAYS
        }
        assert binance.changed("BTCUSDT", known, 300) == []  # all was fetched today, and yesterday's is not there
        for _ in range(2):  # fetched once, it is another file than the one that was read until that is read
            assert binance.changed("BTCUSDT", known, 300, asked_today=True) == [OLD]
        after = read(binance, [OLD, DAY])
    assert [day.content_hash() for day in after[0]][1] == before[0][1].content_hash()
    assert after[0][0].content_hash() != before[0][0].content_hash()
    assert ArchiveMarket(tmp_path).changed("BTCUSDT", known, 300, asked_today=True) == []


@pytest.mark.market
def test_real_days_come_both_ways(market_dir: Path, tmp_path: Path) -> None:
    days = [date(2026, 3, day) for day in (29, 30, 31)]
    with ExchangeServer(market_dir / "binance_vision", datetime(2026, 4, 1, 1, 40)) as server:
        server.hide("2026-03-31")
        with source(server, tmp_path, interval="15m") as binance:
            candles, samples = read(binance, days, 900)
    assert [day.facts["via"] for day in (*candles, *samples)] == ["archive", "archive", "rest"] * 2
    files = ArchiveReader(market_dir / "binance_vision")
    for mine, own in zip(candles, samples, strict=True):
        pd.testing.assert_frame_equal(mine.table, files.read_candles("BTCUSDT", mine.day, 900).table)
        theirs = files.read_open_interest("BTCUSDT", mine.day, mine.table, 900)
        pd.testing.assert_frame_equal(own.table, theirs.table)
