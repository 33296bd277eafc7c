"""An answer that is not made yet: what it depends on, and how its body is made in a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heatmap_pipeline.api import encode


@dataclass(frozen=True, eq=False)
class Plan:
    """An answer that is not made yet.

    Attributes:
        key: with `fingerprint` all that its bytes depend on.
        fingerprint: of the data.
        make: make the body; may raise `ViewError`, but not while its parts are read.
        live: whether it holds the newest data, which the next publication will change.
        coded: the body in a content coding, of what is compressed beforehand; None: it is when it is made.
    """

    key: tuple[object, ...]
    fingerprint: str
    make: Callable[[], encode.Body]
    live: bool
    coded: Callable[[str], bytes] | None = None
