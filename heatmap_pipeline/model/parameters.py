"""The models as rows of one table, and their parameters resolved for one symbol and day.

A third model is a new row in `MODELS`, not new code. What belongs here: numbers and their validation. What does not:
how they are used (`engine.py`, `stepwise.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.prices import PRICE_UNIT

DEFAULT_MAINTENANCE_MARGIN_RATE = 0.004
DEFAULT_MAX_LEVERAGE = 125.0


class ModelError(HeatmapError, ValueError):
    """An argument the model cannot compute with; the message names the argument and its value."""


class BookRules(NamedTuple):
    """What follows from the kind of books a model keeps.

    Attributes:
        holds_open_interest: a book starts with the first open interest, unlocated, and nets liquidations against the
            flow (step 2), so that its total is the open interest after every candle; else it starts empty and does not.
        closes: flow and turnover open and close contracts; else the turnover opens, and nobody closes.
    """

    holds_open_interest: bool
    closes: bool


BOOK_RULES: Mapping[str, BookRules] = {
    "one": BookRules(holds_open_interest=False, closes=True),
    "two": BookRules(holds_open_interest=True, closes=True),
    "two growing": BookRules(holds_open_interest=False, closes=False),
}
"""The kinds of books: 'one' has both sides in it and opens the side that the candle names; 'two' are one per side, each
opens its own side; 'two growing' are the same for a map that knows only the volume."""

EntryPrice: TypeAlias = Literal["close", "high", "low"]


@dataclass(frozen=True)
class ModelSpec:
    """One model: its rules and their numbers, the same for every symbol (docs/model.md, section 4).

    Attributes:
        name: how users call it.
        books: the kind of its books, a name in `BOOK_RULES`.
        turnover: share of a candle's volume that closes and opens again.
        leverage_weights: (leverage, weight) rows; weights are normalised by their sum.
        liquidable: share of what opens that has a liquidation price at all; the rest is unlocated.
        entry: (price of the candle, share) rows: which part of the liquidable enters at which price; shares sum to 1.
        price_tick: grid of liquidation prices in USDT; None means a tenth of the bucket.
        dust_share: share of the contracts of a book below which a lot is dust.
        dust_rule: 'drop' after closing, or 'unlocate' once a day.
        formula: 'exact' or 'simple' liquidation price.
        role: what it is for, as users are told: the map to look at by default, or one to compare it with.

    Raises:
        ModelError: naming the field and its value.
    """

    name: str
    books: Literal["one", "two", "two growing"]
    turnover: float
    leverage_weights: tuple[tuple[float, float], ...]
    liquidable: float
    entry: tuple[tuple[EntryPrice, float], ...]
    price_tick: float | None
    dust_share: float
    dust_rule: Literal["drop", "unlocate"]
    formula: Literal["exact", "simple"] = "exact"
    role: Literal["default", "comparison"] = "comparison"

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_entry()
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise ModelError(f"{name} = {getattr(self, name)!r} is unknown; use {' or '.join(map(repr, known))}")
        for name in ("turnover", "dust_share", "liquidable"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ModelError(f"{name} = {value!r} is negative or not finite")
        for name in ("dust_share", "liquidable"):
            if getattr(self, name) > 1:
                raise ModelError(f"{name} = {getattr(self, name)!r} is above 1; it is a share")

    def _check_weights(self) -> None:
        if not self.leverage_weights:
            raise ModelError("leverage_weights is empty; give at least one leverage and weight")
        for leverage, weight in self.leverage_weights:
            if not (math.isfinite(leverage) and leverage > 1):
                raise ModelError(f"leverage_weights: leverage {leverage:g} is not above 1")
            if not (math.isfinite(weight) and weight >= 0):
                raise ModelError(
                    f"leverage_weights: weight {weight:g} of leverage {leverage:g} is negative or not finite"
                )
        if len({leverage for leverage, _ in self.leverage_weights}) < len(self.leverage_weights):
            raise ModelError("leverage_weights names a leverage twice")
        if not sum(weight for _, weight in self.leverage_weights) > 0:
            raise ModelError("leverage_weights: the weights sum to 0")

    def _check_entry(self) -> None:
        names = [name for name, _ in self.entry]
        unknown = set(names) - set(get_args(EntryPrice))
        if unknown:
            raise ModelError(f"entry: {min(unknown)!r} is no price of a candle; use {', '.join(get_args(EntryPrice))}")
        if len(set(names)) < len(names):
            raise ModelError("entry names a price twice")
        for name, share in self.entry:
            if not (math.isfinite(share) and share > 0):
                raise ModelError(f"entry: share {share!r} of {name} is not positive")
        if abs(math.fsum(share for _, share in self.entry) - 1) > 1e-12:
            raise ModelError(f"entry: the shares sum to {math.fsum(share for _, share in self.entry):g}, not to 1")

    @property
    def rules(self) -> BookRules:
        """What follows from the kind of books."""
        return BOOK_RULES[self.books]


_WORDS = {"books": tuple(BOOK_RULES), "dust_rule": ("drop", "unlocate"), "formula": ("exact", "simple")}
"""Fields of `ModelSpec` that take one of a few words."""


MODELS: Mapping[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="delta",
            books="one",
            turnover=0.0,
            leverage_weights=((5.0, 15.0), (10.0, 30.0), (25.0, 25.0), (50.0, 20.0), (100.0, 10.0)),
            liquidable=1.0,
            entry=(("close", 1.0),),
            price_tick=PRICE_UNIT,
            dust_share=1e-8,
            dust_rule="drop",
        ),
        ModelSpec(
            name="turnover",
            books="two",
            turnover=0.2,
            leverage_weights=tuple(
                (leverage, 1.0 / math.sqrt(leverage))
                for leverage in (3.0, 5.0, 10.0, 20.0, 25.0, 50.0, 75.0, 100.0, 125.0)
            ),
            liquidable=0.03,
            entry=(("close", 0.5), ("high", 0.25), ("low", 0.25)),
            price_tick=None,
            dust_share=1e-8,
            dust_rule="unlocate",
            role="default",
        ),
    )
}
"""The models by name."""

VOLUME_ONLY = replace(MODELS["turnover"], name="volume only", books="two growing", role="comparison")
"""The map from volume alone that `turnover` is scored against: the same engine with flow 0 and nobody closing.

Each candle opens `turnover` of its volume on both sides, nobody closes, only price ends a lot. Open interest is passed
through to the ledger and decides nothing. A baseline, not a model to show, so it is no row of `MODELS`."""

_RECORDED = (
    "books",
    "turnover",
    "liquidable",
    "formula",
    "price_tick",
    "dust_share",
    "dust_rule",
)
"""Fields of `ModelSpec` that a record names alike."""


@dataclass(frozen=True)
class Bracket:
    """The first leverage bracket of a symbol: maintenance margin rate (fraction) and largest leverage allowed."""

    maintenance_margin_rate: float = DEFAULT_MAINTENANCE_MARGIN_RATE
    max_leverage: float = DEFAULT_MAX_LEVERAGE


@dataclass(frozen=True)
class ModelParameters:
    """A model resolved for one symbol and day: everything its numbers depend on besides the market data.

    Attributes:
        spec: the model.
        bucket: height of a price bucket, USDT.
        interval: candle step, seconds.
        bracket: maintenance margin rate and largest leverage.
    """

    spec: ModelSpec
    bucket: float
    interval: int = 300
    bracket: Bracket = Bracket()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bucket) and round(self.bucket / PRICE_UNIT) >= 1):
            raise ModelError(f"bucket = {self.bucket!r} is not a positive multiple of {PRICE_UNIT:g}")
        if abs(self.tick * 1e8 - self.tick_units) > 1e-6:
            raise ModelError(f"bucket = {self.bucket!r} gives a price tick that is no multiple of {PRICE_UNIT:g}")
        if self.interval <= 0 or 86400 % self.interval:
            raise ModelError(f"interval = {self.interval!r} s does not divide a day")
        rate = self.bracket.maintenance_margin_rate
        if not 0 <= rate < 1:
            raise ModelError(f"maintenance_margin_rate = {rate!r} is not a fraction")
        for leverage, _ in self.tiers:
            if rate >= 1 / leverage:
                raise ModelError(
                    f"leverage {leverage:g} with maintenance_margin_rate {rate:g} would be liquidated at its entry"
                )

    @property
    def tiers(self) -> tuple[tuple[float, float], ...]:
        """(leverage, weight) of the tiers the bracket allows, weights summing to 1.

        Raises:
            ModelError: if no tier with a weight is left.
        """
        allowed = [row for row in self.spec.leverage_weights if row[0] <= self.bracket.max_leverage]
        total = sum(weight for _, weight in allowed)
        if not total > 0:
            raise ModelError(f"max_leverage = {self.bracket.max_leverage:g} leaves no tier of model {self.spec.name}")
        return tuple((leverage, weight / total) for leverage, weight in allowed if weight > 0)

    @property
    def bucket_units(self) -> int:
        """The bucket as an integer price."""
        return round(self.bucket / PRICE_UNIT)

    @property
    def tick(self) -> float:
        """The grid of liquidation prices, USDT; never finer than the integer prices."""
        tick = self.bucket / 10 if self.spec.price_tick is None else self.spec.price_tick
        return max(tick, PRICE_UNIT)

    @property
    def tick_units(self) -> int:
        """The tick as an integer price."""
        return round(self.tick * 1e8)

    def to_json(self) -> str:
        """Return the canonical JSON that is recorded with each day: same numbers, same text."""
        spec = self.spec
        record: dict[str, Any] = {
            "model": spec.name,
            "books": spec.books,
            "turnover": spec.turnover,
            "leverage_weights": [list(row) for row in self.tiers],
            "liquidable": spec.liquidable,
            "entry": [list(row) for row in spec.entry],
            "formula": spec.formula,
            "price_tick": self.tick,
            "dust_share": spec.dust_share,
            "dust_rule": spec.dust_rule,
            "bucket": self.bucket,
            "candle_interval_seconds": self.interval,
            "maintenance_margin_rate": self.bracket.maintenance_margin_rate,
            "max_leverage": self.bracket.max_leverage,
        }
        return json.dumps(record, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelParameters:
        """Return the parameters that a day was computed with, from what `to_json` recorded of it.

        Equal to those of `MODELS` where the record is theirs; else leverage weights are the recorded ones, which are
        normalised already, to the last bit but one.

        Raises:
            ModelError: if the text is no such record, or one that an earlier version made by rules that are gone.
        """
        try:
            record = json.loads(text)
            if "unlevered" in record:  # dust in USDT and all entries at the close: no parameters of today say the same
                raise ModelError(
                    f"the parameters of model {record['model']!r} were recorded by an earlier version, whose rules are "
                    "gone; compute its days anew"
                )
            rest = (
                float(record["bucket"]),
                int(record["candle_interval_seconds"]),
                Bracket(float(record["maintenance_margin_rate"]), float(record["max_leverage"])),
            )
            spec = ModelSpec(
                name=str(record["model"]),
                leverage_weights=tuple(
                    (float(leverage), float(weight)) for leverage, weight in record["leverage_weights"]
                ),
                entry=tuple((name, float(share)) for name, share in record["entry"]),
                **{name: record[name] for name in _RECORDED},
            )
        except ModelError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"parameters {text!r} are not a record of a model's numbers ({error!r})") from None
        known = MODELS.get(spec.name)
        if known is not None:
            with suppress(ModelError):
                if (named := cls(known, *rest)).to_json() == text:
                    return named
        return cls(spec, *rest)

    def with_weights(self, leverage_weights: tuple[tuple[float, float], ...]) -> ModelParameters:
        """Return the same parameters with other leverage weights."""
        return replace(self, spec=replace(self.spec, leverage_weights=leverage_weights))


def choose_bucket(price: float) -> float:
    """Return the bucket for a price, USDT: the smallest rung of the ladder that is not below 0.1 % of the price.

    The ladder is 1 x 10^k and 5 x 10^k from 1e-8 up, so that each rung is a divisor of the next. Numbers are compared
    as the decimals they are written as, without rounding.

    Args:
        price: USDT; a history takes the close of its first candle.

    Raises:
        ModelError: if the price is not positive and finite.

    Example:
        >>> choose_bucket(60_000.0), choose_bucket(50_000.0), choose_bucket(3_500.0)
        (100.0, 50.0, 5.0)
    """
    wanted = _decimal("price", price) / 1000
    ladder = (Decimal(digit).scaleb(power) for power in count(_FINEST_POWER) for digit in (1, 5))
    return float(next(rung for rung in ladder if rung >= wanted))


def follow_bucket(bucket: float, last_close: float) -> float:
    """Return the bucket of the day after a close: the one of the day before while it suits the price, else a new one.

    It suits from 0.02 % to 2 % of the price (`bucket_misfit`), so that a bucket does not change with every move.

    Args:
        bucket: of the day before, USDT.
        last_close: close of the last candle of the day before, USDT.

    Raises:
        ModelError: if one of them is not positive and finite.

    Example:
        >>> follow_bucket(100.0, 20_000.0), follow_bucket(100.0, 4_999.0)
        (100.0, 5.0)
    """
    _decimal("last_close", last_close)
    return choose_bucket(last_close) if bucket_misfit(bucket, last_close) else bucket


def bucket_misfit(bucket: float, price: float) -> str:
    """Say how a bucket does not fit a price, '' where it does: from 0.02 % to 2 % of it, both included.

    Args:
        bucket: height of a price bucket, in the unit of the price.
        price: of the market.

    Raises:
        ModelError: if one of them is not positive and finite.

    Example:
        >>> bucket_misfit(0.1, 0.00025)
        'a bucket of 0.1 is 40,000 % of the price 0.00025, where 0.02 to 2 % fits'
        >>> bucket_misfit(100.0, 60_000.0)
        ''
    """
    current, level = _decimal("bucket", bucket), _decimal("price", price)
    if current * 5000 >= level and current * 50 <= level:
        return ""
    share = float(current / level * 100)
    percent = f"{share:,.0f}" if share >= 10 else f"{share:.2g}"
    return f"a bucket of {bucket:g} is {percent} % of the price {price:g}, where 0.02 to 2 % fits"


_FINEST_POWER = -8
"""The finest rung is the unit of integer prices; from 1e-7 up a tenth of a rung is a whole one as well."""


def _decimal(name: str, value: float) -> Decimal:
    """Return a positive number as the shortest decimal that stands for it."""
    if not (math.isfinite(value) and value > 0):
        raise ModelError(f"{name} = {value!r} is not positive and finite")
    return Decimal(repr(float(value)))
