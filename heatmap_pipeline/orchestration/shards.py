"""Code locations of part of the symbols: which symbols are in which, what each is called, what its code server is told.

A code server loads every asset of its symbols, and so does every run of it: for 500 symbols that is 18 s of processor
time (one of 25: 2.4 s) before anything happens. With HEATMAP_SHARDS=20 there are twenty code locations of some 25
symbols, and no process loads more. HEATMAP_SHARD says which of them a process is.

Run as a program this prints the workspace of Dagster's webserver and daemon where each shard has a host of its own:

    python -m heatmap_pipeline.orchestration.shards shard-{} 4000 > workspace.yaml
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence

import yaml

from heatmap_pipeline.commands import command
from heatmap_pipeline.settings import Settings, SettingsError, load_settings
from heatmap_pipeline.symbols import contract_of

LOCATION = "heatmap_pipeline"
"""Of all symbols. A name is part of the identity of schedules and sensors: do not change it."""

SHARD_TAG = "heatmap/shard"
"""Tag of the runs of a shard, by which Dagster's queue lets one of them go on at a time (deploy/dagster.yaml)."""


def shard_of(symbol: str, shards: int) -> int:
    """Return which shard, from 1, a symbol is in: it depends on its base asset and the number of shards alone.

    So adding or removing a symbol moves no other, in whatever order the servers of the shards are started anew; and the
    markets of a base, which are added up, stay together. By rendezvous hashing (Thaler and Ravishankar, 1998): of one
    shard more, only what is in it has moved. The price is that shards are not of the same size: of 500 symbols in 20,
    the fullest has some 35.

    Example:
        >>> shard_of("BTCUSDT", 20) == shard_of("BYBIT_BTCUSDT", 20)
        True
    """
    base = contract_of(symbol).base or symbol
    return max(range(1, shards + 1), key=lambda shard: hashlib.sha256(f"{shard} {base}".encode()).digest())


def of_shard(settings: Settings) -> Settings:
    """Return the settings of the shard that this process is: with its symbols only, of which there may be none.

    Raises:
        SettingsError: if there are several shards, and HEATMAP_SHARD does not say which one this is.
    """
    if settings.shards == 1:
        return settings
    if settings.shard is None:
        raise SettingsError(
            f"HEATMAP_SHARDS = {settings.shards}, and HEATMAP_SHARD does not say which of them this code server is; "
            f"set it, or start `{command(settings, 'ui')}`, which starts one for each"
        )
    symbols = tuple(symbol for symbol in settings.symbols if shard_of(symbol, settings.shards) == settings.shard)
    return settings.model_copy(update={"symbols": symbols})


def location_name(settings: Settings, shard: int) -> str:
    """Return what the code location of a shard is called."""
    return LOCATION if settings.shards == 1 else f"{LOCATION}_shard_{shard}"


def locations(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """Return the code locations by name, each with the variables that its code server needs besides the common ones."""
    if settings.shards == 1:
        return {LOCATION: {}}
    return {location_name(settings, shard): {"HEATMAP_SHARD": str(shard)} for shard in range(1, settings.shards + 1)}


def tags_of(settings: Settings) -> dict[str, str]:
    """Return the tags of the runs of a code location: its shard, where there are several or a store is shared."""
    shard = settings.shard or (1 if settings.store and settings.shards == 1 else None)
    return {} if shard is None else {SHARD_TAG: str(shard)}


def workspace(settings: Settings, host: str, port: int) -> str:
    """Return the workspace.yaml of code servers that listen on hosts of their own.

    Args:
        settings: how many there are.
        host: their names, with {} where the number of the shard stands.
        port: that each of them listens on.

    Example:
        >>> print(workspace(load_settings(shards=2), "shard-{}", 4000))
        load_from:
        - grpc_server:
            host: shard-1
            location_name: heatmap_pipeline_shard_1
            port: 4000
        - grpc_server:
            host: shard-2
            location_name: heatmap_pipeline_shard_2
            port: 4000
        <BLANKLINE>
    """
    servers = [
        {"host": host.format(shard), "port": port, "location_name": name}
        for shard, name in enumerate(locations(settings), 1)
    ]
    return str(yaml.safe_dump({"load_from": [{"grpc_server": server} for server in servers]}))


def main(arguments: Sequence[str]) -> None:
    """Print the workspace of the shards that HEATMAP_SHARDS says; arguments are the pattern of hosts and the port."""
    host, port = arguments
    sys.stdout.write(workspace(load_settings(), host, int(port)))


if __name__ == "__main__":
    main(sys.argv[1:])
