"""Damaged archive files: refused by name, or every row is what the text says and every repair is counted.

More inputs: see `_harness.py`.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.archive_file import read_archive_csv
from heatmap_pipeline.market.tables import CleanDay
from heatmap_pipeline_tests.fuzz._harness import Tally, budget, outcome
from heatmap_pipeline_tests.fuzz._mutate_csv import byte_steps, mutate_bytes, mutate_table, table_steps
from heatmap_pipeline_tests.fuzz._mutate_zip import CHECKSUMS, checksum_text, mutate_zip, pack, zip_steps
from heatmap_pipeline_tests.fuzz._oracle import (
    candle_problems,
    candles_said,
    check_candles,
    check_samples,
    samples_said,
)
from heatmap_pipeline_tests.fuzz._seeds import Seed
from heatmap_pipeline_tests.market._files import candles_path, metrics_path, write_bytes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that the damaged files stand in."""
    return tmp_path_factory.mktemp("archive")


def plain_candles(root: Path, seed: Seed) -> CleanDay:
    path = candles_path(root, seed.symbol, seed.interval, seed.day)
    write_bytes(path, pack(seed.candles, method=zipfile.ZIP_STORED))
    return ArchiveReader(root).read_candles(seed.symbol, seed.day, seed.seconds)


def plain_samples(root: Path, seed: Seed) -> tuple[CleanDay, CleanDay]:
    candles = plain_candles(root, seed)
    write_bytes(metrics_path(root, seed.symbol, seed.day), pack(seed.samples))
    samples = ArchiveReader(root).read_open_interest(seed.symbol, seed.day, candles.table, seed.seconds)
    return candles, samples


def test_candles(seeds: list[Seed], root: Path, tally: Tally, record_property: Any, request: Any) -> None:
    usual = [plain_candles(root, seed).repairs for seed in seeds]

    @budget()
    @given(st.integers(0, len(seeds) - 1), table_steps(), byte_steps())
    def case(at: int, steps: Any, cuts: Any) -> None:
        seed = seeds[at]
        data = mutate_bytes(mutate_table(seed.candles, steps), cuts)
        path = candles_path(root, seed.symbol, seed.interval, seed.day)
        write_bytes(path, pack(data, method=zipfile.ZIP_STORED))
        note(f"{seed.symbol} {data!r}")
        said = candles_said(data)
        problems = said.problems or candle_problems(said.rows, seed.day, seed.seconds)
        clean = outcome(lambda: ArchiveReader(root).read_candles(seed.symbol, seed.day, seed.seconds))
        if isinstance(clean, HeatmapError):
            tally.refused(clean, str(path))
            assert problems or said.doubts, f"refused for no reason: {clean}"
            return
        assert not problems, f"accepted {problems[:3]}"
        check_candles(clean, said, seed.day, seed.seconds)
        tally.read(clean.repairs, usual[at])

    case()
    tally.check(record_property, request.node.name, refused=15, repaired=2, accepted=2)


def test_samples(seeds: list[Seed], root: Path, tally: Tally, record_property: Any, request: Any) -> None:
    usual = [plain_samples(root, seed) for seed in seeds]

    @budget()
    @given(st.integers(0, len(seeds) - 1), table_steps(), byte_steps())
    def case(at: int, steps: Any, cuts: Any) -> None:
        seed = seeds[at]
        data = mutate_bytes(mutate_table(seed.samples, steps), cuts)
        path = metrics_path(root, seed.symbol, seed.day)
        write_bytes(path, pack(data, method=zipfile.ZIP_STORED))
        note(f"{seed.symbol} {data!r}")
        said = samples_said(data, seed.symbol)
        candles, samples = usual[at]
        reader = ArchiveReader(root)
        clean = outcome(lambda: reader.read_open_interest(seed.symbol, seed.day, candles.table, seed.seconds))
        if isinstance(clean, HeatmapError):
            tally.refused(clean, str(path))
            assert said.problems or said.doubts, f"refused for no reason: {clean}"
            return
        assert not said.problems, f"accepted {said.problems[:3]}"
        check_samples(clean, said, seed.day, seed.seconds)
        tally.read(clean.repairs, samples.repairs)

    case()
    tally.check(record_property, request.node.name, refused=15, repaired=2, accepted=2)


def test_zips(seeds: list[Seed], root: Path, tally: Tally, record_property: Any, request: Any) -> None:
    usual = [plain_candles(root, seed) for seed in seeds]

    @budget()
    @given(st.integers(0, len(seeds) - 1), zip_steps(), byte_steps(1), st.sampled_from(CHECKSUMS))
    def case(at: int, step: Any, cuts: Any, checksum: str) -> None:
        seed = seeds[at]
        packed = mutate_bytes(mutate_zip(seed.candles, step), cuts)
        path = candles_path(root, seed.symbol, seed.interval, seed.day)
        write_bytes(path, packed)
        note(f"{step} {packed!r}")
        digest = hashlib.sha256(packed).hexdigest()
        beside = path.with_name(path.name + ".CHECKSUM")
        text = checksum_text(checksum, digest, path.name)
        beside.unlink(missing_ok=True)
        if text is not None:
            beside.write_bytes(text)
        pattern = f"(?i:{digest})[ \t]+\\*?{path.name}\\s*".encode()
        right = text is None or (len(text) < 4096 and re.fullmatch(pattern, text) is not None)
        file = outcome(lambda: read_archive_csv(path))
        if isinstance(file, HeatmapError):
            tally.refused(file, str(path))
            assert step[0] != "method" or cuts or not right or step[1][0] % 4 > 1, f"refused for no reason: {file}"
            return
        assert right
        assert (file.path, file.sha256) == (path, digest)
        # Nothing but a text that was packed comes out: a sum over it stands in every zip.
        whole = [seed.candles, b"1,2\n", b"\n", b"", b"/etc/passwd"]
        nested = [pack(seed.candles), pack(pack(seed.candles)), pack(pack(pack(seed.candles)))]
        texts = [text.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n") for text in whole + nested]
        assert file.data in texts
        if file.data == texts[0]:
            clean = ArchiveReader(root).read_candles(seed.symbol, seed.day, seed.seconds)
            assert clean.content_hash() == usual[at].content_hash()
            tally.read(clean.repairs, usual[at].repairs)
        else:
            tally.counts["other text"] += 1

    case()
    tally.check(record_property, request.node.name, refused=30, accepted=5)
