"""Dagster's webserver with the guard in front of it, in one process: there is no other way to it.

It is the program `dagster-webserver` as it is, except for the one function by which it begins to serve. Were a version
of it to serve in another way, it would find its port taken, by the socket that is handed in, and end.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from typing import Any

import uvicorn

from heatmap_pipeline.orchestration.ui.guard import Guard, own_hosts

_STOPPING = 3
"""Seconds that open connections have to end when the UI is stopped."""


def serve_guarded(bound: socket.socket, hosts: Sequence[str], names: Sequence[str]) -> Any:
    """Return what stands in for `uvicorn.run`: it serves the app behind the guard, on the socket that is listening."""

    def run(app: Any, **_: Any) -> None:
        config = uvicorn.Config(
            Guard(app, hosts, names),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_STOPPING,
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal that ended it once more
            uvicorn.Server(config).run(sockets=[bound])

    return run


def main(arguments: Sequence[str]) -> None:
    """Serve until stopped; arguments are the socket's number, host, port, names by comma, and the webserver's own.

    Instead of the number of a socket that listens already, `bind` has it listen by itself (deploy/compose.yaml).
    """
    number, host, port, names, *others = arguments
    bound = socket.create_server((host, int(port))) if number == "bind" else socket.socket(fileno=int(number))
    hosts = sorted(own_hosts(host, int(port)))
    uvicorn.run = serve_guarded(bound, hosts, [name for name in names.split(",") if name])
    (script,) = entry_points(group="console_scripts", name="dagster-webserver")
    sys.argv = [script.name, "--host", host, "--port", port, *others]
    script.load()()


if __name__ == "__main__":
    main(sys.argv[1:])
