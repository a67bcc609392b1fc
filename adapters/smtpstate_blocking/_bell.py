"""Bell: ends the wait of another thread."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import final


@final
class Bell:
    """One thread waits for it with a selector, as for a socket; any may ring."""

    def __init__(self) -> None:
        self._rings, self._hears = socket.socketpair()
        for end in (self._rings, self._hears):
            end.settimeout(0)

    def fileno(self) -> int:
        return self._hears.fileno()

    def ring(self) -> None:
        with suppress(OSError):  # it was rung so often, and nobody has looked yet; or it is closed
            self._rings.send(b"\0")

    def hear(self) -> None:
        """It was rung: the next wait is for the next time."""
        self._hears.recv(4096)

    def close(self) -> None:
        self._rings.close()
        self._hears.close()
