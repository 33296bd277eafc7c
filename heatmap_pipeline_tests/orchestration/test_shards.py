"""Shards: every symbol is in one, adding a symbol moves no other, and a code server loads its own symbols only."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import dagster as dg
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline import definitions
from heatmap_pipeline.orchestration import jobs
from heatmap_pipeline.orchestration.runs import packaged_file
from heatmap_pipeline.orchestration.shards import (
    LOCATION,
    SHARD_TAG,
    location_name,
    locations,
    of_shard,
    shard_of,
    workspace,
)
from heatmap_pipeline.settings import SettingsError, load_settings

MANY = tuple(f"{''.join(letters)}USDT" for letters in product("ABCDEFGHIJ", "KLMNOPQRST", "UVWXY"))
"""500 symbols."""

NAMES = st.from_regex(r"\A[A-Z]{2,6}\Z").map(lambda base: f"{base}USDT")


@given(st.sets(NAMES, min_size=1, max_size=8), NAMES, st.integers(1, 6))
def test_every_symbol_is_in_one_shard_and_another_one_moves_none(symbols: set[str], more: str, shards: int) -> None:
    def found(names: set[str]) -> dict[str, list[int]]:
        everywhere: dict[str, list[int]] = {name: [] for name in names}
        for shard in range(1, shards + 1):
            settings = load_settings(symbols=sorted(names), shards=shards, shard=shard)
            for name in of_shard(settings).symbols:
                everywhere[name].append(shard)
        return everywhere

    before, after = found(symbols), found(symbols | {more})
    assert all(len(places) == 1 for places in after.values())
    assert before.items() <= after.items()


@given(NAMES, st.integers(1, 40))
def test_a_shard_more_takes_symbols_and_moves_none_between_the_others(symbol: str, shards: int) -> None:
    assert shard_of(symbol, shards + 1) in (shard_of(symbol, shards), shards + 1)


@given(st.from_regex(r"\A[A-Z]{2,6}\Z"), st.integers(1, 40))
def test_the_markets_of_a_base_are_in_one_shard(base: str, shards: int) -> None:
    assert len({shard_of(name, shards) for name in (f"{base}USDT", f"{base}USDC", f"BYBIT_{base}USDT")}) == 1


def test_symbols_are_spread_over_the_shards() -> None:
    sizes = Counter(shard_of(symbol, 20) for symbol in MANY)
    assert len(sizes) == 20
    assert max(sizes.values()) <= 40, "25 on average"


def test_a_shard_loads_its_own_symbols_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500, with what a run of it plans: as many assets and steps as that many symbols have by themselves."""
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path))
    monkeypatch.setenv("HEATMAP_SOURCE", "binance")
    monkeypatch.setenv("HEATMAP_SYMBOLS", ",".join(MANY))
    monkeypatch.setenv("HEATMAP_SHARDS", "20")
    monkeypatch.setenv("HEATMAP_SHARD", "7")
    mine = [symbol for symbol in MANY if shard_of(symbol, 20) == 7]
    loaded = definitions.defs()
    assert isinstance(loaded, dg.Definitions)
    keys = loaded.resolve_all_asset_keys()
    assert {key.path[0] for key in keys} == set(mine)
    assert len(keys) == 8 * len(mine)
    job = loaded.resolve_job_def(jobs.NAME)
    assert job.tags[SHARD_TAG] == "7", "by which the queue lets one run of the shard go on at a time"
    assert len(job.nodes) <= 14 * len(mine)


def test_a_shard_without_symbols_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path))
    monkeypatch.setenv("HEATMAP_SYMBOLS", "BTCUSDT")
    monkeypatch.setenv("HEATMAP_SHARDS", "2")
    monkeypatch.setenv("HEATMAP_SHARD", str(3 - shard_of("BTCUSDT", 2)))
    loaded = definitions.defs()
    assert isinstance(loaded, dg.Definitions)
    dg.Definitions.validate_loadable(loaded)
    assert not loaded.resolve_all_asset_keys()


def test_a_code_server_that_does_not_know_its_shard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_SHARDS", "3")
    with pytest.raises(SettingsError, match=r"HEATMAP_SHARDS = 3, and HEATMAP_SHARD does not say .* `heatmap ui`"):
        definitions.defs()
    monkeypatch.setenv("HEATMAP_SHARD", "4")
    with pytest.raises(SettingsError, match="HEATMAP_SHARD = '4': there are HEATMAP_SHARDS = 3, counted from 1"):
        definitions.defs()


def test_the_one_location_is_that_of_workspace_yaml() -> None:
    (written,) = yaml.safe_load(packaged_file("workspace.yaml").read_text())["load_from"]
    assert locations(load_settings()) == {written["python_module"]["location_name"]: {}} == {LOCATION: {}}


def test_each_shard_is_a_location_by_number() -> None:
    settings = load_settings(shards=3)
    assert locations(settings) == {location_name(settings, shard): {"HEATMAP_SHARD": str(shard)} for shard in (1, 2, 3)}
    servers = [entry["grpc_server"] for entry in yaml.safe_load(workspace(settings, "code-{}", 4000))["load_from"]]
    assert [server["location_name"] for server in servers] == list(locations(settings))
    assert [(server["host"], server["port"]) for server in servers] == [(f"code-{shard}", 4000) for shard in (1, 2, 3)]
