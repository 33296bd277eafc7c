"""Everything a user may set: typed, documented, read from HEATMAP_* environment variables.

Nothing here reads a file or a database; the types are shared by every layer.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Set
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from heatmap_pipeline.errors import HeatmapError, listed
from heatmap_pipeline.instants import SECONDS, Interval, SnapshotInterval
from heatmap_pipeline.prices import MAX_PRICE, PRICE_UNIT
from heatmap_pipeline.source_kinds import SOURCES, SourceKind
from heatmap_pipeline.symbols import (
    HOME_EXCHANGE,
    exchange_and_name,
    market_id,
    of_safe_name,
    safe_name,
    typed_name,
    why_no_symbol,
    why_not_written,
)

ARCHIVE_URL = "https://data.binance.vision"
"""The exchange's public archive; a mirror may stand in for it."""

REST_URL = "https://fapi.binance.com"
"""The exchange's public REST for perpetuals margined in their quote; a proxy may stand in for it."""

SIMULATED_MARKER = "SIMULATED.txt"
"""File at the top of an archive folder that says that everything below was made up."""

SCRATCH = "scratch"
"""Folder of the home in which runs over HEATMAP_STORE have homes of their own, as long as they go on."""

FILES = "files"
"""The source of real liquidations that reads `liquidations_folder`."""

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")
_ADDRESS = re.compile(r"https?://[^\s/?#][^\s]*")
_STREAM = re.compile(r"wss?://[^\s/?#][^\s]*")
_STORE = re.compile(r"s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/[^\s/?#]+)*/?|file:///[^\s?#/][^\s?#]*")
_READ_OTHERWISE = re.compile(r"[\\?]|%[0-9A-Fa-f]{2}")
"""What SQLite's addresses and DuckDB's paths give a meaning to, in the path of a home."""
_HOST = re.compile(r"([A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_PER_SYMBOL = re.compile(
    r"HEATMAP_(BUCKET|CANDLE_INTERVAL|SNAPSHOT_INTERVAL|MAINTENANCE_MARGIN_RATE|MAX_LEVERAGE)_(.+)", re.DOTALL
)
_ARCHIVE_FILE = re.compile(r"([^-]+)-(metrics|1m|5m|15m)-\d{4}-\d{2}(-\d{2})?", re.ASCII)
_OF_A_SERVICE = re.compile(
    r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?", re.ASCII
)
"""How variables that Kubernetes makes of a service end, after its name."""
_SECRETS = {"api_token", "webhook"}
"""Settings whose values do not belong on a screen; whoever has the address of a chat's webhook may write there."""


CELLS_IN_A_STORE = 90
"""Days of cells that are kept over a store unless somebody says how many: a run takes all of a symbol that is there."""


class SettingsError(HeatmapError):
    """A setting or a command-line value that cannot be used; names it and what is allowed."""


def check_symbol(symbol: str) -> str:
    """Return `symbol` if it may be one that is computed (`symbols.why_no_symbol`).

    Raises:
        SettingsError: for anything else, so that no symbol can carry a path or SQL; says what it is instead.
    """
    if words := why_no_symbol(symbol):
        raise SettingsError(words)
    return symbol


def check_written(symbol: str) -> str:
    """Return `symbol` if it is written as symbols are, whether it is computed or not (`symbols.why_not_written`).

    Raises:
        SettingsError: for anything else.
    """
    if words := why_not_written(symbol):
        raise SettingsError(words)
    return symbol


def setting_of(name: str, symbol: str) -> str:
    """Return how the setting of one symbol is called in the environment.

    Example:
        >>> setting_of("bucket", "BYBIT_BTCUSDT"), setting_of("bucket", "币安人生USDT")
        ('HEATMAP_BUCKET_BYBIT_BTCUSDT', 'HEATMAP_BUCKET_u5E01u5B89u4EBAu751FUSDT')
    """
    return f"HEATMAP_{name.upper()}_{safe_name(symbol)}"


class SymbolSettings(BaseModel):
    """What may differ from symbol to symbol; None means the rule or the common setting decides.

    `bucket` is in the quote asset, `maintenance_margin_rate` a fraction, `max_leverage` a multiple.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: float | None = Field(default=None, ge=PRICE_UNIT, le=MAX_PRICE, allow_inf_nan=False)
    candle_interval: Interval | None = None
    snapshot_interval: SnapshotInterval | None = None
    maintenance_margin_rate: float | None = Field(default=None, gt=0, lt=1)
    max_leverage: float | None = Field(default=None, gt=1, le=1000)


class Settings(BaseSettings):
    """The settings of one run or one Dagster code location. Immutable; see README.md for the table of them."""

    model_config = SettingsConfigDict(env_prefix="HEATMAP_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Path("~/heatmap")
    source: str = "demo"
    archive: Path | None = None
    archive_url: str = ARCHIVE_URL
    rest_url: str = REST_URL
    check_days: int = Field(default=45, ge=0, le=3650)
    accept_checksum: Annotated[tuple[str, ...], NoDecode] = ()
    accept_implausible: Annotated[tuple[str, ...], NoDecode] = ()
    symbols: Annotated[tuple[str, ...], NoDecode] = ("BTCUSDT", "ETHUSDT")
    start: date | None = None
    candle_interval: Interval | None = None
    snapshot_interval: SnapshotInterval = "15m"
    models: Annotated[tuple[str, ...], NoDecode] = ("turnover", "delta")
    leverage_brackets: Path | None = None
    liquidations: Annotated[tuple[str, ...], NoDecode] = ()
    liquidations_folder: Path | None = None
    gate_url: str = ""
    bitget_url: str = ""
    bybit_url: str = ""
    bybit_stream_url: str = ""
    binance_stream_url: str = ""
    demo_seed: int = 7
    lock_timeout: float = Field(default=600.0, gt=0)
    jobs: int = Field(default=1, ge=1, le=64)
    intraday_minutes: Literal[5, 15] | None = None
    keep_run_days: int = Field(default=30, ge=0, le=36500)
    keep_runs: int = Field(default=500, ge=0, le=1_000_000)
    keep_archive_days: int = Field(default=0, ge=0, le=36500)
    keep_cells: int = Field(default=0, ge=0, le=36500)
    tables_up_to: float = Field(default=20.0, ge=0, allow_inf_nan=False)
    webhook: str | None = None
    alerts: Path | None = None
    export: Path | None = None
    store: str = ""
    catalogue: bool = True
    ui_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    api_token: SecretStr | None = None
    api_cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    api_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    api_cache_mb: int = Field(default=256, ge=1, le=65536)
    api_symbols_mb: int = Field(default=512, ge=1, le=1048576)
    api_cache_seconds: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    api_concurrency: int = Field(default=2, ge=1, le=64)
    api_queue: int = Field(default=32, ge=0, le=10000)
    log_format: Literal["text", "json", "off"] = "text"
    api_stale_hours: float = Field(default=36.0, gt=0, allow_inf_nan=False)
    shards: int = Field(default=1, ge=1, le=1000)
    shard: int | None = Field(default=None, ge=1, le=1000)
    per_symbol: Mapping[str, SymbolSettings] = Field(default_factory=dict)

    @field_validator(
        "symbols",
        "models",
        "liquidations",
        "api_cors_origins",
        "api_proxies",
        "accept_checksum",
        "accept_implausible",
        "ui_hosts",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """Read a number where only some numbers are allowed: pydantic compares those with the text as it is."""
        choices = _NUMBER_CHOICES.get(info.field_name or "", {})
        return choices.get(value.strip(), value) if isinstance(value, str) else value

    @field_validator("symbols")
    @classmethod
    def _symbols(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        ids = tuple(dict.fromkeys(map(market_id, value)))
        for symbol in ids:
            if words := why_no_symbol(symbol):
                raise ValueError(words)
            if info.data.get("source") == HOME_EXCHANGE != exchange_and_name(symbol)[0]:
                raise ValueError(
                    f"source {HOME_EXCHANGE} has the markets of one exchange, and {typed_name(symbol)} is another's; "
                    "choose source exchange, which reads each market where it is traded"
                )
        if not ids:
            raise ValueError("name at least one symbol")
        return ids

    @field_validator("accept_checksum", "accept_implausible")
    @classmethod
    def _file_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.removesuffix(".zip") for name in value)
        for name in names:
            match = _ARCHIVE_FILE.fullmatch(name)
            if match is None or why_not_written(match[1]):
                raise ValueError(f"{name!r} is not a file of the archive; write ETHUSDT-metrics-2026-11-20")
        return tuple(dict.fromkeys(names))

    @field_validator("source")
    @classmethod
    def _source(cls, value: str) -> str:
        if value not in SOURCES:
            raise ValueError(f"write {listed([repr(name) for name in sorted(SOURCES)], 'or')}")
        return value

    @field_validator("models", "liquidations")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))  # which ones there are, model and market say: `chain.settings` asks them

    @field_validator("shard")
    @classmethod
    def _one_of_the_shards(cls, value: int | None, info: ValidationInfo) -> int | None:
        shards = info.data.get("shards")
        if value is not None and shards is not None and value > shards:
            raise ValueError(f"there are HEATMAP_SHARDS = {shards}, counted from 1")
        return value

    @model_validator(mode="before")
    @classmethod
    def _cells_in_a_store(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("store") and "keep_cells" not in values:
            return {**values, "keep_cells": CELLS_IN_A_STORE}
        return values

    @field_validator("keep_cells")
    @classmethod
    def _days_of_cells(cls, value: int) -> int:
        if value == 1:
            raise ValueError("0 keeps the cells of all days; one day is too few for the alerts of a midnight")
        return value

    @field_validator("api_token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]{8,}", value.get_secret_value()):
            raise ValueError("a token is at least 8 printable ASCII characters without blanks")
        return value

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not _is_web_address(value):
            raise ValueError("write the whole address, for example https://hooks.example.org/services/T0/B0")
        return value

    @field_validator("api_cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; write https://example.org, or * for all")
        return tuple(dict.fromkeys(value))

    @field_validator("api_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ValueError(f"{network!r} is not an address; write 127.0.0.1 or 10.0.0.0/8") from None
        return tuple(dict.fromkeys(value))

    @field_validator("archive_url", "rest_url", "gate_url", "bitget_url", "bybit_url")
    @classmethod
    def _addresses(cls, value: str | None) -> str | None:
        if value and not _ADDRESS.fullmatch(value):
            raise ValueError("it is not an address of the kind https://host/path; correct it")
        return value

    @field_validator("bybit_stream_url", "binance_stream_url")
    @classmethod
    def _streams(cls, value: str) -> str:
        if value and not _STREAM.fullmatch(value):
            raise ValueError("it is not an address of the kind wss://host/path; correct it")
        return value

    @field_validator("store")
    @classmethod
    def _store(cls, value: str) -> str:
        if value and (not _STORE.fullmatch(value) or {".", ".."} & {*value.split("/")}):
            raise ValueError("it is neither s3://bucket/prefix nor file:///folder; correct it")
        return value.rstrip("/")

    @field_validator("ui_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not a host; write heatmap.example.org, or heatmap.example.org:8443")
        return tuple(dict.fromkeys(host.lower() for host in value))

    @field_validator("home", "archive", "leverage_brackets", "liquidations_folder", "alerts", "export")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        try:
            return None if value is None else value.expanduser().resolve()
        except RuntimeError:  # nobody, as in a container: no HOME, and no entry among the users
            raise ValueError("no home folder is known here; write a whole path, for example /srv/heatmap") from None

    @field_validator("home")
    @classmethod
    def _home(cls, value: Path) -> Path:
        if sign := _READ_OTHERWISE.search(str(value)):
            raise ValueError(
                f"{value} has {sign[0]} in its path, which a database would read as something else; choose another "
                "folder"
            )
        return value

    @property
    def named_home(self) -> Path:
        """The home as its user knows it: of a scratch home of a run over HEATMAP_STORE, the one that it lies in."""
        folder = self.home.parent
        return folder.parent if self.store and folder.name == SCRATCH else self.home

    @property
    def most_of_tables(self) -> float:
        """Bytes up to which what a home publishes are real tables; a scratch home never publishes anything else."""
        return float("inf") if self.store else self.tables_up_to * 1e9

    def of(self, symbol: str) -> SymbolSettings:
        """Return the settings of one symbol."""
        return self.per_symbol.get(symbol, SymbolSettings())

    def snapshot_interval_of(self, symbol: str) -> str:
        """Return the snapshot interval of one symbol, its own or the common one."""
        return self.of(symbol).snapshot_interval or self.snapshot_interval

    def source_of(self, symbol: str) -> str:
        """Return what is stored as the source of a market: of Binance read where it is traded that is binance."""
        at_home = exchange_and_name(symbol)[0] == HOME_EXCHANGE
        return HOME_EXCHANGE if self.source == "exchange" and at_home else self.source

    def counts_one_side(self, symbol: str) -> bool:
        """Whether the source says itself that it counts one side of each contract of a market; else it is measured."""
        return self.kind.one_sided and exchange_and_name(symbol)[0] == HOME_EXCHANGE

    @property
    def kind(self) -> SourceKind:
        """What the source can do."""
        return SOURCES[self.source]

    @property
    def archives(self) -> Path:
        """Folder of what was fetched, by where it came from."""
        return self.home / "archive"

    @property
    def archive_root(self) -> Path:
        """Folder that holds `futures/um/daily/...`: the archive given, or the source's own under the home."""
        if not self.kind.given_folder:
            return self.archives / (self.kind.folder or self.source)
        if self.archive is None:
            raise SettingsError(f"source {self.source} needs a folder: give --archive DIR or set HEATMAP_ARCHIVE")
        return self.archive

    @property
    def liquidation_sources(self) -> tuple[str, ...]:
        """Names of the sources of real liquidations; a folder of them that is given is one."""
        named = (FILES,) if self.liquidations_folder is not None else ()
        return tuple(dict.fromkeys((*named, *self.liquidations)))

    @property
    def recordings(self) -> Path:
        """Folder of what `heatmap record` wrote."""
        return self.home / "recordings"

    @property
    def simulated(self) -> bool:
        """Whether the data are made up: by the demo market, or by it earlier, in a folder now read as an archive."""
        return self.kind.simulated or (self.archive_root / SIMULATED_MARKER).is_file()


def _number_choices(kind: Any) -> dict[str, int]:
    """Return the whole numbers that a type allows by a Literal at any depth, by how they are written."""
    inside = get_args(kind)
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in inside if isinstance(choice, int)}
    return {text: number for part in inside for text, number in _number_choices(part).items()}


_NUMBER_CHOICES = {name: _number_choices(field.annotation) for name, field in Settings.model_fields.items()}
"""Numbers that a setting is one of, by how they are written in the environment; most settings have none."""


def environment_shown() -> dict[str, str]:
    """Return the HEATMAP_* variables that are set and may be shown: no secret, no address with a password in it.

    HEATMAP_HOME is not among them: it is where this machine has what others may move.
    """
    known = {f"HEATMAP_{name.upper()}": name for name in Settings.model_fields if name not in {"home", "per_symbol"}}
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if value and (known.get(name, "api_token") not in _SECRETS or _PER_SYMBOL.fullmatch(name))
        if not ("://" in value and "@" in value)
    }


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; keyword arguments that are not None win.

    Raises:
        SettingsError: naming the variable, its value and what is allowed; also for a HEATMAP_* variable that is none.

    Example:
        >>> load_settings(symbols=("BTCUSDT",)).symbols
        ('BTCUSDT',)
    """
    _refuse_unknown(os.environ)
    per_symbol: dict[str, dict[str, str]] = {}
    for name, value in sorted(os.environ.items()):
        match = _PER_SYMBOL.fullmatch(name)
        if match and value:
            per_symbol.setdefault(of_safe_name(match[2]), {})[match[1].lower()] = value
    overriding = {key: value for key, value in overrides.items() if value is not None}
    suffix = ""
    try:
        symbols = {}
        for symbol, values in per_symbol.items():
            suffix = f"_{safe_name(symbol)}"
            symbols[symbol] = SymbolSettings.model_validate(values)
        suffix = ""
        return Settings(per_symbol=symbols, **overriding)
    except ValidationError as error:
        sentence = _sentence(error, overriding, suffix)
    # Raised out here because an error of pydantic holds the error of a validator, which holds every frame below it, out
    # of the garbage collector's sight: as the context of ours it would live for ever, and DuckDB print what it leaks.
    raise SettingsError(sentence)


def _refuse_unknown(names: Iterable[str]) -> None:
    """Raise for a variable that would be ignored, most likely a typing error.

    HEATMAP_TEST_* belong to the tests, and what is called after a service of Kubernetes to that.
    """
    known = [name.upper() for name in Settings.model_fields if name != "per_symbol"]
    for name in sorted({*names} - _of_services({*names})):
        field = name.removeprefix("HEATMAP_")
        ours = field != name and not field.startswith("TEST_")
        match = _PER_SYMBOL.fullmatch(name)
        if ours and field not in known and not (match and of_safe_name(match[2])):
            near = get_close_matches(field, known, 1)
            hint = f", do you mean HEATMAP_{near[0]}?" if near else ";"
            if match and not why_not_written(match[2]):  # as the exchange writes it
                hint = f", do you mean {setting_of(match[1], match[2])}?"
            raise SettingsError(f"{name} is not a setting{hint} README.md lists them all; unset it or mend its name")


def _of_services(names: Set[str]) -> set[str]:
    """Return the variables by which Kubernetes tells a pod of the services of its namespace; one may be `heatmap…`."""
    host = "_SERVICE_HOST"
    services = {name.removesuffix(host) for name in names if name.endswith(host)}
    return {
        name
        for service in services
        for name in names
        if name.startswith(service) and _OF_A_SERVICE.fullmatch(name.removeprefix(service))
    }


_LEGAL = {
    "literal_error": "{expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number from {ge:g} on",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number up to {le:g}",
    "finite_number": "a number",
    "float_parsing": "a number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "bool_parsing": "true or false",
    "date_parsing": "a day that there is, such as 2026-11-21",
    "date_from_datetime_parsing": "a day that there is, such as 2026-11-21",
    "date_from_datetime_inexact": "a day that there is, such as 2026-11-21",
}
"""What a value may be, by what pydantic calls the error; its own words are for programmers."""


def _sentence(error: ValidationError, overriding: Mapping[str, Any], suffix: str = "") -> str:
    """Say which value cannot be, and what is allowed; `given` came with the command, and is no setting's fault."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    words = _LEGAL.get(first["type"])
    message = f"write {words.format(**first.get('ctx', {}))}" if words else first["msg"].removeprefix("Value error, ")
    shown = "***" if name in _SECRETS else _short(first["input"])
    place = "" if name in overriding and not suffix else f"setting HEATMAP_{name.upper()}{suffix} = "
    return f"{place}{shown}: {message}"


def _short(value: Any) -> str:
    written = ",".join(map(str, value)) if isinstance(value, tuple) else value
    text = repr(str(written) if isinstance(written, Path) else written)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number, a name that cannot be one
        return False
    plain = re.fullmatch(r"[!-~]+", text) is not None
    named = re.fullmatch(r"[a-z0-9_.-]*[a-z0-9_][a-z0-9_.-]*|[0-9a-f:.]*:[0-9a-f:.]*", host) is not None
    return plain and parts.scheme in ("http", "https") and named and port != 0


def interval_name(seconds: int) -> str:
    """Return the exchange's name of a candle interval given in seconds: 300 -> '5m'."""
    for name in get_args(SnapshotInterval):
        if SECONDS[name] == seconds:
            return str(name)
    raise SettingsError(f"an interval of {seconds} s has no name; known are {', '.join(SECONDS)}")
