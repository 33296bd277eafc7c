"""JSON as a machine should write it: what two readers could understand differently is refused.

Answers of a server and files of a user are read through it, so that none of them can hide one value behind another.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from heatmap_pipeline.errors import printable


def load_json(data: bytes) -> Any:
    """Return the value that a JSON text stands for.

    Raises:
        ValueError: if it is no JSON, nests too deep, writes NaN, an infinity or a number beyond all of them, or has a
            key twice in one object.

    Example:
        >>> load_json(b'[1, {"a": null}]')
        [1, {'a': None}]
    """
    try:
        return json.loads(data, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it nests too deep") from None


def shown(value: Any, limit: int = 40) -> str:
    """Return a value of such a text as one short line for a message.

    Example:
        >>> shown([[[]]]), shown("BTC")
        ('a list', "'BTC'")
    """
    if value and isinstance(value, list | dict):  # however long it is, and however deep it nests
        return "a list" if isinstance(value, list) else "an object"
    return printable(repr(value), limit)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"an object has the key {shown(key)} twice")
        members[key] = value
    return members


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(printable(text, 40))


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
