"""Corrected files that are garbage, cut off, or lied about: the good file that is here stays, or a whole one comes.

More inputs: see `_harness.py`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market.archive_names import ArchiveFile, read_checksum
from heatmap_pipeline.market.download import ArchiveDownloader
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.fuzz._harness import outcome
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.market._files import candle_rows, csv_text, write

DAY = date(2024, 9, 14)
FILE = ArchiveFile("BTCUSDT", DAY, "5m")

BODIES = st.sampled_from(["right", "right", "former", "cut", "longer", "garbage", "web page", "empty", "one bit"])
CHECKSUMS = st.sampled_from(["right", "right", "former", "of nothing", "name", "garbage", "web page", "two", "long"])
TAGS = st.sampled_from([{}, {"ETag": '"x"'}, {"ETag": 'W/"' + "0" * 32 + '"'}, {"ETag": ""}, {"ETag": "\xff" * 2000}])
STATUSES = st.sampled_from([None, None, None, 304, 404, 403, 500, 206, 416, 204])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeServer]:
    root = tmp_path_factory.mktemp("published")
    write(root / FILE.path, csv_text(candle_rows(50)), checksum=True)
    with ExchangeServer(root, datetime(2024, 9, 20, 12)) as running:
        yield running


def bodies(former: bytes, right: bytes) -> dict[str, bytes]:
    """Return what the archive may send in place of the corrected file."""
    return {
        "right": right,
        "former": former,
        "cut": right[: len(right) // 2],
        "longer": right + b"x",
        "garbage": bytes(range(256)) * 40,
        "web page": b"<!DOCTYPE html><html>log in</html>",
        "empty": b"",
        "one bit": right[:500] + bytes([right[500] ^ 1]) + right[501:],
    }


def checksums(former: bytes, right: bytes) -> dict[str, bytes]:
    name = f"{FILE.name}.zip".encode()
    of = {"right": right, "former": former, "of nothing": b""}
    lines = {key: hashlib.sha256(data).hexdigest().encode() + b"  " + name + b"\n" for key, data in of.items()}
    return {
        **lines,
        "name": lines["right"].replace(b"BTC", b"ETH"),
        "garbage": b"\x00\xff" * 50,
        "web page": b"<html>",
        "two": lines["right"] + lines["former"],
        "long": lines["right"] * 200,
    }


def test_whatever_the_archive_says_of_a_corrected_file(server: ExchangeServer, tmp_path: Path) -> None:
    former = (server.root / FILE.path).read_bytes()
    right = write(tmp_path / f"{FILE.name}.zip", csv_text(candle_rows(60))).read_bytes()
    came = 0

    @examples(150)
    @given(BODIES, CHECKSUMS, TAGS, STATUSES, STATUSES)
    def case(body: str, checksum: str, tags: Any, status: int | None, of_checksum: int | None) -> None:
        nonlocal came
        note(f"{body} {checksum} {tags} {status} {of_checksum}")
        root = tmp_path / "root"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(server.root, root)
        server._plans.clear()
        said = checksums(former, right)[checksum]
        server.fault(".CHECKSUM", Fault(status=of_checksum, body=said, headers=tags), always=True)
        sent = bodies(former, right)[body]
        server.fault(".zip", Fault(status=status, body=sent, headers=tags), always=True)
        loader = ArchiveDownloader(server.url, root, timeout=2.0, total_time=5.0, retries=0, backoff=0.0)
        changed = outcome(lambda: loader.fetch_changed([FILE], again_after=0))
        loader.close()
        here = (root / FILE.path).read_bytes()
        beside = read_checksum((root / f"{FILE.path}.CHECKSUM").read_bytes())
        assert beside is not None
        assert beside[0] == hashlib.sha256(here).hexdigest(), "what is here is what its CHECKSUM says"
        assert here in (former, right) or hashlib.sha256(here).hexdigest().encode() in said
        if isinstance(changed, HeatmapError):
            assert str(changed).isprintable()
            assert here == former
        else:
            assert changed == ([FILE] if here != former else [])
        came += here == right

    case()
    assert came, "else nothing was tried"
