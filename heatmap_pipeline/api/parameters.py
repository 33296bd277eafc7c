"""What a request may ask: the query parameters, their meaning in words and as a schema, and how they are read.

Only the shape of each is judged here; whether there are such data is judged against a version (`window.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from heatmap_pipeline.prices import MAX_PRICE
from heatmap_pipeline.symbols import market_id, why_no_symbol, why_not_written
from heatmap_pipeline.views.base import MAX_MARKETS
from heatmap_pipeline.views.replay import Tiers, Weights
from heatmap_pipeline.views.window import MAX_ROWS, TIER_WORDS

MAX_LEVERAGE = 1000.0
MAX_TIERS = 32
_SPACE_FOR_PLUS = re.compile(r"(.*\d:?\d\d(?:[.,]\d+)?) (\d\d:?\d\d)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?|nan|[+-]?inf", re.ASCII | re.IGNORECASE)
"""What JSON takes for a number, a sign before it, and the three that are refused by name."""
_EPOCH = datetime(1970, 1, 1)


def read_moment(typed: Any) -> int | None:
    """Return an ISO 8601 instant in microseconds since 1970-01-01 UTC; without an offset it is UTC.

    A plus sign that was not escaped arrives as a blank, and is taken for what it was.

    Example:
        >>> read_moment("2024-07-01T02:00:00 02:00") == read_moment("2024-07-01")
        True
    """
    if typed is None:
        return None
    text = str(typed).strip().upper()
    if match := _SPACE_FOR_PLUS.fullmatch(text):
        text = f"{match[1]}+{match[2]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            "not an ISO 8601 time; write 2024-07-01, 2024-07-01T12:00Z or 2024-07-01T14:00+02:00"
        ) from None
    # Counted rather than converted: the first and the last day of the calendar have no neighbour to be converted to.
    offset = moment.utcoffset() or timedelta()
    return (moment.replace(tzinfo=None) - _EPOCH - offset) // timedelta(microseconds=1)


def plain_number(value: Any) -> Any:
    """Refuse what only a programming language takes for a number, such as 1_000."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        raise ValueError("not a number")
    return value


def read_weights(typed: str | None) -> Weights | None:
    """Return weights written as `leverage:weight,...`, by rising leverage, with a sum of 1.

    Example:
        >>> read_weights("10:3, 5:1")
        ((5.0, 0.25), (10.0, 0.75))
    """
    if typed is None:
        return None
    weights: dict[float, float] = {}
    for part in typed.split(","):
        words = part.split(":")
        try:
            leverage, weight = (float(plain_number(word)) for word in words)
        except ValueError:
            raise ValueError(
                f"{part!a} is not leverage:weight; write for example 5:15,10:30,25:25,50:20,100:10"
            ) from None
        if not 1 < leverage <= MAX_LEVERAGE:
            raise ValueError(f"leverage {words[0].strip()!a} is not above 1 and at most {MAX_LEVERAGE:g}")
        if not (weight == 0 or 1e-6 <= weight <= 1e9):
            raise ValueError(f"weight {words[1].strip()!a} is neither 0 nor between 0.000001 and 1000000000")
        if leverage in weights:
            raise ValueError(f"leverage {leverage:g} is named twice")
        weights[leverage] = weight
    total = math.fsum(weights.values())
    if len(weights) > MAX_TIERS:
        raise ValueError(f"{len(weights)} leverages are more than {MAX_TIERS}")
    if not total > 0:
        raise ValueError("the weights sum to 0")
    return tuple((leverage, weight / total) for leverage, weight in sorted(weights.items()) if weight > 0)


def read_tiers(typed: str | None) -> Tiers | str:
    """Return leverage tiers written as `leverage,...` or as a word of `TIER_WORDS`: rising, each once.

    Example:
        >>> read_tiers("100, 25,50"), read_tiers("near"), read_tiers(None)
        ((25.0, 50.0, 100.0), 'near', 'all')
    """
    if typed is None or typed.strip() in TIER_WORDS:
        return (typed or "all").strip()
    leverages: list[float] = []
    for part in typed.split(","):
        try:
            leverage = float(plain_number(part))
        except ValueError:
            raise ValueError(
                f"{part!a} is no leverage; write for example 25,50,100, or {' or '.join(TIER_WORDS)}"
            ) from None
        if not 1 < leverage <= MAX_LEVERAGE:
            raise ValueError(f"leverage {part.strip()!a} is not above 1 and at most {MAX_LEVERAGE:g}")
        if leverage in leverages:
            raise ValueError(f"leverage {leverage:g} is named twice")
        leverages.append(leverage)
    if len(leverages) > MAX_TIERS:
        raise ValueError(f"{len(leverages)} leverages are more than {MAX_TIERS}")
    return tuple(sorted(leverages))


def read_markets(typed: str | None) -> tuple[str, ...]:
    """Return the ids of markets written as `BTCUSDT,bybit:BTCUSDT`, in order, each once; none without any.

    Example:
        >>> read_markets("bybit:BTCUSDT, BTCUSDT"), read_markets(None)
        (('BTCUSDT', 'BYBIT_BTCUSDT'), ())
    """
    if typed is None:
        return ()
    symbols: list[str] = []
    for part in typed.split(","):
        symbol = _written_symbol(part.strip())
        if symbol in symbols:
            raise ValueError(f"{symbol} is named twice")
        symbols.append(symbol)
    if len(symbols) > MAX_MARKETS:
        raise ValueError(f"{len(symbols)} markets are more than {MAX_MARKETS}")
    return tuple(sorted(symbols))


def _checked_markets(typed: str | None) -> str | None:
    read_markets(typed)
    return typed


def _checked_tiers(typed: str | None) -> str | None:
    read_tiers(typed)
    return typed


def _checked_weights(typed: str | None) -> str | None:
    read_weights(typed)
    return typed


def _written_symbol(typed: str) -> str:
    # Of a home of an earlier version also contracts are answered that would be refused today.
    symbol = market_id(typed)
    if why_not_written(symbol):
        raise ValueError(why_no_symbol(symbol))
    return symbol


def _written_symbol_or_base(typed: str | None) -> str | None:
    # The name of a base may be a single letter.
    return typed if typed is None or re.fullmatch("[A-Z0-9]", typed) else _written_symbol(typed)


# The alphabets are too many for a pattern: of ASCII there are capitals and digits, and what is behind an exchange.
_LETTERS = r"[^\x00-\x2f\x3a-\x40\x5b-\x7f]"
_MARKET = rf"([A-Za-z]+[:_])?({_LETTERS}+_)?{_LETTERS}{{2,30}}"
_SYMBOL_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_MARKET}$"})
Symbol = Annotated[
    str,
    AfterValidator(_written_symbol),
    _SYMBOL_SCHEMA,
    Field(
        description="Perpetual as Binance writes it, exchange:SYMBOL of another; GET /symbols lists those there are.",
        examples=["BTCUSDT"],
    ),
]
SymbolOrBase = Annotated[
    str | None,
    AfterValidator(_written_symbol_or_base),
    WithJsonSchema({"type": "string", "pattern": f"^({_MARKET}|{_LETTERS})$"}),
    Field(
        description="Perpetual as Binance writes it, exchange:SYMBOL of another, or a base, whose markets are added "
        "up; GET /symbols lists those there are. Required, unless symbols is given.",
        examples=["BTCUSDT"],
    ),
]
MarketList = Annotated[
    str | None,
    AfterValidator(_checked_markets),
    WithJsonSchema({"type": "string", "pattern": f"^{_MARKET}(,{_MARKET}){{0,{MAX_MARKETS - 1}}}$"}),
    Field(description="Instead of symbol: markets of one base, whose books are added up.", examples=["BTCUSDT"]),
]
SymbolOrAll = Annotated[
    str | None,
    AfterValidator(lambda typed: None if typed is None else _written_symbol(typed)),
    _SYMBOL_SCHEMA,
    Field(description="One perpetual, as the exchange writes it. Default: all.", examples=["BTCUSDT"]),
]
Model = Annotated[
    str | None,
    Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", examples=["turnover"]),
    WithJsonSchema({"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]{0,39}$"}),
]
Format: TypeAlias = Literal["nested", "columns"]
Moment = Annotated[int | None, BeforeValidator(read_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
BinSize = Annotated[
    float | None,
    Field(gt=0, le=MAX_PRICE, allow_inf_nan=False),
    BeforeValidator(plain_number),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_PRICE}),
]
Count = Annotated[int, BeforeValidator(plain_number)]
Percent = Annotated[float, Field(ge=0.1, le=1000, allow_inf_nan=False), BeforeValidator(plain_number)]
_WEIGHTS = r"^[1-9]\d{0,2}(\.\d{1,3})?:\d{1,6}(\.\d{1,3})?(,[1-9]\d{0,2}(\.\d{1,3})?:\d{1,6}(\.\d{1,3})?){0,31}$"
LeverageWeights = Annotated[
    # A text until it is used: a list of numbers would be read from repeated parameters.
    str | None, AfterValidator(_checked_weights), WithJsonSchema({"type": "string", "pattern": _WEIGHTS})
]
_TIERS = r"^(all|near|[1-9]\d{0,2}(\.\d{1,3})?(,[1-9]\d{0,2}(\.\d{1,3})?){0,31})$"
LeverageTiers = Annotated[
    str | None,
    AfterValidator(_checked_tiers),
    WithJsonSchema({"type": "string", "pattern": _TIERS}),
    Field(
        description="Leverage tiers that are shown, as leverage,...: their lots only, exactly, in the books of all. "
        "near: 25 and up. all, the default: every tier. Those there are: `tiers` of an answer.",
        examples=["near"],
    ),
]

_MODEL_TEXT = "Model; without it the symbol's first one in GET /symbols."
_BIN_TEXT = "Height of a price bin, quote asset: a whole multiple of the symbol's bucket that yields at most 2000 rows."
_WEIGHTS_TEXT = (
    "Other leverage weights than the model's, as leverage:weight,...; computed by the model over the stored history. "
    "Weights count in proportion to their sum; leverages above the symbol's maximum are left out."
)
_START_TEXT = "Start, ISO 8601, any offset (without one UTC), rounded down to the interval."


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _SumQuery(_Query):
    """What a market is asked for with, or a base, or markets of one."""

    symbol: SymbolOrBase = None
    symbols: MarketList = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.symbol is None and self.symbols is None:
            raise PydanticCustomError("no_symbol", "symbol is missing")
        if self.symbol is not None and self.symbols is not None:
            raise PydanticCustomError("both_symbols", "symbol and symbols are both given; give one of them")
        return self

    @property
    def market(self) -> str:
        """What `symbol` names."""
        return self.symbol or ""

    @property
    def markets(self) -> tuple[str, ...]:
        """Ids of the markets of `symbols`."""
        return read_markets(self.symbols)


class HeatmapQuery(_SumQuery):
    """Parameters of GET /liquidations/heatmap-timeseries."""

    start_time: Moment = Field(default=None, description=f"{_START_TEXT} Default: 7 days before the end.")
    end_time: Moment = Field(
        default=None,
        description="End, ISO 8601: intervals that start before it are answered. Default: the newest data.",
    )
    interval: Literal["5m", "15m", "1h", "4h", "1d"] = Field(
        default="15m", description="Width of a snapshot's interval: its last state, the sum of what was consumed in it."
    )
    price_bin_size: BinSize = Field(
        default=None,
        description=f"{_BIN_TEXT} Default: the bucket, or the smallest round multiple with at most max_rows rows.",
    )
    max_rows: Count = Field(
        default=MAX_ROWS, ge=10, le=MAX_ROWS, description="Most price bins, where price_bin_size is not given."
    )
    leverage_weights: LeverageWeights = Field(default=None, description=_WEIGHTS_TEXT)
    leverage_tiers: LeverageTiers = None
    model: Model = Field(default=None, description=_MODEL_TEXT)
    format: Format = Field(
        default="nested", description="nested: a list of levels per snapshot. columns: sparse columns, with candles."
    )


class LotsQuery(_SumQuery):
    """Parameters of GET /liquidations/lots."""

    model: Model = Field(default=None, description=_MODEL_TEXT)
    time: Moment = Field(
        default=None, description="The state after the last candle that ended by then, ISO 8601. Default: the newest."
    )
    price_bin_size: BinSize = Field(
        default=None, description=f"{_BIN_TEXT} Default: the bucket, if that yields so few."
    )
    leverage_weights: LeverageWeights = Field(default=None, description=_WEIGHTS_TEXT)
    leverage_tiers: LeverageTiers = None


class MapQuery(LotsQuery):
    """Parameters of GET /liquidations/map."""

    within_percent: Percent = Field(
        default=10.0,
        description="How far from the price, in percent, zones are listed as clusters, 0.1 to 1000.",
    )


class LevelsQuery(_Query):
    """Parameters of GET /liquidations/levels."""

    symbol: Symbol
    model: Model = Field(default=None, description=_MODEL_TEXT)
    leverage_tiers: LeverageTiers = None


class HealthQuery(_Query):
    """Parameters of GET /health."""

    always_ok: bool = Field(
        default=False,
        description="Whether the status is 200 in any case; the body says how it is. A browser reports 503.",
    )


class ScoreQuery(_Query):
    """Parameters of GET /score."""

    symbol: Symbol
    model: Model = Field(default=None, description=_MODEL_TEXT)


class AlertsQuery(_Query):
    """Parameters of GET /alerts."""

    symbol: SymbolOrAll = None
    limit: Count = Field(default=50, ge=1, le=500, description="Most alerts.")


class KlinesQuery(_SumQuery):
    """Parameters of GET /prices/klines."""

    interval: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] = Field(
        default="15m", description="Width of a candle: the stored candles' own or a multiple of it."
    )
    limit: Count = Field(default=500, ge=10, le=1500, description="Most candles.")
    start_time: Moment = Field(
        default=None, description=f"{_START_TEXT} With it the first candles from there, without it the last ones."
    )
    end_time: Moment = Field(
        default=None, description="End, ISO 8601: candles that start before it are answered. Default: the newest data."
    )


PARAMETERS = frozenset(
    name
    for query in (HeatmapQuery, LotsQuery, MapQuery, LevelsQuery, HealthQuery, ScoreQuery, AlertsQuery, KlinesQuery)
    for name in query.model_fields
)
"""Names of all parameters there are."""


def sentence(errors: Sequence[Mapping[str, Any]], allowed: Sequence[str]) -> str:
    """Return what is wrong with the first wrong parameter: its name, its value and what is allowed."""
    first = errors[0]
    name = str(first["loc"][-1]) if len(first["loc"]) > 1 else "the query"
    kind, context = first["type"], first.get("ctx", {})
    shown = _shown(first.get("input"))
    if kind == "no_symbol":
        name = "symbol"
    if kind in {"missing", "no_symbol"}:
        return f"{name} is missing; allowed parameters are {', '.join(allowed)}"
    if kind == "extra_forbidden":
        return f"{_shown(name)} is no parameter here; allowed are {', '.join(allowed)}"
    if kind == "literal_error":
        return f"{name} = {shown} is not allowed; allowed are {_plain(context['expected'])}"
    if kind == "string_pattern_mismatch" and name == "model":
        return f"model = {shown} is no name of a model; GET /symbols lists them"
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if name == "symbol" and kind == "value_error":
        return f"symbol = {_plain_text(message.removeprefix('symbol '))}"
    if kind not in {"value_error", "both_symbols"}:
        message = f"allowed is {message}"
    return message if kind == "both_symbols" else f"{name} = {shown}: {message}"


def _plain(expected: Any) -> str:
    """Return the values of a choice, which come as `'a' or 'b'`, as `a, b`."""
    return str(expected).replace(" or ", ", ").replace("'", "")


def _shown(value: Any) -> str:
    """Return a value as plain ASCII, not longer than a line."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain_text(words: str) -> str:
    """Return words of ours, which may repeat what was given, as plain ASCII."""
    return words.encode("ascii", "backslashreplace").decode()
