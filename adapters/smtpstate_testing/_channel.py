"""Channels: a connection to a server as octets, over a socket or in memory."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from smtpstate import ClientEvent
    from smtpstate_testing._wire import Wire


class Channel(Protocol):
    """What a test needs to talk to a server. Three methods; anything that has them will do."""

    def send(self, data: bytes, /) -> None:
        """Sends all of it."""
        ...

    def receive(self) -> bytes:
        """Waits for at least one octet; b"" when the server has closed. Raises TimeoutError when nothing comes."""
        ...

    def close(self) -> None:
        """Hangs up."""
        ...


@final
class SocketChannel:
    """A connection to whoever listens there. Nothing takes longer than `timeout` seconds."""

    def __init__(self, host: str, port: int, *, timeout: float = 30.0) -> None:
        self._socket: Final = socket.create_connection((host, port), timeout)

    def send(self, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # reading says what there is to say about that
            self._socket.sendall(data)

    def receive(self) -> bytes:
        try:
            return self._socket.recv(65_536)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._socket.close()


@final
class MemoryChannel:
    """A connection to the server of a Pair, or to a script's. Time stands still, unless nothing else can happen."""

    def __init__(self, wire: Wire[ClientEvent]) -> None:
        self._wire: Final = wire
        self._taken: int = 0
        wire.talk()

    def send(self, data: bytes) -> None:
        self._wire.talk(data)

    def receive(self) -> bytes:
        wire = self._wire
        while len(wire.received) == self._taken:
            if wire.shut:
                return b""
            if not wire.jump():
                raise TimeoutError("the server says nothing")
        data = wire.received[self._taken :]
        self._taken = len(wire.received)
        return data

    def close(self) -> None:
        self._wire.hang_up()
