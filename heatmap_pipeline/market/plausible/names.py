"""How what cannot be true is counted in the repairs of a day, and its words for people."""

from __future__ import annotations

from collections.abc import Mapping

ACCEPTED = "accepted_implausible"
"""Repair of a day whose file is taken as it is, by the setting `HEATMAP_ACCEPT_IMPLAUSIBLE`."""

BOTH_SIDES = "both_sides_samples"
"""Repair of samples that added both sides of each contract: they were halved."""

LEFT_OUT: Mapping[str, str] = {
    "swapped_samples": "contracts and value are swapped",
    "other_price_samples": "value / contracts is no price that the candles had",
    "mislabelled_samples": "labels are hours off",
    "other_unit_samples": "contracts are in another unit than before",
}
"""Why samples are left out: the repair that counts them, and its words."""

NOTED: Mapping[str, str] = {
    "frozen_samples": "stand still while contracts are traded",
    BOTH_SIDES: "add both sides of a contract, halved",
    "repeated_samples": "are those of the day before",
    "repeated_candles": "are those of the day before",
    "odd_quote_volumes": "have a quote volume that is none of their price, unknown now",
    "odd_taker_volumes": "have a taker buy volume above their volume, unknown now",
    ACCEPTED: "are taken as they are, by HEATMAP_ACCEPT_IMPLAUSIBLE",
}
"""What else is counted, in words that follow a number of samples or candles."""

SIDES = "sides"
"""Fact of a day whose file adds both sides, so that the next day knows."""

DECLARED = "declared_sides"
"""Fact of a day whose samples say by the name of their field how many sides they count: 1."""
