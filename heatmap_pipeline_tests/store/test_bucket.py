"""A store of objects, a folder or a bucket of S3: swaps that only one wins, failures in words that name the store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from heatmap_pipeline.store import bucket as module
from heatmap_pipeline.store.bucket import Bucket, BucketError
from heatmap_pipeline_tests.fleet._s3 import BUCKET, Fault, Proxy, s3_server, use

pytestmark = [pytest.mark.slow, pytest.mark.fleet]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with an empty bucket."""
    with s3_server() as address:
        yield address


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A server before it that fails by a plan; this process asks it, and is not patient."""
    monkeypatch.setattr(module, "_RETRIES", 3)
    monkeypatch.setattr(module, "_BACKOFF", {**module._BACKOFF, "init_backoff": timedelta(milliseconds=5)})
    proxy = Proxy(server)
    use(monkeypatch, proxy.address)
    yield proxy
    proxy.close()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    """An empty store of each kind."""
    if request.param == "file":
        return Bucket(f"file://{tmp_path}/a store")
    request.getfixturevalue("proxy")
    return Bucket(f"s3://{BUCKET}/{uuid4().hex}/prefix")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "part").write_bytes(b"rows" * 1000)
    return tmp_path / "part"


def test_what_is_written_is_read_listed_and_removed(store: Bucket, file: Path, tmp_path: Path) -> None:
    path = "parts/raw_candles/symbol=%E5%B8%81USDT/2024-01-ab.parquet"
    assert store.read(path) is None
    assert not store.fetch(path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    store.write(path, file)
    assert store.fetch(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    (entry,) = store.entries("parts/")
    assert (entry.path, entry.bytes) == (path, 4000)
    assert abs(time.time() - entry.modified.timestamp()) < 60
    assert store.entries("manifests/") == []
    store.remove([path, path])
    assert store.entries("parts/") == []


def test_a_swap_takes_place_only_where_it_is_as_it_was_seen(store: Bucket) -> None:
    first = store.swap("manifests/A.json", b"1", None)
    assert first is not None
    assert store.swap("manifests/A.json", b"other", None) is None, "there is one already"
    second = store.swap("manifests/A.json", b"2", first)
    assert second is not None
    assert store.swap("manifests/A.json", b"other", first) is None, "it is another one by now"
    read = store.read("manifests/A.json")
    assert read is not None
    assert read.content == b"2"
    assert store.swap("manifests/A.json", b"3", read) is not None
    store.remove(["manifests/A.json"])
    assert store.swap("manifests/A.json", b"other", read) is None, "somebody has removed it"
    assert store.swap("manifests/A.json", b"4", None) is not None


def test_a_swap_in_a_folder_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves a manifest that is empty."""
    store, manifest, synced = Bucket(f"file://{tmp_path}"), tmp_path / "manifests" / "A.json", list[bytes]()
    first = store.swap("manifests/A.json", b"1", None)

    def sync(path: Path) -> None:
        if path.is_file() and path.read_bytes() == b"2":
            synced.append(manifest.read_bytes())

    monkeypatch.setattr(module, "sync", sync)
    assert store.swap("manifests/A.json", b"2", first)
    assert synced == [b"1"]
    assert manifest.read_bytes() == b"2"
    assert sorted(path.name for path in manifest.parent.iterdir()) == ["A.json", "A.json.lock"]


@pytest.mark.parametrize("there", [False, True])
def test_of_many_at_once_exactly_one_swaps(store: Bucket, there: bool) -> None:
    seen = store.swap("manifests/A.json", b"0", None) if there else None
    with ThreadPoolExecutor(8) as pool:
        swapped = list(pool.map(lambda number: store.swap("manifests/A.json", b"%d" % number, seen), range(1, 9)))
    (winner,) = [each for each in swapped if each is not None]
    read = store.read("manifests/A.json")
    assert read is not None
    assert read.content == winner.content


def test_a_server_that_overwrites_whatever_it_is_told_is_refused(store: Bucket, request: pytest.FixtureRequest) -> None:
    for _ in range(2):
        store.check_swaps()
    if store.address.startswith("s3"):
        request.getfixturevalue("proxy").plan = lambda _, __: "deaf"
        with pytest.raises(BucketError, match="overwrites objects whatever If-Match and If-None-Match say"):
            store.check_swaps()


# -- failures


@pytest.mark.parametrize("fault", ["500", "503"])
def test_a_server_that_fails_for_a_while_is_asked_again(proxy: Proxy, file: Path, fault: Fault) -> None:
    left = [0]

    def twice(_: str, __: str) -> Fault:
        left[0] -= 1
        return fault if left[0] >= 0 else ""

    proxy.plan = twice
    store = Bucket(f"s3://{BUCKET}/{uuid4().hex}")
    for do in (
        lambda: store.write("parts/a", file),
        lambda: store.read("parts/a"),
        lambda: store.entries("parts/"),
        lambda: store.swap("manifests/A.json", b"1", None),
        lambda: store.remove(["parts/a"]),
    ):
        left[0] = 2
        do()
    assert proxy.faults == 10
    read = store.read("manifests/A.json")
    assert read is not None
    assert read.content == b"1"
    assert store.entries("parts/") == []


def test_an_answer_that_takes_too_long_is_asked_for_again(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", timedelta(seconds=0.3))
    store, slow = Bucket(f"s3://{BUCKET}/{uuid4().hex}"), [0]
    store.swap("manifests/A.json", b"1", None)

    def once(_: str, __: str) -> Fault:
        slow[0] += 1
        return "slow" if slow[0] == 1 else ""

    proxy.plan = once
    read = store.read("manifests/A.json")
    assert read is not None
    assert (read.content, proxy.faults, slow[0]) == (b"1", 1, 2)


def test_a_swap_whose_answer_is_lost_has_taken_place(proxy: Proxy) -> None:
    """The request is made again, and meets what it has written itself."""
    lost = [1]

    def once(method: str, _: str) -> Fault:
        lost[0] -= method == "PUT"
        return "lost" if method == "PUT" and lost[0] >= 0 else ""

    store = Bucket(f"s3://{BUCKET}/{uuid4().hex}")
    proxy.plan = once
    first = store.swap("manifests/A.json", b"1", None)
    assert first is not None
    lost[0] = 1
    second = store.swap("manifests/A.json", b"2", first)
    assert second is not None
    assert store.swap("manifests/A.json", b"3", second) is not None, "what it returned is what is there"
    assert proxy.faults == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [("500", "does not answer as it should"), ("503", "does not answer"), ("403", "refuses these credentials")],
)
def test_a_server_that_goes_on_failing_is_named(proxy: Proxy, file: Path, fault: Fault, words: str) -> None:
    store = Bucket(f"s3://{BUCKET}/failing")
    proxy.plan = lambda _, __: fault
    for do in (
        lambda: store.write("parts/a", file),
        lambda: store.read("parts/a"),
        lambda: store.entries("parts/"),
        lambda: store.swap("manifests/A.json", b"1", None),
        lambda: store.remove(["parts/a"]),
    ):
        with pytest.raises(BucketError, match=words) as caught:
            do()
        assert f"s3://{BUCKET}/failing" in str(caught.value)
        assert fault == "403" or proxy.address in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(module, "_RETRIES", 1)
    with pytest.raises(BucketError, match=r"s3://markets/a does not answer as it should at http://127.0.0.1:9"):
        Bucket("s3://markets/a").read("manifests/A.json")


def test_a_bucket_that_is_not_there_is_named(proxy: Proxy, file: Path) -> None:
    store = Bucket("s3://no-such-bucket/a")
    for do in (
        lambda: store.read("x"),
        lambda: store.entries("x/"),
        lambda: store.write("x", file),
        lambda: store.fetch("x", file.with_name("copy")),
        lambda: store.swap("x", b"1", None),
    ):
        with pytest.raises(BucketError, match="store s3://no-such-bucket/a is not there: make the bucket"):
            do()
    assert proxy.faults == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_ENDPOINT_URL", "localhost:9000", "AWS_ENDPOINT_URL is not an address of the kind https://host:9000"),
        ("AWS_ENDPOINT_URL_S3", "http://me:s3cret@localhost:9", "AWS_ENDPOINT_URL_S3 is not an address"),
        ("AWS_ENDPOINT", "https:///a", "AWS_ENDPOINT is not an address"),
        ("AWS_REGION", "eu central", "AWS_REGION is not the name of a region"),
    ],
)
def test_what_obstore_would_abort_at_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    use(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "_RETRIES", 0)
    with pytest.raises(BucketError, match=words) as caught:
        Bucket("s3://markets/a").read("manifests/A.json")
    assert value not in str(caught.value)


def test_a_server_may_be_named_for_s3_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "https://127.0.0.1:8")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(module, "_RETRIES", 0)
    with pytest.raises(BucketError, match=r"should at http://127.0.0.1:9; .*http://127.0.0.1:9/markets/.*sending"):
        Bucket("s3://markets/a").read("manifests/A.json")


def test_without_credentials_it_is_said_which_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than at Amazon nobody answers there, or whoever stands before it refuses."""
    store = Bucket("s3://markets/a")
    words = "Error performing PUT http://169.254.169.254/latest/api/token in 3 ms - 403 Forbidden"

    def get(*_: object) -> None:
        raise store._obstore.exceptions.GenericError(words)

    monkeypatch.setattr(store._obstore, "get", get)
    with pytest.raises(BucketError, match=r"s3://markets/a has no credentials here.*: set AWS_ACCESS_KEY_ID and"):
        store.read("manifests/A.json")


def test_who_only_looks_makes_no_folder(tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "a" / "store"
    store = Bucket(f"file://{folder}")
    assert store.read("manifests/A.json") is None
    assert not store.fetch("parts/a", tmp_path / "copy")
    assert store.entries("parts/") == []
    assert store.remove_older(["parts/a"], datetime.now(UTC)) == []
    store.remove(["parts/a"])
    store.remove_unfinished("parts", datetime.now(UTC))
    assert not store.is_there()
    assert not (tmp_path / "a").exists()
    store.write("parts/a", file)
    assert store.is_there()
    assert [entry.path for entry in store.entries("parts/")] == ["parts/a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, file: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BucketError, match="cannot be read or written"):
        Bucket(f"file://{tmp_path}/store").write("parts/a", file)


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_written(file: Path) -> None:
    with pytest.raises(BucketError, match=r"store file:///proc/none/store cannot be read or written"):
        Bucket("file:///proc/none/store").check_swaps()
    with pytest.raises(BucketError, match=r"store file://.*/part/store cannot be read or written"):
        Bucket(f"file://{file}/store")


def test_a_folder_that_is_a_file_is_named(file: Path) -> None:
    with pytest.raises(BucketError, match=r"store file://.*/part cannot be read or written"):
        Bucket(f"file://{file}").write("parts/a", file)
