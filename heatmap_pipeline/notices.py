"""Telling `HEATMAP_WEBHOOK` of a failure or an alert: what is sent, once for each, and kept until it is delivered.

A notice stands in `HOME/notices/` as a file, waiting or sent; its name is what it tells, so nobody tells it twice. What
could not be delivered waits for the next command or tick. Nothing here ever makes a run fail.

Whatever happens, a failure is told at least once where the webhook takes it: a notice is given up only after another
try, so a clock that jumps loses none. It is told twice only if this process dies between the webhook's answer and the
renaming of a file, or if the disk has no room for as much as an empty file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from filelock import FileLock

from heatmap_pipeline.files import remove_half_written, replace_file
from heatmap_pipeline.settings import Settings

if TYPE_CHECKING:
    import requests

Kind: TypeAlias = Literal["failed", "killed", "not_started", "nothing_ran"]
"""What a notice is about: a run that failed, whose process was killed, that did not start, or that there was none."""

TRIES = 4
"""How often one delivery is tried."""

BACKOFF = 0.5
"""Seconds of the first pause between two tries; each is twice the one before it."""

DEADLINE = 30.0
"""Longest time of one delivery in seconds, all tries together."""

_SILENCE = 10.0
"""Seconds of silence that are borne of the webhook."""

_LINE = 1900
"""Letters of the one line; Discord takes 2000."""

_CAUSE = 2000
"""Letters of a cause."""

_WAITING, _SENT = ".waiting", ".sent"
_WAITING_DAYS, _SENT_DAYS = 7, 90
"""Days after which a notice is given up, and after which it is forgotten that it was sent."""

_REMEMBERED = 200
"""Newest notices of which it is never forgotten that they were sent: the clock may be wrong by years."""

_BUSY = (408, 425, 429, 500, 502, 503, 504)
_COMMAND = re.compile(r"`([^`]*\bheatmap (?:run|refresh|demo|export)\b[^`]*)`")

_log = logging.getLogger(__name__)


class _NotTakenError(Exception):
    """The webhook did not take a notice; whether it answered at all, and whether it may take it some seconds later."""

    def __init__(self, words: str, *, answered: bool, again: bool) -> None:
        super().__init__(words)
        self.answered = answered
        self.again = again


@dataclass(frozen=True)
class Failure:
    """What failed of one symbol.

    Attributes:
        symbol: or several, as a sentence lists them; empty where it is about all.
        cause: in words for people.
        day: that could not be had, or first and last day of the run.
        stage: the asset, where it is known.
    """

    symbol: str
    cause: str
    day: str = ""
    stage: str = ""

    @property
    def text(self) -> str:
        """It in one line."""
        words = [f"{self.symbol} failed" if self.symbol else ""]
        words.append(f"at {self.stage}" if self.stage else "")
        place = " ".join(word for word in words if word)
        where = ", ".join(part for part in (place, f"day {self.day}" if self.day else "") if part)
        cause = " ".join(self.cause.split())
        return f"{where}: {cause}" if where else cause


@dataclass(frozen=True)
class Notice:
    """A failure as people and webhooks are told of it.

    Attributes:
        kind: of failure.
        run_id: of Dagster's run, or what else there can be one of only: a day.
        failures: at least one.
        command: the line that repairs it.
    """

    kind: Kind
    run_id: str
    failures: Sequence[Failure]
    command: str

    @property
    def text(self) -> str:
        """The notice in one line, which ends with the command."""
        causes = "; ".join(failure.text for failure in self.failures)
        end = f" -> {self.command}"
        room = max(_LINE - len("heatmap: ") - len(end), 200)
        return f"heatmap: {causes if len(causes) <= room else causes[: room - 1] + '…'}{end}"[:_LINE]

    def body(self) -> dict[str, Any]:
        """Return what is sent: `text` as Slack wants it, `content` as Discord does, and our own fields.

        Example:
            >>> Notice("failed", "r1", [Failure("BTCUSDT", "no file")], "heatmap refresh").body()["content"]
            'heatmap: BTCUSDT failed: no file -> heatmap refresh'
        """
        first = self.failures[0]
        return {
            "text": escape(self.text, quote=False),
            "content": self.text,
            "allowed_mentions": {"parse": []},  # a cause may hold the words of a stranger: it shall call nobody
            "kind": self.kind,
            "run_id": self.run_id,
            **asdict(first),
            "cause": first.cause[:_CAUSE],
            "command": self.command,
            "failures": [{**asdict(failure), "cause": failure.cause[:_CAUSE]} for failure in self.failures],
        }


@dataclass(frozen=True)
class AlertNotice:
    """An alert as people and webhooks are told of it.

    Attributes:
        symbol: as the exchange writes it.
        rule: name of the rule that told it.
        words: what happened, in a sentence.
        at: when it was known, ISO 8601.
        fields: the numbers, for programs.
    """

    symbol: str
    rule: str
    words: str
    at: str
    fields: Mapping[str, Any]

    kind: ClassVar[Literal["alert"]] = "alert"

    @property
    def run_id(self) -> str:
        """What there can be one of only."""
        content = json.dumps([self.symbol, self.rule, self.words, self.at, self.fields], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()

    @property
    def text(self) -> str:
        """The alert in one line."""
        return f"heatmap alert: {self.symbol}: {self.words} ({self.rule}, {self.at})"[:_LINE]

    def body(self) -> dict[str, Any]:
        """Return what is sent, in the form of `Notice.body`.

        Example:
            >>> AlertNotice("BTCUSDT", "large", "a zone", "2026-11-20T10:15:00Z", {}).body()["content"]
            'heatmap alert: BTCUSDT: a zone (large, 2026-11-20T10:15:00Z)'
        """
        return {
            "text": escape(self.text, quote=False),
            "content": self.text,
            "allowed_mentions": {"parse": []},
            "kind": self.kind,
            "run_id": self.run_id,
            "symbol": self.symbol,
            "rule": self.rule,
            "words": self.words,
            "at": self.at,
            **self.fields,
        }


def repairing(failures: Sequence[Failure], otherwise: str) -> str:
    """Return the command that a cause names, as messages of ours do in backquotes, or else the one given."""
    for failure in failures:
        if match := _COMMAND.search(failure.cause):
            return match[1]
    return otherwise


def announce(settings: Settings, notice: Notice | AlertNotice, warn: Callable[[str], object] = _log.warning) -> None:
    """Send a notice to the webhook, if one is set and was not told of it yet; raises nothing.

    Args:
        settings: of the home.
        notice: to send.
        warn: is told in a line if it could not be delivered.
    """
    if not settings.webhook:
        return
    body = json.dumps(notice.body()).encode()
    name = _name(notice.kind, notice.run_id)
    waiting, sent = (_folder(settings) / f"{name}{state}" for state in (_WAITING, _SENT))
    try:
        waiting.parent.mkdir(parents=True, exist_ok=True)
        if sent.exists():
            return
        replace_file(waiting, body)
    except OSError:  # a full disk may be what the notice is about
        try:
            _post(settings.webhook, body)
        except _NotTakenError as error:
            warn(f"HEATMAP_WEBHOOK did not take a notice ({error}), and it could not be kept for later: {notice.text}")
        else:
            with suppress(OSError):  # an empty file takes no room
                sent.touch()
        return
    deliver(settings, warn)


def told_failed(settings: Settings, run_id: str) -> bool:
    """Whether the webhook was told, or is about to be, that a run failed."""
    return any((_folder(settings) / f"{_name('failed', run_id)}{state}").exists() for state in (_WAITING, _SENT))


def deliver(settings: Settings, warn: Callable[[str], object] = _log.warning) -> None:
    """Send what waits, oldest first, as far as one deadline goes; what is not taken waits on. Raises nothing."""
    folder = _folder(settings)
    if not settings.webhook or not folder.is_dir():
        return
    try:
        with FileLock(folder / "lock", timeout=2 * DEADLINE):
            _forget_sent(folder)
            end = time.monotonic() + DEADLINE
            for waiting in sorted(folder.glob(f"*{_WAITING}"), key=_modified):
                sent = waiting.with_suffix(_SENT)
                try:
                    if not sent.exists():
                        _post(settings.webhook, waiting.read_bytes())
                    waiting.replace(sent)
                except _NotTakenError as error:
                    if _older(waiting, _WAITING_DAYS):
                        waiting.unlink(missing_ok=True)
                        warn(
                            f"HEATMAP_WEBHOOK did not take a notice for {_WAITING_DAYS} days ({error}); it is given up"
                        )
                    else:
                        warn(f"HEATMAP_WEBHOOK did not take a notice ({error}); it is sent again by the next command")
                    # A command is not to wait a whole deadline for each of a hundred notices.
                    if not error.answered or time.monotonic() > end:
                        return
    except OSError as error:  # also the lock that another process holds for so long
        warn(f"the notices in {folder} cannot be used ({error.strerror or type(error).__name__})")


def _name(kind: str, run_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", f"{kind}-{run_id}")[:150]


def _folder(settings: Settings) -> Path:
    return settings.home / "notices"


def _forget_sent(folder: Path) -> None:
    """Remove what is too old to be told again, and what killed processes left half written."""
    remove_half_written(folder)
    for path in sorted(folder.glob(f"*{_SENT}"), key=_modified)[:-_REMEMBERED]:
        if _older(path, _SENT_DAYS):
            path.unlink(missing_ok=True)


def _older(path: Path, days: float) -> bool:
    return time.time() - _modified(path) > days * 86400


def _modified(path: Path) -> float:
    """Return when a file was written, seconds since 1970; 0 for one that is gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _post(url: str, body: bytes) -> None:
    """Post a body, several times if need be.

    The tries are counted here: urllib3 would log the address, which is a secret, and wait as long as Retry-After says.

    Raises:
        _NotTakenError: saying why, without the address.
    """
    import requests  # noqa: PLC0415  # only a failure pays for it

    from heatmap_pipeline.market.watchdog import WatchedAdapter, watched  # noqa: PLC0415

    end = time.monotonic() + DEADLINE
    with requests.Session() as session, watched(DEADLINE):
        for scheme in ("http://", "https://"):
            session.mount(scheme, WatchedAdapter())
        for number in range(TRIES):
            try:
                _try(session, url, body)
            except _NotTakenError as error:
                pause = BACKOFF * 2**number
                if not error.again or number + 1 == TRIES or time.monotonic() + pause > end:
                    raise
                time.sleep(pause)
            else:
                return


def _try(session: requests.Session, url: str, body: bytes) -> None:
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    host = urlsplit(url).hostname
    headers = {"Content-Type": "application/json"}
    try:
        # The answer's head is all that matters; a redirect would turn the POST into a GET.
        with session.post(
            url, data=body, headers=headers, timeout=_SILENCE, stream=True, allow_redirects=False
        ) as response:
            status = response.status_code
    except (OSError, ValueError, HTTPError) as error:  # all that `requests` raises is an OSError, by its own word
        raise _NotTakenError(f"{type(error).__name__} at {host}", answered=False, again=True) from None
    if not 200 <= status < 300:
        raise _NotTakenError(f"status {status} of {host}", answered=True, again=status in _BUSY)
