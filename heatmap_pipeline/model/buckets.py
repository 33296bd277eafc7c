"""From a price to the number of its bucket, for loops over cells in the order of their prices.

A division of whole numbers takes ten times as long as the rest of such a loop does for a cell, and cells that follow
each other mostly are of one bucket or of the next, which can be seen without dividing.
"""

from __future__ import annotations

from heatmap_pipeline.compiled import compiled


@compiled
def bucket_number(price, units, number):  # type: ignore[no-untyped-def]
    """Return how many whole buckets lie below a price: `price // units`, whatever the guess.

    Args:
        price: 1e-8 of the quote asset.
        units: height of a bucket, the same, positive.
        number: a guess, such as the number of the cell before.

    Example:
        >>> [bucket_number(1999, 1000, guess) for guess in (0, 1, 7, -3)]
        [1, 1, 1, 1]
    """
    above = price - number * units
    if above < 0 or above >= 2 * units:
        return price // units
    return number if above < units else number + 1
