"""Which version is served: the newest that could be read, with the one before it until the last request is done.

A new file is noticed by its number and time on the disk and read in a thread of its own; no request but the first waits
for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import state_of
from heatmap_pipeline.views.data import Version

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 5.0
"""A file that could not be read is tried again after this long, or when it changes."""


class Publications:
    """The version that is served, and the reading of new ones. All methods belong to the event loop.

    Args:
        path: the published file.
        load: reads it, given the version before.
        tell: is given a line whenever something else is served, or cannot be.
        look_every: seconds between two looks at the file.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[Version | None], Version],
        tell: Callable[[str], None] | None = None,
        look_every: float = 1.0,
    ) -> None:
        self._path, self._load, self._line, self.look_every = path, load, tell or _log.info, look_every
        self.version: Version | None = None
        self.problem = ""
        self.loads = 0
        self.made: float | None = None
        """When the file that is open was written, seconds since 1970-01-01 UTC."""
        self._seen: tuple[int, int, int] | None = None
        self._looked = -1e9
        self._tried = -1e9
        self._reading: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publication")

    async def current(self) -> Version | None:
        """Return the version to answer from, kept open for the caller, who releases it; None where there is none."""
        self.look()
        if self.version is None and self._reading is not None:
            await asyncio.shield(self._reading)
        return None if self.version is None else self.version.acquire()

    def look(self, *, now: bool = False) -> None:
        """Begin to read the file if it is another one; at most once in `look_every` seconds unless `now`."""
        moment = time.monotonic()
        if self._reading is not None or (not now and moment - self._looked < self.look_every):
            return
        self._looked = moment
        seen = state_of(self._path)
        if seen is None or (seen == self._seen and not (self.problem and moment - self._tried > _RETRY_SECONDS)):
            return
        self._tried = moment
        self._reading = asyncio.get_running_loop().create_task(self._read(seen))

    async def watch(self, every: Callable[[], Awaitable[None]] | None = None) -> None:
        """Look at the file for ever, and call `every` each time."""
        if state_of(self._path) is None:
            self._tell(f"nothing is published in {self._path.parent} yet; it is served as soon as it is")
        while True:
            self.look()
            if every is not None:
                await every()
            await asyncio.sleep(self.look_every)

    async def settled(self) -> None:
        """Wait for a reading that is going on."""
        if self._reading is not None:
            await asyncio.shield(self._reading)

    async def close(self) -> None:
        """Close what is served."""
        await self.settled()
        if self.version is not None:
            self.version.retire()
            self.version = None
        self._thread.shutdown()

    async def _read(self, seen: tuple[int, int, int]) -> None:
        before = self.version
        try:
            # The signature was taken before: a file replaced meanwhile is seen as another one at the next look.
            new = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, before)
        except HeatmapError as error:
            self._failed(str(error))
        except Exception as error:
            _log.exception("the published file could not be read")
            self._failed(f"{self._path} could not be read ({type(error).__name__}: {error})")
        else:
            self.version, self.problem, self.made = new, "", seen[1] / 1e9
            self.loads += 1
            if before is not None:
                before.retire()
            self._say(before, new)
        finally:
            self._seen, self._reading = seen, None

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # the terminal or the pipe may be gone; serving goes on
            self._line(line)

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            self._tell(problem if self.version is None else f"the version before stays: {problem}")
        self.problem = problem

    def _say(self, before: Version | None, new: Version) -> None:
        known = () if before is None else (*before.outdated.values(), *before.damaged.values())
        for words in (*new.outdated.values(), *new.damaged.values()):
            if words not in known:
                self._tell(f"left out: {words}")
        for name, symbol in new.symbols.items():
            if before is None or before.symbols.get(name) is not symbol:
                model = next(iter(symbol.models.values()))
                kind = " (simulated)" if symbol.simulated else ""
                days = f"{model.first_day} .. {model.last_day}"
                self._tell(f"serving {name} {days}, {', '.join(symbol.models)}{kind}")
