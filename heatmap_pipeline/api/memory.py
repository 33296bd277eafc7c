"""The memory of answers: used again by those that follow, and given back to the system when they are gone."""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Any

_MALLOC = {-8: 1, -3: 64 << 20, -1: 128 << 20}
"""Parameters of glibc's mallopt: number of arenas, size from which a piece is mapped by itself, freed bytes to keep."""

KEPT_BYTES = 64 << 20
"""Freed bytes that stay here for the answers to come."""

GIVE_BACK_SECONDS = 5.0
"""Memory is given back this often, if anything was answered since: it takes milliseconds, in which nobody has any."""

GIVE_BACK_BUSY_SECONDS = 60.0
"""The same while answers are being made: the next ones ask for it again, a quarter of a large one's time."""

_log = logging.getLogger(__name__)


def reuse() -> None:
    """Have answers use the memory of those before them, up to a bound.

    Left alone, the allocator of Linux gives the arrays of an answer back to the system and asks for them again, which
    doubles its processor time, while each thread keeps ever larger freed pieces of its own. Where the allocator is
    another one, or does not know a parameter any more, this is said once, and answers are as right as ever.
    """
    if sys.platform != "linux":
        return
    mallopt = _function("mallopt")
    if mallopt is None:
        refused = ["mallopt"]
    else:
        refused = [str(parameter) for parameter, value in _MALLOC.items() if not mallopt(parameter, value)]
    if refused:
        _log.warning(
            "the memory allocator of this system cannot be told to keep what answers free (%s is not there): they take "
            "up to twice the processor time",
            ", ".join(refused),
        )


def give_back() -> None:
    """Give memory that is free back to the system, holes between what is used included; does nothing elsewhere."""
    trim = _function("malloc_trim") if sys.platform == "linux" else None
    if trim is not None:
        trim(ctypes.c_size_t(KEPT_BYTES))


def _function(name: str) -> Any:
    """Return a function of the C library, None where there is none."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
