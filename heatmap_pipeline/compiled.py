"""How functions of numbers are compiled, and their machine code kept for the next process wherever that can be done.

numba refuses a function whose machine code has no place to be kept in, and fails where that place is full, or holds
what another user wrote. Neither is worth a failed run: the code is then compiled by each process for itself. Which
place that is, `surroundings.py` sees to before this is imported.
"""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from numba import njit

_UNUSABLE = (OSError, EOFError, pickle.UnpicklingError, ImportError)
"""What a file raises that cannot be read, written or made sense of, or that was made of the same code under another
module's name: as that of `python -m doctest FILE`."""

_log = logging.getLogger(__name__)
_noticed = False


def compiled(function: Any) -> Any:
    """Compile a function; a division is not checked, for every divisor is positive, and a check is a way to end.

    It runs without Python's lock: the read endpoint answers others meanwhile. It has no annotations: numba infers the
    types.

    Example:
        >>> @compiled
        ... def half(number):
        ...     return number / 2
        >>> half(3.0)
        1.5
    """
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher.enable_caching()
    except (RuntimeError, *_UNUSABLE) as error:
        _notice(error)
        return dispatcher
    # Names that numba keeps to itself; without them a place that becomes full is an error again, no wrong number.
    cache = getattr(dispatcher, "_cache", None)
    for name in ("load_overload", "save_overload"):
        if hasattr(cache, name):
            setattr(cache, name, _borne(getattr(cache, name)))
    return dispatcher


def _load_numba() -> None:
    """Load what numba loads when it first compiles or finds a function, but not scipy's linear algebra.

    That takes a quarter of a second in every process, only to be told that there could be products of matrices, which
    no function here has. Where numba's modules or names are others than today, all of it is loaded, by numba itself.
    """
    if "numba.np.arraymath" in sys.modules:
        return
    with suppress(ImportError):
        linalg: Any = import_module("numba.np.linalg")
        asked = getattr(linalg, "ensure_blas", None)
        if asked in (None, _no_blas):  # the latter: another thread is at it
            return
        linalg.ensure_blas = _no_blas
        try:
            import_module("numba.np.arraymath")
        finally:
            linalg.ensure_blas = asked


def _no_blas() -> None:
    """Say to numba what it hears where scipy is not installed."""
    raise ImportError("scipy's linear algebra is not loaded")


def _borne(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that finds or keeps nothing where it fails for the sake of its files."""

    def bear(*arguments: Any) -> Any:
        _load_numba()
        try:
            return method(*arguments)
        except _UNUSABLE as error:
            _notice(error)
            return None

    return bear


def _notice(error: Exception) -> None:
    """Say once in this process that machine code is not kept."""
    global _noticed  # noqa: PLW0603  # that it was said is what there is to remember
    if not _noticed:
        _noticed = True
        _log.warning(
            "compiled code cannot be kept, so every command takes some seconds longer: %s; set NUMBA_CACHE_DIR to a "
            "folder that can be written",
            " ".join(str(error).split()),
        )
