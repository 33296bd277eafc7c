"""The endpoint as a running program: the address, what is said at the start, and the end."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

import uvicorn
from fastapi import FastAPI

from heatmap_pipeline.api import memory
from heatmap_pipeline.api.app import create_app
from heatmap_pipeline.api.clients import Proxies
from heatmap_pipeline.api.connections import Connection, Crowd
from heatmap_pipeline.api.descriptors import BACKLOG, raise_limit, room_for_connections
from heatmap_pipeline.api.log import notices, printer, requests
from heatmap_pipeline.api.parameters import PARAMETERS
from heatmap_pipeline.api.workers import end_with_parent, run_workers, sockets_for
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.settings import Settings

_MOST_CONNECTIONS = 1000
_SHARE = 4
"""A client may have a quarter of the connections."""
_FEWEST = 64
"""Connections below which a limit of the system is worth a warning."""


class ServeError(HeatmapError):
    """An address that cannot be listened on; says which and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 is any that is free.

    Raises:
        ServeError: if the port is taken or not allowed, or the host is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise ServeError(f"host {host!r} is not known; choose an address of this machine with --host") from None
    try:
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServeError(f"port {port} on {host} is taken by another program; choose one with --port") from None
        if error.errno == errno.EACCES:
            raise ServeError(f"port {port} on {host} is not allowed here; choose one above 1023 with --port") from None
        raise ServeError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose others with --host, --port"
        ) from None
    return bound


def serve(settings: Settings, host: str, port: int, tell: Callable[[str], None], workers: int = 1) -> None:
    """Serve until interrupted.

    Args:
        settings: home, and everything that begins with `api_`.
        host: address to listen on.
        port: port to listen on; 0 is any that is free.
        tell: is given a line at the start, one whenever something is published, and one of each request, in the form
            of HEATMAP_LOG_FORMAT; a function of a module where there are several workers.
        workers: processes that answer; the caches are divided among them, everything else each has.

    Raises:
        ServeError: as `listen`; if so many processes cannot be begun.
    """
    with listen(host, port) as bound, printer(tell, settings.log_format) as line:
        say = notices(line, settings.log_format)
        limit = raise_limit()
        _say_where(settings, host, bound, limit, say)
        most = max(min(_MOST_CONNECTIONS, room_for_connections(limit)), 16)
        if workers == 1:
            _answer(settings, most, line, bound)
        else:
            shared = ("api_cache_mb", "api_symbols_mb")
            each = settings.model_copy(update={name: max(1, getattr(settings, name) // workers) for name in shared})
            try:
                with ExitStack() as open_sockets:
                    sockets = [open_sockets.enter_context(own) for own in sockets_for(bound, workers)]
                    run_workers(partial(_work, each, most, tell), sockets, say)
            except OSError as error:
                raise ServeError(
                    f"{workers} processes cannot be begun ({error.strerror}); serve with fewer, by --workers"
                ) from None


def _work(settings: Settings, most: int, tell: Callable[[str], None], bound: socket.socket) -> None:
    """Be one of several workers."""
    end_with_parent()
    with printer(tell, settings.log_format) as line:
        _answer(settings, most, line, bound)


def _answer(settings: Settings, most: int, line: Callable[[str], None], bound: socket.socket) -> None:
    """Answer what comes to a socket until this process is told to end."""
    memory.reuse()
    log = requests(line, settings.log_format, settings.api_token, PARAMETERS)
    app = create_app(settings, tell=notices(line, settings.log_format), log=log)
    with suppress(KeyboardInterrupt):
        make_server(app, most).run(sockets=[bound])


def _say_where(settings: Settings, host: str, bound: socket.socket, limit: int, say: Callable[[str], None]) -> None:
    """Say where the server is, and what its user should know: who reaches it, and how many files it may open."""
    address = bound.getsockname()
    shown = f"[{host}]" if ":" in host else host
    say(f"heatmap page and endpoint on http://{shown}:{address[1]} for {settings.home}; stop it with Ctrl-C")
    if not ipaddress.ip_address(address[0]).is_loopback and settings.api_token is None:
        say(f"warning: whoever reaches {host} can read it all; set HEATMAP_API_TOKEN, or put a login in front of it")
    if room_for_connections(limit) < _FEWEST:
        say(f"warning: this process may open {limit} files only, so it takes few connections; raise it with ulimit -n")


def make_server(app: FastAPI, most: int = _MOST_CONNECTIONS) -> uvicorn.Server:
    """Return a server that is not started, with limits that fit the endpoint.

    Args:
        app: what answers.
        most: connections there may be; one client may have a quarter of them.
    """
    proxies = Proxies(app.state.service.settings.api_proxies)

    class Ours(Connection):
        crowd = Crowd(most, max(most // _SHARE, 8), proxies)

    config = uvicorn.Config(
        app,
        http=Ours,
        backlog=BACKLOG,
        ws="none",  # an upgrade is an ordinary request
        log_level="error",  # not a line for everything that is no HTTP
        access_log=False,
        server_header=False,
        proxy_headers=False,  # clients.py reads them, of proxies that are trusted
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
