"""Dagster's daemon, which here looks more often whether a backfill can go on: until it has, nothing of it happens.

It is the program `dagster-daemon` as it is, except for one number that no setting of Dagster reaches. A version that
does not have it works as it is, and a backfill then waits for up to half a minute before each of its runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

SECONDS = 5
"""Between two looks, as often as the daemon looks whether a run may begin; Dagster has 30."""

_MODULE, _NUMBER = "dagster._daemon.controller", "DEFAULT_DAEMON_INTERVAL_SECONDS"


def hurry() -> None:
    """Set the number in the program, which is loaded."""
    controller = sys.modules.get(_MODULE)
    if hasattr(controller, _NUMBER):
        setattr(controller, _NUMBER, SECONDS)


def main(arguments: Sequence[str]) -> None:
    """Run until stopped; the arguments are the program's own."""
    (script,) = entry_points(group="console_scripts", name="dagster-daemon")
    program = script.load()
    hurry()
    sys.argv = [script.name, *arguments]
    program()


if __name__ == "__main__":
    main(sys.argv[1:])
