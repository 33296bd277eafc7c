"""Answers of an exchange that are kept: what was asked for of a day that is over is read from the disk from then on.

A file is the rows as they were answered, gzip-compressed JSON, and beside it the checksum of that JSON. The checksum is
written last: without it, or with another, a file counts as never written and its day is asked for once more.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.market.strict_json import load_json

ENDING = ".json.gz"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """Rows as an exchange answered them.

    Attributes:
        rows: in order of time.
        contract_size: units of the base in one contract when they were asked for: an exchange may change it later.
    """

    rows: Sequence[Any]
    contract_size: float = 1.0

    @property
    def text(self) -> bytes:
        """What is kept: the rows, with the size of a contract where that is not 1."""
        whole = self.contract_size == 1.0
        kept = list(self.rows) if whole else {"contract_size": self.contract_size, "rows": list(self.rows)}
        return json.dumps(kept, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """Checksum of `text`, in hexadecimal digits."""
        return hashlib.sha256(self.text).hexdigest()


def keep(path: Path, page: Page) -> None:
    """Keep a page in `path`, whose folder is made.

    Raises:
        OSError: if the disk refuses it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, gzip.compress(page.text, mtime=0))
    replace_file(_checksum_beside(path), f"{page.sha256}  {path.name}\n".encode())


def read_kept(path: Path) -> Page | None:
    """Return the page that was kept in `path`, None where there is none, or another than was kept."""
    try:
        text = gzip.decompress(path.read_bytes())
        said = _checksum_beside(path).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, zlib.error):
        text, said = b"", []
    if said[:1] != [hashlib.sha256(text).hexdigest()]:
        _log.warning("%s does not match its checksum; it is asked for once more", path)
        return None
    kept = load_json(text)
    if isinstance(kept, dict):
        return Page(kept["rows"], kept["contract_size"])
    return Page(kept) if isinstance(kept, list) else None


def _checksum_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
