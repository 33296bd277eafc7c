"""Fetching archive files: what is stored is whole and verified, what breaks is tried again, nothing half is seen."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from heatmap_pipeline.market import download, web
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.market.download import ArchiveDownloader, Outcome
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.market.web import WebClient
from heatmap_pipeline.settings import SettingsError
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault

DAYS = [date(2024, 9, day) for day in (14, 15, 16)]
DAY = DAYS[0]
FILE = ArchiveFile("BTCUSDT", DAY, "5m")
NOW = datetime(2024, 9, 17, 12, 2, 30)
NAME = Path(FILE.path).name


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive files of three simulated days."""
    root = tmp_path_factory.mktemp("published")
    write_demo_days(root, "BTCUSDT", DAYS)
    return root


@pytest.fixture
def server(published: Path) -> Iterator[ExchangeServer]:
    with ExchangeServer(published, NOW) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def loader(server: ExchangeServer, root: Path, **options: float) -> ArchiveDownloader:
    quick = {"timeout": 3.0, "total_time": 20.0, "backoff": 0.01, "retries": 2}
    return ArchiveDownloader(server.url, root, **{**quick, **options})  # type: ignore[arg-type]


def stored(root: Path) -> list[str]:
    """Return the names of all that a reader could take for data, and of what is left of downloads."""
    return sorted(path.name for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")


def whole(root: Path, published: Path, file: ArchiveFile = FILE) -> bool:
    """Whether the published bytes and their checksum are stored, and nothing else beside them."""
    same = all((root / f"{file.path}{end}").read_bytes() == (published / f"{file.path}{end}").read_bytes()
               for end in ("", ".CHECKSUM"))  # fmt: skip
    return same and not list(root.rglob("*.part"))


def test_files_are_fetched_at_once_verified_and_never_asked_for_again(
    server: ExchangeServer, root: Path, published: Path
) -> None:
    files = [ArchiveFile("BTCUSDT", day, kind) for day in DAYS for kind in ("5m", "")]
    told: list[tuple[int, int]] = []
    others_done = threading.Event()
    # The first is held until all others are here: they do not wait for it.
    server.fault("BTCUSDT-5m-2024-09-14.zip", Fault(until=others_done))

    def tell(done: int, total: int, *_: object) -> None:
        told.append((done, total))
        if done == len(files) - 1:
            others_done.set()

    first = loader(server, root, timeout=30.0, total_time=60.0).fetch(files, tell)

    assert set(first.values()) == {Outcome.FETCHED}
    assert set(first) == set(files)
    assert told == [(done, 6) for done in range(1, 7)]
    assert all(whole(root, published, file) for file in files)
    zips = [path for path in server.paths() if path.endswith(".zip")]
    assert zips[-1].endswith("BTCUSDT-5m-2024-09-14.zip")
    assert ArchiveReader(root).read_candles("BTCUSDT", DAY, 300).table.shape == (288, 10)
    asked = len(server.asked)
    again = loader(server, root).fetch(files)
    assert set(again.values()) == {Outcome.CACHED}
    assert len(server.asked) == asked


def test_a_day_that_is_not_published_is_said_and_leaves_nothing(server: ExchangeServer, root: Path) -> None:
    server.hide("2024-09-15")
    files = [ArchiveFile("BTCUSDT", day, kind) for day in DAYS for kind in ("5m", "")]
    # The checksum of the 16th is there, its zip is not yet.
    server.fault("metrics-2024-09-16.zip", Fault(), Fault(status=404, body=b"<Error/>"))
    outcomes = loader(server, root).fetch(files)
    missing = {file for file, outcome in outcomes.items() if outcome is Outcome.NOT_PUBLISHED}
    assert missing == {
        ArchiveFile("BTCUSDT", DAYS[1], "5m"),
        ArchiveFile("BTCUSDT", DAYS[1]),
        ArchiveFile("BTCUSDT", DAYS[2]),
    }
    assert ArchiveReader(root).days("BTCUSDT", "5m") == [DAYS[0], DAYS[2]]
    assert not [name for name in stored(root) if "2024-09-15" in name or "metrics-2024-09-16" in name]


def test_a_cut_connection_goes_on_where_it_stopped(server: ExchangeServer, root: Path, published: Path) -> None:
    server.fault(NAME, Fault(), Fault(cut=1000), Fault(cut=500))
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    ranges = [one.headers.get("Range") for one in server.asked if one.path.endswith(".zip")]
    assert ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert whole(root, published)


def test_a_server_that_cannot_send_parts_sends_it_all_again(
    server: ExchangeServer, root: Path, published: Path
) -> None:
    server.ranges = False
    server.fault(NAME, Fault(), Fault(cut=1000))
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)


def test_a_cut_that_never_ends_is_an_error_and_the_next_run_goes_on(
    server: ExchangeServer, root: Path, published: Path
) -> None:
    server.fault(NAME, Fault(), Fault(cut=700), Fault(cut=700), Fault(cut=700))
    with pytest.raises(MarketError, match=rf"{NAME}: the connection was cut .*, 3 times; try again later"):
        loader(server, root).fetch([FILE])
    assert stored(root) == [f"{NAME}.part"]
    assert ArchiveReader(root).days("BTCUSDT", "5m") == []
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert server.asked[-1].headers["Range"] == "bytes=2100-"
    assert whole(root, published)


@pytest.mark.parametrize("rest", ["rubbish", "whole", "too much"])
def test_what_an_earlier_process_left_is_used_only_if_it_proves_right(
    server: ExchangeServer, root: Path, published: Path, rest: str
) -> None:
    part = root / f"{FILE.path}.part"
    part.parent.mkdir(parents=True)
    right = (published / FILE.path).read_bytes()
    part.write_bytes({"rubbish": b"rubbish", "whole": right, "too much": right + b"!"}[rest])
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)


def test_another_part_than_the_one_asked_for_is_not_glued_on(
    server: ExchangeServer, root: Path, published: Path
) -> None:
    part = root / f"{FILE.path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((published / FILE.path).read_bytes()[:100])
    server.fault(NAME, Fault(), Fault(headers={"Content-Range": "bytes 50-99/100"}))
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"PK\x03\x04 damaged on the way", "does not match its published CHECKSUM"),
        (b"\r\n <!DOCTYPE html><p>Log in to use this network", "a web page instead of a zip file"),
        (b"", "does not match its published CHECKSUM"),
    ],
)
def test_a_wrong_zip_is_fetched_afresh_once_and_then_refused(
    server: ExchangeServer, root: Path, published: Path, body: bytes, said: str
) -> None:
    server.fault(NAME, Fault(), Fault(body=body))
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)
    shutil.rmtree(root)

    server.fault(NAME, Fault(), Fault(body=body), Fault(), Fault(body=body))
    with pytest.raises(MarketError, match=f"{NAME}: {said}, twice; nothing of it was kept"):
        loader(server, root).fetch([FILE])
    assert stored(root) == []


@pytest.mark.parametrize(
    "text", [b"<html>", b"", b"ab" * 32 + b"  another-file.zip\n", b"no checksum  " + NAME.encode()]
)
def test_a_wrong_checksum_file_is_refused(server: ExchangeServer, root: Path, text: bytes) -> None:
    server.fault(f"{NAME}.CHECKSUM", Fault(body=text))
    with pytest.raises(MarketError, match=rf"{NAME}.CHECKSUM: (a web page|something else) instead of the sha256"):
        loader(server, root).fetch([FILE])
    assert stored(root) == []


def test_a_damaged_file_in_the_cache_is_replaced_and_a_good_one_is_kept(
    server: ExchangeServer, root: Path, published: Path
) -> None:
    loader(server, root).fetch([FILE])
    (root / FILE.path).write_bytes(b"PK damaged")
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)

    (root / f"{FILE.path}.CHECKSUM").unlink()
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.CACHED}
    assert server.asked[-1].path.endswith(".CHECKSUM")
    assert whole(root, published)


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=503), Fault(hang=1.5), Fault(cut=0)])
def test_what_passes_is_borne_and_what_stays_is_an_error(
    server: ExchangeServer, root: Path, published: Path, fault: Fault
) -> None:
    patient = {"timeout": 0.3 if fault.hang else 3.0}
    server.fault("CHECKSUM", fault)
    assert loader(server, root, **patient).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)
    other = ArchiveFile("BTCUSDT", DAYS[1])
    server.fault(f"{other.path}.CHECKSUM", fault, always=True)
    with pytest.raises(MarketError, match=r"metrics-2024-09-15.zip.CHECKSUM: .*3 times; .*HEATMAP_ARCHIVE_URL"):
        loader(server, root, **patient).fetch([other])
    assert len(server.paths(other.path)) == 3


def test_retry_after_makes_every_thread_wait(server: ExchangeServer, root: Path) -> None:
    server.fault("2024-09-14.zip.CHECKSUM", Fault(status=429, headers={"Retry-After": "1"}, body=b""))
    files = [ArchiveFile("BTCUSDT", day, "5m") for day in DAYS]
    assert set(loader(server, root, workers=3).fetch(files).values()) == {Outcome.FETCHED}
    told = next(one.at for one in server.asked if "2024-09-14.zip.CHECKSUM" in one.path)
    since = [one.at - told for one in server.asked]
    # What was under way goes on; nothing new is asked until the time is over.
    assert not [after for after in since if 0.7 < after < 0.99]
    assert [after for after in since if after >= 0.99]


def test_a_pause_longer_than_the_time_limit_is_not_waited_for(server: ExchangeServer, root: Path) -> None:
    server.fault("CHECKSUM", Fault(status=429, headers={"Retry-After": "120"}))
    started = time.monotonic()
    with pytest.raises(
        MarketError, match=r"asked too often \(429\); the next try would be in 120 s, at .* UTC; the time limit of 20"
    ):
        loader(server, root).fetch([FILE])
    assert time.monotonic() - started < 1
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("7", 7), ("soon", None), ("9" * 400, 86400), ("Mon, 01 Jan 2001 00:00:00 GMT", 0), ("-3", None)],
)
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert web._retry_after(value) == seconds


def test_a_proxy_that_is_not_there_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://ann:secret@127.0.0.1:9")
    with pytest.raises(
        MarketError, match=r"the proxy \(HTTPS_PROXY, ALL_PROXY\) cannot be reached, 1 times"
    ) as refused:
        ArchiveDownloader("http://archive.example", root, retries=0).fetch([FILE])
    assert "secret" not in str(refused.value)


def test_a_ban_without_a_term_is_not_tried_again(server: ExchangeServer, root: Path) -> None:
    server.fault("CHECKSUM", Fault(status=418))
    with pytest.raises(MarketError, match="banned this address"):
        loader(server, root).fetch([FILE])
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", [Fault(drip=0.05), Fault(hang=0.3)])
def test_the_time_limit_holds_for_all_tries_together(server: ExchangeServer, root: Path, fault: Fault) -> None:
    server.fault("CHECKSUM", fault, always=True)
    started = time.monotonic()
    with pytest.raises(MarketError, match=r"time limit of 0\.6 s is used up"):
        loader(server, root, total_time=0.6, timeout=0.25, retries=50).fetch([FILE])
    assert time.monotonic() - started < 3
    assert stored(root) == []


@pytest.mark.parametrize("fault", [Fault(endless=True), Fault(headers={"Content-Length": str(10**10)}, cut=10)])
def test_an_oversized_body_is_refused(
    server: ExchangeServer, root: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 300_000)
    server.fault(NAME, Fault(), fault)
    with pytest.raises(MarketError, match=f"{NAME}: the answer is larger than 300000 bytes"):
        loader(server, root).fetch([FILE])
    assert ArchiveReader(root).days("BTCUSDT", "5m") == []
    monkeypatch.undo()
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}


def test_redirects_are_followed_within_the_web_only(server: ExchangeServer, root: Path, published: Path) -> None:
    checksum = f"/data/{FILE.path}.CHECKSUM"
    server.fault("CHECKSUM", Fault(status=302, headers={"Location": f"{server.url}{checksum}"}))
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)
    shutil.rmtree(root)
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x", "", "data:text/plain,x"):
        server.fault("CHECKSUM", Fault(status=302, headers={"Location": place}))
        with pytest.raises(MarketError, match="redirects to an address that is not followed"):
            loader(server, root).fetch([FILE])
    server.fault("CHECKSUM", Fault(status=307, headers={"Location": checksum}), always=True)
    with pytest.raises(MarketError, match="redirects more than 5 times"):
        loader(server, root).fetch([FILE])
    assert stored(root) == []


def test_a_redirect_never_leaves_encryption() -> None:
    client = WebClient("https://archive.example", setting="HEATMAP_ARCHIVE_URL")
    assert client._follow("https://archive.example/a", "/b", "a") == "https://archive.example/b"
    with pytest.raises(MarketError, match="not followed"):
        client._follow("https://archive.example/a", "http://archive.example/b", "a")


def test_one_bad_file_does_not_lose_the_others(server: ExchangeServer, root: Path, published: Path) -> None:
    server.fault("2024-09-16.zip.CHECKSUM", Fault(status=403), always=True)
    files = [ArchiveFile("BTCUSDT", day, "5m") for day in DAYS]
    with pytest.raises(MarketError, match=r"2024-09-16.zip.CHECKSUM: the server answered 403; .*firewall"):
        loader(server, root, workers=1).fetch(files)
    assert ArchiveReader(root).days("BTCUSDT", "5m") == DAYS[:2]
    assert whole(root, published)


def test_a_failure_ends_the_pauses_of_the_others(server: ExchangeServer, root: Path) -> None:
    server.fault("2024-09-14.zip.CHECKSUM", Fault(status=429, headers={"Retry-After": "15"}, hang=0.4))
    server.fault("2024-09-15.zip.CHECKSUM", Fault(status=403, hang=0.8))
    started = time.monotonic()
    with pytest.raises(MarketError, match=r"2024-09-15\.zip\.CHECKSUM: the server answered 403"):
        loader(server, root, workers=2).fetch([ArchiveFile("BTCUSDT", day, "5m") for day in DAYS[:2]])
    assert time.monotonic() - started < 5


def test_messages_keep_the_secrets_of_an_address(server: ExchangeServer, root: Path) -> None:
    server.fault("CHECKSUM", Fault(status=401))
    address = server.url.replace("http://", "http://ann:secret@") + "/data/../"
    with pytest.raises(MarketError, match="answered 401") as refused:
        ArchiveDownloader(address, root, retries=0).fetch([FILE])
    assert "secret" not in str(refused.value)
    assert server.asked[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "address", ["", "ftp://x", "data.binance.vision", "https://", "https://x/?token=1", "http://[x"]
)
def test_an_address_that_is_none_is_refused(root: Path, address: str) -> None:
    with pytest.raises(MarketError, match="HEATMAP_ARCHIVE_URL is not an address"):
        ArchiveDownloader(address, root)


def test_a_server_that_is_not_there_is_an_error(published: Path, root: Path) -> None:
    with ExchangeServer(published, NOW) as gone:
        pass
    with pytest.raises(MarketError, match="the connection was refused or cut, 3 times"):
        loader(gone, root).fetch([FILE])


def test_symbols_never_become_paths(server: ExchangeServer, root: Path) -> None:
    for symbol in ("../../etc", "BTC/USDT", "btcusdt", ""):
        with pytest.raises(SettingsError):
            loader(server, root).fetch([ArchiveFile(symbol, DAY, "5m")])
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_named(server: ExchangeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MarketError, match=r"cannot write .*file"):
        loader(server, tmp_path / "file").fetch([FILE])


def test_a_full_disk_leaves_no_visible_file(
    server: ExchangeServer, root: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as planted:
        planted.setattr(Path, "replace", full)
        with pytest.raises(MarketError, match="No space left on device"):
            loader(server, root).fetch([FILE])
    assert ArchiveReader(root).days("BTCUSDT", "5m") == []
    assert loader(server, root).fetch([FILE]) == {FILE: Outcome.FETCHED}
    assert whole(root, published)


def test_two_processes_may_fetch_the_same_files(server: ExchangeServer, root: Path, published: Path) -> None:
    files = [ArchiveFile("BTCUSDT", day, kind) for day in DAYS for kind in ("5m", "")]
    results = []
    threads = [threading.Thread(target=lambda: results.append(loader(server, root).fetch(files))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fetched = [outcome for result in results for outcome in result.values() if outcome is Outcome.FETCHED]
    assert len(results) == 3
    assert len(fetched) == 6
    assert all(whole(root, published, file) for file in files)


# --- corrected files --------------------------------------------------------------------------------------------------


def a_day_ago(root: Path, *files: ArchiveFile) -> None:
    """Make the files look as if the archive had been asked about them a day ago."""
    then = time.time() - 86401
    for file in files:
        for path in (root / f"{file.path}.CHECKSUM", (root / file.path).with_name(f".{file.name}.asked")):
            if path.exists():
                os.utime(path, (then, then))


@pytest.fixture
def corrected(tmp_path: Path) -> Path:
    """The archive of three days, with another first day: that of another seed."""
    root = tmp_path / "corrected"
    write_demo_days(root, "BTCUSDT", DAYS, seed=99)
    return root


def test_a_corrected_file_is_fetched_and_asked_about_once_a_day(
    server: ExchangeServer, root: Path, published: Path, corrected: Path
) -> None:
    files = [ArchiveFile("BTCUSDT", day, kind) for day in DAYS for kind in ("5m", "")]
    client = loader(server, root)
    client.fetch(files)
    server.asked.clear()
    assert client.fetch_changed(files) == []
    assert server.asked == []  # just fetched
    a_day_ago(root, *files)
    assert client.fetch_changed(files) == []
    assert sorted(server.paths()) == sorted(f"/data/{file.path}.CHECKSUM" for file in files)  # nothing but checksums
    server.asked.clear()
    assert client.fetch_changed(files) == []
    assert server.asked == []
    server.root = corrected
    assert client.fetch_changed(files) == []  # not before tomorrow
    assert client.fetch_changed([FILE], again_after=0) == [FILE]
    assert whole(root, corrected)
    a_day_ago(root, *files)
    assert client.fetch_changed(files) == sorted(set(files) - {FILE})
    assert all(whole(root, corrected, file) for file in files)


def test_a_file_that_was_not_there_is_asked_about_once_a_day_and_found(
    server: ExchangeServer, root: Path, published: Path
) -> None:
    server.hide("2024-09-14")
    client = loader(server, root)
    for asked in (1, 1):
        assert client.fetch_changed([FILE]) == []
        assert len(server.asked) == asked
    server.hidden.clear()
    assert client.fetch_changed([FILE]) == []
    a_day_ago(root, FILE)
    assert client.fetch_changed([FILE]) == [FILE]
    assert whole(root, published)
    assert stored(root) == [NAME, f"{NAME}.CHECKSUM"]


def test_a_correction_that_is_damaged_or_gone_leaves_the_good_file(
    server: ExchangeServer, root: Path, published: Path, corrected: Path
) -> None:
    client = loader(server, root)
    client.fetch([FILE])
    server.root = corrected
    server.fault(NAME, Fault(), Fault(cut=0), Fault(body=b"PK damaged"), Fault(), Fault(body=b"PK damaged"))
    assert client.fetch_changed([FILE], again_after=0) == []
    server.hide(NAME)
    assert client.fetch_changed([FILE], again_after=0) == []
    assert whole(root, published)
    server.hidden.clear()
    server.fault("CHECKSUM", Fault(status=403))
    with pytest.raises(MarketError, match="answered 403"):
        client.fetch_changed([FILE], again_after=0)
    assert whole(root, published)
    assert client.fetch_changed([FILE], again_after=0) == [FILE]


def test_a_file_placed_by_hand_is_left_alone(server: ExchangeServer, root: Path) -> None:
    (root / FILE.path).parent.mkdir(parents=True)
    (root / FILE.path).write_bytes(b"mine")
    assert loader(server, root).fetch_changed([FILE], again_after=0) == []
    assert server.asked == []


@pytest.mark.market
def test_real_files_arrive_byte_for_byte(market_dir: Path, root: Path) -> None:
    real = market_dir / "binance_vision"
    days = [date(2024, 9, 14) + timedelta(days=number) for number in range(4)]
    files = [ArchiveFile("DOGEUSDT", day, kind) for day in days for kind in ("5m", "")]
    with ExchangeServer(real, NOW) as server:
        outcomes = loader(server, root).fetch([*files, ArchiveFile("DOGEUSDT", date(2024, 9, 19), "5m")])
    assert list(outcomes.values()).count(Outcome.FETCHED) == 8
    assert outcomes[ArchiveFile("DOGEUSDT", date(2024, 9, 19), "5m")] is Outcome.NOT_PUBLISHED
    assert all(whole(root, real, file) for file in files)
