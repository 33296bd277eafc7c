"""The page of all markets: a table of what the endpoint's /markets answers; served only, as it has to be live."""

from __future__ import annotations

import hashlib
from importlib.resources import files

MANY = 8
"""With more markets than this the overview is what a server shows first."""

_TYPES = {"overview.js": "text/javascript", "overview.css": "text/css"}


def overview_page() -> dict[str, tuple[bytes, str]]:
    """Return content and media type by path: "/overview", "/overview.js" and "/overview.css".

    The page names the others with a `?v=` that changes with their content, relative to itself, and runs under a policy
    of `script-src 'self'`, without inline scripts and without eval.
    """
    folder = files("heatmap_pipeline.render").joinpath("static", "overview")
    page = folder.joinpath("overview.html").read_text(encoding="utf-8")
    served: dict[str, tuple[bytes, str]] = {}
    for name, kind in _TYPES.items():
        content = folder.joinpath(name).read_bytes()
        served[f"/{name}"] = content, f"{kind}; charset=utf-8"
        page = page.replace(f'"{name}"', f'"{name}?v={hashlib.blake2b(content, digest_size=6).hexdigest()}"')
    return {"/overview": (page.encode(), "text/html; charset=utf-8"), **served}
