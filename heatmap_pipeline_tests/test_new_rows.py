"""A third model is a new row, and so is another exchange: both go through the whole program, nothing edited."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner, Result

from heatmap_pipeline.chain.history import ChainError, read_history, resolve_parameters
from heatmap_pipeline.chain.reading import reader
from heatmap_pipeline.chain.settings import load_checked_settings
from heatmap_pipeline.definitions import defs
from heatmap_pipeline.market.sources import OPENERS, ArchiveMarket, open_market
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.render.picture import write_png
from heatmap_pipeline.settings import SettingsError, load_settings
from heatmap_pipeline.source_kinds import SOURCES, SourceKind
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import as_if_yesterday_were, draw_only_the_page
from heatmap_pipeline_tests.api.homes import MAP, client
from heatmap_pipeline_tests.orchestration.homes import BTC, day, write_archive
from heatmap_pipeline_tests.store.tiny import fill


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("files"), 3, BTC)


@pytest.fixture
def rows(files: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Add a model and a source to the tables; return the command as it is with them."""
    gentle = replace(MODELS["turnover"], name="gentle", turnover=0.01, leverage_weights=((2.0, 1.0), (10.0, 1.0)))
    monkeypatch.setitem(MODELS, "gentle", gentle)
    mirror = SourceKind("mirror", grows=True, has_today=True, over_network=True)
    monkeypatch.setitem(SOURCES, "mirror", mirror)
    monkeypatch.setitem(OPENERS, "mirror", lambda _settings, _progress: ArchiveMarket(files))
    monkeypatch.setattr(dg.DagsterInstance, "from_config", lambda _: dg.DagsterInstance.ephemeral())
    # The choices of the command are made when it is imported: it is imported once more, beside the one of the others.
    for name in [name for name in sys.modules if f"{name}.".startswith("heatmap_pipeline.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    module = import_module("heatmap_pipeline.cli")

    def heatmap(*words: object) -> Result:
        return CliRunner().invoke(module.main, [str(word) for word in words], catch_exceptions=False)

    return heatmap


def test_the_tables_of_sources_name_the_same() -> None:
    assert set(OPENERS) == set(SOURCES)
    for table in (SOURCES, MODELS):
        assert all(row.name == name for name, row in table.items())


def _new_model(data: Any, path: Path) -> None:
    """Draw the picture of the new model; that of the other takes as long."""
    write_png(data, path) if path.stem == "heatmap-gentle" else path.write_bytes(b"")


@pytest.mark.slow
def test_a_new_model_and_a_new_source_go_all_the_way(
    rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_yesterday_were(monkeypatch, day(3))
    draw_only_the_page(monkeypatch)
    monkeypatch.setattr("heatmap_pipeline.render.page.write_png", _new_model)
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    home = tmp_path / "home"
    words = ("--source", "mirror", "--model", "delta", "--model", "gentle", "--home", home)
    result = rows("run", BTC, "--start", day(1), "--end", day(2), *words)
    assert result.exit_code == 0, result.output
    assert f"{BTC}: {day(1)} .. {day(2)} computed and published (real data)" in result.stdout
    with duckdb.connect(str(home / "heatmap.duckdb"), read_only=True) as con:
        assert con.execute("SELECT symbol, source, simulated FROM symbols").fetchall() == [(BTC, "mirror", False)]
        query = "SELECT model, count(*) FROM heatmap_days GROUP BY model ORDER BY model"
        assert con.execute(query).fetchall() == [("delta", 2), ("gentle", 2)]
        opened = (
            "SELECT DISTINCT leverage FROM position_events WHERE model = 'gentle' AND event_type = 'open' ORDER BY 1"
        )
        assert con.execute(opened).fetchall() == [(2.0,), (10.0,)]
    assert "gentle" in (home / "renders" / "index.html").read_text()
    monkeypatch.setenv("HEATMAP_MODELS", "gentle,delta")
    status = rows("status", "--home", home).stdout
    line = f"heatmap refresh {BTC} --source mirror --home {home}"
    assert f"missing {BTC} {day(3)} .. {day(3)}: not computed yet; catch up with `{line}`" in status, "it grows"
    settings = load_checked_settings(home=home, source="mirror")
    with client(settings) as endpoint:
        (entry,) = endpoint.get("/symbols").json()["symbols"]
        assert entry["models"] == ["gentle", "delta"]
        body = endpoint.get(MAP, params={"symbol": BTC, "model": "gentle"}).json()
        assert body["model"] == "gentle"
        assert f"`{line}`" in endpoint.get("/health").json()["reason"]


def test_the_choices_and_the_sentences_list_them(rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = rows("run", "--help").stdout
    assert "[binance|archive|demo|exchange|mirror]" in text
    assert "[delta|turnover|gentle]" in text
    wrong = rows("demo", "--model", "delat", "--home", tmp_path)
    assert wrong.exit_code == 2
    assert "'delta', 'turnover', 'gentle'" in wrong.stderr
    wrong = rows("refresh", "--source", "mirror", "--archive", tmp_path, "--home", tmp_path)
    assert "--archive and --source mirror exclude each other" in wrong.stderr
    monkeypatch.setenv("HEATMAP_SOURCE", "miror")
    with pytest.raises(SettingsError, match=r"'miror': write 'archive', 'binance', 'demo', 'exchange' or 'mirror'$"):
        load_settings()
    monkeypatch.setenv("HEATMAP_SOURCE", "mirror")
    monkeypatch.setenv("HEATMAP_MODELS", "gentle, gentel")
    said = r"HEATMAP_MODELS = 'gentle,gentel': unknown model gentel; allowed are delta, turnover and gentle$"
    with pytest.raises(SettingsError, match=said):
        load_checked_settings()
    assert said[:-1] in rows("status", "--home", tmp_path).stderr
    monkeypatch.setenv("HEATMAP_MODELS", "gentle")
    settings = load_checked_settings(home=tmp_path)
    assert (settings.models, settings.source, settings.simulated) == (("gentle",), "mirror", False)
    assert settings.archive_root == tmp_path / "archive" / "mirror"


def test_what_a_source_can_do_decides_and_not_its_name(rows: Any, tmp_path: Path) -> None:
    for source, today, network in (("mirror", True, True), ("binance", True, True), ("demo", False, False)):
        settings = load_settings(home=tmp_path, source=source, symbols=(BTC,))
        made = build_defs(settings)
        names = {schedule.name for schedule in made.schedules or ()}
        assert ("heatmap_intraday_schedule" in names) == today
        op = made.resolve_job_def("heatmap_daily").graph.node_named(f"{BTC}__raw_candles").definition
        assert isinstance(op, dg.OpDefinition)
        assert (op.retry_policy is not None) == network
        assert type(open_market(settings)).__name__ in {"ArchiveMarket", "BinanceSource", "DemoMarket"}


def test_another_seed_reads_every_made_up_market_anew_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "dream", SourceKind("dream", grows=True, simulated=True))
    for source, anew in (("dream", True), ("demo", True), ("binance", False)):
        digests = {reader(load_settings(source=source, demo_seed=seed), BTC) for seed in (1, 2)}
        assert (len(digests) == 2) == anew, source


def test_dagster_loads_no_unknown_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path))
    monkeypatch.setenv("HEATMAP_MODELS", "gentle")
    with pytest.raises(SettingsError, match="unknown model gentle; allowed are delta and turnover"):
        defs()


def test_a_model_that_this_program_lacks_is_refused_in_words(tmp_path: Path) -> None:
    """A home of a later program, or one whose row was taken away."""
    warehouse = Warehouse(tmp_path)
    with warehouse.connect(BTC) as con:
        fill(con)
        con.execute("UPDATE heatmap_days SET model = 'gentle' WHERE model = 'delta'")
        settings = load_settings(home=tmp_path)
        record = read_history(con, settings, BTC).symbol
    with pytest.raises(ChainError, match="BTCUSDT gentle: this program has no such model; it has delta and turnover"):
        resolve_parameters(settings, record, "gentle", day(1), 100.0)
