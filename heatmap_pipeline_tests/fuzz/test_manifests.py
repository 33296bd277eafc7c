"""Damaged manifests of backups and exports: refused in a sentence, or used as they are; nothing outside is touched.

The files are a few letters each, so that a case takes milliseconds. What becomes of a whole export is in
`store/test_export.py`. More inputs: see `_harness.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.store import export
from heatmap_pipeline.store.backup import BackupError, chosen, restore
from heatmap_pipeline.store.migrate import SCHEMA_VERSION
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.fuzz._harness import Tally, budget, outcome
from heatmap_pipeline_tests.fuzz._mutate_csv import byte_steps, mutate_bytes
from heatmap_pipeline_tests.fuzz._mutate_json import json_steps, mutate_json

FILES = {
    "warehouse/BTCUSDT.duckdb": "private",
    "heatmap.duckdb": "published",
    "last_run.json": "{}",
    "recordings/bybit/BTCUSDT/BTCUSDT-2026-11-26T03.jsonl": "heard",
    "renders/index.html": "drawn",
    "archive/binance/futures/um/daily/klines/BTCUSDT/5m/by-hand.zip": "placed",
}

NAMES: tuple[str, ...] = (
    "../outside", "recordings/../../outside", "/outside", "..", ".", "", "recordings/..", "./warehouse.duckdb",
    "recordings//x.jsonl", "recordings/./x.jsonl", ".restore.ready/x", ".restore.part/x", ".aside", "run.lock",
    "warehouse.lock", "dagster/history/runs.db", "dagster/dagster.yaml", "recordings/x.lock", ".hidden.json", "x.sh",
    "archive/binance/x.zip.CHECKSUM", "archive/../x.zip", "cache/numba/x.nbi", "renders/\x00", "renders/\ud800",
    "renders/\x1b[2J", "renders/two\nlines", f"renders/{'x' * 300}", "renders/" + "x/" * 3000 + "x", "renders\\x",
    "warehouse.duckdb/x.json", "recordings/bybit", "recordings/bybit/BTCUSDT/BTCUSDT-2026-11-26T03.jsonl/x",
    "warehouse/x.lock", "warehouse/.x.duckdb", "warehouse/x/y.duckdb",
)  # fmt: skip
"""What a file of a backup may be called, which none is."""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What lies beside the backup and the home, and is nobody's to touch."""
    (tmp_path / "outside").write_text("mine")
    return tmp_path


def put_backup(folder: Path) -> dict[str, Any]:
    """Write the files of a backup; return its manifest."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {
        "format": 1,
        "program": "1.0",
        "schema_version": SCHEMA_VERSION,
        "made": "2026-11-26T04:00:00Z",
        "home": "/srv/heatmap",
        "settings": {"HEATMAP_SOURCE": "demo"},
        "files": {name: described(text) for name, text in FILES.items()},
    }


def described(text: str) -> dict[str, Any]:
    return {"size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def everything_but(root: Path, *left_out: Path) -> dict[str, str]:
    """Return the files below a folder but those of some folders, as text; of links and large ones what they are."""
    found = {}
    for inside, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(inside, name) not in left_out]
        for path in (Path(inside, name) for name in names):
            status = path.lstat()
            plain = stat.S_ISREG(status.st_mode) and status.st_size < 1_000_000
            found[str(path)] = path.read_text("latin-1") if plain else f"{status.st_mode} {status.st_size}"
    return found


def tried(root: Path, folder: Path) -> HeatmapError | dict[str, str]:
    """Restore a backup into a new home; return the refusal, or the files of the home."""
    home = root / "home"
    shutil.rmtree(home, ignore_errors=True)
    before = everything_but(root, home)
    found = outcome(lambda: restore(Warehouse(home, lock_timeout=5), *chosen(folder), replace=False))
    assert everything_but(root, home) == before, "something outside of the home was touched"
    there = {name: text for name, text in everything_but(home).items() if ".lock" not in name} if home.exists() else {}
    if isinstance(found, HeatmapError):
        assert there == {}, "half a restore"
        return found
    return {str(Path(name).relative_to(home)): text for name, text in there.items()}


def test_manifests_of_backups(outside: Path, tally: Tally, record_property: Any, request: Any) -> None:
    folder = outside / "backup"
    manifest = put_backup(folder)
    files = {name: described(text) for name, text in FILES.items()}

    @budget()
    @given(json_steps(), byte_steps(1))
    def case(steps: Any, cuts: Any) -> None:
        data = mutate_bytes(mutate_json(manifest, steps), cuts)
        (folder / "manifest.json").write_bytes(data)
        note(repr(data))
        found = tried(outside, folder)
        if isinstance(found, HeatmapError):
            tally.refused(found, str(folder))
            return
        named = json.loads(data)["files"]
        assert named.items() <= files.items(), "what is in no backup was restored"
        assert found == {name: FILES[name] for name in named}
        tally.read({}, {})

    case()
    tally.check(record_property, request.node.name, refused=20, accepted=5)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_a_name_that_no_backup_has_is_refused(outside: Path, name: str) -> None:
    folder = outside / "backup"
    manifest = put_backup(folder)
    manifest["files"][name] = described("mine")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with suppress(OSError, ValueError):  # where there can be such a file, there is
        if not (folder / name).exists() and (folder / name).resolve().is_relative_to(folder):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("mine")
    found = tried(outside, folder)
    assert isinstance(found, BackupError)
    assert str(found).isprintable()
    assert len(str(found)) < 700


Harm = Callable[[Path], object]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.write_bytes(b"[" * 100_000), "manifest.json cannot be used (it is not as it was written)"),
        (lambda path: path.write_text(path.read_text()[:-1] + ', "format": 1}'), "cannot be used"),
        (lambda path: path.write_text(path.read_text().replace('"size": 7', f'"size": {"9" * 5000}')), "cannot be"),
        (lambda path: path.write_text(path.read_text().replace('"size": 7', '"size": 1e999')), "cannot be used"),
        (lambda path: path.write_text(path.read_text().replace('"size": 7', '"size": "7"')), "not as it was written"),
        (lambda path: (path.parent / "extra").symlink_to("/dev/zero"), ""),
        (lambda path: replaced_by_link(path.parent / "last_run.json", Path("/dev/zero")), "it is a device, not a file"),
        (lambda path: replaced_by_link(path.parent / "renders", path.parents[1]), "index.html: No such file"),
    ],
)
def test_a_backup_that_was_tampered_with(outside: Path, harm: Harm, said: str) -> None:
    folder = outside / "backup"
    (folder / "manifest.json").write_text(json.dumps(put_backup(folder)))
    harm(folder / "manifest.json")
    found = tried(outside, folder)
    if said:
        assert said in str(found)
        assert "\n" not in str(found)
    else:
        assert found == FILES


def replaced_by_link(path: Path, target: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


def test_no_more_is_read_of_a_file_than_the_manifest_says(outside: Path) -> None:
    folder = outside / "backup"
    (folder / "manifest.json").write_text(json.dumps(put_backup(folder)))
    with (folder / "last_run.json").open("r+b") as stream:
        stream.truncate(1 << 40)
    assert "last_run.json: it is not the file" in str(tried(outside, folder))


# -- exports


def test_manifests_of_exports(outside: Path, record_property: Any) -> None:
    """Whatever it says, it says nothing of files outside of the tree, and costs time only."""
    folder = outside / "tree"
    part = folder / "raw_candles/symbol=BTCUSDT/month=2024-07/part.parquet"
    part.parent.mkdir(parents=True)
    part.write_text("rows")
    group = {"symbol": "BTCUSDT", "month": "2024-07", "fingerprint": "f", "parts": {}}
    group["parts"] = {part.relative_to(folder).as_posix(): {"rows": 1, "bytes": 4}}
    other = {"symbol": "", "month": "", "fingerprint": "g", "parts": {}}
    manifest = {"format": 1, "complete": True, "groups": [group, other]}
    wanted = {("BTCUSDT", "2024-07"): "f", ("", ""): "g"}
    used = 0

    @budget()
    @given(json_steps(), byte_steps(1))
    def case(steps: Any, cuts: Any) -> None:
        nonlocal used
        data = mutate_bytes(mutate_json(manifest, steps), cuts)
        (folder / export.MANIFEST).write_bytes(data)
        note(repr(data))
        before = everything_but(outside)
        kept = export._unchanged(folder, export._read_manifest(folder), wanted)
        for path in {path for each in kept.values() for path in each.parts}:
            assert (folder / path).resolve() == part
        assert export._parts_there(folder) <= {part.relative_to(folder).as_posix()}
        assert everything_but(outside) == before
        used += bool(kept)

    case()
    record_property("fuzz", f"manifests of exports: {used} used")
    assert used > 20


@pytest.mark.parametrize(
    "path", ["../mine/part.parquet", "/mine/part.parquet", "mine/../../part.parquet", "t/symbol=\x00/part.parquet",
             "t/symbol=x/../part.parquet", "t\n/part.parquet", "part.parquet", ".tmp/part.parquet"]
)  # fmt: skip
def test_a_path_that_no_export_has_makes_the_manifest_say_nothing(tmp_path: Path, path: str) -> None:
    group = {"symbol": "", "month": "", "fingerprint": "f", "parts": {path: {"rows": 1, "bytes": 4}}}
    text = json.dumps({"format": 1, "complete": True, "groups": [group]})
    (tmp_path / export.MANIFEST).write_text(text)
    assert export._read_manifest(tmp_path) == export._Manifest()


def test_a_manifest_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / export.MANIFEST)
    assert export._read_manifest(tmp_path) == export._Manifest()
