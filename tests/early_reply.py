"""A server that says what nobody has asked for, once the session is in TLS."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from threading import Event

_SECONDS = 20.0  # reached only when something hangs
SURPLUS = (b"250 2.1.0 OK\r\n", b"250-OK\r\n", b"2", b"")


def serve_once(
    listener: socket.socket, context: ssl.SSLContext, surplus: bytes, opened: Event, said: Callable[[], None]
) -> bytes:
    """One session in TLS: greets, answers EHLO, and once it is `opened` says `surplus`; what it hears after that."""
    raw, _ = listener.accept()
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the record waits for an acknowledgement
    with raw, context.wrap_socket(raw, server_side=True) as wire:
        wire.sendall(b"220 localhost\r\n")
        assert wire.recv(4096).startswith(b"EHLO ")
        wire.sendall(b"250-localhost\r\n250 PIPELINING\r\n")
        opened.wait(_SECONDS)
        if surplus:
            wire.sendall(surplus)
        said()
        heard = b""
        while octets := wire.recv(4096):
            heard += octets
            if heard.endswith(b"QUIT\r\n"):
                wire.sendall(b"221 bye\r\n")
            elif not surplus:
                wire.sendall(b"550 no\r\n" * octets.count(b"\r\n"))
        return heard
