"""What a store of objects says of a symbol: one small file that names the parts its rows are in, and nothing else does.

    manifests/BTCUSDT.json
    parts/raw_candles/symbol=BTCUSDT/2024-01-<hash>.parquet, parts/heatmap_days/symbol=BTCUSDT/all-<hash>.parquet, ...

A part is never changed. Whoever replaces the manifest has committed; a part that no manifest names is no part of
anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market.strict_json import load_json
from heatmap_pipeline.store.migrate import READABLE, SCHEMA_VERSION
from heatmap_pipeline.store.months import folder_of

MANIFESTS, PARTS = "manifests/", "parts/"
"""Where manifests and parts are, below the address of the store."""

_FORMATS = (1, 2)
"""That can be read; the last is written. With 2 came parts that leave out what follows from other columns."""
_HASH = r"^[0-9a-f]{64}$"
_MONTH = r"^(\d{4,}-\d{2})?$"
_PATH = re.compile(r"parts/[a-z_]+/symbol=[^/\x00]+/(all|\d{4,}-\d{2})-[0-9a-f]{32}\.parquet")


class ManifestError(HeatmapError):
    """A manifest that cannot be used; says which and what to do."""


class Part(BaseModel):
    """The rows of a table of one symbol in a month, or all of them.

    Attributes:
        table: of schema.sql.
        month: YYYY-MM; '' where all rows of the table are one part.
        hash: sha256 of the file.
        rows: in it.
        bytes: of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    month: Annotated[str, Field(pattern=_MONTH)]
    hash: Annotated[str, Field(pattern=_HASH)]
    rows: Annotated[StrictInt, Field(ge=1)]
    bytes: Annotated[StrictInt, Field(ge=1)]

    def path(self, symbol: str) -> str:
        """Return where it is, below the address of the store."""
        return f"{PARTS}{folder_of(self.table, symbol)}/{self.month or 'all'}-{self.hash[:32]}.parquet"


class Days(BaseModel):
    """The computed days of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: date
    last: date
    count: StrictInt


class Manifest(BaseModel):
    """What is stored of a symbol.

    Attributes:
        format: of this file.
        schema_version: of the tables.
        program: version that wrote it.
        symbol: id of the market.
        committed: when, UTC.
        days: computed, by model.
        simulated: whether the market is made up.
        fingerprints: of each month a hash of the rows that vouch for all of it, of each small table one of its rows.
        parts: that hold its rows.
        readings: by kind of data, which reader read the files of which days (`reading.py`).
        replaced: paths of parts of the last 30 days that are no longer used, with when they were replaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: StrictInt = _FORMATS[-1]
    schema_version: StrictInt = SCHEMA_VERSION
    program: str
    symbol: str
    committed: datetime
    days: dict[str, Days]
    simulated: StrictBool = False
    fingerprints: dict[str, str]
    parts: tuple[Part, ...]
    readings: dict[str, dict[str, str]] = {}
    replaced: dict[str, datetime] = {}

    @property
    def size(self) -> int:
        """Bytes of its parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def paths(self) -> frozenset[str]:
        """Where its parts are, below the address of the store."""
        return frozenset(part.path(self.symbol) for part in self.parts)

    def says_the_same(self, other: Manifest | None) -> bool:
        """Whether another one names the same parts and knows the same of them."""
        return other is not None and (self.parts, self.fingerprints, self.readings, self.schema_version) == (
            other.parts,
            other.fingerprints,
            other.readings,
            other.schema_version,
        )

    def written(self) -> bytes:
        """Return the content of the file."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def manifest_path(symbol: str) -> str:
    """Return where the manifest of a symbol is, below the address of the store.

    Example:
        >>> manifest_path("BTCUSDT")
        'manifests/BTCUSDT.json'
    """
    return f"{MANIFESTS}{quote(symbol, safe='')}.json"


def is_part(path: str) -> bool:
    """Whether a path below the address of the store is one of a part."""
    return _PATH.fullmatch(path) is not None


def understood(content: bytes, place: str) -> Manifest:
    """Return what a manifest says.

    Args:
        content: of the file.
        place: where it is, for messages.

    Raises:
        ManifestError: if it is of a later program, or not as it was written.
    """
    try:
        said = load_json(content)
        if isinstance(said, Mapping):
            version = said.get("schema_version")
            form = said.get("format")
            if form not in _FORMATS or version not in READABLE:
                later = f"schema version {version}" if form in _FORMATS else f"format {form}"
                known = SCHEMA_VERSION if form in _FORMATS else _FORMATS[-1]
                raise ManifestError(
                    f"{place} has {later}, this program knows {known}: use the program that wrote it "
                    f"({said.get('program')}), or a newer one"
                )
        manifest = Manifest.model_validate(said)
        if not place.endswith(f"/{manifest_path(manifest.symbol)}"):
            raise ValueError("it is of another symbol")
        return manifest
    except (ValueError, RecursionError):
        raise ManifestError(f"{place} is not as it was written; put a backup of it in its place") from None


def now() -> datetime:
    """Return this moment, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
