"""Files: which are taken, which are refused in one sentence, and that new publications are followed."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from heatmap_pipeline.client import ClientError, Heatmap
from heatmap_pipeline.settings import Settings, SettingsError
from heatmap_pipeline_tests.api.homes import BTC, ETH, settings_of


def test_the_file_a_copy_of_another_name_and_the_home_are_the_same(
    published: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Heatmap
) -> None:
    copy = tmp_path / "of last week.db"
    shutil.copy(published.home / "heatmap.duckdb", copy)
    monkeypatch.setenv("HEATMAP_HOME", str(published.home))
    for source in (copy, str(copy), published.home, str(published.home), None):
        with Heatmap(source) as heatmap:
            assert heatmap.markets() == file.markets()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["of last week.db"]
    monkeypatch.chdir(tmp_path)
    with Heatmap("of last week.db") as heatmap:
        assert heatmap.zones(BTC).price == file.map(BTC).price


def test_the_models_stand_in_the_order_of_the_setting(published: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_MODELS", "delta,turnover")
    with Heatmap(published.home) as heatmap:
        assert heatmap.markets()[0].models == ("delta", "turnover")
        assert heatmap.map(BTC).provenance.model == "delta"


def test_files_that_are_none_are_refused(published: Settings, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "empty").touch()
    with duckdb.connect(str(tmp_path / "other.duckdb")) as con:
        con.execute("CREATE TABLE t (i INTEGER)")
    whole = (published.home / "heatmap.duckdb").read_bytes()
    (tmp_path / "half.duckdb").write_bytes(whole[: len(whole) // 2])
    for name, words in (
        ("nothing", f"{tmp_path}/nothing is not there; give heatmap.duckdb"),
        (".", f"nothing is published in {tmp_path} yet; give "),
        ("notes.txt", f"{tmp_path}/notes.txt is not a file of DuckDB; give heatmap.duckdb"),
        ("empty", f"{tmp_path}/empty is not a file of DuckDB; "),
        ("notes.txt/heatmap.duckdb", "cannot be read (Not a directory); give"),
        ("warehouse.duckdb", f"is private to the pipeline; give {tmp_path}/heatmap.duckdb"),
        ("other.duckdb", f"{tmp_path}/other.duckdb is a database of something else; give heatmap.duckdb"),
        ("half.duckdb", f"{tmp_path}/half.duckdb"),
        ("too long" * 99, "cannot be read (File name too long); give heatmap.duckdb"),
    ):
        with pytest.raises(ClientError) as refusal:
            Heatmap(tmp_path / name).markets()
        assert words in str(refusal.value)
    with pytest.raises(ClientError, match="~who/x: no such home folder is known here; write a whole path"):
        Heatmap("~who/x")


def test_new_publications_are_followed(published: Settings, tmp_path: Path) -> None:
    """Each question is answered by the newest file; one that is removed is missed, and its answers are not repeated."""
    file = tmp_path / "heatmap.duckdb"
    shutil.copy(published.home / "heatmap.duckdb", file)
    with Heatmap(tmp_path) as heatmap:
        before = heatmap.map(ETH)
        other = tmp_path / "new.duckdb"
        shutil.copy(file, other)
        with duckdb.connect(str(other)) as con:
            con.execute("UPDATE raw_candles SET close = close * 2 WHERE symbol = ?", [ETH])
            con.execute("UPDATE heatmap_days SET created_at = created_at + INTERVAL 1 SECOND WHERE symbol = ?", [ETH])
        other.replace(file)
        after = heatmap.map(ETH)
        assert after.price == 2 * before.price
        assert after.provenance.publication != before.provenance.publication
        assert heatmap.map(BTC).price > 0
        file.unlink()
        with pytest.raises(ClientError, match="nothing is published in"):
            heatmap.map(ETH)


def test_a_wrong_setting_is_said_as_everywhere(published: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_API_QUEUE", "many")
    with pytest.raises(SettingsError, match="HEATMAP_API_QUEUE"):
        Heatmap(published.home)


def test_a_file_is_closed_and_opened_again(published: Settings) -> None:
    heatmap = Heatmap(settings_of(published.home).home)
    first = heatmap.map(BTC)
    heatmap.close()
    assert heatmap.map(BTC).total_long == first.total_long
    heatmap.close()
