"""A server that speaks raw bytes on 127.0.0.1: what no library would send, and nothing that ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Conversation = Callable[[socket.socket, threading.Event], None]
"""Talks to one client; has to end soon after the event is set."""


class HostileServer:
    """Reads the head of each request, then lets `talk` do what it likes; stopped by its own handle.

    Args:
        talk: talks to each client in a thread of its own.
        head: whether the head of a request is read before.
    """

    def __init__(self, talk: Conversation, *, head: bool = True) -> None:
        self._talk = talk
        self._head = head
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                head = b""
                while self._head and b"\r\n\r\n" not in head and (block := client.recv(4096)):
                    head += block
                self._talk(client, self._stopped)
            except OSError:
                pass


def says(first: bytes, again: bytes, pause: float) -> Conversation:
    """Return a conversation that begins with `first` and repeats `again` for ever, with pauses."""

    def talk(client: socket.socket, stopped: threading.Event) -> None:
        client.sendall(first)
        while not stopped.is_set():
            client.sendall(again)
            stopped.wait(pause) if pause else None

    return talk
