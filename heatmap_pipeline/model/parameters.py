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
from typing import Any, Literal

from heatmap_pipeline.errors import HeatmapError

PRICE_UNIT = 1e-8
"""USDT per unit of an integer price."""

MAX_PRICE = 1e7
"""Largest candle price accepted, USDT: up to twice this, integer prices survive the way through float64 in USDT."""

DEFAULT_MAINTENANCE_MARGIN_RATE = 0.004
DEFAULT_MAX_LEVERAGE = 125.0


class ModelError(HeatmapError, ValueError):
    """An argument the model cannot compute with; the message names the argument and its value."""


@dataclass(frozen=True)
class ModelSpec:
    """One model: its rules and their numbers, the same for every symbol (docs/model.md, section 4).

    Attributes:
        name: how users call it.
        books: 'one' (both sides in it) or 'two' (one per side, each holding the whole open interest).
        starts_with: what is in a book before the first candle: nothing, or the first open interest as unlocated.
        nets: whether a liquidation is netted against the flow (step 2).
        turnover: share of a candle's volume that closes and opens again.
        opens: 'candle' puts all on the side `infer_side` names, 'both' fills each book.
        leverage_weights: (leverage, weight) rows; weights are normalised by their sum.
        price_tick: grid of liquidation prices in USDT; None means a tenth of the bucket.
        dust: volume in USDT below which a lot is dust.
        dust_rule: 'drop' after closing, or 'unlocate' once a day.
        formula: 'exact' or 'simple' liquidation price.
        unlevered: share of what opens that has no leverage and so no liquidation price.
    """

    name: str
    books: Literal["one", "two"]
    starts_with: Literal["nothing", "open_interest"]
    nets: bool
    turnover: float
    opens: Literal["candle", "both"]
    leverage_weights: tuple[tuple[float, float], ...]
    price_tick: float | None
    dust: float
    dust_rule: Literal["drop", "unlocate"]
    formula: Literal["exact", "simple"] = "exact"
    unlevered: float = 0.0

    def __post_init__(self) -> None:
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
        for name in ("turnover", "dust", "unlevered"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ModelError(f"{name} = {value!r} is negative or not finite")
        ways = (self.books, self.opens, self.starts_with, self.nets)
        if ways not in (("one", "candle", "nothing", False), ("two", "both", "open_interest", True)):
            raise ModelError(
                f"books, opens, starts_with, nets = {ways!r} is not defined: one book opens the candle's side, starts "
                "with nothing and does not net; two books each open their own side, hold the open interest, and net"
            )
        if self.unlevered > 1:
            raise ModelError(f"unlevered = {self.unlevered!r} is above 1; it is a share")


MODELS: Mapping[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="delta",
            books="one",
            starts_with="nothing",
            nets=False,
            turnover=0.0,
            opens="candle",
            leverage_weights=((5.0, 15.0), (10.0, 30.0), (25.0, 25.0), (50.0, 20.0), (100.0, 10.0)),
            price_tick=PRICE_UNIT,
            dust=0.01,
            dust_rule="drop",
        ),
        ModelSpec(
            name="turnover",
            books="two",
            starts_with="open_interest",
            nets=True,
            turnover=0.05,
            opens="both",
            leverage_weights=tuple(
                (leverage, 1.0 / leverage) for leverage in (3.0, 5.0, 10.0, 20.0, 25.0, 50.0, 75.0, 100.0, 125.0)
            ),
            price_tick=None,
            dust=1000.0,
            dust_rule="unlocate",
        ),
    )
}
"""The models by name."""


_RECORDED = (
    "books",
    "starts_with",
    "nets",
    "turnover",
    "opens",
    "unlevered",
    "formula",
    "price_tick",
    "dust",
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
            raise ModelError(f"bucket = {self.bucket!r} USDT is not a positive multiple of {PRICE_UNIT:g}")
        if abs(self.tick * 1e8 - self.tick_units) > 1e-6:
            raise ModelError(f"bucket = {self.bucket!r} USDT gives a price tick that is no multiple of {PRICE_UNIT:g}")
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
            "starts_with": spec.starts_with,
            "nets": spec.nets,
            "turnover": spec.turnover,
            "opens": spec.opens,
            "leverage_weights": [list(row) for row in self.tiers],
            "unlevered": spec.unlevered,
            "formula": spec.formula,
            "price_tick": self.tick,
            "dust": spec.dust,
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
            ModelError: if the text is no such record.
        """
        try:
            record = json.loads(text)
            rest = (
                float(record["bucket"]),
                int(record["candle_interval_seconds"]),
                Bracket(float(record["maintenance_margin_rate"]), float(record["max_leverage"])),
            )
            spec = ModelSpec(
                name=str(record["model"]),
                leverage_weights=tuple((float(one), float(two)) for one, two in record["leverage_weights"]),
                **{name: record[name] for name in _RECORDED},
            )
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


def choose_bucket(symbol: str, first_close: float) -> float:
    """Return the bucket of a symbol in USDT: 100 for BTCUSDT, else the smallest 1, 2, 5 x 10^k >= 0.1 % of the close.

    Example:
        >>> choose_bucket("ETHUSDT", 3500.0)
        5.0
    """
    if not (math.isfinite(first_close) and first_close > 0):
        raise ModelError(f"first_close = {first_close!r} is not a positive price")
    if symbol == "BTCUSDT":
        return 100.0
    wanted = max(first_close / 1000, PRICE_UNIT)
    exponent = math.floor(math.log10(wanted)) - 1
    for power in range(exponent, exponent + 4):
        for digit in (1, 2, 5):
            candidate = float(f"{digit}e{power}")
            if candidate >= wanted * (1 - 1e-12):  # 0.0001 / 1000 is a little more than 1e-7
                return candidate
    raise AssertionError("unreachable: four decades hold a candidate")  # pragma: no cover
