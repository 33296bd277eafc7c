"""What a price may be, for whoever reads one, computes with it or is asked about it."""

from __future__ import annotations

PRICE_UNIT = 1e-8
"""USDT per unit of an integer price, and the smallest price."""

MAX_PRICE = 1e7
"""Largest price accepted, USDT: up to twice this, integer prices survive the way through float64 in USDT."""
