"""Where a position is liquidated, and whether a candle got there: one number at a time, to read and to test against.

The compiled twin of these rules is in `kernel.py` (who is reached) and `engine.py` (the rounding, for whole days).

Source of the exact formula: Binance, https://www.binance.com/en/support/faq/b3c689c1f50a44cabb3a84e663b81d93
(isolated margin, one-way mode, USDT-margined). All functions work on one number at a time, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from heatmap_pipeline.model.levels import Candle, LiquidationLevel, Side, side_sign
from heatmap_pipeline.model.parameters import (
    DEFAULT_MAINTENANCE_MARGIN_RATE,
    DEFAULT_MAX_LEVERAGE,
    EntryPrice,
    ModelError,
)


def calculate_liq_price(
    entry_price: float,
    leverage: float,
    side: str | int,
    maintenance_margin_rate: float = DEFAULT_MAINTENANCE_MARGIN_RATE,
    maintenance_amount: float = 0.0,
    quantity: float = 1.0,
    *,
    formula: str = "exact",
    max_leverage: float = DEFAULT_MAX_LEVERAGE,
) -> float:
    """Return the price at which an isolated position's margin balance equals its maintenance margin.

    A position of Q contracts entered at E holds the margin Q*E/L. At price P its balance is Q*E/L + s*Q*(P - E), where
    s is +1 for a long and -1 for a short, and the exchange asks for m*Q*P - cum; the result is the P where both meet.

    Args:
        entry_price: E, USDT.
        leverage: L, above 1.
        side: 'long' (or +1), 'short' (or -1).
        maintenance_margin_rate: m, a fraction, of the bracket that holds the position.
        maintenance_amount: cum of that bracket, USDT; 0 in the first bracket.
        quantity: Q, contracts; matters only together with `maintenance_amount`.
        formula: 'exact', or 'simple' = E*(1 - s/L + s*m/L), common elsewhere and wrong, for comparison.
        max_leverage: largest leverage allowed.

    Returns:
        USDT, not rounded. 0 or less means that no price liquidates the position.

    Raises:
        ModelError: naming the argument and its value: entry_price or quantity not positive, leverage not above 1 or
            above `max_leverage`, a rate of 1/leverage or more (the position would be liquidated at its entry), a
            negative amount (or any with the simple formula, which has no place for it), an unknown side or formula,
            anything not finite.

    Example:
        >>> calculate_liq_price(60_000.0, 100, "long")
        59638.55421686747
    """
    _check_positive("entry_price", entry_price)
    _check_positive("quantity", quantity)
    if not (math.isfinite(maintenance_amount) and maintenance_amount >= 0):
        raise ModelError(f"maintenance_amount = {maintenance_amount!r} is negative or not finite")
    if formula == "simple" and maintenance_amount != 0:
        raise ModelError(f"maintenance_amount = {maintenance_amount!r} has no place in the simple formula; use 'exact'")
    _check_positive("max_leverage", max_leverage)
    if leverage > max_leverage:
        raise ModelError(f"leverage = {leverage!r} is above the maximum {max_leverage:g}")
    factor = price_factor(leverage, side, maintenance_margin_rate, formula)
    return entry_price * factor + maintenance_amount / (quantity * (maintenance_margin_rate - side_sign(side)))


def price_factor(leverage: float, side: str | int, rate: float, formula: str = "exact") -> float:
    """Return k, the liquidation price as a multiple of the entry price, for a maintenance amount of 0.

    Args:
        leverage: L, above 1.
        side: 'long' (or +1), 'short' (or -1).
        rate: maintenance margin rate, a fraction.
        formula: 'exact' or 'simple'.

    Raises:
        ModelError: as `calculate_liq_price`, for these arguments.
    """
    sign = side_sign(side)
    if not (math.isfinite(leverage) and leverage > 1):
        raise ModelError(f"leverage = {leverage!r} is not above 1")
    if not (math.isfinite(rate) and rate >= 0):
        raise ModelError(f"maintenance_margin_rate = {rate!r} is negative or not finite")
    if rate >= 1 / leverage:
        raise ModelError(
            f"maintenance_margin_rate = {rate!r} is not below 1/leverage = {1 / leverage:g}: "
            "the position would be liquidated at its entry or beyond"
        )
    if formula == "exact":
        return (1 - 1 / leverage) / (1 - rate) if sign > 0 else (1 + 1 / leverage) / (1 + rate)
    if formula == "simple":
        return 1 - 1 / leverage + rate / leverage if sign > 0 else 1 + 1 / leverage - rate / leverage
    raise ModelError(f"formula = {formula!r} is unknown; use 'exact' or 'simple'")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ModelError(f"{name} = {value!r} is not positive")


def round_liq_price(entry_price: float, factor: float, tick: float, tick_units: int) -> int:
    """Return `entry_price * factor` rounded to the nearest tick, half up, as an integer in units of 1e-8 USDT.

    Args:
        entry_price: USDT, not rounded.
        factor: k of `price_factor`.
        tick: grid of liquidation prices, USDT.
        tick_units: the tick in units of 1e-8 USDT.
    """
    return math.floor(entry_price * factor / tick + 0.5) * tick_units


def to_units(price: float) -> int:
    """Return a price in USDT as an integer in units of 1e-8 USDT."""
    return round(price * 1e8)


def infer_side(candle: Candle) -> Side:
    """Return the side the classic rule ascribes a candle's new positions to: 'short' if it fell, else 'long'."""
    return "short" if candle.close < candle.open else "long"


def entries(candle: Candle, entry: Sequence[tuple[EntryPrice, float]]) -> dict[float, float]:
    """Return the share of what a candle opens by entry price, USDT; entries whose prices are equal are one.

    Example:
        >>> entries(Candle(0, 100.0, 102.0, 100.0, 102.0, 1.0), (("close", 0.5), ("high", 0.25), ("low", 0.25)))
        {102.0: 0.75, 100.0: 0.25}
    """
    shares: dict[float, float] = {}
    for name, share in entry:
        price = getattr(candle, name)
        shares[price] = shares.get(price, 0.0) + share
    return shares


def should_liquidate(level: LiquidationLevel, candle: Candle) -> bool:
    """Return whether the candle reached the lot's liquidation price: by touch, wick or gap."""
    if level.side == "long":
        return to_units(candle.low) <= level.liq_price
    return to_units(candle.high) >= level.liq_price


def passed_at_once(level: LiquidationLevel, candle: Candle) -> bool:
    """Return whether the close of the candle that opens a lot already reached the lot's liquidation price."""
    close = to_units(candle.close)
    return close <= level.liq_price if level.side == "long" else close >= level.liq_price
