"""A SOCKS 5 proxy that resolves names itself, and finds every one of them at one port of 127.0.0.1."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from heatmap_pipeline_tests.market._hostile_server import Conversation, HostileServer


def relay_to(port: int, asked: list[str]) -> Conversation:
    """Return how it talks to a client: `asked` gets the names, then bytes go both ways."""

    def talk(client: socket.socket, stopped: threading.Event) -> None:
        client.recv(64)
        client.sendall(b"\x05\x00")
        head = client.recv(512)
        assert head[:4] == b"\x05\x01\x00\x03"  # connect to a name
        asked.append(head[5 : 5 + head[4]].decode())
        client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        with socket.create_connection(("127.0.0.1", port)) as server:
            ways = [
                threading.Thread(target=_pass_on, args=ends, daemon=True)
                for ends in ((client, server), (server, client))
            ]
            for way in ways:
                way.start()
            while any(way.is_alive() for way in ways) and not stopped.wait(0.02):
                pass
            _end(client, server)
            for way in ways:
                way.join(5)

    return talk


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Hand bytes on until one side ends, and end the other with it."""
    with suppress(OSError):
        while block := source.recv(4096):
            target.sendall(block)
    _end(source, target)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def go_through(patch: pytest.MonkeyPatch, proxy: HostileServer, variable: str = "ALL_PROXY") -> None:
    """Set the proxy as a user does, and no other."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        patch.delenv(name, raising=False)
        patch.delenv(name.upper(), raising=False)
    patch.setenv(variable, proxy.url.replace("http", "socks5h"))
