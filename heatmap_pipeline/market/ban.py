"""Until when an exchange has banned this address, kept in a file: whoever asks during a ban makes it longer.

A ban of minutes is waited for by the call that meets it (`web.py`). A longer one ends that call; without this file the
next tick of the schedule would be the next offence.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from heatmap_pipeline.files import replace_file

LONGEST_BAN = timedelta(days=3)
"""The longest ban the exchange gives, by its documentation; after so long it is asked again whatever it said."""


class Ban:
    """The ban of this address by one server, as far as it is known.

    Args:
        file: where it is kept; None means in this object alone.
        server: name of the server. A ban by another one, as before a setting was changed, is none.
    """

    def __init__(self, file: Path | None, server: str) -> None:
        self.file = file
        self._server = server
        self._until: datetime | None = None

    def until(self) -> datetime | None:
        """Return the instant the ban ends, UTC; None where there is none, or it is over."""
        now = datetime.now(UTC)
        until = self._until if self.file is None else self._kept(self.file)
        return until if until is not None and now < until <= now + LONGEST_BAN else None

    def begin(self, seconds: float) -> datetime:
        """Keep that this address was banned for so many seconds from now, and return until when."""
        self._until = datetime.now(UTC) + min(timedelta(seconds=seconds), LONGEST_BAN)
        if self.file is not None:
            with suppress(OSError):  # then it is met once more
                self.file.parent.mkdir(parents=True, exist_ok=True)
                kept = {"server": self._server, "until": self._until.isoformat()}
                replace_file(self.file, json.dumps(kept).encode())
        return self._until

    def _kept(self, file: Path) -> datetime | None:
        with suppress(OSError, ValueError, KeyError, TypeError):  # missing, or not as it was written
            kept = json.loads(file.read_bytes())
            until = datetime.fromisoformat(kept["until"])
            if kept["server"] == self._server and until.tzinfo is not None:
                return until
        return None
